"""Access keys, and what can be told of secrets without printing them."""

import msgspec

from exporter.auth.protocol import digest
from exporter.config.secret import FileSecret, Secret, SecretError


class Keys(msgspec.Struct, frozen=True):
    """What signs."""

    access_key: Secret
    """No secret by itself, but it names whose secret the other is."""
    secret_key: Secret
    security_token: Secret | None = None
    """Belongs to temporary keys, which are nothing without it."""

    @classmethod
    def of(cls, access_key: str, secret_key: str, security_token: str | None = None) -> "Keys":
        """The keys that some texts are; without a token if it is empty."""
        return cls(Secret(access_key), Secret(secret_key), Secret(security_token) if security_token else None)

    @property
    def parts(self) -> tuple[Secret, ...]:
        """The keys that there are."""
        return tuple(key for key in (self.access_key, self.secret_key, self.security_token) if key)


def secret_id(secret: Secret) -> str:
    """What tells a secret from others: its file, whatever that holds, or a digest of its value."""
    return str(secret.path) if isinstance(secret, FileSecret) else digest(secret.reveal())


def readable(*secrets: Secret | None) -> tuple[str, ...]:
    """The values of those secrets that are there and can be read."""
    values = []
    for secret in secrets:
        try:
            values.append(secret.reveal() if secret else "")
        except SecretError:
            continue
    return tuple(value for value in values if value)
