"""A credential out of the first of several places that has one, as the vendors' SDKs look for theirs."""

import configparser
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from exporter.auth.protocol import Auth, Renewal, UnsignedRequest
from exporter.config.files import NotUsableError, read_file
from exporter.config.secret import SecretError

_FILE_LIMIT = 1 << 20


class CredentialSource(msgspec.Struct, frozen=True):
    """Where a credential may be."""

    source: str
    """Which place that is, in words."""
    credential_id: str
    """That of the credential which is there, also while it cannot be used."""
    look: Callable[[], Auth | None]
    """What is there at the moment, or None; raises SecretError if that cannot be used."""


_NOWHERE = CredentialSource("nowhere", "nowhere", lambda: None)


class CredentialChain:
    """What the first place has that has something, looked for at each use.

    So a file that appears or is rotated is taken up without restart. What is there and cannot be used is told, for
    another identity in its stead would hide the fault.
    """

    def __init__(self, *places: CredentialSource, otherwise: str = "") -> None:
        """`otherwise` says what to do where no place has anything; one that always has something needs no words."""
        self._places = places
        self._otherwise = otherwise

    def _found(self) -> tuple[CredentialSource, Auth | SecretError]:
        for place in self._places:
            try:
                there = place.look()
            except SecretError as error:
                return place, error
            if there is not None:
                return place, there
        return _NOWHERE, SecretError(self._otherwise)

    def _usable(self) -> Auth | None:
        _, there = self._found()
        return None if isinstance(there, SecretError) else there

    @property
    def source(self) -> str:
        """Where the credential comes from now, in words."""
        place, there = self._found()
        return f"nowhere: {there}" if isinstance(there, SecretError) else place.source

    @property
    def credential_id(self) -> str:
        """That of the credential which is used now."""
        return self._found()[0].credential_id

    @property
    def expiry_renewal(self) -> str:
        """As of what is there; `manual` if that cannot be used."""
        usable = self._usable()
        return usable.expiry_renewal if usable else "manual"

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        """What proves the identity by what is there."""
        _, there = self._found()
        if isinstance(there, SecretError):
            raise there
        return there.headers(request, now)

    def fingerprint(self) -> str:
        """Of what is there."""
        usable = self._usable()
        return usable.fingerprint() if usable else ""

    def expires(self) -> float | None:
        """When it ends, if it tells."""
        usable = self._usable()
        return usable.expires() if usable else None

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:
        """As it needs it."""
        usable = self._usable()
        return usable.renewal(now, refused=refused) if usable else None  # asking for headers tells why


def variable(environment: Mapping[str, str], name: str) -> str:
    """An environment variable without blanks around it; empty if there is none."""
    return environment.get(name, "").strip()


def home_of(environment: Mapping[str, str]) -> Path | None:
    """The user's folder, if the environment tells."""
    home = environment.get("HOME") or environment.get("USERPROFILE")
    return Path(home) if home else None


def read_credentials(path: Path, *, required: bool) -> str | None:
    """The text of a credentials file; None if there is none and none is `required`.

    Raises:
        SecretError: it cannot be read, or is no text of a sane size; the message holds nothing of it.

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
    """What a section of a credentials file in the manner of INI says; None without the section.

    `example` shows how it is written.

    Raises:
        SecretError: as of `read_credentials`, or the file is not in that form.

    """
    text = read_credentials(path, required=required)
    if text is None:
        return None
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        # The library's words quote the line, which may be the secret.
        raise SecretError(f"the credentials file {path} is not in INI form ({example})") from None
    if not parser.has_section(section):
        return None
    return {name: value.strip() for name, value in parser.items(section)}
