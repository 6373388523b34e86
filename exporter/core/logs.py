"""Logging: logfmt or JSON lines on standard error, with a constant message and fields.

Pass values as fields: `extra={"project": …}`. Only fields in `FIELDS` are written. Warnings and errors have a field `id`,
which is the anchor of their entry in docs/troubleshooting.md. The loggers of the HTTP libraries never log below `warning`,
at any level: their debug lines contain headers and therefore tokens.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal

from exporter.core.redaction import redact

FIELDS = (
    "id",
    "project",
    "pipeline",
    "run",
    "number",
    "operation",
    "code",
    "error_code",
    "request_id",
    "error",
    "remedy",
    "reason",
    "seconds",
    "skew_seconds",
    "requests",
    "failures",
    "polls",
    "projects",
    "pipelines",
    "runs",
    "records",
    "limit",
    "field",
    "variable",
    "family",
    "value",
    "detail",
    "file",
    "address",
    "version",
)

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("logfmt", "json")

_QUIET = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "asyncio": logging.WARNING,
    "apscheduler": logging.WARNING,
    # The poller counts and logs skipped polls itself.
    "apscheduler.scheduler": logging.ERROR,
    # It logs every client that sends an invalid request or disconnects early.
    "uvicorn": logging.CRITICAL,
}
_BARE = re.compile(r"[A-Za-z0-9_./:+@<>-]+")


def configure(level: str, form: str) -> None:
    """Send the log records of the process from `level` on to standard error, in the format `form` (see `FORMATS`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter("json" if form == "json" else "logfmt"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(quiet)
    logging.captureWarnings(capture=True)


class Formatter(logging.Formatter):
    """Formats each record as exactly one line, even if its message contains line ends."""

    def __init__(self, form: Literal["logfmt", "json"]) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, without a trailing line end."""
        timestamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "ts": timestamp.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": _message(record),
        }
        given = {name: value for name in FIELDS if (value := getattr(record, name, None)) not in (None, "")}
        fields |= {name: redact(value) if isinstance(value, str) else value for name, value in given.items()}
        if record.exc_info:
            fields["traceback"] = redact(self.formatException(record.exc_info))
        if self._form == "json":
            return _one_line(json.dumps(fields, ensure_ascii=False, default=str))
        return " ".join(f"{name}={_logfmt(str(value))}" for name, value in fields.items())


def _message(record: logging.LogRecord) -> str:
    """Return the message of a record with secrets masked.

    Arguments are masked separately: a short secret is recognized only if it is the whole text.
    """
    message = str(record.msg)
    if record.args:
        arguments = record.args
        if isinstance(arguments, tuple):
            arguments = tuple(redact(value) if isinstance(value, str) else value for value in arguments)
        message %= arguments
    return redact(message)


def _logfmt(text: str) -> str:
    return text if _BARE.fullmatch(text) else _one_line(json.dumps(text, ensure_ascii=False))


def _one_line(text: str) -> str:
    """Escape every unprintable character, including those outside ASCII: it may end a line or control a terminal."""
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1] for character in text
    )
