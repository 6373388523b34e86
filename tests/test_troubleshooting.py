"""Whatever the exporter complains of can be looked up: each of its messages stands in `docs/troubleshooting.md`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    file
    for file in sorted((ROOT / "exporter").rglob("*.py"))
    if "simulator" not in file.relative_to(ROOT).parts
]
TREES = {file: ast.parse(file.read_text()) for file in FILES}
DOCUMENT = " ".join((ROOT / "docs" / "troubleshooting.md").read_text().split())

METRICS = (ROOT / "docs" / "metrics.md").read_text()

LOGGING = {"warning", "error", "exception", "critical"}
# What passes a text on to a log call, and what returns one.
FORWARDING = {"warn", "_once"}
RETURNING = {"_doubt", "no_member"}
# Errors that end the program with their words, or tell why nothing could be saved.
ENDING = {"ListenError", "SetupError", "StateError", "SaveError"}
# What gives runs up, with its reason as the last argument.
GIVING_UP = {"give_up", "give_up_missing"}
LENGTH = 30
"""Characters of a message that are enough to find it by."""


def constants() -> dict[str, ast.expr]:
    """Every name that a module gives to a text."""
    return {
        target.id: node.value
        for tree in TREES.values()
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


NAMED = constants()


def texts(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be, with an underscore for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            yield re.sub(r"%[-+0-9.]*[sdrfg]", "_", text)
        case ast.JoinedStr(values=parts):
            yield "".join(
                "_" if isinstance(part, ast.FormattedValue) else next(texts(part)) for part in parts
            )
        case ast.IfExp(body=one, orelse=other):
            yield from texts(one)
            yield from texts(other)
        case ast.Name(id=name) if name in NAMED:
            yield from texts(NAMED[name])


def called(node: ast.Call) -> str:
    """The last word of what is called."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def is_log(node: ast.Call) -> bool:
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    return called(node) in LOGGING and isinstance(owner, ast.Name) and owner.id.strip("_").startswith("log")


def expressions(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            if is_log(node) or called(node) in FORWARDING | ENDING:
                yield node.args[0]
        elif isinstance(node, ast.FunctionDef) and node.name in RETURNING:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield inner.value


def refused_flags(tree: ast.Module) -> Iterator[ast.expr]:
    """What is told of flags that mean nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) == "ValueError":
            yield node.args[0]


def distinctive(text: str) -> str:
    """The part of a message to find it by: its longest stretch in which nothing is filled in."""
    longest = max(re.split(r"_+(?=\W|$)|(?<=\W)_", text), key=len)
    return longest[:LENGTH].strip(" :;,(")


MESSAGES = sorted(
    {
        part
        for file, tree in TREES.items()
        for node in (*expressions(tree), *(refused_flags(tree) if file.stem == "shard" else ()))
        for text in texts(node)
        if re.search("[a-z]", part := distinctive(text))
    }
)


@pytest.mark.parametrize("message", MESSAGES)
def test_message_can_be_looked_up(message):
    """A distinctive part of each warning, and of each error that ends the program, stands in the document."""
    assert message in DOCUMENT


def local_constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What names stand for within functions."""
    return {
        node.targets[0].id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def reasons() -> Iterator[str]:
    for tree in TREES.values():
        names = local_constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node) in GIVING_UP:
                last = node.args[-1]
                yield from texts(names.get(last.id, last) if isinstance(last, ast.Name) else last)


REASONS = sorted(set(reasons()))


@pytest.mark.parametrize("reason", REASONS)
def test_reason_for_a_missed_run_can_be_looked_up(reason):
    """What it means and what to do here, when it comes to that in the page of metrics."""
    assert f"| `{reason}` |" in DOCUMENT
    assert f"| `{reason}` |" in METRICS


CODES = sorted(
    {
        keyword.value.value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called(node) == "Fault"
        for keyword in node.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
        if isinstance(keyword.value.value, str)
    }
)


@pytest.mark.parametrize("code", CODES)
def test_code_can_be_looked_up(code):
    """So does each word that stands in a line in the place of an HTTP status."""
    assert f"`code={code}`" in DOCUMENT


def test_messages_are_found():
    """The search sees every kind of place that a message stands in."""
    assert {
        "poll failed",  # forwarded
        "a record was rejected",  # forwarded, with something filled in
        "a poll was due while the one b",  # a log call
        "the provider lists no pipeline",  # returned by another name
        "did the user lose a permissi",  # returned
        "cannot listen on",  # an error
        "cannot keep the state in",  # another
        "cannot be written",  # of a save
        "does not end in the ordinal o",  # of a flag
    } <= set(MESSAGES)
    assert len(REASONS) == 6
    assert {"refused", "timeout", "connect", "invalid"} <= set(CODES)
