"""Log calls follow the rules of the project, and docs/troubleshooting.md explains each message."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.logs import FIELDS
from exporter.polling.cause import remedy
from tests.package_graph import parsed

ROOT = Path(__file__).parents[1]
FILES = [
    file
    for file in sorted((ROOT / "exporter").rglob("*.py"))
    if "simulator" not in file.relative_to(ROOT).parts
]
TREES = {file: parsed(file) for file in FILES}
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "error",
}
"""The level of each logger method."""
METHODS = LEVELS.keys() | {"log", "warn", "fatal"}
WITH_SLUG = {"warning", "error", "exception", "critical"}
SLUG = re.compile(r"[a-z]+(?:-[a-z]+)+")

ENDING = {"ListenError", "SetupError", "StateError", "SaveError", "BodyError", "FramingError"}
"""Errors that end the process or a request, with a message for the user."""
RETURNING = {
    "list_caution.py": {"doubt"},
    "membership.py": {"membership_hint"},
    "health.py": {"problem"},
}
"""Functions that return a message for the user."""
WITH_MESSAGE = {"client", "providers", "state"}
"""Packages in which variables named `message` hold a message for the user."""
GIVING_UP = {"give_up", "give_up_missing"}
"""Functions that give up runs, with the reason as the last argument."""
VALUE = "\0"
"""Placeholder for a value in a message."""
SHORTEST, LONGEST = 12, 30
"""Minimum and maximum length of the part of an error message that must be in the docs."""


@cache
def nodes(tree: ast.Module) -> list[ast.AST]:
    """Return all nodes of a module."""
    return list(ast.walk(tree))


class LogCall(NamedTuple):
    """Call of a logger method."""

    file: Path
    tree: ast.Module
    node: ast.Call

    @property
    def method(self) -> str:
        return called(self.node)

    @property
    def extra(self) -> ast.expr | None:
        return next((keyword.value for keyword in self.node.keywords if keyword.arg == "extra"), None)

    @property
    def message(self) -> str:
        return constant(self.node.args[0]) if self.node.args else ""

    @property
    def slug(self) -> str:
        return next((constant(value) for key, value in items(self.extra) if constant(key) == "id"), "")

    @property
    def literal_fields(self) -> set[str]:
        return {constant(key) for key, _ in items(self.extra) if key is not None} - {"id"}

    @property
    def fields(self) -> set[str]:
        return set(all_keys(self.extra, self.tree)) - {"id"}


def constant(node: ast.expr | None) -> str:
    """Return the value of a constant string; an empty string for any other expression."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def items(node: ast.expr | None) -> list[tuple[ast.expr | None, ast.expr]]:
    """Return the keys and values of a dict literal; the key of an expansion is None."""
    return list(zip(node.keys, node.values, strict=True)) if isinstance(node, ast.Dict) else []


def called(node: ast.Call) -> str:
    """Return the name of a called function or method."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def assigned(tree: ast.Module, name: str) -> list[ast.expr]:
    """Return the expressions that a module assigns to a name, at any level."""
    return [
        node.value
        for node in nodes(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == name
    ]


def returned(name: str) -> list[ast.expr]:
    """Return the expressions that functions with this name return."""
    return [
        inner.value
        for tree in TREES.values()
        for node in nodes(tree)
        if isinstance(node, ast.FunctionDef) and node.name == name
        for inner in ast.walk(node)
        if isinstance(inner, ast.Return) and inner.value is not None
    ]


def all_keys(node: ast.expr | None, tree: ast.Module) -> Iterator[str]:
    """Yield every key of an `extra` argument, including keys from functions that return a part of it."""
    match node:
        case None:
            pass
        case ast.Dict():
            for key, value in items(node):
                if key is None:
                    yield from all_keys(value, tree)
                else:
                    assert constant(key), ast.unparse(node)
                    yield constant(key)
        case ast.Name(id=name):
            sources = assigned(tree, name)
            assert sources, ast.unparse(node)
            for source in sources:
                yield from all_keys(source, tree)
        case ast.Call():
            sources = returned(called(node))
            assert sources, ast.unparse(node)
            for source in sources:
                yield from all_keys(source, tree)
        case _:
            raise AssertionError(ast.unparse(node))


def is_logger(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and re.fullmatch(r"_*log(?:ger|ging)?", node.id) is not None


CALLS = [
    LogCall(file, tree, node)
    for file, tree in TREES.items()
    for node in nodes(tree)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    if called(node) in METHODS and is_logger(node.func.value)
]
ALERTS = [call for call in CALLS if call.method in WITH_SLUG or call.slug]
ENTRIES = {
    entry.partition("\n")[0]: " ".join(entry.split())
    for entry in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
}
"""Each section of the third level by its heading."""


REMEDIES = {
    remedy(RequestFailure(kind=kind, code=code)) for kind in FailureKind for code in ("503", "timeout")
} | {"implausible-list"}
"""Each value of the field `remedy`, which is a heading of the page."""


def location(call: LogCall) -> str:
    return f"{call.file.relative_to(ROOT)}: {call.message}"


@pytest.mark.parametrize("call", CALLS, ids=location)
def test_log_message_is_constant_and_values_are_fields(call):
    assert call.method in LEVELS
    assert len(call.node.args) == 1
    assert call.message
    assert "%" not in call.message
    assert {keyword.arg for keyword in call.node.keywords} <= {"extra"}
    # Other fields would not be written.
    assert call.fields <= set(FIELDS)


@pytest.mark.parametrize("call", ALERTS, ids=location)
def test_warning_has_a_slug(call):
    assert isinstance(call.extra, ast.Dict)
    assert SLUG.fullmatch(call.slug)


@pytest.mark.parametrize("call", ALERTS, ids=location)
def test_warning_is_documented_under_its_slug(call):
    entry = ENTRIES[call.slug]
    assert f"**Message:** `{call.message}` ({LEVELS[call.method]}). " in entry
    assert "**Meaning:** " in entry
    assert "**What to do:** " in entry


@pytest.mark.parametrize("call", ALERTS, ids=location)
def test_fields_of_a_warning_are_documented(call):
    listed, _, _ = ENTRIES[call.slug].partition("**Meaning:**")
    _, _, listed = listed.partition("Fields: ")
    documented = set(re.findall(r"`(\w+)`", listed))
    # A function may return fields that are empty here, and are not written.
    assert call.literal_fields <= documented <= call.fields


def test_documented_slugs_are_those_of_the_code():
    documented = {heading for heading, entry in ENTRIES.items() if "**Message:**" in entry}
    assert documented == {call.slug for call in ALERTS}
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert {heading for heading in headings if SLUG.fullmatch(heading)} == documented | (
        REMEDIES - {"implausible-list"}
    )


def test_each_remedy_is_documented():
    assert REMEDIES - ENTRIES.keys() == set()
    for heading in REMEDIES:
        assert "**Meaning:** " in ENTRIES[heading]
        assert "**What to do:** " in ENTRIES[heading]


def test_each_slug_has_one_message():
    messages = {(call.slug, call.message) for call in ALERTS}
    assert len(messages) == len({slug for slug, _ in messages}) == len({message for _, message in messages})


def test_log_calls_are_found():
    """Every module with a logger has a call that the search finds, and the loggers have the usual name."""
    loggers = {
        file
        for file, tree in TREES.items()
        for node in nodes(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if called(node.value) == "getLogger"
        if is_logger(node.targets[0])
    }
    sources = {file for file in FILES if '= logging.getLogger("exporter.' in file.read_text(encoding="utf-8")}
    assert loggers == sources == {call.file for call in CALLS}
    assert len(ALERTS) >= 30


def texts(node: ast.expr, tree: ast.Module) -> Iterator[str]:
    """Yield the texts that an expression can have, with `VALUE` for each value that is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(constant(part) if isinstance(part, ast.Constant) else VALUE for part in parts)
        case ast.IfExp(body=first, orelse=second):
            yield from texts(first, tree)
            yield from texts(second, tree)
        case ast.Name(id=name):
            for value in assigned(tree, name):
                yield from texts(value, tree)


def error_messages(file: Path, tree: ast.Module) -> Iterator[ast.expr]:
    """Yield the messages for the user that are not logged as such."""
    for node in nodes(tree):
        if isinstance(node, ast.Call) and node.args:
            # The flags of shards are checked in one module.
            if called(node) in ENDING or (called(node) == "ValueError" and file.stem == "shard"):
                yield node.args[0]
        elif isinstance(node, ast.FunctionDef) and node.name in RETURNING.get(file.name, ()):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield inner.value
    if file.parent.name in WITH_MESSAGE:
        yield from assigned(tree, "message")


def distinctive(text: str) -> Iterator[str]:
    """Yield the start of each part of a message between two values, unless it is short."""
    for part in text.split(VALUE):
        start = part[:LONGEST].strip(" :;,()")
        if len(start) >= SHORTEST:
            yield start


ERRORS = sorted(
    {
        part
        for file, tree in TREES.items()
        for node in error_messages(file, tree)
        for text in texts(node, tree)
        for part in distinctive(text)
    }
)


@pytest.mark.parametrize("message", ERRORS)
def test_error_is_documented(message):
    assert message in TEXT


def reasons() -> Iterator[str]:
    """Yield every reason for giving up runs."""
    for tree in TREES.values():
        for node in nodes(tree):
            if isinstance(node, ast.Call) and called(node) in GIVING_UP:
                yield from texts(node.args[-1], tree)


REASONS = sorted(set(reasons()))


@pytest.mark.parametrize("reason", REASONS)
def test_reason_for_a_missed_run_is_documented(reason):
    assert f"| `{reason}` |" in PAGE
    assert f"| `{reason}` |" in METRICS


CODES = sorted(
    {
        constant(keyword.value)
        for tree in TREES.values()
        for node in nodes(tree)
        if isinstance(node, ast.Call) and called(node) == "RequestFailure"
        for keyword in node.keywords
        if keyword.arg == "code" and constant(keyword.value)
    }
)


@pytest.mark.parametrize("code", CODES)
def test_code_of_a_failure_is_documented(code):
    assert f"`code={code}`" in PAGE


def test_error_messages_are_found():
    """The search finds every kind of place that has a message."""
    assert {
        "the list is empty; most likely",  # returned
        "did the user lose a permissi",  # returned, after a value
        "a request has been running for",  # a reason of /-/healthy
        "cannot listen on",  # an error
        "cannot keep the state in",  # an error of the state
        "cannot be written",  # an error of a save
        "cannot load the certificate au",  # an error of the client
        "request not sent: credentials",  # a variable
        "does not end in the ordinal o",  # an error of a flag
    } <= set(ERRORS)
    assert len(REASONS) == 6
    assert {"refused", "timeout", "connect", "invalid", "paused", "secret"} <= set(CODES)
