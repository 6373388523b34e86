"""The catalogue keeps the conventions, and `docs/metrics.md` says what is exposed: no less, and no more."""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from prometheus_client import Metric

from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.model import LABEL_LENGTH, RUN_STATUSES, Job, Pipeline, Run, Stage, Status, Step
from exporter.core.shard import Shard
from exporter.metrics.catalogue import PIPELINE_LABELS, PROJECT_LABELS, Family, MetricType, Sample, catalogue
from exporter.providers.registry import connect
from exporter.settings.settings import Metrics, RunInfoLabel
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.project import ProjectTracker
from exporter.tracking.saved import RetiredPipelines
from exporter.tracking.views import View
from tests.drivers.support import PIPELINE_ID, config, connected

DOCUMENT = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
NOON = 1_700_000_000.0
SCOPES = ("pipeline", "project", "off")
VARIANTS = [
    Metrics.model_validate(
        {
            "run_histogram": runs,
            "stage_histogram": stages,
            "run_status_series": series,
            "stage_status_series": series,
            "details": details,
        }
    )
    for runs, stages, series, details in itertools.product(
        SCOPES, SCOPES, ("all", "current"), ("none", "jobs", "steps")
    )
]


class PublishedView(msgspec.Struct, frozen=True):
    """What a reader of the page has to know of a family."""

    name: str
    type: str
    labels: tuple[str, ...]


def families(metrics: Metrics) -> Iterator[Family[Any]]:
    """All families of a configuration."""
    found = catalogue(metrics)
    yield from found.pipelines
    yield from found.projects


CATALOGUE: dict[str, Family[Any]] = {
    family.name: family for metrics in VARIANTS for family in families(metrics)
}


@pytest.fixture(scope="module")
def own():
    """The exporter's own families, after everything has happened to it that they tell."""
    telemetry = Telemetry(shard=Shard(0, 3))
    telemetry.state(up=True)
    telemetry.start("payments", "codearts", pipelines=1, interval=60, now=NOON)
    telemetry.polled("payments", "codearts", up=True, refresh=True, seconds=1, now=NOON)
    telemetry.watched("payments", pipelines=2, refused=1, unresolved=3)
    telemetry.credentials("payments", valid=True)
    telemetry.credentials_expire("payments", "auto", NOON)
    telemetry.skipped("payments")
    telemetry.requested("payments", "codearts", "Batch", "200", 0.1)
    telemetry.failed(
        "payments",
        "codearts",
        "Batch",
        RequestFailure(kind=FailureKind.TRANSIENT, code="500", error_code="X.1"),
    )
    telemetry.retried("payments")
    telemetry.throttled("payments")
    telemetry.unknown_words("codearts", [("status", "NEW")])
    telemetry.not_rendered("ci_pipeline_up", 1)
    found = list(telemetry.registry.collect())
    return [family for family in found if not family.name.startswith(("process_", "python_"))]


def shown(family: Metric) -> PublishedView:
    """A family of prometheus-client, as a reader sees it."""
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    labels = {name for sample in family.samples for name in sample.labels} - {"le"}
    return PublishedView(family.name + suffix, family.type, tuple(sorted(labels)))


def documented() -> Iterator[PublishedView]:
    """The rows of the document's tables of metrics."""
    for line in DOCUMENT.splitlines():
        row = re.fullmatch(
            r"\| `((?:ci_pipeline|pipeline_exporter)_\w+)` \| (\w+) \| ([^|]*) ?\| (.+) \|", line
        )
        if row:
            labels = re.findall(r"`([a-z_]+)`", row[3])
            yield PublishedView(row[1], row[2], tuple(sorted(labels)))


def section(title: str) -> str:
    """A part of the document."""
    return DOCUMENT.partition(f"# {title}\n")[2].partition("\n#")[0]


# The document


def test_every_family_has_its_row_and_every_row_its_family(own):
    """By name, type and labels, whatever the configuration."""
    exposed = {
        PublishedView(family.name, family.type.value, tuple(sorted(family.labels)))
        for metrics in VARIANTS
        for family in families(metrics)
    } | {shown(family) for family in own}
    rows = list(documented())
    assert len(set(rows)) == len(rows)
    assert set(rows) == exposed


def test_every_metric_that_the_document_speaks_of_is_exposed(own):
    """In prose and in examples too."""
    names = set(CATALOGUE) | {shown(family).name for family in own}
    names |= {f"{family.name}_bucket" for family in CATALOGUE.values() if family.type is MetricType.HISTOGRAM}
    spoken = set(re.findall(r"\b(?:ci_pipeline|pipeline_exporter)_\w*[a-z]\b", DOCUMENT))
    assert {name for name in spoken if name not in names} <= {"ci_pipeline_latest"}


def test_every_label_of_the_info_metrics_is_explained():
    """Those that can be asked for, and no others."""
    rows = re.findall(r"^\| `(\w+)` \|", section("Labels of the info metrics"), re.MULTILINE)
    assert rows == list(get_args(RunInfoLabel))
    asked = Metrics(run_info_labels=get_args(RunInfoLabel))
    info = [family for family in families(asked) if family.name.endswith("_run_info")]
    assert [family.labels for family in info] == [get_args(RunInfoLabel)] * 2


def of_codearts(word: str) -> Run | None:
    """A run of CodeArts and a stage of it, both in a state."""
    record = {
        "pipeline_id": PIPELINE_ID,
        "pipeline_run_id": "r",
        "status": word,
        "stage_status_list": [{"name": "s", "status": word}],
    }
    provider = connected(config().projects[0])[0]
    return provider.read_batch(msgspec.json.encode([record]), [PIPELINE_ID], NOON).runs[PIPELINE_ID]


def of_flow(word: str) -> Run | None:
    """The same of Flow."""
    record = {
        "pipelineId": 12,
        "pipelineRunId": 1,
        "status": word,
        "stages": [{"name": "s", "stageInfo": {"name": "s", "status": word}}],
    }
    settings = config(
        {
            "name": "mobile",
            "provider": "flow",
            "organization_id": "5ebbc0228123212b59000000",
            "auth": {"method": "yunxiao_token", "token": "t"},
        }
    )
    provider = connect(settings.projects[0], {})[0]
    return provider.read_detail(msgspec.json.encode(record), "12", NOON).run


def test_the_words_of_the_vendors_are_those_that_the_document_gives():
    """Row by row, as the providers read them."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (yes|no) \|$", section("Words"), re.MULTILINE)
    assert [row[0] for row in rows] == [status.value for status in Status]
    for status, codearts, flow, final in rows:
        assert Status(status).final is (final == "yes")
        for text, seen in ((codearts, of_codearts), (flow, of_flow)):
            for word in re.findall(r"\b[A-Z][A-Z_]+\b", text):
                run = seen(word)
                assert run is not None
                assert run.stages[0].status.value == status
                assert run.status.value == (status if status != "skipped" else "unknown")


def view(*runs: Run | None, metrics: Metrics | None = None) -> View:
    """What is shown of a pipeline that had some runs."""
    one = Pipeline(provider="codearts", project="payments", id="p", name="checkout")
    made = tracker(one, metrics or Metrics())
    for asked, run in enumerate(runs):
        made.answered(["p"], {"p": run} if run else {}, sent_at=asked, now=NOON)
    made.commit(made.ids)
    return made.views()[0]


def tracker(one: Pipeline, metrics: Metrics) -> ProjectTracker:
    """A board of one pipeline of which nothing is remembered."""
    return ProjectTracker(
        [one],
        metrics,
        RetiredPipelines(),
        provider="codearts",
        project="payments",
        interval=60.0,
        started=0.0,
    )


STEP = Step("mvn package", 3, "official_shell", Status.SUCCESS, 4.0)
JOB = Job("compile", 2, Status.SUCCESS, NOON + 1, 5.0, (STEP,))
SKIPPED = Stage("build", 0, Status.SKIPPED)


def run(number: int, status: Status = Status.SUCCESS, *stages: Stage) -> Run:
    end = NOON + 100 * number + 50 if status.final else None
    return Run(
        id=f"{number}", number=number, status=status, start=NOON + 100 * number, end=end, stages=stages
    )


def samples(
    seen: View, metrics: Metrics | None = None, user_labels: Iterable[str] = ()
) -> dict[str, tuple[Sample, ...]]:
    """The samples of a view, by the family's name."""
    return {
        family.name: tuple(family.samples(seen))
        for family in catalogue(metrics or Metrics(), user_labels).pipelines
    }


def lines(seen: View, metrics: Metrics | None = None) -> int:
    """How many series a view has, buckets and all."""
    found = catalogue(metrics or Metrics())
    counts = {
        family.name: len(tuple(family.samples(seen)))
        * (len(family.bounds) + 3 if family.type is MetricType.HISTOGRAM else 1)
        for family in found.pipelines
    }
    return sum(counts.values())


def test_the_document_knows_how_many_series_a_pipeline_has():
    """Those without stages, whatever goes on; each stage adds three."""
    ends = (run(1), run(2, Status.FAILED))
    seen = [view(None), view(run(1)), view(*ends), view(*ends, run(3)), view(*ends, run(3, Status.RUNNING))]
    assert "at most 75 series, and 3 for each stage" in DOCUMENT
    assert 70 <= max(map(lines, seen)) <= 75
    stages = [Stage(str(place), place, Status.SUCCESS, NOON, 5.0) for place in range(5)]
    assert lines(view(run(1, Status.SUCCESS, *stages))) - lines(view(run(1))) == 3 * 5
    assert lines(view(run(1), run(2, Status.CANCELED))) - lines(view(run(1), run(2))) == 16
    full = lines(seen[2])
    assert full - lines(seen[2], Metrics(run_histogram="project")) == 32
    assert full - lines(seen[2], Metrics(run_status_series="current")) == 9


def test_the_document_knows_what_details_cost():
    """Three series for a finished job, two for a finished step."""
    stage = Stage("build", 0, Status.SUCCESS, NOON, 5.0, jobs=(JOB, msgspec.structs.replace(JOB, sequence=1)))
    with_jobs, without = view(run(1, Status.SUCCESS, stage)), view(run(1, Status.SUCCESS, SKIPPED))
    none, jobs, steps = (
        lines(with_jobs, Metrics.model_validate({"details": details}))
        for details in ("none", "jobs", "steps")
    )
    assert (jobs - none, steps - jobs) == (3 * 2, 2 * 2)
    assert lines(without, Metrics(details="steps")) == lines(without)
    assert "`metrics.details: jobs` adds 3 for each job, `steps` another 2 for each step" in " ".join(
        DOCUMENT.split()
    )


# The conventions

TARGET_LABELS = {
    *("job", "instance", "stage", "environment", "env", "service", "namespace", "type", "team", "owner", "customer"),
    *("region", "zone", "availability_zone", "az", "cluster", "datacenter", "dc", "pod", "container", "endpoint"),
}  # fmt: skip
ABBREVIATIONS = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"}
OTHER_UNITS = {
    *("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks", "bits", "percent"),
    *("kilobytes", "megabytes", "gigabytes", "kibibytes", "mebibytes", "gibibytes"),
}
TYPE_WORDS = {"gauge", "counter", "histogram", "summary", "metric"}


def everything(own: Iterable[Metric]) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Name, type, labels and HELP of every family."""
    yield from ((one.name, one.type.value, one.labels, one.help) for one in CATALOGUE.values())
    for family in own:
        seen = shown(family)
        yield seen.name, seen.type, seen.labels, family.documentation


def test_names_keep_the_conventions(own):
    """Snake case, base units last, suffixes by type, nothing that a linter would name."""
    for name, kind, _, _ in everything(own):
        parts = name.split("_")
        assert re.fullmatch(r"[a-z]+(?:_[a-z]+)+", name), name
        assert name.endswith("_total") is (kind == "counter"), name
        assert kind != "info" or name.endswith("_info"), name
        assert not name.endswith(("_count", "_sum", "_bucket", "_created")), name
        assert not set(parts) & (ABBREVIATIONS | OTHER_UNITS | TYPE_WORDS | {"by"}), name
        assert "timestamp" not in parts or name.endswith("_timestamp_seconds"), name
        assert "seconds" not in parts or name.removesuffix("_total").endswith("_seconds"), name
        assert "duration" not in parts or name.endswith("_duration_seconds"), name


def test_labels_keep_the_conventions(own):
    """None is a target label's, which Prometheus would rename; none is reserved; no label stands twice."""
    for name, _, labels, _ in everything(own):
        assert not set(labels) & TARGET_LABELS, name
        assert not set(labels) & {"le", "quantile"}, name
        assert all(re.fullmatch(r"[a-z]+(?:_[a-z]+)*", label) for label in labels), name
        assert len(set(labels)) == len(labels), name
    for name, family in CATALOGUE.items():
        assert not set(family.labels) & {*PIPELINE_LABELS, *PROJECT_LABELS}, name


def test_a_users_labels_cannot_be_a_target_label():
    """They bear a prefix, whatever they are called."""
    (info,) = [one for one in catalogue(Metrics(), TARGET_LABELS).pipelines if one.type is MetricType.INFO]
    assert set(info.labels) - {"url"} == {f"label_{name}" for name in TARGET_LABELS}


def test_every_help_is_a_sentence(own):
    """On one line, ended by a period."""
    for name, _, _, text in everything(own):
        assert re.fullmatch(r"[A-Z0-9].*\.", text), name


def test_every_help_of_a_gauge_says_that_it_is_cached():
    """An exporter that polls by its own timer has to say so."""
    for name, family in CATALOGUE.items():
        assert family.type is not MetricType.GAUGE or "cached" in family.help.lower(), name


def test_every_help_is_the_same_in_every_configuration_that_exposes_the_same_thing():
    """A HELP that varies is stored again and again; only the scope of a histogram is told."""
    texts: dict[str, set[str]] = {}
    for metrics in VARIANTS:
        for family in families(metrics):
            texts.setdefault(family.name, set()).add(family.help)
    assert {name for name, told in texts.items() if len(told) > 1} == {
        "ci_pipeline_run_duration_seconds",
        "ci_pipeline_stage_duration_seconds",
    }


def test_families_of_seconds_have_the_unit():
    """And no others have one."""
    for name, family in CATALOGUE.items():
        assert family.unit == ("seconds" if name.removesuffix("_total").endswith("_seconds") else ""), name


def test_no_family_stands_twice_in_a_configuration():
    """Where a histogram is kept per project, it is not also kept per pipeline."""
    for metrics in VARIANTS:
        names = [family.name for family in families(metrics)]
        assert len(set(names)) == len(names)
        histograms = {name for name in names if CATALOGUE[name].type is MetricType.HISTOGRAM}
        scopes = (metrics.run_histogram, metrics.stage_histogram)
        assert len(histograms) == sum(scope != "off" for scope in scopes)


# Samples


def test_what_is_not_known_has_no_sample():
    """Before the first answer a pipeline shows what it is and that it is down."""
    nothing = View(pipeline=Pipeline("codearts", "payments", "p", "p"), up=False)
    found = {name: tuple(value) for name, value in samples(nothing).items() if value}
    assert set(found) == {"ci_pipeline_info", "ci_pipeline_up"}
    assert found["ci_pipeline_up"][0].value == 0


@pytest.mark.parametrize("status", RUN_STATUSES)
def test_only_a_finished_run_has_an_end(status):
    """The end that a run of unknown state is told with is not shown as one."""
    told = msgspec.structs.replace(run(1, status), end=NOON + 150)
    found = samples(View(pipeline=Pipeline("codearts", "payments", "p", "p"), up=True, latest=told))
    times = [
        sample.value
        for name in ("end_timestamp_seconds", "duration_seconds")
        for sample in found[f"ci_pipeline_latest_run_{name}"]
    ]
    assert times == ([NOON + 150, 50] if status.final else [])


def test_a_status_is_one_series_in_ten():
    """Exactly one of them is 1, for every state; or only that one, if so configured."""
    for status in RUN_STATUSES:
        seen = view(run(1, status))
        shown_all = samples(seen)["ci_pipeline_latest_run_status"]
        assert {sample.labels[0] for sample in shown_all} == {one.value for one in RUN_STATUSES}
        assert [sample.labels for sample in shown_all if sample.value] == [(status.value,)]
        (current,) = samples(seen, Metrics(run_status_series="current"))["ci_pipeline_latest_run_status"]
        assert (current.labels, current.value) == ((status.value,), 1.0)


def test_a_stages_status_is_one_series_or_all():
    """As configured; in both only one is 1."""
    seen = view(run(1, Status.SUCCESS, Stage("build", 4, Status.SKIPPED)))
    name = "ci_pipeline_latest_run_stage_status"
    (current,) = samples(seen)[name]
    assert current.labels == ("build", "4", "skipped")
    everyone = samples(seen, Metrics(stage_status_series="all"))[name]
    assert {sample.labels[2] for sample in everyone} == {status.value for status in Status}
    assert [sample.labels[2] for sample in everyone if sample.value] == ["skipped"]


def test_jobs_and_steps_tell_where_they_stand():
    """With the labels of all that they are part of; of the states only the present one."""
    waiting = Step("approve", 0, "", Status.WAITING)
    under_way = Job("deploy", 0, Status.RUNNING, steps=(waiting,))
    seen = view(run(1, Status.RUNNING, Stage("build", 4, Status.RUNNING, jobs=(JOB, under_way))))
    found = samples(seen, Metrics(details="steps", stage_status_series="all"))
    compile_job, deploy = ("build", "4", "compile", "2"), ("build", "4", "deploy", "0")
    prefix = "ci_pipeline_latest_run_job"
    assert found[f"{prefix}_status"] == (
        Sample((*compile_job, "success"), 1.0),
        Sample((*deploy, "running"), 1.0),
    )
    assert found[f"{prefix}_start_timestamp_seconds"] == (Sample(compile_job, NOON + 1),)
    assert found[f"{prefix}_duration_seconds"] == (Sample(compile_job, 5.0),)
    mvn = (*compile_job, "mvn package", "3", "official_shell")
    prefix = "ci_pipeline_latest_run_step"
    assert found[f"{prefix}_status"] == (
        Sample((*mvn, "success"), 1.0),
        Sample((*deploy, "approve", "0", "", "waiting"), 1.0),
    )
    assert found[f"{prefix}_duration_seconds"] == (Sample(mvn, 4.0),)


@pytest.mark.parametrize(
    ("details", "shown"), [("none", set()), ("jobs", {"job"}), ("steps", {"job", "step"})]
)
def test_details_are_exposed_as_far_as_they_are_asked_for(details, shown):
    """Steps come with their jobs."""
    names = {family.name for family in families(Metrics(details=details))}
    assert {
        part
        for part in ("job", "step")
        if any(name.startswith(f"ci_pipeline_latest_run_{part}_") for name in names)
    } == shown


EVERYTHING = [metrics.model_copy(update={"run_info_labels": get_args(RunInfoLabel)}) for metrics in VARIANTS]


def nulls(fields: Iterable[str]) -> dict[str, None]:
    """A record that names its fields and tells nothing."""
    return dict.fromkeys(fields)


def barely_told() -> View:
    """What is shown of a pipeline of which the provider tells as little as can be read."""
    provider = connected(config().projects[0])[0]
    step = nulls(("name", "task", "status", "sequence", "start_time", "end_time"))
    job = {**step, "steps": [step]}
    stage = {**step, "jobs": [job]}
    more = ("run_number", "status", "trigger_type", "start_time", "end_time", "build_params", "executor_id")
    bare = {"pipeline_id": PIPELINE_ID, "pipeline_run_id": "r", **nulls(more)}
    record = {
        **bare,
        "id": "r",
        "name": None,
        "stage_status_list": [stage],
        "stages": [stage],
        "sources": None,
    }
    latest = provider.read_batch(msgspec.json.encode([record]), [PIPELINE_ID], NOON).runs[PIPELINE_ID]
    detail = provider.read_detail(msgspec.json.encode(record), PIPELINE_ID, NOON).run
    assert detail is not None
    one = Pipeline(provider="codearts", project="payments", id=PIPELINE_ID, name=PIPELINE_ID)
    made = tracker(one, Metrics(details="steps"))
    made.answered([one.id], {one.id: latest}, sent_at=1, now=NOON)
    made.detailed(one.id, latest, detail)
    made.commit(made.ids)
    return made.views()[0]


def test_no_label_is_without_a_value():
    """What is not told is empty: one `None` would fail the whole page. And there are as many values as names."""
    stage = Stage("build", 0, Status.SUCCESS, NOON, 5.0, jobs=(JOB,))
    held = Stage("approve", 1, Status.WAITING)
    nothing = View(pipeline=Pipeline("codearts", "payments", "p", "p"), up=False)
    kept = Metrics(stage_histogram="pipeline")
    seen = [nothing, view(None), view(run(1), run(2, Status.FAILED, stage), metrics=kept), barely_told()]
    seen += [view(run(1), run(2, Status.RUNNING, stage, held), run(3, Status.RUNNING, stage, held))]
    found = set()
    for metrics in EVERYTHING:
        for family in catalogue(metrics, ["team"]).pipelines:
            for sample in itertools.chain.from_iterable(family.samples(one) for one in seen):
                found.add(family.name)
                assert len(sample.labels) == len(family.labels), family.name
                assert all(type(value) is str for value in sample.labels), family.name
    assert found == {family.name for metrics in EVERYTHING for family in catalogue(metrics).pipelines}


def test_what_is_barely_told_has_its_jobs_and_steps():
    """In an unknown state, under empty names."""
    found = samples(barely_told(), Metrics(details="steps"))
    (status,) = found["ci_pipeline_latest_run_step_status"]
    assert status.labels == ("", "0", "", "0", "", "0", "", "unknown")
    assert found["ci_pipeline_latest_run_step_duration_seconds"] == ()


def test_info_labels_are_those_asked_for_in_their_order():
    """Of the run that the family is about."""
    seen = view(msgspec.structs.replace(run(1), branch="main", commit="c0ffee"), run(2, Status.RUNNING))
    metrics = Metrics(run_info_labels=("commit", "run_id", "branch"))
    (latest,) = samples(seen, metrics)["ci_pipeline_latest_run_info"]
    (finished,) = samples(seen, metrics)["ci_pipeline_latest_finished_run_info"]
    assert latest.labels == ("", "2", "")
    assert finished.labels == ("c0ffee", "1", "main")


def test_a_pipelines_own_labels_are_on_its_info():
    """The same names on every series, empty where it has none, cut where they are too long."""
    labelled = Pipeline("codearts", "payments", "p", "p", "https://x", (("team", "t" * 999),))
    seen = View(pipeline=labelled, up=True)
    (info,) = samples(seen, user_labels=["team", "tier"])["ci_pipeline_info"]
    assert info.labels == ("https://x", "t" * LABEL_LENGTH, "")


def test_counters_and_histograms_are_there_from_the_first_sight():
    """At zero, so that `increase` sees the first event."""
    found = samples(view(None))
    for name in ("ci_pipeline_runs_total", "ci_pipeline_run_retries_total"):
        assert {sample.labels[0]: sample.value for sample in found[name]} == dict.fromkeys(
            ("success", "failed", "canceled", "ignored"), 0
        )
    for name, family in CATALOGUE.items():
        if family.type is MetricType.COUNTER:
            assert all(sample.value == 0 and sample.created == NOON for sample in found[name]), name
            assert found[name], name
    assert [sample.labels for sample in found["ci_pipeline_run_duration_seconds"]] == [
        ("success",),
        ("failed",),
    ]
