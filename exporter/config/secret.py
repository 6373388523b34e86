"""Secrets: values that cannot be printed by accident."""

from pathlib import Path

from exporter.config.files import NotUsableError, check_file, read_file
from exporter.core.redaction import MASK, register

_FILE_LIMIT = 64 << 10
"""Maximum bytes of a secret file."""


class SecretError(Exception):
    """A secret cannot be read now. The message names the file, never the value."""


class Secret:
    """A value that shows as `<secret>` wherever it is printed, formatted or dumped."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        register(value)

    def reveal(self) -> str:
        """Return the plain value. Use it only for requests to the vendor."""
        register(self._value)
        return self._value

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same secret. A reload uses this to find what has changed."""
        return type(other) is type(self) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialized")

    __str__ = __repr__


class FileSecret(Secret):
    """A secret in a file, read at each use, so that a rotated secret needs no restart.

    Reading a mounted file costs microseconds. A file watch would need more code, and would miss the swapped symbolic link
    by which Kubernetes rotates a mounted secret.
    """

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        super().__init__("")
        self.path = path

    def _identity(self) -> str:
        return str(self.path)

    def check(self) -> None:
        """Check that the file can be a secret. A missing file is accepted, since it may appear later.

        Raises:
            SecretError: it is not a regular file, or too large.

        """
        try:
            check_file(self.path, _FILE_LIMIT)
        except NotUsableError as error:
            raise SecretError(f"the secret file {self.path} {error}") from None
        except OSError:
            pass

    def reveal(self) -> str:
        """Return the content of the file without surrounding whitespace.

        Raises:
            SecretError: the file cannot be read, is empty, or is not text of at most 64 KiB.

        """
        try:
            raw = read_file(self.path, _FILE_LIMIT)
        except NotUsableError as error:
            raise SecretError(f"the secret file {self.path} {error}") from None
        except OSError as error:
            raise SecretError(f"cannot read the secret file {self.path}: {error.strerror}") from None
        try:
            value = raw.decode().strip()
        except UnicodeDecodeError:
            raise SecretError(f"the secret file {self.path} is not UTF-8 text") from None
        if not value:
            raise SecretError(f"the secret file {self.path} is empty")
        if not value.isprintable():
            raise SecretError(f"the secret file {self.path} holds more than one line, or control characters")
        register(value)
        return value
