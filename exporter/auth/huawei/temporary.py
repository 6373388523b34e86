"""Temporary keys that the platform gives to what runs on it: to a server (ECS), and to a pod of a cluster (CCE).

Sources: "Obtaining Metadata" of the ECS user guide, "Pod Identity" of the CCE user guide, and the vendor's SDK
(huaweicloudsdkcore auth/internal.py), whose spellings and fall-backs are all taken.
"""

import zlib
from collections.abc import Generator
from typing import Any, Protocol

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
from exporter.auth.huawei.signing import signature
from exporter.auth.keys import Keys, readable
from exporter.auth.protocol import IssuerReply, IssuerRequest, NoReplyError, Renewal, UnsignedRequest, digest
from exporter.config.secret import FileSecret, Secret, SecretError
from exporter.config.types import check_url

_MARGIN = 600
"""Seconds before the end; by then the metadata service has the next keys, and both serve."""
_SPREAD = 60
"""Seconds by which keys differ in that, so that a fleet does not ask at one moment; later, for the next must be there."""
_LIFE = 600.0
"""Seconds that keys serve where nobody tells: the metadata service replaces those with fewer left."""

_TOKEN_SECONDS = 6 * 3600
_TOKEN_LENGTH = 4096
_NO_AGENCY = b"configure cloud service agency"


class Issuer(Protocol):
    """Who gives out temporary keys."""

    credential_id: str
    source: str
    """Who it is, in words."""
    remedy: str
    """What to look at when it does not answer, in words that follow the network's."""

    def ask(self) -> Generator[IssuerRequest, IssuerReply, IssuerReply]:
        """The exchanges up to the answer that should bear keys.

        Raises:
            RenewalError: it does not come to that.
            NoReplyError: as it was thrown in.

        """

    def proofs(self) -> tuple[str, ...]:
        """What proves to the issuer who asks."""


class Temporary:
    """A signature by temporary keys, which are asked for about ten minutes before the last ones end."""

    expiry_renewal = "auto"

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self.credential_id = issuer.credential_id
        self.source = issuer.source
        self._keys: Keys | None = None
        self._term: Term | None = None

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        """The signature and the security token, until the keys end."""
        if self._keys is None or self._term is None:
            raise SecretError(f"{self.source} has not given keys yet")
        if now >= self._term.end:
            raise SecretError(f"the keys from {self.source} have ended, and no others could be had")
        return signature(request, now, self._keys, None)

    def fingerprint(self) -> str:
        """Of the keys and of what the issuer is asked with."""
        values = (*self._issuer.proofs(), *(readable(*self._keys.parts) if self._keys else ()))
        return digest(*values) if values else ""

    def expires(self) -> float | None:
        """When the keys end."""
        return self._term.told if self._term else None

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:
        """About ten minutes before the keys end, or in the last quarter of a shorter life."""
        due = refused or self._term is None or now > self._term.due
        return self._renew(now) if due else None

    def _renew(self, now: float) -> Renewal:
        try:
            reply = yield from self._issuer.ask()
        except NoReplyError as error:
            raise unanswered(error, self._issuer.remedy) from None
        if not 200 <= reply.status < 300:
            raise refusal(reply, self.source)
        keys, end = _keys(reply, self.source)
        margin = _MARGIN - zlib.crc32(keys.access_key.reveal().encode()) % _SPREAD
        if self._keys is None or readable(*keys.parts) != readable(*self._keys.parts):
            self._keys = keys
        self._term = term(end, now, assumed=_LIFE, margin=margin)


class Metadata:
    """The metadata service of a server, which signs for the agency that the server was given."""

    def __init__(self, endpoint: str, remedy: str = " (does the exporter run on an ECS?)") -> None:
        self._endpoint = endpoint
        self.credential_id = f"metadata {endpoint}"
        self.source = f"the metadata service {endpoint}"
        self.remedy = remedy
        self._token: Secret | None = None

    def ask(self) -> Generator[IssuerRequest, IssuerReply, IssuerReply]:
        """The keys, with a token where the service gives one."""
        yield from self._renew_token(needed=False)
        reply = yield self._request()
        if _unauthorized(reply):
            yield from self._renew_token(needed=True)
            reply = yield self._request()
        if reply.status == 401 and _NO_AGENCY in reply.body.lower():
            raise refusal(
                # Its own words are an instruction to nobody in particular.
                msgspec.structs.replace(reply, body=b'{"error_msg": "the server has no agency"}'),
                self.source,
                " (choose one on the server's page in the console, under Management Information; "
                "it must delegate to ECS and may read CodeArts Pipeline)",
            )
        return reply

    def proofs(self) -> tuple[str, ...]:
        """Nothing: the service knows the server by its address."""
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
        """Obtain the token that newer services want; one that has none serves without, unless it is `needed`."""
        exchange = IssuerRequest(
            operation="MetadataToken",
            method="PUT",
            url=f"{self._endpoint}/meta-data/latest/api/token",
            bypass_proxy=True,
            headers=(("X-Metadata-Token-Ttl-Seconds", str(_TOKEN_SECONDS)),),
        )
        token = None
        try:
            reply = yield exchange
        except NoReplyError:
            if needed:
                raise
        else:
            if 200 <= reply.status < 300:
                text = reply.body[: _TOKEN_LENGTH + 1].decode(errors="replace").strip()
                token = Secret(text) if fits_header(text) and len(text) <= _TOKEN_LENGTH else None
            elif needed or reply.status not in {404, 405, 503}:
                raise refusal(reply, self.source)
        self._token = token


def _unauthorized(reply: IssuerReply) -> bool:
    """Whether a token is missing or has ended; of a missing agency the same status speaks in other words."""
    return reply.status == 401 and _NO_AGENCY not in reply.body.lower()


class PodIdentity:
    """The pod identity service of a cluster, which knows a pod by the token that is mounted into it."""

    remedy = " (is the pod identity add-on of the cluster running?)"

    def __init__(self, uri: str, token: FileSecret) -> None:
        self._uri = uri
        self._token = token
        self.credential_id = f"pod identity {token.path}"
        self.source = "the pod identity service of HC_CONTAINER_CREDENTIALS_FULL_URI"

    def ask(self) -> Generator[IssuerRequest, IssuerReply, IssuerReply]:
        """The keys, by one request with the token as it is now."""
        try:
            token = self._authorization()
        except (SecretError, ValueError) as error:
            raise unasked(error) from None
        reply = yield IssuerRequest(
            operation="PodIdentity",
            method="POST",
            url=self._uri,
            bypass_proxy=True,
            headers=(("Content-Type", "application/json"), ("Authorization", token)),
            body=b"{}",
        )
        if not 200 <= reply.status < 300:
            raise refusal(reply, self.source)
        return reply

    def proofs(self) -> tuple[str, ...]:
        """The mounted token."""
        return readable(self._token)

    def _authorization(self) -> str:
        token = self._token.reveal()
        if not fits_header(token):
            raise SecretError(f"the file {self._token.path} holds characters that no header can carry")
        try:
            check_url(self._uri, "http://169.254.170.2/v1/credentials")
        except ValueError as error:
            raise ValueError(f"HC_CONTAINER_CREDENTIALS_FULL_URI {error}") from None
        return token


def _keys(reply: IssuerReply, source: str) -> tuple[Keys, float | None]:
    """The keys of an answer and their end, in any of the spellings that the vendor's SDK takes."""
    answer = parsed(reply.body)
    for wrapper in ("credential", "credentials"):
        if isinstance(answer.get(wrapper), dict):
            answer = answer[wrapper]
            break
    access = _first(answer, "access", "accessKeyId", "access_key_id")
    secret = _first(answer, "secret", "secretAccessKey", "secret_access_key")
    token = _first(answer, "securitytoken", "securityToken", "security_token")
    if not (fits_header(access) and fits_header(secret) and fits_header(token)):
        raise unreadable(f"{source} answered without an access key, its secret and a security token")
    end = moment(_first(answer, "expires_at", "expiration", "expiresAt"))
    return Keys.of(access, secret, token), end


def _first(answer: dict[str, Any], *names: str) -> Any:
    return next((answer[name] for name in names if answer.get(name)), "")
