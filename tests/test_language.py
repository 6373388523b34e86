"""Plain English: words that the style guide replaces do not come back."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# This list is closed: it may grow, and never shrinks.
REPLACED = (
    "tell",
    "tells",
    "told",
    "whoever",
    "whatever",
    "nobody",
    "anew",
    "learnt",
    "under way",
    "is none",
    "are none",
    "be it",
    "goes on",
    "a fault of this program",
)
PATTERN = re.compile(rf"\b({'|'.join(REPLACED)})\b")
# Matches wherever PATTERN can match after code between comments is left out. Few files have a match and are tokenized.
POSSIBLE = re.compile("|".join(REPLACED).replace(" ", r"[\W\d]+"))

# Files that need one of these words, each with its reason; at most five.
EXCEPTIONS = {"tests/test_language.py": "has the list"}

FOLDERS = ("exporter", "tests", "benchmarks", "docs", "deploy")
SUFFIXES = (".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".conf", ".service")
FILES = sorted(
    path
    for path in (*ROOT.iterdir(), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")))
    if path.is_file() and (path.suffix in SUFFIXES or path.name in {"Makefile", "Dockerfile", "run"})
)


def words(text: str) -> str:
    """Return text in lower case with identifiers split into words, so that `runs_told` has the word `told`.

    `None` is left out: Python's `is None` is not English.
    """
    text = re.sub(r"\bNone\b", "null", text)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).replace("_", " ")
    return " ".join(re.split(r"[\s#]+", text)).lower()


def prose(path: Path) -> str:
    """Return the names, strings and comments of a Python file, or the text of any other file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py" or not POSSIBLE.search(words(text)):
        return text
    kinds = {tokenize.NAME, tokenize.STRING, tokenize.COMMENT}
    found = [
        # A full stop after a name: names beside each other are not a phrase, comments over two lines are.
        f"{token.string}." if token.type == tokenize.NAME else token.string
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type in kinds
    ]
    return " ".join(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_replaced_words_do_not_come_back(path):
    if str(path.relative_to(ROOT)) not in EXCEPTIONS:
        assert PATTERN.findall(words(prose(path))) == []


@pytest.mark.parametrize("text", ["runs_told", "RunsTold", "# it is under\n# way", "is told", "Nobody"])
def test_words_are_found_in_names_comments_and_prose(text):
    assert PATTERN.findall(words(text))


def test_python_none_is_no_english():
    assert not PATTERN.findall(words("x is None"))


def test_exceptions_are_few():
    assert len(EXCEPTIONS) <= 5
    assert all(EXCEPTIONS.values())
