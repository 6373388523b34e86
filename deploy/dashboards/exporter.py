"""The dashboard Exporter: whether it sees every project, its requests, and its process."""

from deploy.dashboards.model import (
    NONE,
    PROJECTS,
    PROVIDERS,
    Column,
    Query,
    board,
    graph,
    number,
    rows,
    words,
)
from deploy.dashboards.queries import by, projects

_JOB = 'job="pipeline-exporter"'
_OWN = "provider, project"
_SUCCESS = by(_OWN, projects("pipeline_exporter_last_success_timestamp_seconds"))
_UP = words({"0": ("down", "red"), "1": ("up", "green")})
_VALID = words({"0": ("refused", "red"), "1": ("accepted", "green")})
_BAD = (None, "text"), (1, "red")


def _rate(metric: str, labels: str) -> str:
    return f"sum by ({labels}) (rate({projects(metric)}[$__rate_interval]))"


def _growth(metric: str, labels: str) -> str:
    return f"sum by ({labels}) (increase({projects(metric)}[$__rate_interval])) > 0"


def _quantile(metric: str, labels: str, select: str) -> str:
    return f"histogram_quantile(0.95, sum by ({labels}, le) (rate({metric}_bucket{{{select}}}[$__rate_interval])))"


_NUMBERS = (
    number(
        "Exporters that answer",
        "Targets of the job pipeline-exporter that Prometheus can scrape.",
        f"sum(up{{{_JOB}}})",
        steps=((None, "red"), (1, "green")),
        none="none",
    ),
    number(
        "Projects down",
        "Projects whose last refresh failed.",
        f"count({by(_OWN, projects('pipeline_exporter_project_up'), 'min')} == 0)",
        steps=((None, "red"),),
        none=NONE,
    ),
    number(
        "Credentials refused",
        "Projects whose credentials the provider refused last.",
        f"count({by(_OWN, projects('pipeline_exporter_credentials_valid'), 'min')} == 0)",
        steps=((None, "red"),),
        none=NONE,
    ),
    number(
        "Pipelines",
        "Pipelines that the exporters watch: configured and discovered.",
        f"sum({projects('pipeline_exporter_pipelines')})",
    ),
    number(
        "Series",
        "Samples of the last scrape of each exporter.",
        f"sum(scrape_samples_scraped{{{_JOB}}})",
    ),
    number(
        "State",
        "Whether the state can be written. Without a state file, counters start at 0 with each start.",
        "min(pipeline_exporter_state_up)",
        mappings=(words({"0": ("not written", "red"), "1": ("written", "green")}),),
        none="no state file",
    ),
)
_DOWN = f"time() - {by(_OWN, projects('pipeline_exporter_project_down_since_timestamp_seconds'))}"
_PROJECTS = (
    rows(
        "Down now",
        "Projects that cannot be refreshed, since when, and the request that failed last.",
        [
            _DOWN,
            by(_OWN, projects("pipeline_exporter_project_down_since_timestamp_seconds")) + " * 1000",
            by(f"{_OWN}, operation, code, error_code", projects("pipeline_exporter_project_failure_info")),
        ],
        [
            Column("project", "Project"),
            Column("provider", "Provider", width=110),
            Column(1, "Down since", unit="dateTimeAsIso", width=170),
            Column(0, "Down for", unit="s", width=110, decimals=1),
            Column("operation", "Failed request"),
            Column("code", "Code", width=110),
            Column("error_code", "Error of the cloud"),
        ],
        size=(24, 4),
        none=NONE,
    ),
    rows(
        "Projects",
        "Freshness, credentials and pipelines of each project.",
        [
            by(_OWN, projects("pipeline_exporter_project_up"), "min"),
            f"time() - {_SUCCESS}",
            by(_OWN, projects("pipeline_exporter_poll_interval_seconds")),
            by(_OWN, projects("pipeline_exporter_credentials_valid"), "min"),
            by(_OWN, projects("pipeline_exporter_credentials_expiry_timestamp_seconds"), "min") + " - time()",
            by(_OWN, projects("pipeline_exporter_pipelines"), "sum"),
            by(_OWN, projects("pipeline_exporter_pipelines_not_listed"), "sum"),
            by(_OWN, projects("pipeline_exporter_pipelines_refused"), "sum"),
            by(_OWN, projects("pipeline_exporter_series_withheld"), "sum"),
            by(_OWN, projects("pipeline_exporter_runs_unresolved"), "sum"),
        ],
        [
            Column("project", "Project"),
            Column("provider", "Provider", width=100),
            Column(0, "State", width=80, mappings=(_UP,)),
            Column(1, "Last success ago", unit="s", width=130, decimals=0),
            Column(2, "Interval", unit="s", width=80, decimals=0),
            Column(3, "Credentials", width=100, mappings=(_VALID,)),
            Column(4, "Expire in", unit="s", width=100, decimals=1, steps=((None, "red"), (604_800, "text"))),
            Column(5, "Pipelines", width=90),
            Column(6, "Not listed", width=90, steps=_BAD),
            Column(7, "Refused", width=90, steps=_BAD),
            Column(8, "Series withheld", width=120, steps=_BAD),
            Column(9, "Runs to look up", width=120),
        ],
        size=(24, 5),
        sort=("Project", False),
    ),
)
_REQUESTS = (
    graph(
        "Requests by code",
        "Requests a second by HTTP status, or by the kind of failure.",
        [Query(_rate("pipeline_exporter_api_requests_total", "code"), "{{code}}")],
        unit="reqps",
        stacked=True,
        colors={"200": "green", "429": "orange", "500": "red", "502": "dark-red", "503": "red"},
    ),
    graph(
        "p95 of request durations",
        "95 % of the requests took at most so long.",
        [
            Query(
                _quantile(
                    "pipeline_exporter_api_request_duration_seconds", "operation", 'provider=~"$provider"'
                ),
                "{{operation}}",
            )
        ],
        unit="s",
    ),
    graph(
        "Age of values",
        "Time since the last refresh without a failure, and the time in which refreshes are due.",
        [
            Query(f"time() - {_SUCCESS}", "{{project}}"),
            Query(f"max({projects('pipeline_exporter_poll_interval_seconds')})", "longest interval"),
        ],
        unit="s",
        colors={"longest interval": "dark-orange"},
    ),
    graph(
        "p95 of refresh durations",
        "A refresh is one pass over all pipelines of a project. It must be shorter than poll.interval.",
        [
            Query(
                _quantile("pipeline_exporter_poll_duration_seconds", "project", projects("")[1:-1]),
                "{{project}}",
            )
        ],
        unit="s",
    ),
    graph(
        "Errors of the clouds",
        "Failed requests by the vendor's error code.",
        [
            Query(
                _growth("pipeline_exporter_api_errors_total", "project, error_code"),
                "{{project}} {{error_code}}",
            )
        ],
        size=(12, 5),
        bars=True,
        none=NONE,
    ),
    graph(
        "Throttling",
        "Responses by which a provider throttled the exporter. Polls wait, so values are older than poll.interval.",
        [Query(_growth("pipeline_exporter_api_throttled_total", "project"), "{{project}}")],
        size=(12, 5),
        bars=True,
        none=NONE,
    ),
)
_RECORDS = (
    graph(
        "Rejected records",
        "Records of responses that could not be used, by reason.",
        [
            Query(
                _growth("pipeline_exporter_rejected_records_total", "project, reason"),
                "{{project}} {{reason}}",
            )
        ],
        size=(8, 5),
        bars=True,
        none=NONE,
    ),
    graph(
        "Runs missed",
        "Runs that ended, but whose end could not be found out. No counter has them.",
        [Query(_growth("ci_pipeline_runs_missed_total", "project"), "{{project}}")],
        size=(8, 5),
        bars=True,
        none=NONE,
    ),
    graph(
        "Polls skipped",
        "Polls that were due while the previous one was still running.",
        [Query(_growth("pipeline_exporter_polls_skipped_total", "project"), "{{project}}")],
        size=(8, 5),
        bars=True,
        none=NONE,
    ),
)
_PROCESS = (
    graph(
        "Memory",
        "Resident memory of each exporter.",
        [Query(f"process_resident_memory_bytes{{{_JOB}}}", "{{instance}}")],
        size=(8, 7),
        unit="bytes",
    ),
    graph(
        "CPU",
        "Processor time that each exporter takes in a second.",
        [Query(f"rate(process_cpu_seconds_total{{{_JOB}}}[$__rate_interval])", "{{instance}}")],
        size=(8, 7),
        unit="percentunit",
    ),
    graph(
        "Series by exporter",
        "Samples of each scrape. A scrape fails above sample_limit of Prometheus.",
        [Query(f"scrape_samples_scraped{{{_JOB}}}", "{{instance}}")],
        size=(8, 7),
    ),
)
BOARD = board(
    "exporter",
    "Exporter",
    "Whether the exporter can see every project, how it uses the APIs, and what it needs.",
    since="now-6h",
    variables=(PROVIDERS, PROJECTS),
    sections=(
        ("Now", (*_NUMBERS, *_PROJECTS)),
        ("Requests and refreshes", _REQUESTS),
        ("What is lost", _RECORDS),
        ("The process", _PROCESS),
    ),
)
