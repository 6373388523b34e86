"""The credentials that the vendor's SDK would find by itself, in the places where it looks.

Source: huaweicloudsdkcore auth/provider.py. Two things differ: federation by OIDC is not spoken, and a pod identity
comes before the metadata service, which a pod reaches too and where it would borrow the server's agency.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from exporter.auth.credential_chain import CredentialChain, CredentialSource, home_of, read_ini, variable
from exporter.auth.huawei.sections import DefaultSection
from exporter.auth.huawei.static import Aksk
from exporter.auth.huawei.temporary import Issuer, Metadata, PodIdentity, Temporary
from exporter.auth.keys import Keys
from exporter.config.secret import FileSecret, SecretError


class Default(CredentialChain):
    """Environment variables, else the credentials file, else pod identity, else the metadata service."""

    def __init__(self, section: DefaultSection, environment: Mapping[str, str]) -> None:
        platform = Temporary(_issuer(section, environment))
        places = (
            _variables(environment),
            _file(environment),
            CredentialSource(platform.source, platform.credential_id, lambda: platform),
        )
        super().__init__(*(place for place in places if place is not None))


def _variables(environment: Mapping[str, str]) -> CredentialSource | None:
    access_key = variable(environment, "HUAWEICLOUD_SDK_AK")
    secret_key = variable(environment, "HUAWEICLOUD_SDK_SK")
    if not (access_key and secret_key):
        return None
    keys = Keys.of(access_key, secret_key, variable(environment, "HUAWEICLOUD_SDK_SECURITY_TOKEN"))
    given = Aksk(keys, iam_project_id=variable(environment, "HUAWEICLOUD_SDK_PROJECT_ID") or None)
    words = "the environment variables HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK"
    return CredentialSource(words, given.credential_id, lambda: given)


def _file(environment: Mapping[str, str]) -> CredentialSource | None:
    named, home = variable(environment, "HUAWEICLOUD_SDK_CREDENTIALS_FILE"), home_of(environment)
    path = Path(named) if named else home and home / ".huaweicloud" / "credentials"
    if path is None:
        return None
    look = partial(_in_file, path, required=bool(named))
    return CredentialSource(f"the credentials file {path}", f"aksk {path}", look)


def _in_file(path: Path, *, required: bool) -> Aksk | None:
    """The keys of the SDK's file as they are now, which are under `[basic]` for a region's services."""
    told = read_ini(path, "basic", "[basic], then lines such as ak = …", required=required)
    if told is None:
        return None
    if not (told.get("ak") and told.get("sk")):
        raise SecretError(f"the credentials file {path} has no ak and sk under [basic]")
    keys = Keys.of(told["ak"], told["sk"], told.get("security_token"))
    return Aksk(keys, iam_project_id=told.get("project_id") or None)


def _issuer(section: DefaultSection, environment: Mapping[str, str]) -> Issuer:
    uri = variable(environment, "HC_CONTAINER_CREDENTIALS_FULL_URI")
    file = variable(environment, "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    if uri and file:
        return PodIdentity(uri, FileSecret(Path(file)))
    return Metadata(
        section.metadata_endpoint,
        " (asked last, for neither HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK nor a credentials file are there)",
    )
