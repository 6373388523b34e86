"""Secrets: no way of printing shows the value, and a secret in a file follows the file."""

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

VALUE = "a-token-that-stays-hidden"


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
def test_secret_prints_as_a_mask(secret, way):
    secret.reveal()
    text = way(secret)
    assert MASK in text
    assert VALUE not in text


WAYS_TO_COPY = {
    "pickle": pickle.dumps,
    "the oldest pickle": lambda value: pickle.dumps(value, protocol=0),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "json": json.dumps,
    "vars": vars,
    "format with a width": lambda value: format(value, ">40"),
}


@pytest.mark.parametrize("way", WAYS_TO_COPY.values(), ids=WAYS_TO_COPY)
def test_secret_cannot_be_copied_or_serialized(secret, way):
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
def test_settings_show_a_mask_for_each_secret(auth, way):
    text = way(config(project(auth=auth)))
    assert text.count(MASK) == list(auth.values()).count(VALUE)
    assert VALUE not in text


@pytest.mark.parametrize("way", WAYS_TO_SHOW_SETTINGS.values(), ids=WAYS_TO_SHOW_SETTINGS)
def test_settings_show_a_mask_for_a_proxy(way):
    """The URL of a proxy may contain a password."""
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
def test_invalid_proxy_in_a_file_is_refused_at_use_without_quoting_it(file, url):
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


def test_settings_show_a_mask_for_a_secret_file(file):
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
def test_error_of_refused_settings_does_not_quote_input(changes):
    with pytest.raises(ValidationError) as caught:
        config(project(**changes))
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_secret_rotated_in_place_is_read_again(file):
    secret = FileSecret(file)
    assert secret.reveal() == VALUE
    file.write_text("another")
    assert secret.reveal() == "another"


def test_secret_behind_a_swapped_link_is_read_again(tmp_path):
    """Kubernetes rotates secrets so: it replaces a link to a folder atomically."""
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


def test_secret_file_that_was_missing_is_read_again(file):
    secret = FileSecret(file)
    file.unlink()
    with pytest.raises(SecretError):
        secret.reveal()
    file.write_text(VALUE)
    assert secret.reveal() == VALUE


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n", " \n"])
def test_surrounding_blanks_of_a_secret_file_are_removed(file, ending):
    """Editors and `echo` add them."""
    file.write_bytes(VALUE.encode() + ending.encode())
    assert FileSecret(file).reveal() == VALUE


@pytest.mark.parametrize("blanks", ["\n", " ", "\r\n"])
def test_surrounding_blanks_of_an_inline_secret_are_removed(blanks):
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


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_unusable_secret_file_is_refused_without_quoting_it(file, content, message):
    file.write_bytes(content)
    with pytest.raises(SecretError) as caught:
        FileSecret(file).reveal()
    assert str(caught.value) == f"the secret file {file} {message}"
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_secret_file_of_the_maximum_size_is_read(file):
    file.write_bytes(b"x" * (64 << 10))
    assert len(FileSecret(file).reveal()) == 64 << 10


def test_missing_secret_file_is_reported(tmp_path):
    secret = FileSecret(tmp_path / "token")
    with pytest.raises(SecretError) as caught:
        secret.reveal()
    assert str(caught.value) == f"cannot read the secret file {tmp_path / 'token'}: No such file or directory"


def test_folder_as_secret_file_is_reported(tmp_path):
    """Container runtimes create a folder for a missing mount."""
    with pytest.raises(SecretError, match="Is a directory"):
        FileSecret(tmp_path).reveal()
