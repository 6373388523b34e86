"""Format checks as text, one line each, or as JSON."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec

from exporter.app.doctor.checks import Check, CheckState, Name
from exporter.core.redaction import printable

_LENGTH = 500
_STATE_WIDTH = max(map(len, CheckState))
_NAME_WIDTH = max(map(len, Name))


def lines(checks: Sequence[Check]) -> Iterator[str]:
    """Yield the checks as lines of text, grouped by project, then a line with the counts."""
    for project, group in groupby(checks, lambda one: one.project):
        yield printable(project, _LENGTH) if project is not None else "this machine"
        for one in group:
            text = (
                f"  {one.state:{_STATE_WIDTH}}  {one.check:{_NAME_WIDTH}}  {printable(one.detail, _LENGTH)}"
            )
            yield f"{text} ({printable(one.remedy, _LENGTH)})" if one.remedy else text
    counts = [sum(one.state is state for one in checks) for state in CheckState]
    yield f"{counts[0]} ok, {counts[1]} warnings, {counts[2]} faults"


def json(checks: Sequence[Check]) -> str:
    """Return the checks as JSON."""
    masked = [
        msgspec.structs.replace(
            one, detail=printable(one.detail, _LENGTH), remedy=printable(one.remedy, _LENGTH)
        )
        for one in checks
    ]
    return msgspec.json.format(msgspec.json.encode({"checks": masked}), indent=2).decode()
