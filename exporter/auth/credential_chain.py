"""Default credentials: searched in several sources in order, as the vendors' SDKs do."""

import configparser
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from exporter.auth.protocol import Auth, Renewal, UnsignedRequest
from exporter.config.files import NotUsableError, read_file
from exporter.config.secret import SecretError

_FILE_LIMIT = 1 << 20


class CredentialSource(msgspec.Struct, frozen=True):
    """One place to look for a credential: environment variables, a file, or the metadata service."""

    source: str
    """Name of the source for messages."""
    credential_id: str
    """Id of the source's credential, even if the credential is unusable."""
    look: Callable[[], Auth | None]
    """Return the current credential of the source, or None. Raises SecretError if it is unusable."""


_NOWHERE = CredentialSource("nowhere", "nowhere", lambda: None)


class CredentialChain:
    """Credential of the first source that has one, looked up at each use.

    A file that appears or is rotated takes effect without a restart. An unusable credential is an error: falling back to
    another identity would hide the problem.
    """

    def __init__(self, *sources: CredentialSource, not_found: str = "") -> None:
        """`not_found` is the error message if no source has a credential."""
        self._sources = sources
        self._not_found = not_found

    def _find(self) -> tuple[CredentialSource, Auth | SecretError]:
        for source in self._sources:
            try:
                auth = source.look()
            except SecretError as error:
                return source, error
            if auth is not None:
                return source, auth
        return _NOWHERE, SecretError(self._not_found)

    def _usable(self) -> Auth | None:
        _, found = self._find()
        return None if isinstance(found, SecretError) else found

    @property
    def source(self) -> str:
        """Name of the current source for messages, or why there is no usable credential."""
        source, found = self._find()
        return f"nowhere: {found}" if isinstance(found, SecretError) else source.source

    @property
    def credential_id(self) -> str:
        """Id of the current source's credential."""
        return self._find()[0].credential_id

    @property
    def expiry_renewal(self) -> str:
        """How the current credential is renewed. `manual` if no credential is usable."""
        usable = self._usable()
        return usable.expiry_renewal if usable else "manual"

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        """Return the authentication headers of the current credential."""
        _, found = self._find()
        if isinstance(found, SecretError):
            raise found
        return found.headers(request, now)

    def fingerprint(self) -> str:
        """Return the fingerprint of the current credential. Empty if no credential is usable."""
        usable = self._usable()
        return usable.fingerprint() if usable else ""

    def expires(self) -> float | None:
        """Return when the current credential expires, in Unix seconds. None if unknown."""
        usable = self._usable()
        return usable.expires() if usable else None

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:
        """Return the renewal of the current credential. None if no renewal is due or no credential is usable."""
        usable = self._usable()
        return usable.renewal(now, refused=refused) if usable else None  # `headers` raises the error


def variable(environment: Mapping[str, str], name: str) -> str:
    """Return an environment variable without surrounding blanks. Empty if unset."""
    return environment.get(name, "").strip()


def home_of(environment: Mapping[str, str]) -> Path | None:
    """Return the user's home directory. None if unknown."""
    home = environment.get("HOME") or environment.get("USERPROFILE")
    return Path(home) if home else None


def read_credentials(path: Path, *, required: bool) -> str | None:
    """Return the text of a credentials file. None if the file does not exist and is not `required`.

    Raises:
        SecretError: The file cannot be read, is too large or is not UTF-8. The message contains no part of the file.

    """
    try:
        raw = read_file(path, _FILE_LIMIT)
    except FileNotFoundError:
        if not required:
            return None
        raise SecretError(f"there is no credentials file {path}") from None
    except NotUsableError as error:
        raise SecretError(f"the credentials file {path} {error}") from None
    except OSError as error:
        raise SecretError(f"cannot read the credentials file {path}: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SecretError(f"the credentials file {path} is not UTF-8 text") from None


def read_ini(path: Path, section: str, example: str, *, required: bool) -> dict[str, str] | None:
    """Return a section of a credentials file in INI format. None if the file or the section does not exist.

    `example` shows the format in the error message.

    Raises:
        SecretError: The file cannot be read or is not in INI format.

    """
    text = read_credentials(path, required=required)
    if text is None:
        return None
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        # The library's message quotes the line, which may contain the secret.
        raise SecretError(f"the credentials file {path} is not in INI format (write {example})") from None
    if not parser.has_section(section):
        return None
    return {name: value.strip() for name, value in parser.items(section)}
