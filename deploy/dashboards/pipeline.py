"""The dashboard Pipeline: what one pipeline did, and how long its stages take."""

from deploy.dashboards.model import (
    COLORS,
    ONE_PIPELINE,
    OPEN,
    PROJECTS,
    PROVIDERS,
    STATES,
    TEAMS,
    Column,
    Query,
    board,
    deploying_runs,
    durations,
    failed_runs,
    graph,
    number,
    rows,
    timeline,
    words,
)
from deploy.dashboards.queries import PIPELINE, both, by, coded, pipelines
from deploy.rules.model import IDENTITY

_LATEST = pipelines("ci_pipeline_latest_run_status") + " == 1"
_FINISHED = pipelines("ci_pipeline_latest_finished_run_status") + " == 1"
_END = pipelines("ci_pipeline_latest_finished_run_end_timestamp_seconds")
_DURATION = "pipeline:ci_pipeline_run_duration_seconds"

_SINCE = both(
    pipelines("ci_pipeline_broken_since_timestamp_seconds"),
    pipelines("pipeline:ci_pipeline_latest_finished_run_failed:held") + " == 1",
)
_NUMBERS = (
    number(
        "Latest run",
        "Status of the run that began last.",
        by("status", _LATEST),
        legend="{{status}}",
        named=True,
        none="no run",
    ),
    number(
        "Latest finished run",
        "How the run ended that finished last. It decides whether the pipeline is red.",
        by("status", _FINISHED),
        legend="{{status}}",
        named=True,
        none="no run",
    ),
    number(
        "Red for",
        "Time since the first failure after the last success.",
        f"time() - max(\n{_SINCE}\n)",
        unit="s",
        steps=((None, "red"),),
        none="not red",
    ),
    number(
        "Failures in a row",
        "Failed runs since the last success. Canceled and ignored runs neither count nor end the row.",
        f"max({pipelines('pipeline:ci_pipeline_consecutive_failures:held')})",
        steps=((None, "green"), (1, "orange"), (3, "red")),
        none="unknown",
    ),
    number(
        "Success ratio, 7 days",
        "Runs that succeeded, by those that succeeded or failed.",
        f"max({pipelines('pipeline:ci_pipeline_runs:success_ratio7d')})",
        unit="percentunit",
        decimals=0,
        none="no run",
    ),
    number(
        "p95 of 7 days",
        "95 % of the successful runs of a week took at most so long, pauses included.",
        f"max({pipelines(f'{_DURATION}:p95_7d')} > 0)",
        unit="s",
        none="no success",
    ),
)
_STAGES = by(
    "stage_sequence, stage_name", pipelines("ci_pipeline_latest_finished_run_failed_stage") + " == 1"
)


def _pages(metric: str, kind: str) -> str:
    found = by("url", pipelines(metric, 'url!=""'))
    return f'label_replace(\n{found}\n, "kind", "{kind}", "", "")'


_PAGES = "\nor\n".join(
    _pages(metric, kind)
    for metric, kind in (
        ("ci_pipeline_latest_finished_run_info", "latest finished run"),
        ("ci_pipeline_latest_run_info", "latest run"),
        ("pipeline:ci_pipeline_info:latest", "pipeline"),
    )
)
_DETAILS = (
    rows(
        "Failed stages",
        "The stages that failed in the latest finished run.",
        [_STAGES],
        [
            Column("stage_sequence", "Number", width=90),
            Column("stage_name", "Stage"),
            Column(0, "State", width=100, mappings=(words({"1": ("failed", "red")}),)),
        ],
        size=(8, 6),
        sort=("Number", False),
        none="none",
    ),
    rows(
        "Pages",
        "Pages of the cloud. The one of a run needs url in metrics.run_info_labels, that of the pipeline url_template.",
        [_PAGES],
        [
            Column("kind", "Page of"),
            Column("url", "Link", width=80, mappings=(OPEN,), link=("Open", "${__value.raw}")),
        ],
        size=(8, 6),
        none="no pages: set url_template",
    ),
    rows(
        "Stages of the latest run",
        "Status and duration of each stage of the run that began last.",
        [
            coded("ci_pipeline_latest_run_stage_status", "stage_sequence, stage_name", PIPELINE),
            by("stage_sequence, stage_name", pipelines("ci_pipeline_latest_run_stage_duration_seconds")),
        ],
        [
            Column("stage_sequence", "Number", width=90),
            Column("stage_name", "Stage"),
            Column(0, "State", width=100, mappings=(STATES,)),
            Column(1, "Duration", unit="s", width=110, decimals=1),
        ],
        size=(8, 6),
        sort=("Number", False),
        none="no run",
    ),
)
_HISTORY = (
    timeline(
        "Status over time",
        "Status of the latest run, and how the latest finished run ended.",
        [
            Query(coded("ci_pipeline_latest_run_status", "pipeline_id", PIPELINE), "latest run"),
            Query(
                coded("ci_pipeline_latest_finished_run_status", "pipeline_id", PIPELINE),
                "latest finished run",
            ),
        ],
        size=(24, 5),
    ),
    timeline(
        "Stages over time",
        "Status of each stage of the latest run.",
        [
            Query(
                coded("ci_pipeline_latest_run_stage_status", "stage_sequence, stage_name", PIPELINE),
                "{{stage_sequence}} {{stage_name}}",
            )
        ],
        size=(24, 7),
    ),
    graph(
        "Duration of finished runs",
        "Time from start to end of the latest finished run, and what 95 % of the successful runs of a week took at most.",
        [
            Query(f"max({pipelines('ci_pipeline_latest_finished_run_duration_seconds')})", "finished run"),
            Query(f"max({pipelines(f'{_DURATION}:p95_7d')} > 0)", "p95 of 7 days"),
        ],
        unit="s",
        colors={"finished run": "blue", "p95 of 7 days": "dark-orange"},
    ),
    graph(
        "Duration of stages",
        "Time from start to end of the finished stages of the latest run.",
        [
            Query(
                by("stage_name", pipelines("ci_pipeline_latest_run_stage_duration_seconds")), "{{stage_name}}"
            )
        ],
        unit="s",
    ),
    durations(
        "Durations of successful runs",
        "How many successful runs ended with which duration. With exemplars enabled in Prometheus, the points are runs; "
        "the run_id of a point leads to the run.",
        f'sum by (le) (increase(ci_pipeline_run_duration_seconds_bucket{{{PIPELINE}, status="success"}}[$__rate_interval]))',
        size=(12, 8),
    ),
)
_NUMBERED = f'count_values by ({IDENTITY}) ("run", max by ({IDENTITY}) ({pipelines("ci_pipeline_latest_finished_run_number")}))'
_RESULT = by(f"{IDENTITY}, status", _FINISHED)


def _of_runs(value: str) -> str:
    """Return the values of each run in the time range, by number and result."""
    return (
        "max by (run, status) (max_over_time((\n"
        f"  {by(IDENTITY, value)}\n"
        f"  * on ({IDENTITY}) group_right () {_NUMBERED}\n"
        f"  * on ({IDENTITY}) group_left (status) {_RESULT}\n"
        ")[$__range:1m]))"
    )


_RUNS = rows(
    "Last runs",
    "The runs that finished in the time range. Of several that ended between two polls, only the last one is here; all of "
    "them are counted.",
    [
        f"{_of_runs(_END)} * 1000",
        _of_runs(pipelines("ci_pipeline_latest_finished_run_duration_seconds")),
    ],
    [
        Column("run", "Run", width=100),
        Column(
            "status",
            "Result",
            width=110,
            mappings=(
                words(
                    {
                        status: (status, COLORS[status])
                        for status in ("success", "failed", "canceled", "ignored")
                    }
                ),
            ),
        ),
        Column(0, "Ended", unit="dateTimeAsIso"),
        Column(1, "Duration", unit="s", width=110, decimals=1),
    ],
    size=(12, 8),
    sort=("Ended", True),
    none="no run",
)
BOARD = board(
    "pipeline",
    "Pipeline",
    "What one pipeline does and did, which stage fails, and how long runs and stages take.",
    since="now-24h",
    variables=(PROVIDERS, PROJECTS, TEAMS, ONE_PIPELINE),
    annotations=(failed_runs(enabled=True), deploying_runs(enabled=True)),
    sections=(
        ("Now", (*_NUMBERS, *_DETAILS)),
        ("History", (*_HISTORY, _RUNS)),
    ),
)
