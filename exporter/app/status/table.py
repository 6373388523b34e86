"""Print a summary as text: in columns that fit a terminal, or untruncated if the output is not a terminal."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from exporter.app.status.summary import Summary
from exporter.polling.cause import PAGE
from exporter.status_page.answer import ActivePipeline
from exporter.status_page.remedies import REMEDIES
from exporter.status_page.times import duration

_GAP = 2
"""Blanks between two columns."""
_UNKNOWN = "-"


class Column(msgspec.Struct, frozen=True):
    """A column of a table."""

    title: str
    least: int | None = None
    """Minimum width in terminal cells; None if the column must not shrink."""
    right: bool = False
    """Whether the column is aligned to the right."""


Cell = str | tuple[str, str]
"""A text, or a text and its style."""


def print_summary(summary: Summary, now: float, file: TextIO, *, colour: bool) -> None:
    """Print a summary at `now` (Unix seconds). Lines are truncated to the width of the terminal, if `file` is one."""
    console = Console(
        file=file,
        color_system="auto" if colour else None,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=True,
    )
    width = console.width if file.isatty() else None
    for line in _lines(summary, now, width):
        console.print(line)


def _lines(summary: Summary, now: float, width: int | None) -> Iterator[Text]:
    yield from _projects(summary, now, width)
    several = len(summary.projects) > 1
    names = [Column("project", 8)] if several else []

    def project(name: str) -> list[Cell]:
        return [name] if several else []

    yield Text()
    yield Text(f"Red: {len(summary.red)}", "bold red" if summary.red else "bold green")
    yield from _table(
        [
            Column("red for", right=True),
            Column("failures", right=True),
            Column("pipeline", 16),
            Column("failed stage", 12),
            Column("branch", 8),
            *names,
            Column("link"),
        ],
        [
            [
                _age(one.since, now),
                _UNKNOWN if one.failures is None else str(one.failures),
                (one.pipeline, "bold"),
                (", ".join(one.failed_stages) or _UNKNOWN, "red"),
                one.branch or _UNKNOWN,
                *project(one.project),
                one.url or "",
            ]
            for one in summary.red
        ],
        width,
    )
    for title, since, active in (
        ("Waiting", "waiting for", summary.waiting),
        ("Long-running", "running for", summary.long_running),
    ):
        yield Text()
        yield Text(f"{title}: {len(active)}", "bold yellow" if active else "bold")
        yield from _table(
            [
                Column(since, right=True),
                Column("status" if active is summary.waiting else "usually"),
                Column("pipeline", 16),
                Column("stage", 12),
                Column("branch", 8),
                *names,
                Column("link"),
            ],
            [
                [
                    _age(one.since, now),
                    one.status if active is summary.waiting else _usual(one),
                    (one.pipeline, "bold"),
                    (", ".join(one.stages) or _UNKNOWN, "yellow"),
                    one.branch or _UNKNOWN,
                    *project(one.project),
                    one.url or "",
                ]
                for one in active
            ],
            width,
        )


def _projects(summary: Summary, now: float, width: int | None) -> Iterator[Text]:
    states: dict[bool | None, Cell] = {True: ("up", "green"), None: ("starting", "yellow")}
    rows: list[list[Cell]] = []
    for one in summary.projects:
        state = states.get(one.up) or (f"down for {_age(one.down_since, now)}", "bold red")
        rows.append(
            [
                (one.project, "bold"),
                one.provider,
                ("incomplete", "yellow") if one.project in summary.incomplete else state,
                str(one.pipelines),
                (str(one.red), "bold red" if one.red else ""),
                str(one.running),
                (str(one.waiting), "yellow" if one.waiting else ""),
                (one.cause or "", "red"),
            ]
        )
    numbers = (Column(title, right=True) for title in ("pipelines", "red", "running", "waiting"))
    columns = [Column("project", 16), Column("provider"), Column("state"), *numbers, Column("cause")]
    notes = [
        _remedy(summary.remedies.get(one.project) if one.up is False else None) for one in summary.projects
    ]
    yield from _table(columns, rows, width, notes)


def _remedy(heading: str | None) -> str:
    """Return the text of a remedy, with a link to the documentation; empty without a heading."""
    if heading is None:
        return ""
    return " ".join([*([REMEDIES[heading]] if heading in REMEDIES else []), f"See {PAGE}#{heading}"])


def _table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None, notes: Sequence[str] = ()
) -> Iterator[Text]:
    """Yield the lines of a table. If the last column does not fit, its cells get separate lines.

    Each row is followed by its note, unless the note is empty.
    """
    if not rows:
        return
    cells = [[_text(cell) for cell in row] for row in rows]
    if not any(row[-1].plain for row in cells):
        columns, cells = columns[:-1], [row[:-1] for row in cells]
        last_apart = False
    else:
        last_apart = width is not None and sum(_widths(columns, cells)) + _GAP * (len(columns) - 1) > width
    apart = [row[-1] for row in cells] if last_apart else []
    if last_apart:
        columns, cells = columns[:-1], [row[:-1] for row in cells]
    widths = _shrunk(columns, _widths(columns, cells), width)
    yield _line([Text(column.title.upper(), "dim") for column in columns], columns, widths)
    for index, row in enumerate(cells):
        yield _line(row, columns, widths)
        if apart and apart[index].plain:
            # Whole, so that it can be copied; a terminal wraps it, and knows from the style that it is one link.
            text = apart[index].plain
            link = text if text.startswith("http") else None
            yield Text(" " * _GAP).append(text, Style(dim=True, link=link))
        if notes and notes[index]:
            for line in (
                textwrap.wrap(notes[index], width - _GAP, break_on_hyphens=False) if width else [notes[index]]
            ):
                yield Text(" " * _GAP).append(_text(line))


def _text(cell: Cell) -> Text:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return Text("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text), style)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> list[int]:
    return [
        max(cell_len(column.title), *(cell_len(row[index].plain) for row in rows))
        for index, column in enumerate(columns)
    ]


def _shrunk(columns: Sequence[Column], widths: list[int], width: int | None) -> list[int]:
    """Return the column widths after shrinking the widest ones until the line fits, as far as they may shrink."""
    surplus = 0 if width is None else sum(widths) + _GAP * (len(widths) - 1) - width
    for _ in range(max(surplus, 0)):
        room = [
            0 if column.least is None or wide <= column.least else wide
            for column, wide in zip(columns, widths, strict=True)
        ]
        if not any(room):
            break
        widths[room.index(max(room))] -= 1
    return widths


def _line(row: Sequence[Text], columns: Sequence[Column], widths: Sequence[int]) -> Text:
    line = Text()
    for index, (cell, column, wide) in enumerate(zip(row, columns, widths, strict=True)):
        cell.truncate(wide, overflow="ellipsis")
        blanks = " " * (wide - cell_len(cell.plain))
        if column.right:
            line.append(blanks)
        line.append_text(cell)
        if index < len(row) - 1:
            line.append(" " * _GAP if column.right else blanks + " " * _GAP)
    return line


def _usual(run: ActivePipeline) -> str:
    return _UNKNOWN if run.usual_seconds is None else duration(run.usual_seconds)


def _age(since: float | None, now: float) -> str:
    return _UNKNOWN if since is None else duration(max(now - since, 0.0))
