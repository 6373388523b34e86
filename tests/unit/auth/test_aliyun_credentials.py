"""Credentials of Yunxiao: files and variables, their order, errors and masking."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from exporter.auth.aliyun import AliyunDefaultChain, AuthSection, authentication, signature
from exporter.auth.keys import Keys
from exporter.auth.protocol import Auth, UnsignedRequest
from exporter.config.secret import SecretError
from exporter.config.section import Context
from exporter.core.redaction import MASK
from tests.drivers.support import masked

NOW = 1_705_307_400.0
"""2024-01-15T08:30:00Z."""
DAY = 24 * 3600.0
REQUEST = UnsignedRequest(
    method="GET",
    host="devops.cn-hangzhou.aliyuncs.com",
    path="/organization/o/pipelines",
    headers=(("x-acs-action", "ListPipelines"), ("x-acs-version", "2021-06-25")),
)
SECTIONS: TypeAdapter[AuthSection] = TypeAdapter(Annotated[AuthSection, Field(discriminator="method")])
AKSK: dict[str, Any] = {
    "method": "aksk",
    "access_key": "LTAI-one",
    "secret_key": "SK-one",
    "security_token": "ST-one",
}
TOKEN: dict[str, Any] = {"method": "yunxiao_token", "token": "pt-private"}


def auth_of(environment: dict[str, str] | None = None, **settings: Any) -> Auth:
    section = SECTIONS.validate_python(settings)
    return authentication(section, environment=environment or {}, nonce=lambda: "n")


def default(environment: dict[str, str]) -> AliyunDefaultChain:
    auth = auth_of(environment, method="default")
    assert isinstance(auth, AliyunDefaultChain)
    return auth


def signs(auth: Auth, name: str, *, token: bool = True) -> bool:
    """Return whether requests are signed with the key of that name."""
    keys = Keys.of(f"LTAI-{name}", f"SK-{name}", f"ST-{name}" if token else None)
    return auth.headers(REQUEST, NOW) == signature(REQUEST, NOW, keys, "n")


# -- static credentials


@pytest.mark.parametrize("settings", [AKSK, TOKEN], ids=["aksk", "yunxiao_token"])
@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2024-01-16", "2024-01-16T00:00:00+00:00"),
        ("2024-01-16T08:30:00Z", "2024-01-16T08:30:00+00:00"),
        ("2024-01-16 16:30:00+08:00", "2024-01-16T08:30:00+00:00"),
    ],
)
def test_static_credential_ends_at_the_configured_time(settings: dict[str, Any], text: str, end: str) -> None:
    auth = auth_of(**settings, expires=text)
    assert auth.expires() == datetime.fromisoformat(end).timestamp()
    assert auth.expiry_renewal == "manual"
    assert auth.renewal(NOW + DAY) is None
    assert auth.renewal(NOW, refused=True) is None
    shown = SECTIONS.validate_python({**settings, "expires": text}).model_dump(mode="json")["expires"]
    assert auth_of(**settings, expires=shown).expires() == auth.expires()


@pytest.mark.parametrize("settings", [AKSK, TOKEN], ids=["aksk", "yunxiao_token"])
def test_end_is_unknown_without_the_setting(settings: dict[str, Any]) -> None:
    assert auth_of(**settings).expires() is None


@pytest.mark.parametrize("settings", [AKSK, TOKEN], ids=["aksk", "yunxiao_token"])
def test_secrets_in_files_are_read_again(tmp_path: Path, settings: dict[str, Any]) -> None:
    """A rotated secret takes effect without a restart: for headers, masking and the fingerprint."""
    names = [name for name in settings if name != "method"]
    given = {"method": settings["method"], **{f"{name}_file": name for name in names}}
    section = SECTIONS.validate_python(given, context=Context(tmp_path))
    prints, headers, identities = [], [], set()
    for turn in ("old", "new"):
        for name in names:
            (tmp_path / name).write_text(f"{name}-{turn}\n")
        auth = authentication(section, nonce=lambda: "n")
        if turn == "old":
            first = auth
        prints.append(first.fingerprint())
        headers.append(first.headers(REQUEST, NOW))
        identities |= {first.credential_id, auth.credential_id}
        assert masked(*(f"{name}-{turn}" for name in names))
        assert (auth.fingerprint(), auth.headers(REQUEST, NOW)) == (prints[-1], headers[-1])
    assert prints[0] != prints[1]
    assert headers[0] != headers[1]
    assert len(identities) == 1


@pytest.mark.parametrize("name", ["access_key", "secret_key", "security_token", "token"])
def test_missing_secret_file_is_reported_and_other_secrets_are_masked(tmp_path: Path, name: str) -> None:
    settings = dict(TOKEN if name == "token" else AKSK)
    del settings[name]
    others = {value for key, value in settings.items() if key != "method"}
    file = tmp_path / name
    settings[f"{name}_file"] = str(file)
    auth = auth_of(**settings)
    with pytest.raises(SecretError, match=str(file)) as error:
        auth.headers(REQUEST, NOW)
    assert not any(value in str(error.value) for value in others)
    assert masked(*others)
    assert auth.fingerprint() == ""
    assert str(file) in auth.credential_id


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "yunxiao_token"}, "token"),
        ({"method": "yunxiao_token", "token": ""}, "must not be empty"),
        ({"method": "yunxiao_token", "token": "two\nlines"}, "must be one line"),
        ({"method": "yunxiao_token", "token": "t", "token_file": "f"}, "give one of the two"),
        ({"method": "yunxiao_token", "token": "t", "access_key": "a"}, "access_key"),
        ({"method": "yunxiao_token", "token": "t", "expires": "soon"}, "is not a date"),
        ({"method": "aksk", "access_key": "a"}, "secret_key"),
        ({"method": "aksk", "secret_key": "s"}, "access_key"),
        ({**AKSK, "iam_project_id": "0605"}, "iam_project_id"),
        ({**AKSK, "expires": "2024-02-30"}, "is not a date"),
        ({"method": "default", "token": "t"}, "token"),
        ({"method": "default", "expires": "2024-01-16"}, "expires"),
        ({"method": "token", "token": "t"}, "yunxiao_token"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        auth_of(**settings)


# -- default credentials

VARIABLES = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI-env",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": " SK-env\n",
    "ALIBABA_CLOUD_SECURITY_TOKEN": "ST-env",
}
ROLE = {
    "ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/exporter",
    "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": "acs:ram::1:oidc-provider/ack",
    "ALIBABA_CLOUD_OIDC_TOKEN_FILE": "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token",
}


def profile(name: str, mode: str = "AK", **fields: Any) -> dict[str, Any]:
    """Return a profile as the CLI writes it."""
    return {
        "name": name,
        "mode": mode,
        "access_key_id": f"LTAI-{name}",
        "access_key_secret": f"SK-{name}",
        "sts_token": f"ST-{name}",
        "region_id": "cn-hangzhou",
        "expired_seconds": 0,
        **fields,
    }


def tool_file(home: Path, *profiles: dict[str, Any], current: str = "tool") -> Path:
    file = home / ".aliyun" / "config.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"current": current, "profiles": profiles, "meta_path": ""}))
    return file


def section(name: str, keys: str) -> str:
    """Return a profile of the SDK's credentials file."""
    return f"[{name}]\ntype = access_key\naccess_key_id = LTAI-{keys}\naccess_key_secret=SK-{keys} # a note\n"


def sdk_file(home: Path, text: str) -> Path:
    file = home / ".alibabacloud" / "credentials.ini"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def test_first_source_with_keys_is_used(tmp_path: Path) -> None:
    """Variables, the CLI's profile, the SDK's file. Each has a name and an identity of its own."""
    tool = tool_file(tmp_path, profile("tool"), profile("sts", "StsToken"))
    sdk = sdk_file(tmp_path, section("default", "sdk") + section("sts", "other"))
    named = tmp_path / "named.ini"
    named.write_text(section("default", "named"))
    home = {"HOME": str(tmp_path)}
    sources, identities = [], []

    def look(environment: dict[str, str], name: str, *, token: bool) -> None:
        auth = default(environment)
        assert signs(auth, name, token=token)
        assert masked(f"LTAI-{name}", f"SK-{name}", *([f"ST-{name}"] if token else []))
        assert (auth.expiry_renewal, auth.expires()) == ("manual", None)
        assert auth.renewal(NOW, refused=True) is None
        sources.append(auth.source)
        identities.append(auth.credential_id)

    look(VARIABLES | home, "env", token=True)
    look(VARIABLES | home | {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": " "}, "tool", token=False)
    look(home | {"ALIBABA_CLOUD_PROFILE": "sts"}, "sts", token=True)
    look(home | {"ALIBABA_CLOUD_CLI_PROFILE_DISABLED": "True"}, "sdk", token=False)
    look(
        home | {"ALIBABA_CLOUD_CLI_PROFILE_DISABLED": "true", "ALIBABA_CLOUD_PROFILE": "sts"},
        "other",
        token=False,
    )
    tool.unlink()
    look({"USERPROFILE": str(tmp_path)}, "sdk", token=False)
    look(home | {"ALIBABA_CLOUD_CREDENTIALS_FILE": str(named)}, "named", token=False)
    look({"ALIBABA_CLOUD_CREDENTIALS_FILE": str(named)}, "named", token=False)
    assert sources == [
        "the environment variables ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        *[f"the credentials file {tool}"] * 2,
        *[f"the credentials file {sdk}"] * 3,
        *[f"the credentials file {named}"] * 2,
    ]
    assert len(set(identities)) == 4
    assert "LTAI-" not in " ".join(identities)


@pytest.mark.parametrize(
    "content",
    [
        {"current": "default", "profiles": [{"name": "default", "mode": "AK", "access_key_id": ""}]},
        {"current": "default", "profiles": [{"name": "default", "mode": "", "region_id": "cn-hangzhou"}]},
        {"current": "", "profiles": [profile("")]},
        {"current": "gone", "profiles": [profile("tool")]},
        {"current": "default", "profiles": None},
        {"current": None},
        {},
    ],
)
def test_unconfigured_cli_is_skipped(tmp_path: Path, content: object) -> None:
    tool_file(tmp_path).write_text(json.dumps(content))
    sdk_file(tmp_path, section("default", "sdk"))
    assert signs(default({"HOME": str(tmp_path)}), "sdk", token=False)


def test_file_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    """Editors on Windows write it."""
    auth = default({"HOME": str(tmp_path)})
    for name, make in {
        "sdk": lambda: sdk_file(tmp_path, section("default", "sdk")),
        "tool": lambda: tool_file(tmp_path, profile("tool")),
    }.items():
        file = make()
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        assert signs(auth, name, token=False)


def test_profile_is_searched_in_both_files(tmp_path: Path) -> None:
    tool_file(tmp_path, profile("tool"))
    sdk_file(tmp_path, section("mine", "mine"))
    auth = default({"HOME": str(tmp_path), "ALIBABA_CLOUD_PROFILE": "mine"})
    assert signs(auth, "mine", token=False)


def test_file_that_appears_changes_or_disappears_takes_effect(tmp_path: Path) -> None:
    auth = default({"HOME": str(tmp_path)})
    with pytest.raises(SecretError, match="there is no access key"):
        auth.headers(REQUEST, NOW)
    prints, identities = {auth.fingerprint()}, {auth.credential_id}
    for name in ("first", "second"):
        tool = tool_file(tmp_path, profile(name), current=name)
        assert signs(auth, name, token=False)
        assert masked(f"LTAI-{name}", f"SK-{name}")
        prints.add(auth.fingerprint())
        identities.add(auth.credential_id)
    assert len(prints) == 3
    assert len(identities) == 2
    tool.unlink()
    sdk_file(tmp_path, section("default", "sdk"))
    assert signs(auth, "sdk", token=False)


@pytest.mark.parametrize("environment", [{}, ROLE, {"ALIBABA_CLOUD_ECS_METADATA": "role"}])
def test_missing_access_key_names_the_searched_sources(environment: dict[str, str]) -> None:
    """Roles are not supported."""
    auth = default({"HOME": "/home/exporter", **environment})
    with pytest.raises(SecretError) as error:
        auth.headers(REQUEST, NOW)
    assert str(error.value) == (
        "there is no access key: not in ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, nor as the "
        "current or default profile in /home/exporter/.aliyun/config.json and "
        "/home/exporter/.alibabacloud/credentials.ini "
        "(give an access key: roles are not supported, since Flow may not accept them)"
    )
    assert auth.source == f"nowhere: {error.value}"
    assert (auth.fingerprint(), auth.expires(), auth.renewal(NOW, refused=True)) == (
        "",
        None,
        None,
    )
    assert auth.expiry_renewal == "manual"
    assert auth.credential_id == default({}).credential_id


def test_missing_profile_is_named() -> None:
    with pytest.raises(SecretError, match=r"nor as the profile 'mine' in any file, since HOME is not set \("):
        default({"ALIBABA_CLOUD_PROFILE": "mine"}).headers(REQUEST, NOW)


def test_token_of_the_other_api_is_not_used_but_mentioned() -> None:
    """A personal access token cannot sign. The message has settings to copy."""
    auth = default({"YUNXIAO_ACCESS_TOKEN": "pt-private"})
    with pytest.raises(SecretError) as error:
        auth.headers(REQUEST, NOW)
    assert str(error.value).endswith(
        "; for YUNXIAO_ACCESS_TOKEN, write method: yunxiao_token and token: ${YUNXIAO_ACCESS_TOKEN})"
    )
    assert "pt-private" not in f"{error.value} {auth!r} {vars(auth)}"


def of_tool(content: object) -> Callable[[Path], Path]:
    def make(home: Path) -> Path:
        file = tool_file(home)
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return file

    return make


def of_sdk(content: bytes) -> Callable[[Path], Path]:
    def make(home: Path) -> Path:
        file = sdk_file(home, "")
        file.write_bytes(content)
        return file

    return make


def folder(home: Path) -> Path:
    file = home / ".aliyun" / "config.json"
    file.mkdir(parents=True)
    return file


def missing(home: Path) -> Path:
    return home / "named.ini"


PRIVATE = {"access_key_id": "very-private", "access_key_secret": "very-private", "sts_token": ""}
BAD_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "folder": (folder, "Is a directory"),
    "no JSON": (of_tool(b"very-private"), "not in the format of the Alibaba Cloud CLI"),
    "another form": (of_tool({"current": 7, "profiles": ["very-private"]}), "not in the format of the Alibaba"),
    "nested too deeply": (of_tool(b"[" * 100_000), "not in the format of the Alibaba Cloud CLI"),
    "not UTF-8": (of_tool(b'{"current": "very-private\xff"}'), "is not UTF-8 text"),
    "half a character": (of_tool(b'{"current": "very-private\\ud800"}'), "not in the format of the Alibaba"),
    "too large": (of_tool(b" " * (1 << 20) + b"{}"), "is larger than 1 MiB"),
    "half a key": (
        of_tool({"current": "x", "profiles": [profile("x", access_key_id="", access_key_secret="very-private")]}),
        "the profile 'x' in .* lacks one of access_key_id, access_key_secret",
    ),
    "no text": (
        of_tool({"current": "x", "profiles": [profile("x", access_key_id=["very-private"])]}),
        "lacks one of access_key_id, access_key_secret",
    ),
    "temporary without token": (
        of_tool({"current": "x", "profiles": [profile("x", "StsToken", **PRIVATE)]}),
        "lacks one of access_key_id, access_key_secret, sts_token",
    ),
    **{
        mode: (
            of_tool({"current": "x", "profiles": [profile("x", mode, **PRIVATE)]}),
            r"the mode of the profile 'x' in .* is not AK or StsToken \(.*roles are not supported",
        )
        for mode in ("RamRoleArn", "EcsRamRole", "OIDC", "ChainableRamRoleArn", "CloudSSO", "OAuth", "")
    },
    "no INI": (of_sdk(b"very-private\n"), r"is not in INI format \(write \[default\], then lines such as type ="),
    "twice": (of_sdk(b"[default]\ntype = x\ntype = very-private\n"), "is not in INI format"),
    "no key": (of_sdk(b"[default]\ntype = access_key\naccess_key_secret = very-private\n"), "lacks one of"),
    "a note for a key": (
        of_sdk(b"[default]\ntype = access_key\naccess_key_id = #very-private\naccess_key_secret = x\n"),
        "lacks one of access_key_id, access_key_secret",
    ),
    "no type": (of_sdk(b"[default]\naccess_key_secret = very-private\n"), "the type of the profile 'default' in .* is not access_key"),
    "a role": (of_sdk(b"[default]\ntype = ecs_ram_role\nrole_name = very-private\n"), "roles are not supported"),
    "missing": (missing, "there is no credentials file"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_unusable_file_is_reported(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    """Using another identity would hide the problem. The content of the file is not shown."""
    environment = {"HOME": str(tmp_path)}
    if make is missing:
        environment["ALIBABA_CLOUD_CREDENTIALS_FILE"] = str(missing(tmp_path))
    elif not message.startswith(("is not in INI", "the type of", "roles are")):
        sdk_file(tmp_path, section("default", "sdk"))
    file = make(tmp_path)
    auth = default(environment)
    with pytest.raises(SecretError, match=message) as error:
        auth.headers(REQUEST, NOW)
    assert str(file) in str(error.value)
    assert "very-private" not in str(error.value)
    assert auth.source == f"nowhere: {error.value}"
    assert (auth.renewal(NOW, refused=True), auth.fingerprint(), auth.expires()) == (None, "", None)
    assert str(file) in auth.credential_id


def test_broken_file_keeps_its_credential_id(tmp_path: Path) -> None:
    file = tool_file(tmp_path, profile("tool"))
    auth = default({"HOME": str(tmp_path)})
    before = auth.credential_id
    file.write_text("{")
    assert auth.credential_id == before


def test_variables_with_bytes_outside_utf_8_are_used() -> None:
    """Python decodes such bytes as surrogates. The client refuses the header before it sends it."""
    auth = default({name: f"x\udcff{value}" for name, value in VARIABLES.items()})
    assert auth.headers(REQUEST, NOW)["x-acs-security-token"] == "x\udcffST-env"
    assert auth.fingerprint()


# -- identity and printing


def test_credential_ids_are_equal_only_for_equal_credentials() -> None:
    """Projects share the state of a credential and the object."""
    variables = {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI-one",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "SK-one",
        "ALIBABA_CLOUD_SECURITY_TOKEN": "ST-one",
    }
    assert auth_of(**AKSK).credential_id == auth_of(**AKSK).credential_id == default(variables).credential_id
    assert auth_of(**TOKEN).credential_id == auth_of(**TOKEN).credential_id
    assert default({}).credential_id == default({"HOME": "/"}).credential_id
    different = [
        *(auth_of(**{**AKSK, name: "x"}) for name in ("access_key", "secret_key", "security_token")),
        auth_of(**{**AKSK, "security_token": None}),
        auth_of(**AKSK), auth_of(**TOKEN), auth_of(method="yunxiao_token", token="x"), default({}),
    ]  # fmt: skip
    assert len({auth.credential_id for auth in different}) == len(different)
    shown = " ".join(auth.credential_id for auth in different)
    assert not any(secret in shown for secret in ("LTAI-one", "SK-one", "ST-one", "pt-private"))


def test_objects_and_settings_do_not_print_secrets(tmp_path: Path) -> None:
    tool_file(tmp_path, profile("tool"))
    auths = [auth_of(**AKSK), auth_of(**TOKEN), default(VARIABLES), default({"HOME": str(tmp_path)})]
    for auth in auths:
        shown = f"{auth!r} {auth} {vars(auth)}"
        assert not re.search("LTAI-|SK-|ST-|pt-private", shown)
    for settings in (AKSK, TOKEN):
        parsed = SECTIONS.validate_python(settings)
        shown = f"{parsed!r} {parsed} {parsed.model_dump_json()}"
        assert MASK in shown
        assert not re.search("LTAI-|SK-|ST-|pt-private", shown)
