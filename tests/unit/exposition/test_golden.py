"""Test that pages equal those of prometheus-client, and the golden pages, in both formats."""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Exemplar as ClientExemplar
from prometheus_client.utils import floatToGoString

from exporter.core.model import Pipeline, Run, Stage, Status, Trigger
from exporter.exposition import Exposition, Format
from exporter.metrics.catalogue import Catalogue, catalogue
from exporter.metrics.family import Family, MetricType, Sample
from exporter.settings.settings import Metrics
from exporter.tracking.project import ProjectTracker
from exporter.tracking.run_counters import Exemplar, Histogram
from exporter.tracking.saved import RetiredPipelines
from exporter.tracking.views import ProjectView, View
from tests.drivers.views import (
    USER_LABELS,
    VARIANTS,
    counting,
    exposition,
    identity,
    nothing,
    pipeline,
    render,
    series,
    worlds,
)
from tests.marks import examples

V = TypeVar("V")

GOLDEN = Path(__file__).parents[2] / "golden"


def client_exemplar(exemplar: Exemplar | None) -> ClientExemplar | None:
    """Return prometheus-client's exemplar; None for one that some reader would reject."""
    if exemplar is None or len(exemplar.run) > 122 or not exemplar.run.isprintable():
        return None
    if '"' in exemplar.run or "\\" in exemplar.run:
        return None
    return ClientExemplar({"run_id": exemplar.run}, exemplar.value, exemplar.at)


# The page of prometheus-client


def client_family(
    family: Family[V],
    labels: tuple[str, ...],
    views: Sequence[V],
    identity_of: Callable[[V], tuple[str, ...]],
    *,
    created: bool,
) -> Metric:
    """Return prometheus-client's version of a family."""
    names = (*labels, *family.labels)
    made: Metric
    match family.type:
        case MetricType.GAUGE:
            made = GaugeMetricFamily(family.name, family.help, labels=names, unit=family.unit)
        case MetricType.COUNTER:
            made = CounterMetricFamily(family.name, family.help, labels=names, unit=family.unit)
        case MetricType.INFO:
            made = InfoMetricFamily(family.name.removesuffix("_info"), family.help, labels=labels)
        case MetricType.HISTOGRAM:
            made = HistogramMetricFamily(family.name, family.help, labels=names, unit=family.unit)
    for view in views:
        for sample in family.samples(view):
            values = (*identity_of(view), *sample.labels)
            if isinstance(made, InfoMetricFamily):
                made.add_metric(identity_of(view), dict(zip(family.labels, sample.labels, strict=True)))
            elif isinstance(made, HistogramMetricFamily):
                assert isinstance(sample.value, Histogram)
                totals = [sum(sample.value.counts[: place + 1]) for place in range(len(sample.value.counts))]
                bounds = [floatToGoString(bound) for bound in (*family.bounds, float("inf"))]
                shown = sample.value.exemplars or (None,) * len(bounds)
                buckets: list[Any] = [
                    (bound, total, client_exemplar(exemplar))
                    for bound, total, exemplar in zip(bounds, totals, shown, strict=True)
                ]
                made.add_metric(values, buckets, sample.value.sum)
            elif isinstance(made, GaugeMetricFamily | CounterMetricFamily):
                assert not isinstance(sample.value, Histogram)
                made.add_metric(values, sample.value)
            if created and sample.created is not None:
                name = f"{made.name}_created"
                made.add_sample(name, dict(zip(names, values, strict=True)), sample.created)
    return made


class ClientCollector:
    """Collects the families of a catalogue for prometheus-client."""

    def __init__(
        self,
        families: Catalogue,
        pipelines: Sequence[View],
        projects: Sequence[ProjectView],
        *,
        created: bool,
    ) -> None:
        self.made = [
            *(
                client_family(
                    one,
                    ("project", "provider"),
                    projects,
                    lambda view: (view.project, view.provider),
                    created=created,
                )
                for one in families.projects
            ),
            *(
                client_family(
                    one,
                    ("pipeline", "pipeline_id", "project", "provider"),
                    pipelines,
                    identity,
                    created=created,
                )
                for one in families.pipelines
            ),
        ]

    def collect(self) -> Iterable[Metric]:
        return self.made


def client_bodies(
    families: Catalogue, pipelines: Sequence[View], projects: Sequence[ProjectView], *, created: bool
) -> dict[Format, bytes]:
    """Return the page of prometheus-client in both formats."""
    registry = CollectorRegistry()
    registry.register(ClientCollector(families, pipelines, projects, created=created))
    return {Format.TEXT: generate_text(registry), Format.OPENMETRICS: generate_openmetrics(registry)}


def exemplars_of(families: Iterable[Metric]) -> list[ClientExemplar]:
    """Return all exemplars in page order."""
    return [sample.exemplar for family in families for sample in family.samples if sample.exemplar]


def moment(exemplar: ClientExemplar) -> float:
    """Return the time of an exemplar in Unix seconds; -1 if it has none."""
    return -1.0 if exemplar.timestamp is None else float(exemplar.timestamp)


@examples(120)
@given(st.sampled_from(VARIANTS).flatmap(worlds))
def test_pages_equal_those_of_prometheus_client(world):
    metrics, pipelines, projects = world
    families = catalogue(metrics, USER_LABELS)
    page_source = Exposition(families, nothing, created_series=metrics.created_series, group_size=2)
    page = render(page_source, pipelines, projects)
    assert page_source.failures.take() == {}
    expected = client_bodies(families, pipelines, projects, created=metrics.created_series)
    for form, body in page.items():
        assert body.split(b"\n") == expected[form].split(b"\n")
        assert len(set(series(body))) == len(series(body))
    text = list(parse_text(page[Format.TEXT].decode()))
    openmetrics = list(parse_openmetrics(page[Format.OPENMETRICS].decode()))
    shown = [identity(view) for view in pipelines]
    for parsed in (text, openmetrics):
        samples = [
            sample for family in parsed for sample in family.samples if sample.name == "ci_pipeline_up"
        ]
        read = [tuple(sample.labels[name] for name in sorted(sample.labels)) for sample in samples]
        assert read == shown
    expected_exemplars = exemplars_of(ClientCollector(families, pipelines, projects, created=False).made)
    found = exemplars_of(openmetrics)
    assert [exemplar[:2] for exemplar in found] == [exemplar[:2] for exemplar in expected_exemplars]
    assert [*map(moment, found)] == pytest.approx([*map(moment, expected_exemplars)])
    assert exemplars_of(text) == []


def test_label_between_the_identity_labels_is_an_error():
    """Labels are written in alphabetical order."""
    family, _ = counting(labels=("pipeline_kind",))
    with pytest.raises(ValueError, match=r"^a: .*pipeline_kind"):
        exposition(family)


def test_help_is_escaped_as_prometheus_client_does():
    """Only OpenMetrics escapes quotes."""
    family = msgspec.structs.replace(counting()[0], help='A "quoted" \\ and\nbroken help.')
    families = Catalogue(pipelines=(family,), projects=())
    views = [View(pipeline=pipeline(), up=True)]
    page = render(Exposition(families, nothing, created_series=False), views)
    assert page == client_bodies(families, views, (), created=False)


def bucket_lines(exemplar: Exemplar) -> dict[Format, str]:
    """Return the line of a bucket with an exemplar, in both formats."""
    family = Family[View](
        name="a",
        type=MetricType.HISTOGRAM,
        help="A.",
        bounds=(60.0,),
        samples=lambda _: (Sample((), Histogram((1, 0), 50.0, (exemplar, None))),),
    )
    page = render(exposition(family), [View(pipeline=pipeline(), up=True)])
    lines = {form: body.decode().splitlines() for form, body in page.items()}
    return {form: next(line for line in found if 'le="60.0"' in line) for form, found in lines.items()}


@pytest.mark.parametrize(
    ("exemplar", "shown"),
    [
        (Exemplar("ad6b7f", 50.0, 1_677_919_811.25), ' # {run_id="ad6b7f"} 50.0 1677919811.25'),
        (Exemplar("ad6b7f", 50.0, None), ' # {run_id="ad6b7f"} 50.0'),
        (Exemplar("é" * 122, 50.0, None), f' # {{run_id="{"é" * 122}"}} 50.0'),
        (Exemplar("é" * 123, 50.0, None), ""),
        (Exemplar('a"b', 50.0, None), ""),
        (Exemplar("a\\b", 50.0, None), ""),
        (Exemplar("a\0b", 50.0, None), ""),
    ],
)
def test_exemplar_appears_only_in_openmetrics_and_only_if_readers_accept_it(exemplar, shown):
    """In the text format, an exemplar makes the page invalid."""
    lines = bucket_lines(exemplar)
    assert lines[Format.TEXT].endswith("} 1.0")
    assert lines[Format.OPENMETRICS] == lines[Format.TEXT] + shown


# Golden pages


def seed() -> tuple[tuple[View, ...], tuple[ProjectView, ...]]:
    """Return views of the vendor's example response, after a first successful run."""
    start, end = 1_677_919_688.0, 1_677_919_811.0
    before = Run(
        id="5f0c2e27d4f04cd0a9a2c1f0f8ad6a3b",
        number=1,
        status=Status.SUCCESS,
        start=start - 7200,
        end=start - 7080,
    )
    latest = Run(
        id="ad6b7f66283a45be9c1f82b06c831e59",
        number=2,
        status=Status.FAILED,
        start=start,
        end=end,
        trigger=Trigger.MANUAL,
        branch="test-lbdsb11",
        stages=(Stage("Phase_1", 0, Status.FAILED, start + 1, 122.0),),
    )
    waiting = Run(
        id="6b1f6e3f0c0d4a7f9f0f5d8a64b5f0ab",
        number=41,
        status=Status.PAUSED,
        start=start,
        trigger=Trigger.MERGE_REQUEST,
        branch='release/"1.0"\\x',
        stages=(
            Stage("构建", 0, Status.SUCCESS, start + 2, 60.5),
            Stage("approval", 1, Status.PAUSED, start + 63),
        ),
    )
    pipelines = (
        Pipeline(
            provider="codearts",
            project="payments",
            id="d19799d619424b2bb2625ec2d93ea087",
            name="checkout-service",
            labels=(("team", "payments"),),
        ),
        Pipeline(
            provider="codearts",
            project="payments",
            id="98b6ea1536374df883bcc3b129bca4e9",
            name="98b6ea1536374df883bcc3b129bca4e9",
        ),
        Pipeline(provider="codearts", project="payments", id="0" * 32, name="never-run"),
    )
    tracker = ProjectTracker(
        pipelines,
        Metrics(),
        RetiredPipelines(),
        provider="codearts",
        project="payments",
        interval=60.0,
        started=0.0,
    )
    first, second, third = tracker.ids
    tracker.answered([first, second], {first: before, second: waiting}, sent_at=1, now=start - 30)
    tracker.answered([first, second], {first: latest, second: waiting}, sent_at=2, now=end + 30)
    tracker.answered([third], {}, sent_at=2, now=end + 30)
    tracker.commit(tracker.ids)
    tracker.failed([second])
    project = tracker.project_view()
    assert project is not None
    return tracker.views(), (project,)


@pytest.mark.parametrize(
    ("form", "file"), [(Format.TEXT, "seed.txt"), (Format.OPENMETRICS, "seed.openmetrics.txt")]
)
def test_vendor_example_gives_the_golden_page(form, file):
    """Any difference in these bytes may break a dashboard."""
    page_source = Exposition(catalogue(Metrics(), ["team"]), nothing, created_series=False)
    assert render(page_source, *seed())[form].decode() == (GOLDEN / file).read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_no_problem_in_the_golden_page():
    promtool = shutil.which("promtool")
    assert promtool is not None
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=(GOLDEN / "seed.txt").read_bytes(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
