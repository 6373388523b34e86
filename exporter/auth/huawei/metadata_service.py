"""Metadata service of a server (ECS), which issues temporary keys of the server's agency.

Sources: "Obtaining Metadata" of the ECS user guide, and the vendor's SDK (huaweicloudsdkcore auth/internal.py).
"""

from collections.abc import Generator

import msgspec

from exporter.auth.huawei.issuer_reply import fits_header, refusal_error
from exporter.auth.protocol import IssuerReply, IssuerRequest, NoReplyError
from exporter.config.secret import Secret

_TOKEN_SECONDS = 6 * 3600
_TOKEN_LENGTH = 4096
_NO_AGENCY = b"configure cloud service agency"


class MetadataIssuer:
    """Requests keys from the metadata service, with a token if the service supports tokens."""

    def __init__(self, endpoint: str, remedy: str = " (does the exporter run on an ECS?)") -> None:
        self._endpoint = endpoint
        self.credential_id = f"metadata {endpoint}"
        self.source = f"the metadata service {endpoint}"
        self.remedy = remedy
        self._token: Secret | None = None

    def request_keys(self) -> Generator[IssuerRequest, IssuerReply, IssuerReply]:
        """Request the keys. If the token is rejected, obtain a new one and retry once."""
        yield from self._renew_token(needed=False)
        reply = yield self._request()
        if _token_refused(reply):
            yield from self._renew_token(needed=True)
            reply = yield self._request()
        if reply.status == 401 and _NO_AGENCY in reply.body.lower():
            raise refusal_error(
                # The service's own message lacks the problem and how to solve it.
                msgspec.structs.replace(reply, body=b'{"error_msg": "the server has no agency"}'),
                self.source,
                " (choose one on the server's page in the console, under Management Information; "
                "it must delegate to ECS and may read CodeArts Pipeline)",
            )
        return reply

    def secrets(self) -> tuple[str, ...]:
        """Return nothing: the service identifies the server by its address."""
        return ()

    def _request(self) -> IssuerRequest:
        return IssuerRequest(
            operation="MetadataSecurityKey",
            method="GET",
            url=f"{self._endpoint}/openstack/latest/securitykey",
            bypass_proxy=True,
            headers=(("X-Metadata-Token", self._token.reveal()),) if self._token else (),
        )

    def _renew_token(self, *, needed: bool) -> Generator[IssuerRequest, IssuerReply, None]:
        """Obtain the token that newer services require. Unless it is `needed`, accept a service that issues no tokens."""
        request = IssuerRequest(
            operation="MetadataToken",
            method="PUT",
            url=f"{self._endpoint}/meta-data/latest/api/token",
            bypass_proxy=True,
            headers=(("X-Metadata-Token-Ttl-Seconds", str(_TOKEN_SECONDS)),),
        )
        token = None
        try:
            reply = yield request
        except NoReplyError:
            if needed:
                raise
        else:
            if 200 <= reply.status < 300:
                text = reply.body[: _TOKEN_LENGTH + 1].decode(errors="replace").strip()
                token = Secret(text) if fits_header(text) and len(text) <= _TOKEN_LENGTH else None
            elif needed or reply.status not in {404, 405, 503}:
                raise refusal_error(reply, self.source)
        self._token = token


def _token_refused(reply: IssuerReply) -> bool:
    """Return whether the token was missing or has expired. A missing agency has the same status but another message."""
    return reply.status == 401 and _NO_AGENCY not in reply.body.lower()
