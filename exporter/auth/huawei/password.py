"""IAM tokens that the exporter obtains and renews with a user's password.

Source: "Obtaining a User Token Through Password Authentication" (KeystoneCreateUserTokenByPassword) of the IAM API
reference, https://support.huaweicloud.com/intl/en-us/api-iam/iam_30_0001.html.
"""

import msgspec

from exporter.auth.huawei.issuer_reply import (
    Validity,
    fits_header,
    no_reply_error,
    not_sent_error,
    parse_object,
    parse_time,
    refusal_error,
    unreadable_error,
    validity,
)
from exporter.auth.huawei.sections import PasswordSection
from exporter.auth.keys import readable, secret_id
from exporter.auth.protocol import IssuerReply, IssuerRequest, NoReplyError, Renewal, UnsignedRequest, digest
from exporter.config.secret import Secret, SecretError

_DEFAULT_LIFE = 24 * 3600.0
"""Seconds to use a token if the response has no expiry."""
_MARGIN = 3600.0


class PasswordToken:
    """IAM token in the header `X-Auth-Token`, scoped to one IAM project and obtained with a password."""

    expiry_renewal = "auto"

    def __init__(self, section: PasswordSection, region: str | None) -> None:
        self._section = section
        self._project = section.project_in(region)
        self._endpoint = section.endpoint_in(region)
        identity = (
            self._endpoint, section.domain, section.username, secret_id(section.password), self._project,
        )  # fmt: skip
        self.credential_id = " ".join(("password", *identity))
        self._token: Secret | None = None
        self._validity: Validity | None = None

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:  # noqa: ARG002  # the same for any request
        """Return the token header. Raise SecretError without a valid token."""
        if self._token is None or self._validity is None:
            raise SecretError("no IAM token has been obtained yet")
        if now >= self._validity.end:
            raise SecretError("the IAM token has ended, and its renewal failed")
        return {"X-Auth-Token": self._token.reveal()}

    def fingerprint(self) -> str:
        """Return a digest of the current password and token. Empty if the password cannot be read."""
        try:
            return digest(self._section.password.reveal(), *readable(self._token))
        except SecretError:
            return ""

    def expires(self) -> float | None:
        """Return when the token expires, in Unix seconds. None if unknown."""
        return self._validity.reported_end if self._validity else None

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:
        """Return a renewal before the first use, after a refusal, and shortly before the token expires; otherwise None."""
        due = refused or self._validity is None or now > self._validity.renew_at
        return self._renew(now) if due else None

    def _renew(self, now: float) -> Renewal:
        try:
            password = self._section.password.reveal()
        except SecretError as error:
            raise not_sent_error(error) from None
        try:
            reply = yield self._request(password)
        except NoReplyError as error:
            raise no_reply_error(error) from None
        if not 200 <= reply.status < 300:
            raise refusal_error(reply, "IAM")
        self._store(reply, now)

    def _request(self, password: str) -> IssuerRequest:
        section = self._section
        user = {"domain": {"name": section.domain}, "name": section.username, "password": password}
        return IssuerRequest(
            operation="KeystoneCreateUserTokenByPassword",
            method="POST",
            # The catalogue would be most of the response and is not needed.
            url=f"{self._endpoint}/v3/auth/tokens?nocatalog=true",
            headers=(("Content-Type", "application/json;charset=utf8"),),
            body=msgspec.json.encode(
                {
                    "auth": {
                        "identity": {"methods": ["password"], "password": {"user": user}},
                        "scope": {"project": {"name": self._project}},
                    }
                }
            ),
        )

    def _store(self, reply: IssuerReply, now: float) -> None:
        token = reply.headers.get("x-subject-token", "").strip()
        if not token:
            raise unreadable_error("IAM sent no token (is iam_endpoint the address of IAM?)")
        if not fits_header(token):
            raise unreadable_error(
                "IAM sent a token that cannot be sent in a header (is iam_endpoint the address of IAM?)"
            )
        fields = parse_object(reply.body).get("token")
        end = parse_time(fields.get("expires_at")) if isinstance(fields, dict) else None
        self._token = Secret(token)
        self._validity = validity(end, now, default_life=_DEFAULT_LIFE, margin=_MARGIN)
