"""Log lines: one per record in both formats, with any content."""

import contextlib
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.logs import FIELDS, FORMATS, Formatter, configure

FORMS = pytest.mark.parametrize("form", FORMATS)
_PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)(?: |$)')
NASTY = [
    "two\nlines",
    "\r\n\t\v\f",
    'quote " and \\ backslash',
    "a=b level=error",
    "",
    " ",
    "构建失败 🚀",
    "\x00\x1b[31m\x7f\x85\x9b",
    "line\u2028and\u2029paragraph",
    "\u202eturned",
    "half \ud83d",
    "\U000e0001 tag",
]


def line(form: Any, message: str, *arguments: object, **fields: object) -> str:
    """Format a record, with the exception that is being handled."""
    information = sys.exc_info() if sys.exception() else None
    record = logging.LogRecord(
        "exporter.polling.poller", logging.WARNING, __file__, 1, message, arguments, information
    )
    record.created = 1677919688.25
    record.__dict__.update(fields)
    return Formatter(form).format(record)


def parsed(form: str, text: str) -> dict[str, Any]:
    """Parse the fields of a line independently."""
    if form == "json":
        fields: dict[str, Any] = json.loads(text)
        return fields
    assert "".join(match[0] for match in _PAIR.finditer(text)) == text
    return {
        match[1]: json.loads(match[2]) if match[2].startswith('"') else match[2]
        for match in _PAIR.finditer(text)
    }


def test_record_is_one_line_of_logfmt() -> None:
    assert line("logfmt", "poll failed: %s", "no answer", project="payments", code="timeout") == (
        'ts=2023-03-04T08:48:08.250Z level=warning logger=exporter.polling.poller msg="poll failed: no answer" '
        "project=payments code=timeout"
    )


def test_record_is_one_object_of_json() -> None:
    assert json.loads(line("json", "listening", address="127.0.0.1:10047")) == {
        "ts": "2023-03-04T08:48:08.250Z",
        "level": "warning",
        "logger": "exporter.polling.poller",
        "msg": "listening",
        "address": "127.0.0.1:10047",
    }


@FORMS
@pytest.mark.parametrize("nasty", NASTY)
def test_special_characters_are_escaped_in_one_line(form: str, nasty: str) -> None:
    """No character ends the line or controls a terminal, and each can be parsed again."""
    text = line(form, "%s", nasty, project=nasty or "x")
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    fields = parsed(form, text)
    assert fields["msg"] == nasty
    assert fields["project"] == (nasty or "x")
    assert set(fields) == {"ts", "level", "logger", "msg", "project"}


@given(st.sampled_from(FORMATS), st.text(), st.text(min_size=1))
def test_any_text_is_one_line_that_can_be_parsed(form: str, message: str, project: str) -> None:
    text = line(form, "%s", message, project=project)
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    assert (parsed(form, text)["msg"], parsed(form, text)["project"]) == (message, project)


@FORMS
def test_readable_characters_stay_readable(form: str) -> None:
    assert "构建失败 🚀" in line(form, "构建失败 🚀")


@FORMS
def test_only_known_fields_with_a_value_are_written(form: str) -> None:
    """Zero is a value."""
    text = line(form, "x", project="p", code=0, error_code=None, request_id="", secret="no")
    assert set(parsed(form, text)) == {"ts", "level", "logger", "msg", "project", "code"}
    assert str(parsed(form, text)["code"]) == "0"


@FORMS
def test_every_known_field_is_written(form: str) -> None:
    fields = parsed(form, line(form, "x", **dict.fromkeys(FIELDS, "v")))
    assert fields.items() >= dict.fromkeys(FIELDS, "v").items()


@FORMS
@pytest.mark.parametrize("value", [["a", "b"], {"a": 1}, ValueError("x\ny"), 1.5, "a b"])
def test_field_values_of_any_type_are_written(form: str, value: object) -> None:
    text = line(form, "x", address=value)
    assert len(text.splitlines()) == 1
    assert "address" in parsed(form, text)


@FORMS
def test_traceback_is_in_the_line(form: str) -> None:
    try:
        int("bad\nthing\u2028here")
    except ValueError:
        text = line(form, "it broke")
    assert len(text.splitlines()) == 1
    traceback = parsed(form, text)["traceback"]
    assert traceback.startswith("Traceback")
    assert "ValueError: invalid literal" in traceback


@contextlib.contextmanager
def configured(level: str, *forms: str) -> Iterator[None]:
    """Configure logging of the process, and restore it afterwards."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    before = {name: logging.getLogger(name).level for name in ("", *NAMES, *root.manager.loggerDict)}
    try:
        for form in forms:
            configure(level, form)
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        for name, number in before.items():
            logging.getLogger(name).setLevel(number)


NAMES = (
    "httpx",
    "httpcore",
    "httpcore.http11",
    "httpcore.connection",
    "apscheduler.executors.default",
    "asyncio",
)


@FORMS
def test_libraries_log_only_warnings(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also at level debug: their debug lines contain headers and therefore tokens."""
    with configured("debug", form):
        for name in NAMES:
            logging.getLogger(name).debug("x-auth-token: a secret")
            logging.getLogger(name).info("x-auth-token: a secret")
        assert capsys.readouterr().err == ""
        for name in NAMES:
            logging.getLogger(name).warning("careful")
        logging.getLogger("exporter.client.api_client").debug("hello")
    lines = capsys.readouterr().err.splitlines()
    assert [parsed(form, text)["logger"] for text in lines] == [*NAMES, "exporter.client.api_client"]


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_records_below_the_level_are_dropped(
    level: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with configured(level, "logfmt"):
        for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger("exporter").log(number, "x")
    assert len(capsys.readouterr().err.splitlines()) == count


def test_second_configuration_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    with configured("info", "logfmt", "json"):
        logging.getLogger("exporter").info("once")
    (text,) = capsys.readouterr().err.splitlines()
    assert json.loads(text)["msg"] == "once"
