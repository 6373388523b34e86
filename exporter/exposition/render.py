"""Render the lines of a metric family as prometheus-client would, in a tenth of the time. Tests compare the two.

Formats: text 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/) and OpenMetrics 1.0.0
(https://prometheus.io/docs/specs/om/open_metrics_spec/). The formats differ in heads, exemplars and `_created` series. The
lines of most families are the same in both, so one `FamilyRenderer` serves both formats.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Generic, TypeVar

from prometheus_client.utils import floatToGoString

from exporter.core.redaction import redact
from exporter.metrics.family import Family, MetricType
from exporter.tracking.run_counters import Exemplar, Histogram

V = TypeVar("V")


class Format(StrEnum):
    """An exposition format; its value is the Content-Type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


_RUN_ID = "run_id"
_EXEMPLAR_LENGTH = 128
"""Maximum length of an exemplar's label names and values together; a longer one fails the scrape."""
_NOT_IN_EXEMPLARS = frozenset('"\\')
_CACHED_LABELS = 256
"""Maximum number of rendered label sets that a renderer caches."""
_GO_EXPONENT = 1e6
"""Smallest number that Go writes with an exponent and Python without."""


class Content(Enum):
    """Which series of its family a renderer writes: the values, the `_created` series, or both."""

    VALUES = 1
    CREATED = 2
    BOTH = 3


class FamilyRenderer(Generic[V]):
    """Renders the lines of a family for one or more formats."""

    def __init__(
        self,
        family: Family[V],
        labels: Sequence[str],
        heads: Mapping[Format, bytes],
        content: Content = Content.VALUES,
    ) -> None:
        """`labels` are the names of the identity labels; `heads` has the HELP and TYPE lines of each format served.

        Raises:
            ValueError: a label of the family sorts between the identity labels.

        """
        self.family = family
        self.heads = heads
        self.content = content
        self.detail_level = family.detail_level
        self._exemplars = Format.OPENMETRICS in heads
        # Labels are in alphabetical order, as prometheus-client writes them. No label of a family sorts between the
        # identity labels, so each line consists of labels before them, the identity labels, and labels after them.
        order = sorted((name, index) for index, name in enumerate(family.labels))
        self._before = [(name, index) for name, index in order if name < labels[0]]
        self._after = [(name, index) for name, index in order if name > labels[-1]]
        if len(self._before) + len(self._after) != len(order):
            raise ValueError(f"{family.name}: a label of {family.labels} sorts between {labels}")
        # `le` has its place in the order too.
        self._after_le = [(name, index) for name, index in self._before if name > "le"]
        self._before_le = self._before[: len(self._before) - len(self._after_le)]
        self._bounds = [f'le="{floatToGoString(bound)}",' for bound in (*family.bounds, math.inf)]
        # Most families have few different label values, which recur with every view.
        self._around = lru_cache(_CACHED_LABELS)(self._surrounding_labels)

    def lines(self, view: V, identity: str) -> tuple[bytes, int]:
        """Return the rendered lines of a view, and how many samples were left out as duplicates.

        `identity` has the rendered identity labels. Of samples with the same labels, only the last one is rendered.

        Raises:
            Exception: any exception of the family's `samples`, or ValueError for a wrong number of labels.

        """
        found: dict[tuple[str, ...], str] = {}
        count = 0
        name = self.family.name
        for sample in self.family.samples(view):
            count += 1
            labels, value = sample.labels, sample.value
            before, after = self._around(labels)
            lines = ""
            if self.content is not Content.CREATED:
                if isinstance(value, Histogram):
                    lines = self._histogram(value, labels, f"{before}{identity}{after}", f"{identity}{after}")
                else:
                    lines = f"{name}{{{before}{identity}{after}}} {number(value)}\n"
            if self.content is not Content.VALUES and sample.created is not None:
                lines += f"{_base_name(self.family)}_created{{{before}{identity}{after}}} {number(sample.created)}\n"
            found[labels] = lines
        return "".join(found.values()).encode(), count - len(found)

    def count_series(self, view: V) -> int:
        """Return the number of series of a view, without rendering them.

        Raises:
            Exception: any exception of the family's `samples`.

        """
        found: dict[tuple[str, ...], int] = {}
        for sample in self.family.samples(view):
            found[sample.labels] = 0
            if self.content is not Content.CREATED:
                found[sample.labels] += len(self._bounds) + 2 if isinstance(sample.value, Histogram) else 1
            if self.content is not Content.VALUES and sample.created is not None:
                found[sample.labels] += 1
        return sum(found.values())

    def _surrounding_labels(self, values: tuple[str, ...]) -> tuple[str, str]:
        """Return the rendered labels before and after the identity labels."""
        if len(values) != len(self.family.labels):
            raise ValueError(f"{values} for the labels {self.family.labels}")
        before = "".join([f"{_pair(name, redact(values[index]))}," for name, index in self._before])
        return before, "".join([f",{_pair(name, redact(values[index]))}" for name, index in self._after])

    def _histogram(self, histogram: Histogram, values: Sequence[str], labels: str, tail: str) -> str:
        name = self.family.name
        before = "".join([f"{_pair(name, redact(values[index]))}," for name, index in self._before_le])
        after = "".join([f"{_pair(name, redact(values[index]))}," for name, index in self._after_le])
        start, end = f"{name}_bucket{{{before}", f"{after}{tail}}}"
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


def renderers(
    family: Family[V], labels: Sequence[str], *, created_series: bool
) -> dict[Format, tuple[FamilyRenderer[V], ...]]:
    """Return the renderers that each format needs for a family."""
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
    name = f"{_base_name(family)}_created"
    head = f"# HELP {name} {_escape_help(family.help)}\n# TYPE {name} gauge\n".encode()
    # In text 0.0.4, the `_created` series are a separate family.
    separate = FamilyRenderer(family, labels, {Format.TEXT: head}, Content.CREATED)
    return {Format.TEXT: (text, separate), Format.OPENMETRICS: (openmetrics,)}


def _base_name(family: Family[V]) -> str:
    """Return a family's name without the suffix of its type (`_total` or `_info`)."""
    suffix = {MetricType.COUNTER: "_total", MetricType.INFO: "_info"}.get(family.type, "")
    return family.name.removesuffix(suffix)


def _head(family: Family[V], form: Format) -> bytes:
    """Return the HELP, TYPE and UNIT lines of a family."""
    text = _escape_help(family.help)
    if form is Format.TEXT:
        kind = MetricType.GAUGE if family.type is MetricType.INFO else family.type
        return f"# HELP {family.name} {text}\n# TYPE {family.name} {kind}\n".encode()
    name = _base_name(family)
    text = text.replace('"', r"\"")
    unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    return f"# HELP {name} {text}\n# TYPE {name} {family.type}\n{unit}".encode()


def pairs(names: Iterable[str], values: Iterable[str]) -> str:
    """Render labels as they appear between braces, such as `a="x",b="y"`."""
    return ",".join(_pair(name, value) for name, value in zip(names, values, strict=True))


def number(value: float) -> str:
    """Format a sample value as Go does."""
    return repr(float(value)) if -math.inf < value < _GO_EXPONENT else floatToGoString(value)


def _with_exemplars(lines: Sequence[str], exemplars: Sequence[Exemplar | None]) -> list[str]:
    result = []
    for line, exemplar in zip(lines, exemplars, strict=True):
        if exemplar is None or not _fits_exemplar(exemplar.run):
            result.append(line)
            continue
        moment = "" if exemplar.at is None else f" {exemplar.at}"
        result.append(f"{line} # {{{_pair(_RUN_ID, redact(exemplar.run))}}} {number(exemplar.value)}{moment}")
    return result


def _fits_exemplar(run_id: str) -> bool:
    """Return True if every parser accepts a run id in an exemplar.

    In an exemplar, Prometheus fails the whole scrape for a NUL, and does not unescape a backslash. The parser of
    prometheus-client does not accept quotes (as of 2.42 and 0.26).
    """
    return (
        len(_RUN_ID) + len(run_id) <= _EXEMPLAR_LENGTH
        and run_id.isprintable()
        and not _NOT_IN_EXEMPLARS & set(run_id)
    )


def _pair(name: str, value: str) -> str:
    if "\\" in value or "\n" in value or '"' in value:
        value = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{name}="{value}"'


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
