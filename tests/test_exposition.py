"""Pages are those that prometheus-client would write, valid in both formats, and rendered no oftener than needed."""

import gzip
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
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

from exporter.board import Board, ProjectView, View
from exporter.config.schema import Metrics
from exporter.exposition import Exposition, Format, own_series
from exporter.ledger import Series
from exporter.memory import Past
from exporter.metrics import Catalogue, Family, Sample, Type, catalogue
from exporter.model import ENDS, RUN_STATUSES, Job, Pipeline, Run, Stage, Status, Step, Trigger
from exporter.tally import Durations, Exemplar, Histogram, Tally

V = TypeVar("V")

GOLDEN = Path(__file__).parent / "golden"
NOTHING = dict.fromkeys(Format, b"")
VARIANTS = (
    Metrics(),
    Metrics(run_status_series="current", stage_status_series="all", created_series=True, details="jobs"),
    Metrics(run_histogram="project", stage_histogram="pipeline", created_series=True),
    Metrics(
        run_histogram="off",
        stage_histogram="off",
        details="steps",
        run_info_labels=(
            "url", "tag", "run_id", "commit", "executor", "event", "merge_id", "source_branch", "branch", "trigger",
        ),
    ),
)  # fmt: skip
USER_LABELS = ("team", "a", "zzz")


def pipeline(identity: str = "p") -> Pipeline:
    return Pipeline(provider="codearts", project="payments", id=identity, name="checkout")


# Arbitrary views

nasty = st.sampled_from(
    ['"', "\\", "\n", '\\"', "\\n", "\\\\n", "{", "}", ",", "=", " ", "#", "\r", "\u2028", "\0"]
)
texts = st.one_of(
    st.lists(nasty, max_size=4).map("".join), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
)
floats = st.one_of(
    st.floats(),
    st.sampled_from(
        [0.0, -0.0, float("nan"), float("inf"), 5e-324, 1.7e308, 1e6, 1e7, 123456789.25, 1e16, 1e21]
    ),
)
amounts = st.one_of(st.floats(min_value=0, allow_infinity=False), st.integers(0, 10**6).map(float))
counts = st.integers(0, 2**60)
statuses = st.sampled_from(Status)
steps = st.builds(
    Step,
    name=texts,
    sequence=st.integers(0, 3),
    task=texts,
    status=statuses,
    duration=st.none() | floats,
)
jobs = st.builds(
    Job,
    name=texts,
    sequence=st.integers(0, 3),
    status=statuses,
    start=st.none() | floats,
    duration=st.none() | floats,
    steps=st.lists(steps, max_size=2, unique_by=lambda step: (step.name, step.sequence)).map(tuple),
)
stages = st.builds(
    Stage,
    name=texts,
    sequence=st.integers(0, 3),
    status=statuses,
    start=st.none() | floats,
    duration=st.none() | floats,
    jobs=st.lists(jobs, max_size=2, unique_by=lambda job: (job.name, job.sequence)).map(tuple),
)
runs = st.builds(
    Run,
    id=texts,
    number=st.none() | st.integers(1, 2**53),
    status=st.sampled_from(RUN_STATUSES),
    start=st.none() | floats,
    end=st.none() | floats,
    trigger=st.sampled_from(Trigger),
    branch=texts,
    commit=texts,
    url=texts,
    stages=st.lists(stages, max_size=3, unique_by=lambda stage: (stage.name, stage.sequence)).map(tuple),
)


# Names and values of an exemplar may have 128 characters, `run_id` has six of them.
exemplars = st.builds(
    Exemplar,
    run=texts | texts.map(lambda text: text.ljust(122, "é")) | texts.map(lambda text: text.ljust(123, "é")),
    value=amounts,
    at=st.none() | st.floats(0.001, 1e14),
)


def histograms(bounds: tuple[float, ...]) -> st.SearchStrategy[Histogram]:
    buckets = len(bounds) + 1
    return st.builds(
        Histogram,
        st.tuples(*[st.integers(0, 2**40)] * buckets),
        amounts,
        st.just(()) | st.tuples(*[st.none() | exemplars] * buckets),
    )


def client_exemplar(exemplar: Exemplar | None) -> ClientExemplar | None:
    """The same as prometheus-client's; one that is too long or has a quote it would write, but not read."""
    if exemplar is None or len(exemplar.run) > 122 or '"' in exemplar.run:
        return None
    return ClientExemplar({"run_id": exemplar.run}, exemplar.value, exemplar.at)


def durations(metrics: Metrics) -> st.SearchStrategy[Durations]:
    return st.builds(
        Durations,
        runs_created=amounts,
        stages_created=amounts,
        runs=st.dictionaries(st.sampled_from(ENDS), histograms(metrics.run_duration_buckets), max_size=2),
        stages=st.dictionaries(
            st.tuples(texts, statuses), histograms(metrics.stage_duration_buckets), max_size=2
        ),
    )


tallies = st.builds(
    Tally,
    created=amounts,
    runs=st.dictionaries(st.sampled_from(ENDS), counts),
    retries=st.dictionaries(st.sampled_from(ENDS), counts),
    missed=counts,
    recoveries=counts,
    recovery_seconds=amounts,
)


def views(metrics: Metrics) -> st.SearchStrategy[View]:
    pipelines = st.builds(
        Pipeline,
        provider=texts,
        project=texts,
        id=texts,
        name=texts,
        url=texts,
        labels=st.dictionaries(st.sampled_from(USER_LABELS), texts).map(lambda labels: tuple(labels.items())),
    )
    return st.builds(
        View,
        pipeline=pipelines,
        up=st.booleans(),
        has_run=st.none() | st.booleans(),
        latest=st.none() | runs,
        status_change=st.none() | floats,
        stage_changes=st.lists(
            st.tuples(texts, st.integers(0, 3), floats), max_size=2, unique_by=lambda change: change[:2]
        ).map(tuple),
        finished=st.none() | runs,
        series=st.none() | st.builds(Series, counts, st.none() | floats, st.none() | floats),
        active_starts=st.none() | st.lists(st.none() | floats, max_size=2).map(tuple),
        tally=st.none() | tallies,
        durations=st.none() | durations(metrics),
    )


def identity(view: View) -> tuple[str, ...]:
    return (view.pipeline.name, view.pipeline.id, view.pipeline.project, view.pipeline.provider)


World = tuple[Metrics, list[View], list[ProjectView]]


def worlds(metrics: Metrics) -> st.SearchStrategy[World]:
    """Views of pipelines and projects, no two alike."""
    project_views = st.builds(ProjectView, provider=texts, project=texts, durations=durations(metrics))
    return st.tuples(
        st.just(metrics),
        st.lists(views(metrics), max_size=3, unique_by=identity),
        st.lists(project_views, max_size=2, unique_by=lambda view: (view.project, view.provider)),
    )


# What prometheus-client would write


def client_family(
    family: Family[V],
    labels: tuple[str, ...],
    views: Sequence[V],
    identity_of: Callable[[V], tuple[str, ...]],
    *,
    created: bool,
) -> Metric:
    """The same family, as prometheus-client's own."""
    names = (*labels, *family.labels)
    made: Metric
    match family.type:
        case Type.GAUGE:
            made = GaugeMetricFamily(family.name, family.help, labels=names, unit=family.unit)
        case Type.COUNTER:
            made = CounterMetricFamily(family.name, family.help, labels=names, unit=family.unit)
        case Type.INFO:
            made = InfoMetricFamily(family.name.removesuffix("_info"), family.help, labels=labels)
        case Type.HISTOGRAM:
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


class Client:
    """A collector that gives prometheus-client what the catalogue has."""

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
        """All of it."""
        return self.made


def client_bodies(
    families: Catalogue, pipelines: Sequence[View], projects: Sequence[ProjectView], *, created: bool
) -> dict[Format, bytes]:
    """The page that prometheus-client would write, in both formats."""
    registry = CollectorRegistry()
    registry.register(Client(families, pipelines, projects, created=created))
    return {Format.TEXT: generate_text(registry), Format.OPENMETRICS: generate_openmetrics(registry)}


def series(body: bytes) -> list[bytes]:
    """What each sample line names."""
    return [line.rpartition(b" ")[0] for line in body.split(b"\n") if line and not line.startswith(b"#")]


def exemplars_of(families: Iterable[Metric]) -> list[ClientExemplar]:
    """All exemplars, in the order of the page."""
    return [sample.exemplar for family in families for sample in family.samples if sample.exemplar]


def moment(exemplar: ClientExemplar) -> float:
    """When it was, in epoch seconds; less than nothing if it does not tell."""
    return -1.0 if exemplar.timestamp is None else float(exemplar.timestamp)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(VARIANTS).flatmap(worlds))
def test_pages_are_those_of_prometheus_client(world):
    """Line by line, in both formats, whatever is in a view; both parse, and no series stands twice."""
    metrics, pipelines, projects = world
    families = catalogue(metrics, USER_LABELS)
    page = Exposition(families, created_series=metrics.created_series).render(pipelines, projects, NOTHING)
    expected = client_bodies(families, pipelines, projects, created=metrics.created_series)
    for form, body in page.bodies.items():
        assert body.plain.split(b"\n") == expected[form].split(b"\n")
        assert len(set(series(body.plain))) == len(series(body.plain))
    text = list(parse_text(page.bodies[Format.TEXT].plain.decode()))
    openmetrics = list(parse_openmetrics(page.bodies[Format.OPENMETRICS].plain.decode()))
    shown = [identity(view) for view in pipelines]
    for parsed in (text, openmetrics):
        samples = [
            sample for family in parsed for sample in family.samples if sample.name == "ci_pipeline_up"
        ]
        read = [tuple(sample.labels[name] for name in sorted(sample.labels)) for sample in samples]
        assert read == shown
    given = exemplars_of(Client(families, pipelines, projects, created=False).made)
    found = exemplars_of(openmetrics)
    assert [exemplar[:2] for exemplar in found] == [exemplar[:2] for exemplar in given]
    assert [*map(moment, found)] == pytest.approx([*map(moment, given)])
    assert exemplars_of(text) == []


# The page


def counting(
    *, labels: tuple[str, ...] = (), sample_labels: tuple[str, ...] | None = None
) -> tuple[Family[View], list[str]]:
    """A family that notes the views it is asked about."""
    asked: list[str] = []

    def samples(view: View) -> tuple[Sample, ...]:
        asked.append(view.pipeline.id)
        return (Sample(labels if sample_labels is None else sample_labels, 1.0),)

    return Family[View](name="a", type=Type.GAUGE, help="A.", labels=labels, samples=samples), asked


def exposition(*families: Family[View]) -> Exposition:
    return Exposition(Catalogue(pipelines=families, projects=()), created_series=False)


def test_a_view_that_has_not_changed_is_not_rendered_again():
    """Its bytes are kept for as long as the view is the same object."""
    family, asked = counting()
    exposed = exposition(family)
    one, two = (View(pipeline=pipeline(name), up=True) for name in "pq")
    first = exposed.render([one, two], (), NOTHING)
    assert asked == ["p", "q"]
    assert exposed.render([one, two], (), NOTHING) == first
    assert asked == ["p", "q"]
    exposed.render([msgspec.structs.replace(one, up=False), two], (), NOTHING)
    assert asked == ["p", "q", "p"]


def test_a_view_that_leaves_disappears():
    """And is rendered anew when it comes back."""
    family, asked = counting()
    exposed = exposition(family)
    one, two = (View(pipeline=pipeline(name), up=True) for name in "pq")
    exposed.render([one, two], (), NOTHING)
    left = exposed.render([two], (), NOTHING)
    for body in left.bodies.values():
        assert b'pipeline_id="q"' in body.plain
        assert b'pipeline_id="p"' not in body.plain
    exposed.render([one, two], (), NOTHING)
    assert asked == ["p", "q", "p"]


def test_families_are_grouped_however_many_views_there_are():
    """All lines of a family stand together, below its head, in the order of the views."""
    families = [msgspec.structs.replace(counting()[0], name=name) for name in ("b", "a")]
    page = exposition(*families).render(
        [View(pipeline=pipeline(name), up=True) for name in "qp"], (), NOTHING
    )
    lines = page.bodies[Format.TEXT].plain.decode().splitlines()
    assert [line.partition("{")[0] for line in lines] == [
        "# HELP b A.", "# TYPE b gauge", "b", "b", "# HELP a A.", "# TYPE a gauge", "a", "a",
    ]  # fmt: skip
    assert ['pipeline_id="q"' in line for line in lines[2:4]] == [True, False]


@pytest.mark.parametrize("values", [(), ("x", "y")])
def test_a_sample_with_the_wrong_number_of_labels_is_an_error(values):
    """It would be dropped or mixed up in silence."""
    family, _ = counting(labels=("branch",), sample_labels=values)
    with pytest.raises(ValueError, match=r"^a: .*branch"):
        exposition(family).render([View(pipeline=pipeline(), up=True)], (), NOTHING)


def test_a_label_that_falls_between_those_of_the_identity_is_an_error():
    """Labels are in alphabetical order; which it would break."""
    family, _ = counting(labels=("pipeline_kind",))
    with pytest.raises(ValueError, match=r"^a: .*pipeline_kind"):
        exposition(family)


def test_a_help_is_escaped_as_prometheus_client_does():
    """Each format has its own rule for quotes."""
    family = msgspec.structs.replace(counting()[0], help='A "quoted" \\ and\nbroken help.')
    families = Catalogue(pipelines=(family,), projects=())
    views = [View(pipeline=pipeline(), up=True)]
    page = Exposition(families, created_series=False).render(views, (), NOTHING)
    expected = client_bodies(families, views, (), created=False)
    assert {form: body.plain for form, body in page.bodies.items()} == expected


def bucket_lines(exemplar: Exemplar) -> dict[Format, str]:
    """The line of a bucket with an exemplar, in both formats."""
    family = Family[View](
        name="a",
        type=Type.HISTOGRAM,
        help="A.",
        bounds=(60.0,),
        samples=lambda _: (Sample((), Histogram((1, 0), 50.0, (exemplar, None))),),
    )
    page = exposition(family).render([View(pipeline=pipeline(), up=True)], (), NOTHING)
    lines = {form: body.plain.decode().splitlines() for form, body in page.bodies.items()}
    return {form: next(line for line in found if 'le="60.0"' in line) for form, found in lines.items()}


@pytest.mark.parametrize(
    ("exemplar", "shown"),
    [
        (Exemplar("ad6b7f", 50.0, 1_677_919_811.25), ' # {run_id="ad6b7f"} 50.0 1677919811.25'),
        (Exemplar("ad6b7f", 50.0, None), ' # {run_id="ad6b7f"} 50.0'),
        (Exemplar("é" * 122, 50.0, None), f' # {{run_id="{"é" * 122}"}} 50.0'),
        (Exemplar("é" * 123, 50.0, None), ""),
        (Exemplar('a"b', 50.0, None), ""),
        (Exemplar("a\\b", 50.0, None), ' # {run_id="a\\\\b"} 50.0'),
    ],
)
def test_an_exemplar_stands_in_openmetrics_if_it_can_be_read_there(exemplar, shown):
    """Names and values of 128 characters, no quote; and never in text, whose readers refuse the page for one."""
    lines = bucket_lines(exemplar)
    assert lines[Format.TEXT].endswith("} 1.0")
    assert lines[Format.OPENMETRICS] == lines[Format.TEXT] + shown


def test_the_compressed_page_is_one_member():
    """Some clients silently read only the first of several."""
    for body in (
        Exposition(catalogue(Metrics()), created_series=False).render(*seed(), NOTHING).bodies.values()
    ):
        member = zlib.decompressobj(wbits=31)
        assert member.decompress(body.gzip) == body.plain
        assert member.eof
        assert member.unused_data == b""
        assert gzip.decompress(body.gzip) == body.plain


def test_the_same_page_has_the_same_bytes():
    """No time of rendering is in it."""
    first, second = (
        Exposition(catalogue(Metrics()), created_series=False).render(*seed(), NOTHING) for _ in range(2)
    )
    assert first == second


def test_a_page_of_nothing_is_valid():
    """Before the first poll has ended, and where nothing is configured to be shown."""
    for families in (catalogue(Metrics()), Catalogue(pipelines=(), projects=())):
        page = Exposition(families, created_series=False).render((), (), NOTHING)
        assert series(page.bodies[Format.TEXT].plain) == []
        assert page.bodies[Format.OPENMETRICS].plain.endswith(b"# EOF\n")
        list(parse_text(page.bodies[Format.TEXT].plain.decode()))
        list(parse_openmetrics(page.bodies[Format.OPENMETRICS].plain.decode()))


def test_the_exporters_own_series_come_with_each_page():
    """First, and in the format of the page; the end is marked once."""
    registry = CollectorRegistry()
    Gauge("mine", "Mine.", registry=registry)
    page = exposition(counting()[0]).render([View(pipeline=pipeline(), up=True)], (), own_series(registry))
    for form, body in page.bodies.items():
        assert series(body.plain)[0] == b"mine"
        assert body.plain.count(b"# EOF") == (form is Format.OPENMETRICS)


# Golden pages


def seed() -> tuple[tuple[View, ...], tuple[ProjectView, ...]]:
    """The vendor's example of an answer, after a first run that worked: views of it and of its project."""
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
    board = Board(
        pipelines,
        Metrics(),
        Past(),
        provider="codearts",
        project="payments",
        interval=60.0,
        started=0.0,
    )
    first, second, third = board.ids
    board.answered([first, second], {first: before, second: waiting}, asked=1, now=start - 30)
    board.answered([first, second], {first: latest, second: waiting}, asked=2, now=end + 30)
    board.answered([third], {}, asked=2, now=end + 30)
    board.saved(board.ids)
    board.failed([second])
    project = board.project_view()
    assert project is not None
    return board.views(), (project,)


@pytest.mark.parametrize(
    ("form", "file"), [(Format.TEXT, "seed.txt"), (Format.OPENMETRICS, "seed.openmetrics.txt")]
)
def test_the_seed_gives_the_golden_page(form, file):
    """Names, labels, values and words, to the byte: what changes here changes somebody's dashboard."""
    exposed = Exposition(catalogue(Metrics(), ["team"]), created_series=False)
    body = exposed.render(*seed(), NOTHING).bodies[form]
    assert body.plain.decode() == (GOLDEN / file).read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say():
    """Its lint is what reviewers of exporters run."""
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
