"""Recording rules: the latest value of each pipeline, and the increases of hours, days, weeks and months."""

from deploy.rules.model import IDENTITY, PROJECT, Group, Record, seen

# Twelve evaluations an hour: the sum of the hourly increases of a day, divided by it, is the increase of the day.
INTERVAL = "5m"
PER_HOUR = 12


_START = "ci_pipeline_latest_run_start_timestamp_seconds"
_CHANGE = "ci_pipeline_latest_run_status_change_timestamp_seconds"
_STAGE_CHANGE = "ci_pipeline_latest_run_stage_status_change_timestamp_seconds"
_OLDEST = "ci_pipeline_oldest_active_run_start_timestamp_seconds"


def _dense(expr: str) -> str:
    """Return `expr`, or 0 where it is absent, so that its last recorded value is as recent as the pipeline's others."""
    return f"{expr}\nor\n0 * pipeline:{_START}:max"


def _held(name: str, expr: str, note: str = "", how: str = "max") -> tuple[Record, Record]:
    """Return two rules: the value, and a value for alerts that stays up to 24 hours while the pipeline is not seen."""
    recorded = f"pipeline:{name}:{how}"
    last = f"last_over_time({recorded}[1d]) and on ({IDENTITY}) pipeline:ci_pipeline_up:blind"
    return Record(recorded, expr, note), Record(f"pipeline:{name}:held", f"{recorded}\nor\n{last}")


LATEST = Group(
    name="pipeline-exporter-latest",
    note="The latest values of each pipeline without the labels of the target, so that a replaced pod changes no series.",
    interval="1m",
    rules=(
        Record(
            "job:pipeline_exporter_shard_index:missing",
            """\
max without (instance, pod) (last_over_time(pipeline_exporter_shards[5m]))
  - count without (shard) (
    count_values without (instance, pod) ("shard", last_over_time(pipeline_exporter_shard_index[5m]))
  )
  > 0""",
            note=(
                "How many shards do not answer. It counts indexes, because a second pod with an index does not replace a "
                "missing one."
            ),
        ),
        Record(
            "pipeline:ci_pipeline_info:latest",
            f"""\
topk by ({IDENTITY}) (1,
  max without (instance, pod) (
    ci_pipeline_info or on ({IDENTITY}) last_over_time(ci_pipeline_info[1d])
  )
)""",
            note=(
                "One series for each pipeline of the past 24 hours, so that no join matches two. Alerts take links and teams "
                "from it."
            ),
        ),
        Record(
            "pipeline:ci_pipeline_up:blind",
            f"""\
group by ({IDENTITY}, pipeline) (
  last_over_time(ci_pipeline_up[5m]) == 0
  or
  pipeline:ci_pipeline_info:latest unless on (job) max_over_time(up{{job="pipeline-exporter"}}[5m]) == 1
  or
  pipeline:ci_pipeline_info:latest and on (job) job:pipeline_exporter_shard_index:missing
  or
  pipeline:ci_pipeline_info:latest and on ({PROJECT})
    last_over_time(pipeline_exporter_project_down_since_timestamp_seconds[5m])
)""",
            note=(
                "Pipelines that the exporter cannot see now: its poll failed, no exporter answers, a shard is missing, or the "
                "project is down. Alerts then use the last values of the past 24 hours. It comes before the values, so that "
                "none disappears before it is there."
            ),
        ),
        *_held(_START, seen(_START)),
        *_held(_CHANGE, seen(_CHANGE)),
        *_held(
            "ci_pipeline_latest_finished_run_failed",
            seen('ci_pipeline_latest_finished_run_status{status="failed"}', "status"),
        ),
        *_held("ci_pipeline_consecutive_failures", seen("ci_pipeline_consecutive_failures")),
        *_held(
            "ci_pipeline_latest_run_waiting",
            _dense(seen('ci_pipeline_latest_run_status{status=~"waiting|paused|suspended"}', "status")),
            note="The 0 serves metrics.run_status_series: current, where only the present status has a series.",
        ),
        *_held(
            _STAGE_CHANGE,
            _dense(seen(_STAGE_CHANGE, "stage_name", "stage_sequence", how="min")),
            note="Since when a stage waits; 0 if no stage does.",
            how="min",
        ),
        *_held(
            _OLDEST,
            _dense(seen(_OLDEST, how="min")),
            note="The start of the oldest run in progress; 0 without such a run.",
            how="min",
        ),
    ),
)

_INCREASED = {
    "pipeline:ci_pipeline_runs": "ci_pipeline_runs_total",
    "pipeline:ci_pipeline_run_duration_seconds_bucket": 'ci_pipeline_run_duration_seconds_bucket{status="success"}',
    "pipeline:ci_pipeline_recoveries": "ci_pipeline_recoveries_total",
    "pipeline:ci_pipeline_recovery_seconds": "ci_pipeline_recovery_seconds_total",
    "stage:ci_pipeline_stage_duration_seconds_bucket": 'ci_pipeline_stage_duration_seconds_bucket{status="success"}',
    "stage:ci_pipeline_stage_duration_seconds_sum": 'ci_pipeline_stage_duration_seconds_sum{status="success"}',
    "stage:ci_pipeline_stage_duration_seconds_count": 'ci_pipeline_stage_duration_seconds_count{status="success"}',
}
_DEPLOYMENTS = "pipeline:ci_pipeline_deployments"


def _increased(metric: str) -> str:
    """Return a query for the increase in an hour, over all targets; it drops `status` if the metric selects one."""
    dropped = "instance, pod, status" if "{" in metric else "instance, pod"
    return f"sum without ({dropped}) (increase({metric}[1h]))"


def _window(name: str, window: str) -> Record:
    return Record(f"{name}:increase{window}", f"sum_over_time({name}:increase1h[{window}]) / {PER_HOUR}")


def _ratio(name: str, window: str, *, of: str, result: str) -> Record:
    runs = f"{name}:increase{window}"
    return Record(
        f"{name}:{result}{window}",
        f'sum without (status) ({runs}{{status="{of}"}})\n'
        f'  / (sum without (status) ({runs}{{status=~"success|failed"}}) > 0)',
    )


def _quantiles(window: str) -> tuple[Record, ...]:
    return tuple(
        Record(
            f"{name}:{label}_{window}",
            f"histogram_quantile({quantile}, {name}_bucket:increase{window})",
        )
        for name in ("pipeline:ci_pipeline_run_duration_seconds", "stage:ci_pipeline_stage_duration_seconds")
        for label, quantile in (("p50", 0.5), ("p95", 0.95))
    )


def _restore(window: str) -> Record:
    return Record(
        f"pipeline:ci_pipeline_recovery_seconds:mean{window}",
        f"pipeline:ci_pipeline_recovery_seconds:increase{window}\n"
        f"  / (pipeline:ci_pipeline_recoveries:increase{window} > 0)",
        note="Time to restore: how long pipelines were red before they succeeded again.",
    )


def _stage_mean(window: str) -> Record:
    name = "stage:ci_pipeline_stage_duration_seconds"
    return Record(
        f"{name}:mean{window}",
        f"{name}_sum:increase{window}\n  / ({name}_count:increase{window} > 0)",
    )


HOURS = Group(
    name="pipeline-exporter-hours",
    note=(
        "Counters are read once here. Longer windows add these increases. Divide a sum_over_time of them by "
        f"{PER_HOUR}, because the interval is {INTERVAL}: change both together."
    ),
    interval=INTERVAL,
    rules=(
        *(Record(f"{name}:increase1h", _increased(metric)) for name, metric in _INCREASED.items()),
        Record(
            f"{_DEPLOYMENTS}:increase1h",
            f"""\
pipeline:ci_pipeline_runs:increase1h{{status=~"success|failed"}}
  * on ({IDENTITY}) group_left (label_deploys)
    max by ({IDENTITY}, label_deploys) (pipeline:ci_pipeline_info:latest{{label_deploys!=""}})""",
            note=(
                "Runs of pipelines with the label `deploys` in the configuration, for example `labels: {deploys: production}`."
            ),
        ),
    ),
)


def _windows(name: str, window: str) -> Group[Record]:
    return Group(
        name=name,
        interval=INTERVAL,
        rules=(
            *(_window(increased, window) for increased in (*_INCREASED, _DEPLOYMENTS)),
            _ratio("pipeline:ci_pipeline_runs", window, of="success", result="success_ratio"),
            _ratio(_DEPLOYMENTS, window, of="failed", result="failure_ratio"),
            *_quantiles(window),
            _restore(window),
            _stage_mean(window),
        ),
    )


DAYS = _windows("pipeline-exporter-days", "1d")
WEEKS = _windows("pipeline-exporter-weeks", "7d")
MONTHS = Group(
    name="pipeline-exporter-months",
    interval=INTERVAL,
    rules=(
        *(
            _window(name, "30d")
            for name in (
                _DEPLOYMENTS,
                "pipeline:ci_pipeline_recoveries",
                "pipeline:ci_pipeline_recovery_seconds",
            )
        ),
        _ratio(_DEPLOYMENTS, "30d", of="failed", result="failure_ratio"),
        _restore("30d"),
    ),
)
GROUPS = (LATEST, HOURS, DAYS, WEEKS, MONTHS)
