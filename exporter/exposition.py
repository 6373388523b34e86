"""From views to a page: bytes in both formats, rendered when something changed and never at a scrape.

Formats: text 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/) and OpenMetrics 1.0.0
(https://prometheus.io/docs/specs/om/open_metrics_spec/). The lines are those that prometheus-client would write, held
to it by tests; rendering them here costs a fifth, and a view that has not changed is not rendered again.
"""

import gzip
import math
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from itertools import zip_longest
from typing import Generic, TypeVar

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.utils import floatToGoString

from exporter.board import ProjectView, View
from exporter.metrics import PIPELINE_LABELS, PROJECT_LABELS, Catalogue, Family, Type
from exporter.tally import Exemplar, Histogram

V = TypeVar("V")


class Format(StrEnum):
    """An exposition format, as its Content-Type names it."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Body(msgspec.Struct, frozen=True):
    """A page in one format."""

    plain: bytes
    gzip: bytes


class Page(msgspec.Struct, frozen=True):
    """A finished page in every format."""

    bodies: dict[Format, Body]


_GZIP_LEVEL = 4
_RUN_ID = "run_id"
_EXEMPLAR_LENGTH = 128
"""Characters that the labels of an exemplar may have, names and values together; one more fails the scrape."""


def own_series(registry: CollectorRegistry) -> dict[Format, bytes]:
    """The exporter's metrics about itself; few, so that prometheus-client renders them."""
    openmetrics = generate_openmetrics(registry).removesuffix(b"# EOF\n")
    return {Format.TEXT: generate_text(registry), Format.OPENMETRICS: openmetrics}


class Exposition:
    """Renders pages, keeping what it rendered of every view until the view is another object."""

    def __init__(self, catalogue: Catalogue, *, created_series: bool) -> None:
        self._pipelines = _Part(
            catalogue.pipelines,
            PIPELINE_LABELS,
            lambda view: (
                view.pipeline.name,
                view.pipeline.id,
                view.pipeline.project,
                view.pipeline.provider,
            ),
            created_series=created_series,
        )
        self._projects = _Part(
            catalogue.projects,
            PROJECT_LABELS,
            lambda view: (view.project, view.provider),
            created_series=created_series,
        )

    def render(
        self, pipelines: Sequence[View], projects: Sequence[ProjectView], own: dict[Format, bytes]
    ) -> Page:
        """A page of what is known; `own` is what `own_series` gave."""
        self._projects.refresh(projects)
        self._pipelines.refresh(pipelines)
        bodies = {}
        for form in Format:
            parts = [own[form], *self._projects.blocks(form), *self._pipelines.blocks(form)]
            if form is Format.OPENMETRICS:
                parts.append(b"# EOF\n")
            plain = b"".join(parts)
            bodies[form] = Body(plain, gzip.compress(plain, _GZIP_LEVEL, mtime=0))
        return Page(bodies)


class _Lines(msgspec.Struct, frozen=True):
    """The sample lines of one view in one family."""

    text: bytes
    openmetrics: bytes
    created: bytes
    """`_created` lines, which text 0.0.4 only takes as a family of their own."""


class _Part(Generic[V]):
    """The families of one kind of view."""

    def __init__(
        self,
        families: Sequence[Family[V]],
        labels: tuple[str, ...],
        identity: Callable[[V], tuple[str, ...]],
        *,
        created_series: bool,
    ) -> None:
        self._families = families
        self._templates = [_Template(family, labels, created_series=created_series) for family in families]
        self._labels = labels
        self._identity = identity
        # By the view's id(); holding the view keeps another from being given that id.
        self._kept: dict[int, tuple[V, list[_Lines]]] = {}

    def refresh(self, views: Sequence[V]) -> None:
        """Render the views that are new, forget those that are gone."""
        kept = {}
        for view in views:
            known = self._kept.get(id(view))
            if known is None:
                identity = _pairs(self._labels, self._identity(view))
                known = (view, [template.lines(view, identity) for template in self._templates])
            kept[id(view)] = known
        self._kept = kept

    def blocks(self, form: Format) -> Iterator[bytes]:
        """The families, one after the other, each with its head."""
        for index, family in enumerate(self._families):
            yield _head(family, form)
            lines = [rendered[index] for _, rendered in self._kept.values()]
            if form is Format.OPENMETRICS:
                yield from (line.openmetrics for line in lines)
                continue
            yield from (line.text for line in lines)
            created = [line.created for line in lines if line.created]
            if created:
                name = f"{_base(family)}_created"
                yield f"# HELP {name} {_escape_help(family.help)}\n# TYPE {name} gauge\n".encode()
                yield from created


def _base(family: Family[V]) -> str:
    """The name without what the type adds to it."""
    suffix = {Type.COUNTER: "_total", Type.INFO: "_info"}.get(family.type, "")
    return family.name.removesuffix(suffix)


def _head(family: Family[V], form: Format) -> bytes:
    text = _escape_help(family.help)
    if form is Format.TEXT:
        kind = Type.GAUGE if family.type is Type.INFO else family.type
        return f"# HELP {family.name} {text}\n# TYPE {family.name} {kind}\n".encode()
    name = _base(family)
    text = text.replace('"', r"\"")
    unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    return f"# HELP {name} {text}\n# TYPE {name} {family.type}\n{unit}".encode()


class _Template(Generic[V]):
    """How the samples of a family are written."""

    def __init__(self, family: Family[V], identity: tuple[str, ...], *, created_series: bool) -> None:
        self._family = family
        self._created = created_series
        # Labels are written in alphabetical order, as prometheus-client does. No family's label falls between those
        # of the identity, so each line is what comes before them, they themselves, and what comes after.
        order = sorted(range(len(family.labels)), key=lambda index: family.labels[index])
        self._before = [index for index in order if family.labels[index] < identity[0]]
        self._after = [index for index in order if family.labels[index] > identity[-1]]
        if len(self._before) + len(self._after) != len(order):
            raise ValueError(f"{family.name}: a label of {family.labels} falls between those of {identity}")
        self._bounds = [floatToGoString(bound) for bound in (*family.bounds, math.inf)]

    def lines(self, view: V, identity: str) -> _Lines:
        """Render the samples of a view."""
        text: list[str] = []
        openmetrics: list[str] = []
        created: list[str] = []
        base = _base(self._family)
        for sample in self._family.samples(view):
            if len(sample.labels) != len(self._family.labels):
                raise ValueError(f"{self._family.name}: {sample.labels} for the labels {self._family.labels}")
            before = [_pair(self._family.labels[index], sample.labels[index]) for index in self._before]
            after = [_pair(self._family.labels[index], sample.labels[index]) for index in self._after]
            labels = ",".join((*before, identity, *after))
            if isinstance(sample.value, Histogram):
                own = self._histogram(sample.value, before, ",".join((identity, *after)), labels)
                openmetrics += _with_exemplars(own, sample.value.exemplars)
            else:
                own = [f"{self._family.name}{{{labels}}} {floatToGoString(sample.value)}\n"]
                openmetrics += own
            text += own
            if self._created and sample.created is not None:
                line = f"{base}_created{{{labels}}} {floatToGoString(sample.created)}\n"
                created.append(line)
                openmetrics.append(line)
        joined = "".join(text).encode()
        # Most are the same in both formats, and kept once.
        other = joined if openmetrics == text else "".join(openmetrics).encode()
        return _Lines(joined, other, "".join(created).encode())

    def _histogram(self, histogram: Histogram, before: list[str], after: str, labels: str) -> list[str]:
        name = self._family.name
        # `le` has its place in the alphabet too; no label before the identity of a histogram's family does.
        lines = []
        total = 0
        for bound, count in zip(self._bounds, histogram.counts, strict=True):
            total += count
            pairs = ",".join((*sorted([*before, f'le="{bound}"']), after))
            lines.append(f"{name}_bucket{{{pairs}}} {floatToGoString(total)}\n")
        lines.append(f"{name}_count{{{labels}}} {floatToGoString(total)}\n")
        lines.append(f"{name}_sum{{{labels}}} {floatToGoString(histogram.sum)}\n")
        return lines


def _with_exemplars(lines: Sequence[str], exemplars: Sequence[Exemplar | None]) -> Iterator[str]:
    """A histogram's lines, the buckets' first, with the exemplars of the buckets; text 0.0.4 knows none."""
    for line, exemplar in zip_longest(lines, exemplars):
        if exemplar is None or not _readable(exemplar.run):
            yield line
            continue
        moment = "" if exemplar.at is None else f" {exemplar.at}"
        run = _pair(_RUN_ID, exemplar.run)
        yield f"{line[:-1]} # {{{run}}} {floatToGoString(exemplar.value)}{moment}\n"


def _readable(run: str) -> bool:
    """Whether a run's id may stand in an exemplar: prometheus-client, which others read pages with, takes no quote."""
    return len(_RUN_ID) + len(run) <= _EXEMPLAR_LENGTH and '"' not in run


def _pairs(names: Sequence[str], values: Sequence[str]) -> str:
    return ",".join(_pair(name, value) for name, value in zip(names, values, strict=True))


def _pair(name: str, value: str) -> str:
    if "\\" in value or "\n" in value or '"' in value:
        value = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{name}="{value}"'


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
