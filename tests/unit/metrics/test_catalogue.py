"""Test that the catalogue follows the naming conventions and agrees with `docs/metrics.md`."""

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
from exporter.metrics.catalogue import catalogue
from exporter.metrics.family import PIPELINE_LABELS, PROJECT_LABELS, Family, MetricType, Sample
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


class DocumentedFamily(msgspec.Struct, frozen=True):
    """Name, type and labels of a family."""

    name: str
    type: str
    labels: tuple[str, ...]


def families(metrics: Metrics) -> Iterator[Family[Any]]:
    found = catalogue(metrics)
    yield from found.pipelines
    yield from found.projects


CATALOGUE: dict[str, Family[Any]] = {
    family.name: family for metrics in VARIANTS for family in families(metrics)
}


@pytest.fixture(scope="module")
def own():
    """The exporter's own families, with a series in each of them."""
    telemetry = Telemetry(shard=Shard(0, 3))
    telemetry.set_state_up(up=True)
    telemetry.add_project("payments", "codearts", pipelines=1, interval=60)
    telemetry.poll_ended("payments", "codearts", up=True, refresh=True, seconds=1, now=NOON)
    telemetry.set_pipelines("payments", "codearts", pipelines=2, refused=1, unresolved=3)
    telemetry.set_credentials_valid("payments", "codearts", valid=True)
    telemetry.set_credentials_expiry("payments", "codearts", "auto", NOON)
    telemetry.poll_skipped("payments", "codearts")
    telemetry.files.config_in_force("0123", NOON)
    telemetry.files.set_web_config_reloaded(succeeded=True)
    telemetry.set_project_down("payments", "codearts", NOON, operation="Batch", code="401", error_code="X.2")
    telemetry.set_listed("payments", "codearts", not_listed=1, selected=(2, 3))
    telemetry.request_ended("payments", "codearts", "Batch", "200", 0.1)
    telemetry.request_failed(
        "payments",
        "codearts",
        "Batch",
        RequestFailure(kind=FailureKind.TRANSIENT, code="500", error_code="X.1"),
    )
    telemetry.request_retried("payments", "codearts")
    telemetry.request_throttled("payments", "codearts")
    telemetry.unknown_values("codearts", [("status", "NEW")])
    telemetry.render_failed("ci_pipeline_up", 1)
    found = list(telemetry.registry.collect())
    return [family for family in found if not family.name.startswith(("process_", "python_"))]


def exposed_family(family: Metric) -> DocumentedFamily:
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    labels = {name for sample in family.samples for name in sample.labels} - {"le"}
    return DocumentedFamily(family.name + suffix, family.type, tuple(sorted(labels)))


def documented_families() -> Iterator[DocumentedFamily]:
    """Return the rows of the metric tables in the document."""
    for line in DOCUMENT.splitlines():
        row = re.fullmatch(
            r"\| `((?:ci_pipeline|pipeline_exporter)_\w+)` \| (\w+) \| ([^|]*) ?\| (.+) \|", line
        )
        if row:
            labels = re.findall(r"`([a-z_]+)`", row[3])
            yield DocumentedFamily(row[1], row[2], tuple(sorted(labels)))


def section(title: str) -> str:
    """Return the text below a heading of the document."""
    return DOCUMENT.partition(f"# {title}\n")[2].partition("\n#")[0]


# Agreement with the document


def test_documented_families_are_those_exposed(own):
    exposed = {
        DocumentedFamily(family.name, family.type.value, tuple(sorted(family.labels)))
        for metrics in VARIANTS
        for family in families(metrics)
    } | {exposed_family(family) for family in own}
    rows = list(documented_families())
    assert len(set(rows)) == len(rows)
    assert set(rows) == exposed


def test_every_metric_named_in_the_document_is_exposed(own):
    names = set(CATALOGUE) | {exposed_family(family).name for family in own}
    names |= {f"{family.name}_bucket" for family in CATALOGUE.values() if family.type is MetricType.HISTOGRAM}
    mentioned = set(re.findall(r"\b(?:ci_pipeline|pipeline_exporter)_\w*[a-z]\b", DOCUMENT))
    assert {name for name in mentioned if name not in names} <= {"ci_pipeline_latest"}


def test_every_label_of_the_info_metrics_is_documented():
    rows = re.findall(r"^\| `(\w+)` \|", section("Labels of the info metrics"), re.MULTILINE)
    assert rows == list(get_args(RunInfoLabel))
    metrics = Metrics(run_info_labels=get_args(RunInfoLabel))
    info = [family for family in families(metrics) if family.name.endswith("_run_info")]
    assert [family.labels for family in info] == [get_args(RunInfoLabel)] * 2


def codearts_run(status: str) -> Run | None:
    """Return a CodeArts run with one stage, both with this vendor status."""
    record = {
        "pipeline_id": PIPELINE_ID,
        "pipeline_run_id": "r",
        "status": status,
        "stage_status_list": [{"name": "s", "status": status}],
    }
    provider = connected(config().projects[0])[0]
    return provider.read_batch(msgspec.json.encode([record]), [PIPELINE_ID], NOON).runs[PIPELINE_ID]


def flow_run(status: str) -> Run | None:
    """Return a Flow run with one stage, both with this vendor status."""
    record = {
        "pipelineId": 12,
        "pipelineRunId": 1,
        "status": status,
        "stages": [{"name": "s", "stageInfo": {"name": "s", "status": status}}],
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


def test_documented_vendor_statuses_translate_as_documented():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (yes|no) \|$", section("Statuses"), re.MULTILINE)
    assert [row[0] for row in rows] == [status.value for status in Status]
    for status, codearts, flow, final in rows:
        assert Status(status).final is (final == "yes")
        for text, run_of in ((codearts, codearts_run), (flow, flow_run)):
            for word in re.findall(r"\b[A-Z][A-Z_]+\b", text):
                run = run_of(word)
                assert run is not None
                assert run.stages[0].status.value == status
                assert run.status.value == (status if status != "skipped" else "unknown")


def view(*runs: Run | None, metrics: Metrics | None = None) -> View:
    """Return the view of a pipeline after responses with these latest runs."""
    one = Pipeline(provider="codearts", project="payments", id="p", name="checkout")
    made = tracker(one, metrics or Metrics())
    for sent_at, run in enumerate(runs):
        made.answered(["p"], {"p": run} if run else {}, sent_at=sent_at, now=NOON)
    made.commit(made.ids)
    return made.views()[0]


def tracker(one: Pipeline, metrics: Metrics) -> ProjectTracker:
    """Return a tracker of one pipeline without stored state."""
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
    """Return the samples of a view, by family name."""
    return {
        family.name: tuple(family.samples(seen))
        for family in catalogue(metrics or Metrics(), user_labels).pipelines
    }


def series_count(seen: View, metrics: Metrics | None = None) -> int:
    """Return the number of series of a view, buckets included."""
    found = catalogue(metrics or Metrics())
    counts = {
        family.name: len(tuple(family.samples(seen)))
        * (len(family.bounds) + 3 if family.type is MetricType.HISTOGRAM else 1)
        for family in found.pipelines
    }
    return sum(counts.values())


def test_documented_number_of_series_of_a_pipeline_is_right():
    ends = (run(1), run(2, Status.FAILED))
    seen = [view(None), view(run(1)), view(*ends), view(*ends, run(3)), view(*ends, run(3, Status.RUNNING))]
    assert "at most 75 series, and 3 for each stage" in DOCUMENT
    assert 70 <= max(map(series_count, seen)) <= 75
    stages = [Stage(str(place), place, Status.SUCCESS, NOON, 5.0) for place in range(5)]
    assert series_count(view(run(1, Status.SUCCESS, *stages))) - series_count(view(run(1))) == 3 * 5
    assert series_count(view(run(1), run(2, Status.CANCELED))) - series_count(view(run(1), run(2))) == 16
    full = series_count(seen[2])
    assert full - series_count(seen[2], Metrics(run_histogram="project")) == 32
    assert full - series_count(seen[2], Metrics(run_status_series="current")) == 9


def test_documented_number_of_series_of_details_is_right():
    stage = Stage("build", 0, Status.SUCCESS, NOON, 5.0, jobs=(JOB, msgspec.structs.replace(JOB, sequence=1)))
    with_jobs, without = view(run(1, Status.SUCCESS, stage)), view(run(1, Status.SUCCESS, SKIPPED))
    none, jobs, steps = (
        series_count(with_jobs, Metrics.model_validate({"details": details}))
        for details in ("none", "jobs", "steps")
    )
    assert (jobs - none, steps - jobs) == (3 * 2, 2 * 2)
    assert series_count(without, Metrics(details="steps")) == series_count(without)
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


def all_families(own: Iterable[Metric]) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Return name, type, labels and HELP of every family."""
    yield from ((one.name, one.type.value, one.labels, one.help) for one in CATALOGUE.values())
    for family in own:
        seen = exposed_family(family)
        yield seen.name, seen.type, seen.labels, family.documentation


def test_metric_names_follow_the_conventions(own):
    for name, kind, _, _ in all_families(own):
        parts = name.split("_")
        assert re.fullmatch(r"[a-z]+(?:_[a-z]+)+", name), name
        assert name.endswith("_total") is (kind == "counter"), name
        assert kind != "info" or name.endswith("_info"), name
        assert not name.endswith(("_count", "_sum", "_bucket", "_created")), name
        assert not set(parts) & (ABBREVIATIONS | OTHER_UNITS | TYPE_WORDS | {"by"}), name
        assert "timestamp" not in parts or name.endswith("_timestamp_seconds"), name
        assert "seconds" not in parts or name.removesuffix("_total").endswith("_seconds"), name
        assert "duration" not in parts or name.endswith("_duration_seconds"), name


def test_label_names_follow_the_conventions(own):
    for name, _, labels, _ in all_families(own):
        assert not set(labels) & TARGET_LABELS, name
        assert not set(labels) & {"le", "quantile"}, name
        assert all(re.fullmatch(r"[a-z]+(?:_[a-z]+)*", label) for label in labels), name
        assert len(set(labels)) == len(labels), name
    for name, family in CATALOGUE.items():
        assert not set(family.labels) & {*PIPELINE_LABELS, *PROJECT_LABELS}, name


def test_configured_labels_get_a_prefix():
    (info,) = [one for one in catalogue(Metrics(), TARGET_LABELS).pipelines if one.type is MetricType.INFO]
    assert set(info.labels) - {"url"} == {f"label_{name}" for name in TARGET_LABELS}


def test_every_help_is_one_short_sentence(own):
    for name, _, _, text in all_families(own):
        assert re.fullmatch(r"[A-Z0-9].*[^.]\.", text), name
        assert ". " not in text, name
        assert len(text.split()) <= 15, name


def test_no_help_mentions_caching_or_vendor_fields(own):
    for name, _, _, text in all_families(own):
        assert not re.search(r"cached|absent|codearts|flow|[a-z]_[a-z]+(?<!max_series)\b", text.lower()), name


def test_help_is_the_same_in_every_configuration():
    """Prometheus would store a HELP text again at each change."""
    texts: dict[str, set[str]] = {}
    for metrics in VARIANTS:
        for family in families(metrics):
            texts.setdefault(family.name, set()).add(family.help)
    assert {name for name, variants in texts.items() if len(variants) > 1} == set()


def test_families_in_seconds_have_the_unit():
    for name, family in CATALOGUE.items():
        assert family.unit == ("seconds" if name.removesuffix("_total").endswith("_seconds") else ""), name


def test_no_configuration_has_a_family_twice():
    for metrics in VARIANTS:
        names = [family.name for family in families(metrics)]
        assert len(set(names)) == len(names)
        histograms = {name for name in names if CATALOGUE[name].type is MetricType.HISTOGRAM}
        scopes = (metrics.run_histogram, metrics.stage_histogram)
        assert len(histograms) == sum(scope != "off" for scope in scopes)


# Samples


def test_unknown_values_have_no_sample():
    nothing = View(pipeline=Pipeline("codearts", "payments", "p", "p"), up=False)
    found = {name: tuple(value) for name, value in samples(nothing).items() if value}
    assert set(found) == {"ci_pipeline_info", "ci_pipeline_up"}
    assert found["ci_pipeline_up"][0].value == 0


@pytest.mark.parametrize("status", RUN_STATUSES)
def test_only_a_finished_run_has_end_and_duration(status):
    latest = msgspec.structs.replace(run(1, status), end=NOON + 150)
    found = samples(View(pipeline=Pipeline("codearts", "payments", "p", "p"), up=True, latest=latest))
    times = [
        sample.value
        for name in ("end_timestamp_seconds", "duration_seconds")
        for sample in found[f"ci_pipeline_latest_run_{name}"]
    ]
    assert times == ([NOON + 150, 50] if status.final else [])


def test_run_status_has_ten_series_or_only_the_current_one():
    for status in RUN_STATUSES:
        seen = view(run(1, status))
        shown_all = samples(seen)["ci_pipeline_latest_run_status"]
        assert {sample.labels[0] for sample in shown_all} == {status.value for status in RUN_STATUSES}
        assert [sample.labels for sample in shown_all if sample.value] == [(status.value,)]
        (current,) = samples(seen, Metrics(run_status_series="current"))["ci_pipeline_latest_run_status"]
        assert (current.labels, current.value) == ((status.value,), 1.0)


def test_stage_status_has_one_series_or_all():
    seen = view(run(1, Status.SUCCESS, Stage("build", 4, Status.SKIPPED)))
    name = "ci_pipeline_latest_run_stage_status"
    (current,) = samples(seen)[name]
    assert current.labels == ("build", "4", "skipped")
    every_status = samples(seen, Metrics(stage_status_series="all"))[name]
    assert {sample.labels[2] for sample in every_status} == {status.value for status in Status}
    assert [sample.labels[2] for sample in every_status if sample.value] == ["skipped"]


def test_jobs_and_steps_have_the_labels_of_their_parents():
    waiting = Step("approve", 0, "", Status.WAITING)
    deploying = Job("deploy", 0, Status.RUNNING, steps=(waiting,))
    seen = view(run(1, Status.RUNNING, Stage("build", 4, Status.RUNNING, jobs=(JOB, deploying))))
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
    ("details", "seen_by_reader"), [("none", set()), ("jobs", {"job"}), ("steps", {"job", "step"})]
)
def test_details_setting_enables_jobs_and_steps(details, seen_by_reader):
    names = {family.name for family in families(Metrics(details=details))}
    assert {
        part
        for part in ("job", "step")
        if any(name.startswith(f"ci_pipeline_latest_run_{part}_") for name in names)
    } == seen_by_reader


EVERYTHING = [metrics.model_copy(update={"run_info_labels": get_args(RunInfoLabel)}) for metrics in VARIANTS]


def nulls(fields: Iterable[str]) -> dict[str, None]:
    """Return a record in which these fields are null."""
    return dict.fromkeys(fields)


def minimal_view() -> View:
    """Return the view of a pipeline whose records have as few values as can be read."""
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


def test_every_label_has_a_string_value():
    """A single `None` would make the whole page invalid."""
    stage = Stage("build", 0, Status.SUCCESS, NOON, 5.0, jobs=(JOB,))
    held = Stage("approve", 1, Status.WAITING)
    broken = Stage("test", 2, Status.FAILED, jobs=(Job("unit", 0, Status.FAILED),))
    nothing = View(pipeline=Pipeline("codearts", "payments", "p", "p"), up=False)
    per_pipeline = Metrics(stage_histogram="pipeline")
    seen = [
        nothing,
        view(None),
        view(run(1), run(2, Status.FAILED, stage, broken), metrics=per_pipeline),
        minimal_view(),
    ]
    seen += [view(run(1), run(2, Status.RUNNING, stage, held), run(3, Status.RUNNING, stage, held))]
    found = set()
    for metrics in EVERYTHING:
        for family in catalogue(metrics, ["team"]).pipelines:
            for sample in itertools.chain.from_iterable(family.samples(one) for one in seen):
                found.add(family.name)
                assert len(sample.labels) == len(family.labels), family.name
                assert all(type(value) is str for value in sample.labels), family.name
    assert found == {family.name for metrics in EVERYTHING for family in catalogue(metrics).pipelines}


def test_minimal_records_have_jobs_and_steps_with_unknown_status():
    found = samples(minimal_view(), Metrics(details="steps"))
    (status,) = found["ci_pipeline_latest_run_step_status"]
    assert status.labels == ("", "0", "", "0", "", "0", "", "unknown")
    assert found["ci_pipeline_latest_run_step_duration_seconds"] == ()


def test_run_info_has_the_configured_labels_in_their_order():
    seen = view(msgspec.structs.replace(run(1), branch="main", commit="c0ffee"), run(2, Status.RUNNING))
    metrics = Metrics(run_info_labels=("commit", "run_id", "branch"))
    (latest,) = samples(seen, metrics)["ci_pipeline_latest_run_info"]
    (finished,) = samples(seen, metrics)["ci_pipeline_latest_finished_run_info"]
    assert latest.labels == ("", "2", "")
    assert finished.labels == ("c0ffee", "1", "main")


def test_pipeline_info_has_configured_labels_empty_or_cut():
    labelled = Pipeline("codearts", "payments", "p", "p", "https://x", (("team", "t" * 999),))
    seen = View(pipeline=labelled, up=True)
    (info,) = samples(seen, user_labels=["team", "tier"])["ci_pipeline_info"]
    assert info.labels == ("https://x", "t" * LABEL_LENGTH, "")


def test_counters_and_histograms_start_at_zero_at_first_sight():
    """A series that appears with its first event is lost to `increase`."""
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
