"""Secrets: no way of printing shows the value, and one in a file is as new as the file."""

import copy
import json
import logging
import pickle
import pprint
import traceback

import pytest
from pydantic import ValidationError

from exporter.auth.huawei import TokenSection
from exporter.config.secret import FileSecret, Secret, SecretError
from exporter.core.redaction import MASK
from exporter.settings.settings import Config
from tests.drivers.support import config, project

VALUE = "a-token-that-nobody-may-see"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "token"
    path.write_text(VALUE)
    return path


@pytest.fixture(params=["text", "file"])
def secret(request, file):
    return Secret(VALUE) if request.param == "text" else FileSecret(file)


WAYS_TO_PRINT = {
    "str": str,
    "repr": repr,
    "ascii": ascii,
    "format": format,
    "f-string": lambda value: f"{value}",
    "f-string with repr": lambda value: f"{value!r}",
    "f-string with =": lambda value: f"{value=}",
    "str.format": "{}".format,
    "percent s": lambda value: "%s" % value,  # noqa: UP031  # it is the case
    "percent r": lambda value: "%r" % value,  # noqa: UP031
    "in a list": lambda value: str([value]),
    "in a mapping": lambda value: str({"token": value}),
    "pprint": pprint.pformat,
    "json": lambda value: json.dumps({"token": value}, default=str),
    "an exception": lambda value: "".join(traceback.format_exception(ValueError(value))),
    "a log record": lambda value: logging.makeLogRecord({"msg": "%s", "args": (value,)}).getMessage(),
}


@pytest.mark.parametrize("way", WAYS_TO_PRINT.values(), ids=WAYS_TO_PRINT)
def test_printed_as_a_mask(secret, way):
    """However a secret is printed, a mask stands for it."""
    secret.reveal()
    text = way(secret)
    assert MASK in text
    assert VALUE not in text


WAYS_TO_CARRY_OFF = {
    "pickle": pickle.dumps,
    "the oldest pickle": lambda value: pickle.dumps(value, protocol=0),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "json": json.dumps,
    "vars": vars,
    "format with a width": lambda value: format(value, ">40"),
}


@pytest.mark.parametrize("way", WAYS_TO_CARRY_OFF.values(), ids=WAYS_TO_CARRY_OFF)
def test_not_carried_off(secret, way):
    """What would take the value along is refused, with words that do not hold it."""
    secret.reveal()
    with pytest.raises(TypeError) as caught:
        way(secret)
    assert VALUE not in str(caught.value)


USER = {"domain": "company", "username": "exporter", "iam_project": "a", "iam_endpoint": "http://127.0.0.1:1"}
AUTHS = {
    "token": {"method": "token", "token": VALUE},
    "aksk": {"method": "aksk", "access_key": VALUE, "secret_key": VALUE, "security_token": VALUE},
    "password": {"method": "password", "password": VALUE, **USER},
}
WAYS_TO_SHOW_SETTINGS = {
    "str": str,
    "repr": repr,
    "model_dump": lambda settings: str(settings.model_dump()),
    "model_dump for JSON": lambda settings: str(settings.model_dump(mode="json")),
    "model_dump_json": lambda settings: settings.model_dump_json(),
    "effective": Config.effective,
    "vars": lambda settings: str(vars(settings.projects[0].auth)),
}


@pytest.mark.parametrize("way", WAYS_TO_SHOW_SETTINGS.values(), ids=WAYS_TO_SHOW_SETTINGS)
@pytest.mark.parametrize("auth", AUTHS.values(), ids=AUTHS)
def test_settings_show_masks(auth, way):
    """Settings show a mask for each secret that they have, and the value of none."""
    text = way(config(project(auth=auth)))
    assert text.count(MASK) == list(auth.values()).count(VALUE)
    assert VALUE not in text


@pytest.mark.parametrize("way", WAYS_TO_SHOW_SETTINGS.values(), ids=WAYS_TO_SHOW_SETTINGS)
def test_settings_show_a_mask_for_a_proxy(way):
    """A proxy's URL may hold a password, and shows as a mask wherever settings do."""
    settings = config(project(proxy=f"http://user:{VALUE}@proxy.example.com:3128"))
    assert VALUE not in way(settings)
    assert settings.effective().count(MASK) == 2  # the token's, and the proxy's


@pytest.mark.parametrize(
    "url",
    [
        f"user:{VALUE}@proxy.example.com:3128",
        f"http://user:{VALUE}#@proxy.example.com",
        f"socks5://u:{VALUE}@h",
    ],
)
def test_a_wrong_proxy_in_a_file(file, url):
    """What is in a proxy's file is checked when it is used, and refused without being quoted."""
    proxy = config(project(proxy_file=str(file))).projects[0].proxy
    assert proxy is not None
    file.write_text(url)
    with pytest.raises(SecretError) as caught:
        proxy.reveal()
    assert str(caught.value).startswith(
        f"the secret file {file} must be a URL such as http://proxy.example.com"
    )
    assert VALUE not in "".join(traceback.format_exception(caught.value))
    file.write_text(f"http://user:{VALUE}@proxy.example.com:3128\n")
    assert proxy.reveal() == f"http://user:{VALUE}@proxy.example.com:3128"


def test_settings_show_masks_of_files(file):
    """A secret from a file is as well hidden, though the file can be read."""
    text = config(project(auth={"method": "token", "token_file": str(file)})).effective()
    assert f"token: {MASK}" in text
    assert VALUE not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"auth": {"method": "token", "token": [VALUE]}},
        {"auth": {"method": "aksk", "acces_key": VALUE}},
        {"auth": {"method": "password", "password": VALUE}},
        {"auth": {"method": "password", "password": VALUE, **USER, "iam_endpoint": f"https://u:{VALUE}@h"}},
        {"proxy": f"socks5://user:{VALUE}@proxy.example.com"},
        {"proxy": f"http://user:{VALUE}@proxy.example.com:port"},
        {"proxy": [VALUE]},
        {"url_template": f"https://user:{VALUE}@devcloud.example.com"},
    ],
)
def test_refused_settings_show_no_input(changes):
    """The error of settings that were refused does not quote what was given."""
    with pytest.raises(ValidationError) as caught:
        config(project(**changes))
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_file_is_read_again(file):
    """A secret rotated in place is the new one at the next use."""
    secret = FileSecret(file)
    assert secret.reveal() == VALUE
    file.write_text("another")
    assert secret.reveal() == "another"


def test_file_behind_swapped_links(tmp_path):
    """So is one rotated as Kubernetes does it: a link to a folder is replaced in one step."""
    for version, text in (("..1", "old"), ("..2", "new")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "token").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "token").symlink_to("..data/token")
    secret = FileSecret(tmp_path / "token")
    assert secret.reveal() == "old"
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert secret.reveal() == "new"


def test_file_that_comes_back(file):
    """A file that was missing for a moment serves again."""
    secret = FileSecret(file)
    file.unlink()
    with pytest.raises(SecretError):
        secret.reveal()
    file.write_text(VALUE)
    assert secret.reveal() == VALUE


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n", " \n"])
def test_line_end_is_not_part(file, ending):
    """Line ends and blanks that editors and `echo` leave do not belong to a secret."""
    file.write_bytes(VALUE.encode() + ending.encode())
    assert FileSecret(file).reveal() == VALUE


@pytest.mark.parametrize("blanks", ["\n", " ", "\r\n"])
def test_line_end_of_inline_secret_is_not_part(blanks):
    """Nor to one that stands in the configuration or comes from a variable."""
    section = TokenSection.model_validate({"method": "token", "token": VALUE + blanks})
    assert section.token.reveal() == VALUE


BAD_FILES = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "is empty"),
    "too large": (VALUE.encode() * 50_000, "is larger than 64 KiB (is it the right file?)"),
    "not UTF-8": (VALUE.encode() + b"\xff", "is not UTF-8 text"),
    "two lines": (f"{VALUE}\n{VALUE}\n".encode(), "holds more than one line, or control characters"),
    "control character": (f"{VALUE}\0".encode(), "holds more than one line, or control characters"),
}


@pytest.mark.parametrize(("content", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(file, content, words):
    """A file that cannot be a secret is refused by its name, and its content stays unsaid."""
    file.write_bytes(content)
    with pytest.raises(SecretError) as caught:
        FileSecret(file).reveal()
    assert str(caught.value) == f"the secret file {file} {words}"
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_file_of_the_largest_size(file):
    """The limit itself is allowed."""
    file.write_bytes(b"x" * (64 << 10))
    assert len(FileSecret(file).reveal()) == 64 << 10


def test_file_missing(tmp_path):
    """A missing file is told by its name and the system's reason."""
    secret = FileSecret(tmp_path / "token")
    with pytest.raises(SecretError) as caught:
        secret.reveal()
    assert str(caught.value) == f"cannot read the secret file {tmp_path / 'token'}: No such file or directory"


def test_file_is_a_folder(tmp_path):
    """So is a folder in its place, which a container runtime makes of a missing mount."""
    with pytest.raises(SecretError, match="Is a directory"):
        FileSecret(tmp_path).reveal()
