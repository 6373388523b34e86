"""Pod identity service of a cluster (CCE), which issues temporary keys to a pod.

Sources: "Pod Identity" of the CCE user guide, and the vendor's SDK (huaweicloudsdkcore auth/internal.py).
"""

from collections.abc import Generator

from exporter.auth.huawei.issuer_reply import fits_header, not_sent_error, refusal_error
from exporter.auth.keys import readable
from exporter.auth.protocol import IssuerReply, IssuerRequest
from exporter.config.secret import FileSecret, SecretError
from exporter.config.types import check_url


class PodIdentityIssuer:
    """Requests keys from the pod identity service with the token that is mounted into the pod."""

    remedy = " (is the pod identity add-on of the cluster running?)"

    def __init__(self, uri: str, token: FileSecret) -> None:
        self._uri = uri
        self._token = token
        self.credential_id = f"pod identity {token.path}"
        self.source = "the pod identity service of HC_CONTAINER_CREDENTIALS_FULL_URI"

    def request_keys(self) -> Generator[IssuerRequest, IssuerReply, IssuerReply]:
        """Request the keys with the current token."""
        try:
            token = self._authorization()
        except (SecretError, ValueError) as error:
            raise not_sent_error(error) from None
        reply = yield IssuerRequest(
            operation="PodIdentity",
            method="POST",
            url=self._uri,
            bypass_proxy=True,
            headers=(("Content-Type", "application/json"), ("Authorization", token)),
            body=b"{}",
        )
        if not 200 <= reply.status < 300:
            raise refusal_error(reply, self.source)
        return reply

    def secrets(self) -> tuple[str, ...]:
        """Return the mounted token, or nothing if it cannot be read."""
        return readable(self._token)

    def _authorization(self) -> str:
        token = self._token.reveal()
        if not fits_header(token):
            raise SecretError(f"the file {self._token.path} has characters that cannot be sent in a header")
        try:
            check_url(self._uri, "http://169.254.170.2/v1/credentials")
        except ValueError as error:
            raise ValueError(f"HC_CONTAINER_CREDENTIALS_FULL_URI {error}") from None
        return token
