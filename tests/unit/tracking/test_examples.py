"""The ledger computes the results of the worked examples in `docs/accounting.md`."""

import re
from collections import Counter
from pathlib import Path

from exporter.core.model import Run, Status
from exporter.tracking.ledger import (
    Coverage,
    EventKind,
    LedgerState,
    LedgerUpdate,
    Reach,
    apply_history,
    apply_latest,
    apply_lookup,
    known_streak,
)

PAGE = (Path(__file__).parents[3] / "docs" / "accounting.md").read_text(encoding="utf-8")
# The page gives whole seconds of one day; which day does not matter.
DAY = 20_000 * 86_400.0


def at(time: str) -> float:
    hours, minutes, seconds = map(int, time.split(":"))
    return DAY + 3600 * hours + 60 * minutes + seconds


# Start and end of each run of the examples, by id; a run in progress has the end that it gets later.
TIMES = {
    "60": ("06:00:00", "06:10:00"),
    "61": ("07:00:00", "07:10:00"),
    "62": ("07:20:00", "07:30:00"),
    "63": ("07:40:00", "07:50:00"),
    "64": ("08:10:00", "08:19:00"),
    "7": ("08:40:00", "08:50:00"),
    "9": ("09:00:30", ""),
    "41": ("09:40:00", "09:50:00"),
    "42": ("10:00:10", "10:00:20"),
    "43": ("10:00:25", "10:00:40"),
    "44": ("10:00:45", "10:05:40"),
    "45": ("10:02:30", "10:04:30"),
    "46": ("11:10:00", "11:15:00"),
    "47": ("11:30:00", "11:40:00"),
    "48": ("11:58:00", "12:04:00"),
    "new 1": ("12:09:00", "12:14:00"),
}
RETRIED = {"45": "10:19:40"}
"""The end of a run after its retry."""


PAST = (("63", "failed"), ("62", "canceled"), ("61", "failed"), ("60", "success"))
"""Runs before the first poll in the example of streaks."""


class Example:
    """Plays the rows of a table against the ledger."""

    def __init__(self) -> None:
        self.state: LedgerState | None = None
        self.counts: Counter[EventKind] = Counter()
        self._answered = 0.0
        self._numbering = ""

    def run(self, number: str, status: str, now: str) -> Run:
        identity = f"{self._numbering}{number}"
        start, end = TIMES[identity]
        if at(now) >= at(RETRIED.get(identity, "23:59:59")):
            end = RETRIED[identity]
        final = Status(status).final
        return Run(
            id=identity,
            number=int(number),
            status=Status(status),
            start=at(start),
            end=at(end) if final else None,
        )

    def play(self, now: str, response: str) -> None:
        """Apply a response, given in the words of the documentation."""
        if "another id" in response:
            self._numbering = "new "
        runs = [
            self.run(number, status, now)
            for number, status in re.findall(r"(\d+)(?: of [a-z ]+)?[,:]? ([a-z]+)", response)
        ]
        update: LedgerUpdate
        if response.startswith("latest"):
            update = apply_latest(self.state, runs[0], now=at(now), answered=self._answered)
            self._answered = at(now) if update.believed else self._answered
        elif response.startswith("run list"):
            assert self.state is not None
            update = apply_history(
                self.state, runs, Reach.COMPLETE, now=at(now), coverage=Coverage(complete=True)
            )
        else:
            assert self.state is not None
            update = apply_lookup(self.state, runs[0].id, runs[0], now=at(now))
        self.state = update.state
        self.counts.update(event.kind for event in update.events)

    def column(self, name: str) -> str:
        assert self.state is not None
        streak = known_streak(self.state)
        return {
            "counted": str(self.counts[EventKind.ENDED]),
            "retried": str(self.counts[EventKind.RETRIED]),
            "unresolved": str(self.state.unresolved),
            "active": str(len(self.state.open)),
            "streak": "-" if streak is None else str(streak.failures),
        }[name]


def test_examples_are_computed_by_the_ledger():
    examples: dict[str, Example] = {}
    played = 0
    columns: list[str] = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "time":
            columns = cells[3:]
        elif re.fullmatch(r"\d\d:\d\d:\d\d", cells[0]):
            # The examples of streaks and of void numbers, in the morning, are of other pipelines.
            hour = cells[0][:2]
            example = examples.setdefault(hour if hour < "10" else "rest", Example())
            example.play(cells[0], cells[1])
            assert [example.column(name) for name in columns] == cells[3:], line
            played += 1
    assert played == 22


def test_recovery_lasts_from_a_failure_before_first_sight():
    """The documentation says so about runs 61 and 64."""
    example = Example()
    example.play("08:00:00", "latest: 63, failed")
    assert example.state is not None
    success = example.run("64", "success", "08:20:00")
    waiting = apply_latest(example.state, success, now=at("08:20:00"), answered=0)
    assert [event.kind for event in waiting.events] == [EventKind.ENDED]
    rows = [success, *(example.run(number, status, "08:20:01") for number, status in PAST)]
    update = apply_history(
        waiting.state, rows, Reach.COMPLETE, now=at("08:20:01"), coverage=Coverage(complete=True)
    )
    [recovered] = update.events
    assert (recovered.kind, recovered.seconds) == (
        EventKind.RECOVERED,
        at(TIMES["64"][1]) - at(TIMES["61"][1]),
    )


def test_recovery_lasts_from_the_first_failure_to_the_success():
    """The documentation says so about runs 43 and 44."""
    failed, success = at(TIMES["43"][1]), at(TIMES["44"][1])
    example = Example()
    for now, response in (
        ("10:00:00", "latest: 41, success"),
        ("10:01:00", "latest: 44, running"),
        ("10:01:01", "run list: 44 running, 43 failed, 42 success"),
    ):
        example.play(now, response)
    assert example.state is not None
    update = apply_latest(
        example.state, example.run("44", "success", "10:06:00"), now=at("10:06:00"), answered=0
    )
    [recovered] = [event for event in update.events if event.kind is EventKind.RECOVERED]
    assert recovered.seconds == success - failed
