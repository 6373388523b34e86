"""The dashboard Overview: what is red, since when, where and why, and how much runs."""

from deploy.dashboards.model import (
    COLORS,
    OPEN,
    PIPELINES,
    PROJECTS,
    PROVIDERS,
    TEAMS,
    Column,
    Query,
    board,
    deploying_runs,
    failed_runs,
    graph,
    number,
    ranking,
    rows,
    words,
)
from deploy.dashboards.queries import NAMES, both, by, first, of_team, page, pipelines, projects, ratio
from deploy.rules.model import IDENTITY

_FAILED = pipelines("pipeline:ci_pipeline_latest_finished_run_failed:held")
_RED = of_team(f"{_FAILED} == 1")
_STATE = f"""\
{by(NAMES, _RED)}
+ on ({NAMES}) group by ({NAMES}) (pipeline:ci_pipeline_up:blind)
or
{by(NAMES, _RED)}"""
"""1 for each red pipeline, or 2 while the exporter cannot see it."""
_OLDEST = pipelines("pipeline:ci_pipeline_oldest_active_run_start_timestamp_seconds:held")
_LONGEST = f"topk(10, time() - (\n{of_team(f'{_OLDEST} > 0')}\n))"
_CHANGE = pipelines("pipeline:ci_pipeline_latest_run_status_change_timestamp_seconds:held")
_STAGE_CHANGE = pipelines("pipeline:ci_pipeline_latest_run_stage_status_change_timestamp_seconds:held")
_WAITING = of_team(
    f"{_STAGE_CHANGE} > 0\n"
    f"or on ({IDENTITY})\n"
    f"{both(_CHANGE, pipelines('pipeline:ci_pipeline_latest_run_waiting:held') + ' == 1')}"
)
_ACTIVE = f"max without (instance, pod) ({pipelines('ci_pipeline_runs_active')})"
_FINISHED = 'status=~"success|failed"'
_BLIND = f"count(pipeline_exporter_project_up{{{projects('')[1:-1]}}} == 0) or vector(0)"
_PIPELINE_PAGE = (
    "Dashboard of the pipeline",
    "/d/pipeline-exporter-pipeline?var-project=${__data.fields.Project}&var-pipeline=${__value.raw}&${__url_time_range}",
)
_NAME = Column("pipeline", "Pipeline", link=_PIPELINE_PAGE)
_PAGE = Column("url", "Page", width=70, mappings=(OPEN,), link=("Open", "${__value.raw}"))


def _runs(window: str, status: str) -> str:
    return f"sum(\n{of_team(pipelines(f'pipeline:ci_pipeline_runs:increase{window}', status))}\n)"


_NUMBERS = (
    number(
        "Red pipelines",
        "Pipelines whose latest finished run failed. A run in progress does not change that.",
        f"count(\n{_RED}\n) or vector(0)",
        steps=((None, "green"), (1, "red")),
    ),
    number(
        "Success ratio, 24 h",
        "Runs that succeeded, by those that succeeded or failed. Canceled and ignored runs do not count.",
        ratio(_runs("1d", 'status="success"'), _runs("1d", _FINISHED)),
        unit="percentunit",
        decimals=1,
        none="no run",
    ),
    number(
        "Runs, 24 h",
        "Runs that ended in the past 24 hours. The value is exact 25 hours after Prometheus loaded the rules.",
        _runs("1d", 'status!=""'),
        unit="none",
        decimals=0,
        none="0",
    ),
    number(
        "Runs in progress",
        "Running, pending and waiting runs, also those that newer runs hide.",
        f"sum(\n{of_team(_ACTIVE)}\n)",
        none="0",
    ),
    number(
        "Waiting for a person",
        "Pipelines whose latest run, or one of its stages, is waiting, paused or suspended.",
        f"count(\n{_WAITING}\n) or vector(0)",
        steps=((None, "text"), (1, "orange")),
    ),
    number(
        "Projects not seen",
        "Projects that the exporter cannot refresh. Their values on this dashboard are old: see the dashboard Exporter.",
        _BLIND,
        steps=((None, "green"), (1, "red")),
    ),
)
_RED_NOW = rows(
    "Red now",
    "The latest finished run of these pipelines failed. The newest comes first. If several stages failed, one is shown; the "
    "dashboard of the pipeline has all. Without a page, set url in metrics.run_info_labels or url_template.",
    [
        _STATE,
        by(NAMES, both(pipelines("ci_pipeline_broken_since_timestamp_seconds"), _RED)) + " * 1000",
        "time() - " + by(NAMES, both(pipelines("ci_pipeline_broken_since_timestamp_seconds"), _RED)),
        by(NAMES, both(pipelines("pipeline:ci_pipeline_consecutive_failures:held"), _RED)),
        first("stage_name", both(pipelines("ci_pipeline_latest_finished_run_failed_stage") + " == 1", _RED)),
        first("branch", both(pipelines("ci_pipeline_latest_finished_run_info"), _RED)),
        by(NAMES, both(pipelines("ci_pipeline_latest_finished_run_number"), _RED)),
        page(_RED, "latest_finished_run"),
    ],
    [
        _NAME,
        Column("project", "Project"),
        Column(
            0,
            "State",
            width=150,
            mappings=(words({"1": ("failed", "red"), "2": ("failed, not seen now", "orange")}),),
        ),
        Column(1, "Red since", unit="dateTimeAsIso", width=170),
        Column(2, "Red for", unit="s", width=110, decimals=1),
        Column(3, "Failures in a row", width=130, steps=((None, "text"), (3, "red"))),
        Column("stage_name", "Failed stage"),
        Column("branch", "Branch"),
        Column(6, "Run", unit="none", width=90),
        _PAGE,
    ],
    size=(24, 10),
    sort=("Red for", False),
    none="none: every pipeline is green",
)
_BUCKETS = of_team(pipelines("pipeline:ci_pipeline_run_duration_seconds_bucket:increase1h"))
_TRENDS = (
    graph(
        "Red pipelines by project",
        "How many pipelines are red. While the exporter cannot see a pipeline, its last value stays for 24 hours.",
        [Query(by("project", of_team(_FAILED), "sum"), "{{project}}")],
        shades="red",
        stacked=True,
        none="no run ended",
    ),
    graph(
        "Success ratio of the past hour",
        "Runs that succeeded, by those that succeeded or failed.",
        [
            Query(
                ratio(
                    by(
                        "project",
                        of_team(pipelines("pipeline:ci_pipeline_runs:increase1h", 'status="success"')),
                        "sum",
                    ),
                    by(
                        "project",
                        of_team(pipelines("pipeline:ci_pipeline_runs:increase1h", _FINISHED)),
                        "sum",
                    ),
                ),
                "{{project}}",
            )
        ],
        unit="percentunit",
        most=1,
        none="no run ended",
    ),
    graph(
        "Runs an hour by result",
        "Runs that ended in the hour before each moment.",
        [
            Query(
                by("status", of_team(pipelines("pipeline:ci_pipeline_runs:increase1h")), "sum"), "{{status}}"
            )
        ],
        bars=True,
        stacked=True,
        colors={status: COLORS[status] for status in ("success", "failed", "canceled", "ignored")},
        none="no run ended",
    ),
    graph(
        "Duration of successful runs",
        "Half of the runs of the past hour took at most the one time, 95 % the other, pauses included. Interpolated in "
        "the buckets of metrics.run_duration_buckets.",
        [
            Query(f"histogram_quantile({quantile}, {by('le', _BUCKETS, 'sum')})", legend)
            for quantile, legend in ((0.5, "p50"), (0.95, "p95"))
        ],
        unit="s",
        colors={"p50": "light-blue", "p95": "dark-blue"},
        none="no run succeeded",
    ),
)
_NOW = (
    rows(
        "Longest running",
        "The oldest run in progress of each pipeline, and what 95 % of its successful runs of a week took at most.",
        [
            by(NAMES, _LONGEST),
            by(NAMES, both(pipelines("pipeline:ci_pipeline_run_duration_seconds:p95_7d") + " > 0", _LONGEST)),
            page(_LONGEST, "latest_run"),
        ],
        [
            _NAME,
            Column("project", "Project"),
            Column(0, "Running for", unit="s", width=110, decimals=1),
            Column(1, "Usually at most", unit="s", width=130, decimals=1),
            _PAGE,
        ],
        size=(12, 9),
        sort=("Running for", True),
        none="none: nothing runs",
    ),
    rows(
        "Waiting runs",
        "Pipelines whose latest run, or one of its stages, is waiting, paused or suspended: approve, resume or cancel it.",
        [
            by(NAMES, _WAITING) + " * 1000",
            "time() - " + by(NAMES, _WAITING),
            first(
                "stage_name",
                both(
                    pipelines("ci_pipeline_latest_run_stage_status", 'status=~"waiting|paused|suspended"')
                    + " == 1",
                    _WAITING,
                ),
            ),
            page(_WAITING, "latest_run"),
        ],
        [
            _NAME,
            Column("project", "Project"),
            Column("stage_name", "Stage"),
            Column(0, "Waiting since", unit="dateTimeAsIso", width=170),
            Column(1, "Waiting for", unit="s", width=110, decimals=1),
            _PAGE,
        ],
        size=(12, 9),
        sort=("Waiting for", True),
        none="none: nothing waits",
    ),
)
_RATIO = of_team(pipelines("pipeline:ci_pipeline_runs:success_ratio7d"))
_FAILURES = of_team(pipelines("pipeline:ci_pipeline_runs:increase7d", 'status="failed"'))
_WEEK = (
    ranking(
        "Noisiest: failed runs in 7 days",
        "The ten pipelines with the most failed runs. Pipelines that run often lead here.",
        f"sort_desc(topk(10, {by('project, pipeline', _FAILURES, 'sum')} > 0))",
        "{{pipeline}}",
        size=(12, 10),
        steps=((None, "red"),),
        decimals=0,
        none="none: no run failed",
    ),
    ranking(
        "Lowest success ratio in 7 days",
        "The ten pipelines with the smallest share of successful runs.",
        f"sort(bottomk(10, {by('project, pipeline', _RATIO)}))",
        "{{pipeline}}",
        size=(12, 10),
        unit="percentunit",
        steps=((None, "red"), (0.5, "orange"), (0.9, "green")),
        decimals=0,
        most=1,
        none="no run ended",
    ),
)
BOARD = board(
    "overview",
    "Overview",
    "What is red, since when, where and why; what runs and waits; how much succeeds and how long it takes.",
    since="now-24h",
    variables=(PROVIDERS, PROJECTS, TEAMS, PIPELINES),
    annotations=(failed_runs(enabled=False), deploying_runs(enabled=False)),
    sections=(
        ("Now", (*_NUMBERS, _RED_NOW)),
        ("Trend", _TRENDS),
        ("In progress", _NOW),
        ("Past 7 days", _WEEK),
    ),
)
