"""IAM tokens for a user with a password, obtained and renewed.

Source: "Obtaining a User Token Through Password Authentication" (KeystoneCreateUserTokenByPassword) of the IAM API
reference, https://support.huaweicloud.com/intl/en-us/api-iam/iam_30_0001.html.
"""

import msgspec

from exporter.auth.huawei.issuer import (
    Term,
    fits_header,
    moment,
    parsed,
    refusal,
    term,
    unanswered,
    unasked,
    unreadable,
)
from exporter.auth.huawei.sections import PasswordSection
from exporter.auth.keys import readable, secret_id
from exporter.auth.protocol import IssuerReply, IssuerRequest, NoReplyError, Renewal, UnsignedRequest, digest
from exporter.config.secret import Secret, SecretError

_LIFE = 24 * 3600.0
"""Seconds that a token lives where IAM does not tell."""
_MARGIN = 3600.0


class Password:
    """`X-Auth-Token`, with tokens that are scoped to one IAM project."""

    expiry_renewal = "auto"

    def __init__(self, section: PasswordSection, region: str | None) -> None:
        self._section = section
        self._project = section.project_in(region)
        self._endpoint = section.endpoint_in(region)
        who = (self._endpoint, section.domain, section.username, secret_id(section.password), self._project)
        self.credential_id = " ".join(("password", *who))
        self._token: Secret | None = None
        self._term: Term | None = None

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:  # noqa: ARG002  # a token fits any request
        """The token, until it ends."""
        if self._token is None or self._term is None:
            raise SecretError("IAM has not given a token yet")
        if now >= self._term.end:
            raise SecretError("the IAM token has ended, and no other could be had")
        return {"X-Auth-Token": self._token.reveal()}

    def fingerprint(self) -> str:
        """Of the password, as it is now, and the token."""
        try:
            return digest(self._section.password.reveal(), *readable(self._token))
        except SecretError:
            return ""

    def expires(self) -> float | None:
        """When the token ends."""
        return self._term.told if self._term else None

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:
        """An hour before the token ends, or in the last quarter of a shorter life."""
        due = refused or self._term is None or now > self._term.due
        return self._renew(now) if due else None

    def _renew(self, now: float) -> Renewal:
        try:
            password = self._section.password.reveal()
        except SecretError as error:
            raise unasked(error) from None
        try:
            reply = yield self._exchange(password)
        except NoReplyError as error:
            raise unanswered(error) from None
        if not 200 <= reply.status < 300:
            raise refusal(reply, "IAM")
        self._take(reply, now)

    def _exchange(self, password: str) -> IssuerRequest:
        section = self._section
        user = {"domain": {"name": section.domain}, "name": section.username, "password": password}
        return IssuerRequest(
            operation="KeystoneCreateUserTokenByPassword",
            method="POST",
            # The catalogue would be most of the answer, and is of no use here.
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

    def _take(self, reply: IssuerReply, now: float) -> None:
        token = reply.headers.get("x-subject-token", "").strip()
        if not token:
            raise unreadable("IAM answered without a token (is iam_endpoint that of IAM?)")
        if not fits_header(token):
            raise unreadable("IAM answered with a token that no header can carry")
        told = parsed(reply.body).get("token")
        end = moment(told.get("expires_at")) if isinstance(told, dict) else None
        self._token = Secret(token)
        self._term = term(end, now, assumed=_LIFE, margin=_MARGIN)
