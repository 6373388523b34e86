"""The credentials that the vendor's SDK would find by itself, in the places where it looks.

Source: huaweicloudsdkcore auth/provider.py. Two things differ: federation by OIDC is not spoken, and a pod identity
comes before the metadata service, which a pod reaches too and where it would borrow the server's agency.
"""

import configparser
from collections.abc import Mapping
from pathlib import Path

from exporter.auth import Auth, Outgoing, Renewal
from exporter.auth.huawei.sections import DefaultSection
from exporter.auth.huawei.signing import Keys
from exporter.auth.huawei.static import Aksk
from exporter.auth.huawei.temporary import Issuer, Metadata, PodIdentity, Temporary
from exporter.config.secret import FileSecret, Secret, SecretError

_FILE_LIMIT = 1 << 20


class Default:
    """Environment variables, else the credentials file, else pod identity, else the metadata service.

    The file is looked for at each use, so that one which appears or is rotated is taken up without restart.
    """

    def __init__(self, section: DefaultSection, environment: Mapping[str, str], home: Path | None) -> None:
        access_key = environment.get("HUAWEICLOUD_SDK_AK", "").strip()
        secret_key = environment.get("HUAWEICLOUD_SDK_SK", "").strip()
        token = environment.get("HUAWEICLOUD_SDK_SECURITY_TOKEN", "").strip()
        project = environment.get("HUAWEICLOUD_SDK_PROJECT_ID", "").strip()
        self._variables: Aksk | None = None
        if access_key and secret_key:
            keys = Keys(Secret(access_key), Secret(secret_key), Secret(token) if token else None)
            self._variables = Aksk(keys, iam_project_id=project or None)
        self._file = _file(environment, home)
        self._platform = Temporary(_issuer(section, environment))

    def _chosen(self) -> tuple[Auth, str]:
        if self._variables is not None:
            return self._variables, "the environment variables HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK"
        given = self._file.read() if self._file else None
        if self._file is not None and given is not None:
            return given, f"the credentials file {self._file.path}"
        return self._platform, self._platform.source

    @property
    def source(self) -> str:
        """Where the credential comes from now, in words."""
        try:
            return self._chosen()[1]
        except SecretError as error:
            return f"nowhere: {error}"

    @property
    def identity(self) -> str:
        """That of the credential which is used now."""
        try:
            return self._chosen()[0].identity
        except SecretError:
            return f"aksk {self._file.path if self._file else ''}"

    @property
    def expiry_renewal(self) -> str:
        """`auto` for what the platform gives, `manual` for what is given."""
        try:
            return self._chosen()[0].expiry_renewal
        except SecretError:
            return "manual"

    def headers(self, request: Outgoing, now: float) -> dict[str, str]:
        """The signature by the keys of the first place that has some."""
        return self._chosen()[0].headers(request, now)

    def secrets(self) -> tuple[str, ...]:
        """The keys of that place, and all that was obtained from the platform before another place had some."""
        try:
            chosen = self._chosen()[0].secrets()
        except SecretError:
            chosen = ()
        return tuple(dict.fromkeys((*chosen, *self._platform.secrets())))

    def fingerprint(self) -> str:
        """Of the keys of that place."""
        try:
            return self._chosen()[0].fingerprint()
        except SecretError:
            return ""

    def expires(self) -> float | None:
        """When the platform's keys end; of others nobody tells."""
        try:
            return self._chosen()[0].expires()
        except SecretError:
            return None

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:
        """As the platform's keys need it; none for others."""
        try:
            return self._chosen()[0].renewal(now, refused=refused)
        except SecretError:
            return None  # asking for headers tells why


def _issuer(section: DefaultSection, environment: Mapping[str, str]) -> Issuer:
    uri = environment.get("HC_CONTAINER_CREDENTIALS_FULL_URI", "").strip()
    file = environment.get("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", "").strip()
    if uri and file:
        return PodIdentity(uri, FileSecret(Path(file)))
    return Metadata(
        section.metadata_endpoint,
        " (asked last, for neither HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK nor a credentials file are there)",
    )


def _file(environment: Mapping[str, str], home: Path | None) -> "_CredentialsFile | None":
    named = environment.get("HUAWEICLOUD_SDK_CREDENTIALS_FILE", "").strip()
    if named:
        return _CredentialsFile(Path(named), required=True)
    return _CredentialsFile(home / ".huaweicloud" / "credentials", required=False) if home else None


class _CredentialsFile:
    """The SDK's file: sections in the manner of INI, of which `[basic]` has the keys of a region's services."""

    def __init__(self, path: Path, *, required: bool) -> None:
        self.path = path
        self._required = required

    def read(self) -> Aksk | None:
        """The keys as they are in the file now; None if there is no file, or nothing in it for a region's services.

        Raises:
            SecretError: the file cannot be read, or was named and is not there; the message holds nothing of it.

        """
        parser = configparser.ConfigParser(interpolation=None)
        try:
            with self.path.open("rb") as file:
                raw = file.read(_FILE_LIMIT + 1)
        except FileNotFoundError:
            if not self._required:
                return None
            raise SecretError(f"there is no credentials file {self.path}") from None
        except OSError as error:
            raise SecretError(f"cannot read the credentials file {self.path}: {error.strerror}") from None
        if len(raw) > _FILE_LIMIT:
            raise SecretError(f"the credentials file {self.path} is larger than {_FILE_LIMIT} bytes")
        try:
            parser.read_string(raw.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise SecretError(f"the credentials file {self.path} is not UTF-8 text") from None
        except configparser.Error:
            # The library's words quote the line, which may be the secret.
            raise SecretError(
                f"the credentials file {self.path} is not in INI form ([basic], then lines such as ak = …)"
            ) from None
        if not parser.has_section("basic"):
            return None
        told = {name: (value or "").strip() for name, value in parser.items("basic")}
        if not (told.get("ak") and told.get("sk")):
            raise SecretError(f"the credentials file {self.path} has no ak and sk under [basic]")
        token = told.get("security_token")
        keys = Keys(Secret(told["ak"]), Secret(told["sk"]), Secret(token) if token else None)
        return Aksk(keys, iam_project_id=told.get("project_id") or None, path=self.path)
