"""Explain YAML syntax errors: the line with the mistake, what is wrong, and the remedy.

No message repeats text from the file, since it may be part of a secret.
"""

import re
from typing import NamedTuple

import yaml

_KEY_WITHOUT_SPACE = re.compile(r"\s*(?:- +)*[A-Za-z0-9_.-]+:\S")
_COLON = re.compile(r":(?:\s|$)")
_CLOSING = {"[": "]", "{": "}"}
_FOUND = re.compile(r"but (?:found|got) '(.*)'")


class _Problem(NamedTuple):
    """Error that the parser reports, with the text of the file. Lines are counted from 1."""

    problem: str
    context: str
    line: int
    """Line at which the parser stopped."""
    start: int
    """Line in which the enclosing value begins."""
    opening: str
    """First character of the enclosing value."""
    lines: list[str]

    @property
    def text(self) -> str:
        """Text of the line at which the parser stopped."""
        return self.line_text(self.line)

    def line_text(self, line: int) -> str:
        """Return the text of a line; empty after the last one."""
        return self.lines[line - 1] if line <= len(self.lines) else ""

    def found(self, *tokens: str) -> bool:
        """Return whether the parser stopped at one of these tokens."""
        match = _FOUND.search(self.problem)
        return match is not None and match[1] in tokens


def explain(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    """Return the line of a syntax error, counted from 1, and the message that explains it."""
    stopped = error.problem_mark or error.context_mark
    start = error.context_mark or stopped
    if stopped is None or start is None:
        return 1, _UNKNOWN
    problem = _Problem(
        problem=error.problem or "",
        context=error.context or "",
        line=stopped.line + 1,
        start=start.line + 1,
        opening=text[start.index : start.index + 1],
        lines=text.splitlines(),
    )
    for explanation in (_of_character, _of_colon, _of_quotes, _of_brackets, _of_indentation):
        if found := explanation(problem):
            return found
    hint = next((hint for part, hint in _OTHERS.items() if part in problem.problem), _UNKNOWN)
    return problem.line, hint


_UNKNOWN = "is not YAML (check the indentation, quotation marks and brackets of this line and the one above)"
_OTHERS = {
    "undefined tag handle": "a value begins with ! (quote the value)",
    "another document": "another document begins (a file holds one: remove the line ---)",
    "unknown escape character": r"a backslash in double quotes begins an escape (use single quotes, as in '\d+')",
    "for merging": "<< must be followed by an alias of a mapping (write the keys out)",
    "<document start>": "the text before is complete already (does a line above begin with %, or in column 1?)",
    "chomping or indentation": "text follows | or > (begin it in the next line)",
}


def _of_character(problem: _Problem) -> tuple[int, str] | None:
    if "cannot start any token" in problem.problem:
        if r"'\t'" in problem.problem:
            return problem.line, "a tab is in the indentation (indent with spaces)"
        match = re.search(r"'(.)'", problem.problem)
        return (
            problem.line,
            f"a value begins with {match[1] if match else 'this character'} (quote the value)",
        )
    if "undefined alias" in problem.problem or "alphabetic or numeric" in problem.problem:
        opening = "&" if "anchor" in problem.context else "*"
        example = (
            " (quote the value; a pattern for every name is '.*')" if opening == "*" else " (quote the value)"
        )
        return problem.line, f"a value begins with {opening}{example}"
    return None


def _of_colon(problem: _Problem) -> tuple[int, str] | None:
    if "could not find expected ':'" in problem.problem:
        return problem.start, _missing_colon(problem.line_text(problem.start))
    if "mapping values are not allowed" not in problem.problem:
        return None
    if len(_COLON.findall(problem.text)) > 1:
        return problem.line, "a value holds a colon and a space (quote the value)"
    above = problem.line - 1
    while above > 1 and not problem.line_text(above).partition("#")[0].strip():
        above -= 1
    if above and not _COLON.search(problem.line_text(above)):
        return above, _missing_colon(problem.line_text(above))
    return (
        problem.line,
        "is indented below a key that has a value already (indent both alike, or remove the value)",
    )


def _missing_colon(line: str) -> str:
    if "：" in line:  # noqa: RUF001  # what an input method for Chinese writes
        return "the colon after a key is a full-width one (write key: value, with an ASCII colon and a space)"
    if _KEY_WITHOUT_SPACE.match(line):
        return "a space is missing after the colon (write key: value)"
    return "a colon is missing after a key (write key: value)"


def _of_quotes(problem: _Problem) -> tuple[int, str] | None:
    if "quoted scalar" in problem.context and "unexpected" in problem.problem:
        return (
            problem.start,
            f"the quotation mark {problem.opening} is not closed (add one at the end of the value)",
        )
    if "block end" in problem.problem and problem.found("<scalar>"):
        return problem.line, "text follows a value in quotation marks (quote the whole value)"
    return None


def _of_brackets(problem: _Problem) -> tuple[int, str] | None:
    if "block end" in problem.problem and problem.found("]", "}", ","):
        return problem.line, "a bracket or comma is at the wrong place (remove it, or quote the value)"
    if "node content" in problem.problem:
        return problem.line, "a value is missing, or begins with a special character (quote the value)"
    closing = _CLOSING.get(problem.opening)
    if "flow" not in problem.context or closing is None:
        return None
    if "${" in problem.text:
        return problem.line, "inside {…} or […] a ${NAME} must be quoted (quote the value)"
    if problem.line > problem.start:
        return problem.start, f"the {problem.opening} is not closed (add {closing} at the end)"
    return (
        problem.line,
        f"inside {problem.opening}…{closing} a comma or the {closing} is missing (add it, or quote a value with special characters)",
    )


def _of_indentation(problem: _Problem) -> tuple[int, str] | None:
    # The second is libyaml's, which parses large files.
    if "block end" not in problem.problem and "did not find expected" not in problem.problem:
        return None
    kind = "list" if "collection" in problem.context else "section"
    place = f"neither like the {kind} that begins in line {problem.start} nor like a part of it"
    return problem.line, f"is indented {place} (indent keys and items of one level alike)"
