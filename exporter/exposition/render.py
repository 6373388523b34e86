"""The lines of a family, as prometheus-client would write them: held to it by tests, at a tenth of its cost.

Formats: text 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/) and OpenMetrics 1.0.0
(https://prometheus.io/docs/specs/om/open_metrics_spec/). They differ in heads, exemplars and `_created`, so that the
lines of most families are the same in both: a `FamilyRenderer` is written once for all formats that it stands in.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Generic, TypeVar

from prometheus_client.utils import floatToGoString

from exporter.core.redaction import redact
from exporter.metrics.catalogue import Family, MetricType
from exporter.tracking.run_counters import Exemplar, Histogram

V = TypeVar("V")


class Format(StrEnum):
    """An exposition format, as its Content-Type names it."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


_RUN_ID = "run_id"
_EXEMPLAR_LENGTH = 128
"""Characters that the labels of an exemplar may have, names and values together; one more fails the scrape."""
_UNREADABLE = frozenset('"\\')
_WORDS = 256
"""Sets of labels of a family that are kept as they are written."""
_PLAIN = 1e6
"""Numbers from here on Go writes with an exponent, where Python does not."""


class Content(Enum):
    """What a column has of its family."""

    VALUES = 1
    CREATED = 2
    BOTH = 3


class FamilyRenderer(Generic[V]):
    """The lines of a family in the formats that take them as they are, and the head that they have in each."""

    def __init__(
        self,
        family: Family[V],
        labels: Sequence[str],
        heads: Mapping[Format, bytes],
        content: Content = Content.VALUES,
    ) -> None:
        """`labels` are the names of the identity's."""
        self.family = family
        self.heads = heads
        self.content = content
        self.detail_level = family.detail_level
        self._exemplars = Format.OPENMETRICS in heads
        # Labels are written in alphabetical order, as prometheus-client does. No family's label falls between those
        # of the identity, so each line is what comes before them, they themselves, and what comes after.
        order = sorted((name, place) for place, name in enumerate(family.labels))
        self._before = [(name, place) for name, place in order if name < labels[0]]
        self._after = [(name, place) for name, place in order if name > labels[-1]]
        if len(self._before) + len(self._after) != len(order):
            raise ValueError(f"{family.name}: a label of {family.labels} falls between those of {labels}")
        # `le` has its place in the alphabet too.
        self._later = [(name, place) for name, place in self._before if name > "le"]
        self._earlier = self._before[: len(self._before) - len(self._later)]
        self._bounds = [f'le="{floatToGoString(bound)}",' for bound in (*family.bounds, math.inf)]
        # Most labels are of few words, and come again with every view.
        self._around = lru_cache(_WORDS)(self._surround)

    def lines(self, view: V, identity: str) -> tuple[bytes, int]:
        """The lines of a view, and how many series stood twice in it; of each the last is written.

        Raises:
            Exception: whatever the family's own function raises, or ValueError if its labels are not those it has.

        """
        found: dict[tuple[str, ...], str] = {}
        count = 0
        name = self.family.name
        for sample in self.family.samples(view):
            count += 1
            given, value = sample.labels, sample.value
            before, after = self._around(given)
            lines = ""
            if self.content is not Content.CREATED:
                if isinstance(value, Histogram):
                    lines = self._histogram(value, given, f"{before}{identity}{after}", f"{identity}{after}")
                else:
                    lines = f"{name}{{{before}{identity}{after}}} {number(value)}\n"
            if self.content is not Content.VALUES and sample.created is not None:
                lines += (
                    f"{_base(self.family)}_created{{{before}{identity}{after}}} {number(sample.created)}\n"
                )
            found[given] = lines
        return "".join(found.values()).encode(), count - len(found)

    def series(self, view: V) -> int:
        """How many series a view has, without writing them.

        Raises:
            Exception: whatever the family's own function raises.

        """
        found: dict[tuple[str, ...], int] = {}
        for sample in self.family.samples(view):
            found[sample.labels] = 0
            if self.content is not Content.CREATED:
                found[sample.labels] += len(self._bounds) + 2 if isinstance(sample.value, Histogram) else 1
            if self.content is not Content.VALUES and sample.created is not None:
                found[sample.labels] += 1
        return sum(found.values())

    def _surround(self, given: tuple[str, ...]) -> tuple[str, str]:
        """What stands before the labels of the identity, and what after them."""
        if len(given) != len(self.family.labels):
            raise ValueError(f"{given} for the labels {self.family.labels}")
        before = "".join([f"{_pair(name, redact(given[place]))}," for name, place in self._before])
        return before, "".join([f",{_pair(name, redact(given[place]))}" for name, place in self._after])

    def _histogram(self, histogram: Histogram, given: Sequence[str], labels: str, tail: str) -> str:
        name = self.family.name
        earlier = "".join([f"{_pair(name, redact(given[place]))}," for name, place in self._earlier])
        later = "".join([f"{_pair(name, redact(given[place]))}," for name, place in self._later])
        start, end = f"{name}_bucket{{{earlier}", f"{later}{tail}}}"
        lines = []
        total = 0
        for bound, count in zip(self._bounds, histogram.counts, strict=True):
            total += count
            lines.append(f"{start}{bound}{end} {number(total)}")
        if self._exemplars and histogram.exemplars:
            lines = _with_exemplars(lines, histogram.exemplars)
        lines += (
            f"{name}_count{{{labels}}} {number(total)}",
            f"{name}_sum{{{labels}}} {number(histogram.sum)}\n",
        )
        return "\n".join(lines)


def columns(
    family: Family[V], labels: Sequence[str], *, created_series: bool
) -> dict[Format, tuple[FamilyRenderer[V], ...]]:
    """The columns of a family, by the formats that they stand in."""
    created = created_series and family.type in {MetricType.COUNTER, MetricType.HISTOGRAM}
    if not created and family.type is not MetricType.HISTOGRAM:
        both = FamilyRenderer(family, labels, {form: _head(family, form) for form in Format})
        return dict.fromkeys(Format, (both,))
    text, openmetrics = (
        FamilyRenderer(family, labels, {form: _head(family, form)}, content)
        for form, content in (
            (Format.TEXT, Content.VALUES),
            (Format.OPENMETRICS, Content.BOTH if created else Content.VALUES),
        )
    )
    if not created:
        return {Format.TEXT: (text,), Format.OPENMETRICS: (openmetrics,)}
    name = f"{_base(family)}_created"
    head = f"# HELP {name} {_escape_help(family.help)}\n# TYPE {name} gauge\n".encode()
    # Text 0.0.4 takes them as a family of their own only.
    apart = FamilyRenderer(family, labels, {Format.TEXT: head}, Content.CREATED)
    return {Format.TEXT: (text, apart), Format.OPENMETRICS: (openmetrics,)}


def _base(family: Family[V]) -> str:
    """The name without what the type adds to it."""
    suffix = {MetricType.COUNTER: "_total", MetricType.INFO: "_info"}.get(family.type, "")
    return family.name.removesuffix(suffix)


def _head(family: Family[V], form: Format) -> bytes:
    """What stands before the lines of a family."""
    text = _escape_help(family.help)
    if form is Format.TEXT:
        kind = MetricType.GAUGE if family.type is MetricType.INFO else family.type
        return f"# HELP {family.name} {text}\n# TYPE {family.name} {kind}\n".encode()
    name = _base(family)
    text = text.replace('"', r"\"")
    unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    return f"# HELP {name} {text}\n# TYPE {name} {family.type}\n{unit}".encode()


def pairs(names: Iterable[str], values: Iterable[str]) -> str:
    """Labels as they stand between braces."""
    return ",".join(_pair(name, value) for name, value in zip(names, values, strict=True))


def number(value: float) -> str:
    """A value as Go writes it."""
    return repr(float(value)) if -math.inf < value < _PLAIN else floatToGoString(value)


def _with_exemplars(lines: Sequence[str], exemplars: Sequence[Exemplar | None]) -> list[str]:
    """A histogram's buckets with their exemplars."""
    shown = []
    for line, exemplar in zip(lines, exemplars, strict=True):
        if exemplar is None or not _readable(exemplar.run):
            shown.append(line)
            continue
        moment = "" if exemplar.at is None else f" {exemplar.at}"
        shown.append(f"{line} # {{{_pair(_RUN_ID, redact(exemplar.run))}}} {number(exemplar.value)}{moment}")
    return shown


def _readable(run: str) -> bool:
    """Whether a run's id may stand in an exemplar.

    There a NUL fails the whole scrape of Prometheus, which keeps a backslash as it is escaped, and prometheus-client, which
    others read pages with, takes no quote (as of 2.42 and 0.26).
    """
    return len(_RUN_ID) + len(run) <= _EXEMPLAR_LENGTH and run.isprintable() and not _UNREADABLE & set(run)


def _pair(name: str, value: str) -> str:
    if "\\" in value or "\n" in value or '"' in value:
        value = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{name}="{value}"'


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
