"""Access keys, and identifiers of secrets that do not reveal them."""

import msgspec

from exporter.auth.protocol import digest
from exporter.config.secret import FileSecret, Secret, SecretError


class Keys(msgspec.Struct, frozen=True):
    """Access key and secret key, with the security token of temporary keys."""

    access_key: Secret
    """Not secret by itself, but it identifies the owner of the secret key."""
    secret_key: Secret
    security_token: Secret | None = None
    """Temporary keys are invalid without it."""

    @classmethod
    def of(cls, access_key: str, secret_key: str, security_token: str | None = None) -> "Keys":
        """Create keys from plain texts. An empty token counts as no token."""
        return cls(Secret(access_key), Secret(secret_key), Secret(security_token) if security_token else None)

    @property
    def parts(self) -> tuple[Secret, ...]:
        """The keys and the security token, if there is one."""
        return tuple(key for key in (self.access_key, self.secret_key, self.security_token) if key)


def secret_id(secret: Secret) -> str:
    """Return the identity of a secret: the path of its file, or a digest of its value."""
    return str(secret.path) if isinstance(secret, FileSecret) else digest(secret.reveal())


def readable(*secrets: Secret | None) -> tuple[str, ...]:
    """Return the values of the secrets that are present and can be read."""
    values = []
    for secret in secrets:
        try:
            values.append(secret.reveal() if secret else "")
        except SecretError:
            continue
    return tuple(value for value in values if value)
