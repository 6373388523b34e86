"""Credentials from the sources that the vendor's SDK searches.

Source: huaweicloudsdkcore auth/provider.py. There are two differences: OIDC federation is not supported, and pod identity
comes before the metadata service. A pod can reach the metadata service, too, and would use the agency of its server.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from exporter.auth.credential_chain import CredentialChain, CredentialSource, home_of, read_ini, variable
from exporter.auth.huawei.metadata_service import MetadataIssuer
from exporter.auth.huawei.pod_identity import PodIdentityIssuer
from exporter.auth.huawei.sections import HuaweiDefaultSection
from exporter.auth.huawei.static_credentials import HuaweiAccessKey
from exporter.auth.huawei.temporary_keys import KeyIssuer, TemporaryKeys
from exporter.auth.keys import Keys
from exporter.config.secret import FileSecret, SecretError


class HuaweiDefaultChain(CredentialChain):
    """Credential from environment variables, the credentials file, pod identity or the metadata service, in this order."""

    def __init__(self, section: HuaweiDefaultSection, environment: Mapping[str, str]) -> None:
        platform = TemporaryKeys(_issuer(section, environment))
        sources = (
            _variables(environment),
            _file(environment),
            CredentialSource(platform.source, platform.credential_id, lambda: platform),
        )
        super().__init__(*(source for source in sources if source is not None))


def _variables(environment: Mapping[str, str]) -> CredentialSource | None:
    access_key = variable(environment, "HUAWEICLOUD_SDK_AK")
    secret_key = variable(environment, "HUAWEICLOUD_SDK_SK")
    if not (access_key and secret_key):
        return None
    keys = Keys.of(access_key, secret_key, variable(environment, "HUAWEICLOUD_SDK_SECURITY_TOKEN"))
    auth = HuaweiAccessKey(keys, iam_project_id=variable(environment, "HUAWEICLOUD_SDK_PROJECT_ID") or None)
    source = "the environment variables HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK"
    return CredentialSource(source, auth.credential_id, lambda: auth)


def _file(environment: Mapping[str, str]) -> CredentialSource | None:
    named, home = variable(environment, "HUAWEICLOUD_SDK_CREDENTIALS_FILE"), home_of(environment)
    path = Path(named) if named else home and home / ".huaweicloud" / "credentials"
    if path is None:
        return None
    look = partial(_read_sdk_file, path, required=bool(named))
    return CredentialSource(f"the credentials file {path}", f"aksk {path}", look)


def _read_sdk_file(path: Path, *, required: bool) -> HuaweiAccessKey | None:
    """Return the keys of the SDK's credentials file. None if the file or its section `[basic]` does not exist.

    Keys for regional services are under `[basic]`.
    """
    values = read_ini(path, "basic", "[basic], then lines such as ak = …", required=required)
    if values is None:
        return None
    if not (values.get("ak") and values.get("sk")):
        raise SecretError(f"the credentials file {path} has no ak and sk under [basic] (add both)")
    keys = Keys.of(values["ak"], values["sk"], values.get("security_token"))
    return HuaweiAccessKey(keys, iam_project_id=values.get("project_id") or None)


def _issuer(section: HuaweiDefaultSection, environment: Mapping[str, str]) -> KeyIssuer:
    uri = variable(environment, "HC_CONTAINER_CREDENTIALS_FULL_URI")
    file = variable(environment, "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    if uri and file:
        return PodIdentityIssuer(uri, FileSecret(Path(file)))
    return MetadataIssuer(
        section.metadata_endpoint,
        " (queried last, since neither HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK nor a credentials file exist)",
    )
