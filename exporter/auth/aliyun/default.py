"""The access key that the vendor's SDK would find by itself, in the places where it looks.

Source: alibabacloud-credentials, provider/default.py and what it calls
(https://github.com/aliyun/credentials-python). Three things differ:

- No role is taken on, be it that of a cluster's pod (RRSA), of a server (ECS) or of a profile. Flow wants to know who
  asks as a member of the organization, and nobody says whether a role can be one.
- What is there and cannot be used is told; the SDK would go on to the next place.
- YUNXIAO_ACCESS_TOKEN, a variable of the vendor's tools and not of the SDK, is no place: it proves nothing to the API
  that takes signatures, and which API is asked must not hang on what is found.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from exporter.auth.aliyun.static import Aksk
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
_NO_ROLE = "a role is not taken on, for nobody says whether Flow accepts one"

_Read = Callable[[], Keys | None]


class Default(CredentialChain):
    """Environment variables, else a profile of the command-line tool, else one of the SDK's credentials file."""

    def __init__(self, environment: Mapping[str, str], nonce: Callable[[], str]) -> None:
        """`nonce` is called for each signature."""
        files = _files(environment)
        super().__init__(
            *_variables(environment, nonce),
            *(
                CredentialSource(
                    f"the credentials file {path}", f"acs3 {path}", partial(_signing, read, nonce)
                )
                for path, read in files.items()
            ),
            otherwise=_nowhere(environment, tuple(files)),
        )


def _variables(environment: Mapping[str, str], nonce: Callable[[], str]) -> tuple[CredentialSource, ...]:
    access_key, secret_key = variable(environment, _ACCESS_KEY), variable(environment, _SECRET_KEY)
    if not (access_key and secret_key):
        return ()
    keys = Keys.of(access_key, secret_key, variable(environment, "ALIBABA_CLOUD_SECURITY_TOKEN"))
    given = Aksk(keys, nonce)
    words = f"the environment variables {_ACCESS_KEY} and {_SECRET_KEY}"
    return (CredentialSource(words, given.credential_id, lambda: given),)


def _files(environment: Mapping[str, str]) -> dict[Path, _Read]:
    """What reads each file that may hold keys, in the order in which they are looked into."""
    files: dict[Path, _Read] = {}
    profile, home = _profile(environment), home_of(environment)
    if home and variable(environment, "ALIBABA_CLOUD_CLI_PROFILE_DISABLED").lower() != "true":
        path = home / ".aliyun" / "config.json"
        files[path] = partial(_in_configuration, path, profile)
    named = variable(environment, "ALIBABA_CLOUD_CREDENTIALS_FILE")
    ini = Path(named) if named else home and home / ".alibabacloud" / "credentials.ini"
    if ini:
        files[ini] = partial(_in_ini, ini, profile or "default", required=bool(named))
    return files


def _profile(environment: Mapping[str, str]) -> str:
    return variable(environment, "ALIBABA_CLOUD_PROFILE")


def _signing(read: _Read, nonce: Callable[[], str]) -> Aksk | None:
    keys = read()
    return Aksk(keys, nonce) if keys else None


class _Configuration(msgspec.Struct):
    """The command-line tool's file."""

    current: str | None = None
    profiles: list[dict[str, Any]] | None = None  # the tool writes null for none


def _in_configuration(path: Path, profile: str) -> Keys | None:
    """The keys of a profile of the command-line tool, if it is there; of the current one, if none is named."""
    text = read_credentials(path, required=False)
    if text is None:
        return None
    try:
        told = msgspec.json.decode(text, type=_Configuration)
    except (msgspec.MsgspecError, RecursionError):
        # The library's words may quote a value.
        raise SecretError(
            f"the credentials file {path} is not in the form of the Alibaba Cloud CLI (run aliyun configure)"
        ) from None
    name = profile or told.current
    found = next((entry for entry in told.profiles or () if name and entry.get("name") == name), None)
    if found is None:
        return None
    mode = str(found.get("mode") or "")
    if mode in {"", "AK"} and not (found.get("access_key_id") or found.get("access_key_secret")):
        return None  # as the tool makes it when it first runs
    if mode not in {"AK", "StsToken"}:
        raise SecretError(f"the profile {name!r} in {path} is not of the mode AK or StsToken ({_NO_ROLE})")
    token = ("sts_token",) if mode == "StsToken" else ()
    return _whole(found, ("access_key_id", "access_key_secret", *token), f"the profile {name!r} in {path}")


def _in_ini(path: Path, profile: str, *, required: bool) -> Keys | None:
    """The keys of a profile of the SDK's credentials file, if it is there."""
    example = "[default], then lines such as type = access_key"
    told = read_ini(path, profile, example, required=required)
    if told is None:
        return None
    # As the SDK reads a comment.
    told = {name: value.partition("#")[0].strip() for name, value in told.items()}
    if told.get("type") != "access_key":
        raise SecretError(f"the profile {profile!r} in {path} is not of the type access_key ({_NO_ROLE})")
    return _whole(told, ("access_key_id", "access_key_secret"), f"the profile {profile!r} in {path}")


def _whole(told: Mapping[str, object], names: Sequence[str], place: str) -> Keys:
    """The keys that a profile has under some names.

    Raises:
        SecretError: one of them is not there.

    """
    values = [value.strip() for name in names if isinstance(value := told.get(name), str)]
    if len(values) < len(names) or not all(values):
        raise SecretError(f"{place} lacks one of {', '.join(names)}")
    return Keys.of(*values)


def _nowhere(environment: Mapping[str, str], files: Sequence[Path]) -> str:
    profile = _profile(environment)
    wanted = f"the profile {profile!r}" if profile else "the current or default profile"
    looked = " and ".join(map(str, files)) or "no file, for HOME is not set"
    words = f"there is no access key: not in {_ACCESS_KEY} and {_SECRET_KEY}, nor as {wanted} in {looked}"
    hint = ""
    if variable(environment, _YUNXIAO_TOKEN):
        hint = f"; for {_YUNXIAO_TOKEN}, write method: yunxiao_token and token: ${{{_YUNXIAO_TOKEN}}}"
    return f"{words} ({_NO_ROLE}{hint})"
