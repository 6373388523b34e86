"""Views for tests of metrics pages: arbitrary ones, with any value from providers, users or clocks, and small ones."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hypothesis import strategies as st

from exporter.core.model import ENDS, RUN_STATUSES, Job, Pipeline, Run, Stage, Status, Step, Trigger
from exporter.exposition import Exposition, Format, Variant
from exporter.metrics.catalogue import Catalogue
from exporter.metrics.family import Family, MetricType, Sample
from exporter.settings.settings import Metrics
from exporter.tracking.ledger import Streak
from exporter.tracking.run_counters import DurationHistograms, Exemplar, Histogram, RunCounters
from exporter.tracking.views import ProjectView, View

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


# An exemplar may have 128 characters in names and values; `run_id` takes six of them.
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


def durations(metrics: Metrics) -> st.SearchStrategy[DurationHistograms]:
    return st.builds(
        DurationHistograms,
        runs_created=amounts,
        stages_created=amounts,
        runs=st.dictionaries(st.sampled_from(ENDS), histograms(metrics.run_duration_buckets), max_size=2),
        stages=st.dictionaries(
            st.tuples(texts, statuses), histograms(metrics.stage_duration_buckets), max_size=2
        ),
    )


run_counters = st.builds(
    RunCounters,
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
        streak=st.none() | st.builds(Streak, counts, st.none() | floats, st.none() | floats),
        active_starts=st.none() | st.lists(st.none() | floats, max_size=2).map(tuple),
        counters=st.none() | run_counters,
        durations=st.none() | durations(metrics),
    )


def identity(view: View) -> tuple[str, ...]:
    return (view.pipeline.name, view.pipeline.id, view.pipeline.project, view.pipeline.provider)


def key(view: View) -> tuple[str, ...]:
    return view.pipeline.provider, view.pipeline.project, view.pipeline.id


World = tuple[Metrics, list[View], list[ProjectView]]


def worlds(metrics: Metrics) -> st.SearchStrategy[World]:
    """Return a strategy for settings with distinct views of pipelines and projects."""
    project_views = st.builds(ProjectView, provider=texts, project=texts, durations=durations(metrics))
    return st.tuples(
        st.just(metrics),
        st.lists(views(metrics), max_size=5, unique_by=key),
        st.lists(project_views, max_size=2, unique_by=lambda view: (view.project, view.provider)),
    )


# Small ones


def pipeline(identity: str = "p") -> Pipeline:
    return Pipeline(provider="codearts", project="payments", id=identity, name="checkout")


def series(body: bytes) -> list[bytes]:
    """Return the series of a page: its sample lines without values."""
    return [line.rpartition(b" ")[0] for line in body.split(b"\n") if line and not line.startswith(b"#")]


def nothing() -> Callable[[Format], bytes]:
    """Return a renderer of the exporter's own series that renders none."""
    return lambda _: b""


def render(
    exposition: Exposition, pipelines: Sequence[View], projects: Sequence[ProjectView] = ()
) -> dict[Format, bytes]:
    """Return the page of these views in both formats."""
    exposition.update(pipelines, projects)
    return {form: b"".join(exposition.body(Variant(form, gzip=False)).chunks) for form in Format}


def counting(
    *, labels: tuple[str, ...] = (), sample_labels: tuple[str, ...] | None = None
) -> tuple[Family[View], list[str]]:
    """Return a family, and a list to which each rendering of the family appends the pipeline id."""
    rendered: list[str] = []

    def samples(view: View) -> tuple[Sample, ...]:
        rendered.append(view.pipeline.id)
        return (Sample(labels if sample_labels is None else sample_labels, 1.0),)

    return Family[View](name="a", type=MetricType.GAUGE, help="A.", labels=labels, samples=samples), rendered


class Pause:
    """The function that an exposition calls to pause; a test can replace its action for a while."""

    def __init__(self) -> None:
        self.action: Callable[[], None] | None = None

    def __call__(self) -> None:
        """Run the action of the test."""
        if self.action is not None:
            self.action()

    @contextmanager
    def replaced(self, action: Callable[[], None]) -> Iterator[None]:
        """Run this action at each pause."""
        self.action = action
        try:
            yield
        finally:
            self.action = None


def exposition(*families: Family[View], pause: Pause | None = None) -> Exposition:
    return Exposition(
        Catalogue(pipelines=families, projects=()), nothing, created_series=False, pause=pause or Pause()
    )
