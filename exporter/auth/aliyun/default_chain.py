"""Access key from the sources that the vendor's SDK searches.

Source: alibabacloud-credentials, provider/default.py (https://github.com/aliyun/credentials-python). There are three
differences:

- No role is assumed, neither of a cluster's pod (RRSA), nor of a server (ECS) or a profile. Flow requires a member of the
  organization, and the documentation does not say whether a role can be a member.
- A credential that is present but unusable is an error. The SDK would try the next source.
- YUNXIAO_ACCESS_TOKEN is not a source: it is a variable of the vendor's tools, not of the SDK. The token is useless for
  the API that takes signatures, and the API must not depend on which credential is found.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from exporter.auth.aliyun.static_credentials import AliyunAccessKey
from exporter.auth.credential_chain import (
    CredentialChain,
    CredentialSource,
    home_of,
    read_credentials,
    read_ini,
    variable,
)
from exporter.auth.keys import Keys
from exporter.config.secret import SecretError

_ACCESS_KEY = "ALIBABA_CLOUD_ACCESS_KEY_ID"
_SECRET_KEY = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"  # noqa: S105  # the variable's name
_YUNXIAO_TOKEN = "YUNXIAO_ACCESS_TOKEN"  # noqa: S105  # likewise
_NO_ROLE = "give an access key: roles are not supported, since Flow may not accept them"

_Read = Callable[[], Keys | None]


class AliyunDefaultChain(CredentialChain):
    """Access key from environment variables, the CLI's configuration or the SDK's credentials file, in this order."""

    def __init__(self, environment: Mapping[str, str], nonce: Callable[[], str]) -> None:
        """`nonce` returns a unique text for each signature."""
        files = _files(environment)
        super().__init__(
            *_variables(environment, nonce),
            *(
                CredentialSource(
                    f"the credentials file {path}", f"acs3 {path}", partial(_access_key, read, nonce)
                )
                for path, read in files.items()
            ),
            not_found=_not_found(environment, tuple(files)),
        )


def _variables(environment: Mapping[str, str], nonce: Callable[[], str]) -> tuple[CredentialSource, ...]:
    access_key, secret_key = variable(environment, _ACCESS_KEY), variable(environment, _SECRET_KEY)
    if not (access_key and secret_key):
        return ()
    keys = Keys.of(access_key, secret_key, variable(environment, "ALIBABA_CLOUD_SECURITY_TOKEN"))
    auth = AliyunAccessKey(keys, nonce)
    source = f"the environment variables {_ACCESS_KEY} and {_SECRET_KEY}"
    return (CredentialSource(source, auth.credential_id, lambda: auth),)


def _files(environment: Mapping[str, str]) -> dict[Path, _Read]:
    """Return the files that may contain keys, in the order of the search, each with a function that reads it."""
    files: dict[Path, _Read] = {}
    profile, home = _profile(environment), home_of(environment)
    if home and variable(environment, "ALIBABA_CLOUD_CLI_PROFILE_DISABLED").lower() != "true":
        path = home / ".aliyun" / "config.json"
        files[path] = partial(_read_cli_file, path, profile)
    named = variable(environment, "ALIBABA_CLOUD_CREDENTIALS_FILE")
    ini = Path(named) if named else home and home / ".alibabacloud" / "credentials.ini"
    if ini:
        files[ini] = partial(_read_sdk_file, ini, profile or "default", required=bool(named))
    return files


def _profile(environment: Mapping[str, str]) -> str:
    return variable(environment, "ALIBABA_CLOUD_PROFILE")


def _access_key(read: _Read, nonce: Callable[[], str]) -> AliyunAccessKey | None:
    keys = read()
    return AliyunAccessKey(keys, nonce) if keys else None


class _CliFile(msgspec.Struct):
    """Configuration file of the Alibaba Cloud CLI."""

    current: str | None = None
    profiles: list[dict[str, Any]] | None = None
    """The CLI writes null for an empty list."""


def _read_cli_file(path: Path, profile: str) -> Keys | None:
    """Return the keys of a CLI profile, by default the current one. None if the file or profile is missing, or has no keys yet."""
    text = read_credentials(path, required=False)
    if text is None:
        return None
    try:
        content = msgspec.json.decode(text, type=_CliFile)
    except (msgspec.MsgspecError, RecursionError):
        # The library's message may quote a value.
        raise SecretError(
            f"the credentials file {path} is not in the format of the Alibaba Cloud CLI (run aliyun configure)"
        ) from None
    name = profile or content.current
    found = next((entry for entry in content.profiles or () if name and entry.get("name") == name), None)
    if found is None:
        return None
    mode = str(found.get("mode") or "")
    if mode in {"", "AK"} and not (found.get("access_key_id") or found.get("access_key_secret")):
        return None  # the CLI creates such a profile when it runs for the first time
    if mode not in {"AK", "StsToken"}:
        raise SecretError(f"the mode of the profile {name!r} in {path} is not AK or StsToken ({_NO_ROLE})")
    token = ("sts_token",) if mode == "StsToken" else ()
    return _keys(found, ("access_key_id", "access_key_secret", *token), f"the profile {name!r} in {path}")


def _read_sdk_file(path: Path, profile: str, *, required: bool) -> Keys | None:
    """Return the keys of a profile of the SDK's credentials file. None if the file or the profile does not exist."""
    example = "[default], then lines such as type = access_key"
    values = read_ini(path, profile, example, required=required)
    if values is None:
        return None
    # The SDK treats the rest of a line after # as a comment.
    values = {name: value.partition("#")[0].strip() for name, value in values.items()}
    if values.get("type") != "access_key":
        raise SecretError(f"the type of the profile {profile!r} in {path} is not access_key ({_NO_ROLE})")
    return _keys(values, ("access_key_id", "access_key_secret"), f"the profile {profile!r} in {path}")


def _keys(profile: Mapping[str, object], names: Sequence[str], location: str) -> Keys:
    """Return the keys that a profile has under `names`.

    Raises:
        SecretError: One of them is missing.

    """
    values = [value.strip() for name in names if isinstance(value := profile.get(name), str)]
    if len(values) < len(names) or not all(values):
        raise SecretError(f"{location} lacks one of {', '.join(names)}")
    return Keys.of(*values)


def _not_found(environment: Mapping[str, str], files: Sequence[Path]) -> str:
    """Return the error message to use if no source has a key."""
    name = _profile(environment)
    profile = f"the profile {name!r}" if name else "the current or default profile"
    searched = " and ".join(map(str, files)) or "any file, since HOME is not set"
    message = (
        f"there is no access key: not in {_ACCESS_KEY} and {_SECRET_KEY}, nor as {profile} in {searched}"
    )
    hint = ""
    if variable(environment, _YUNXIAO_TOKEN):
        hint = f"; for {_YUNXIAO_TOKEN}, write method: yunxiao_token and token: ${{{_YUNXIAO_TOKEN}}}"
    return f"{message} ({_NO_ROLE}{hint})"
