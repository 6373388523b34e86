"""Fragments of alert texts, as Prometheus templates.

Details come from queries in the template. What a query does not find is left out, so a missing or doubled series never hides
an alert. Grafana supports no queries in templates: there, these fragments are empty. No fragment uses a `$` variable, because
Grafana replaces them in provisioned files.
"""

_MATCHERS = {
    "@pipeline": ("project=%q,pipeline_id=%q", ".Labels.project .Labels.pipeline_id"),
    "@project": ("project=%q", ".Labels.project"),
}
FIRST = ". | first"


def ask(query: str, then: str, otherwise: str = "") -> str:
    """Return the template for a query: `then` with its rows as the dot, or `otherwise` without a row.

    In the query, `@pipeline` and `@project` stand for matchers of the alert's pipeline or project.
    """
    arguments = []
    for word, (matchers, values) in _MATCHERS.items():
        arguments += [values] * query.count(word)
        query = query.replace(word, matchers)
    rest = f"{{{{ else }}}}{otherwise}" if otherwise else ""
    return f"{{{{ with printf `{query}` {' '.join(arguments)} | query }}}}{then}{rest}{{{{ end }}}}"


def label(name: str, text: str) -> str:
    """Return the template for a label of the first row; nothing if it is empty. The dot in `text` is its value."""
    return f'{{{{ with {FIRST} | label "{name}" }}}}{text}{{{{ end }}}}'


def run(kind: str, otherwise: str) -> str:
    """Return a template for number and branch of a run; `kind` is the part of metric names after `ci_pipeline_`."""
    number = f'run {{{{ {FIRST} | value | printf "%.0f" }}}}'
    return ask(f"ci_pipeline_{kind}_number{{@pipeline}}", number, otherwise) + ask(
        f"ci_pipeline_{kind}_info{{@pipeline}}", label("branch", " on branch {{ . }}")
    )


PIPELINE = "{{ .Labels.pipeline }} (project {{ .Labels.project }})"
FINISHED_RUN = run("latest_finished_run", "its latest finished run")
LATEST_RUN = run("latest_run", "its latest run")
_UNKNOWN = "one whose number is not known"
THE_FINISHED_RUN = f" The latest finished run is {run('latest_finished_run', _UNKNOWN)}."
THE_LATEST_RUN = f" The latest run is {run('latest_run', _UNKNOWN)}."
HIDDEN = ask(
    "pipeline:ci_pipeline_latest_run_start_timestamp_seconds:held{@pipeline}"
    " > pipeline:ci_pipeline_oldest_active_run_start_timestamp_seconds:held{@pipeline}",
    " The run in question is an older one: find it in the list of runs.",
)
"""For a run in progress that a newer run hides."""
_NAMES = '{{ range sortByLabel "stage_sequence" . }} "{{ .Labels.stage_name }}"{{ end }}'
FAILED_STAGES = ask("ci_pipeline_latest_finished_run_failed_stage{@pipeline} == 1", f" in stage{_NAMES}")
PRESENT_STAGES = ask(
    'ci_pipeline_latest_run_stage_status{@pipeline,status=~"running|pending|waiting|paused|suspended"} == 1',
    f" It is in stage{_NAMES}.",
)
WAITING_STAGES = ask(
    'ci_pipeline_latest_run_stage_status{@pipeline,status=~"waiting|paused|suspended"} == 1',
    f" in stage{_NAMES}",
)
RED_SINCE = ask(
    "ci_pipeline_broken_since_timestamp_seconds{@pipeline}",
    f" It has been red since {{{{ {FIRST} | value | humanizeTimestamp }}}}.",
)


def _page(kind: str) -> str:
    return ask(
        f'ci_pipeline_{kind}_info{{@pipeline,url!=""}} or on () pipeline:ci_pipeline_info:latest{{@pipeline,url!=""}}',
        f"\nPage: {label('url', '{{ . }}')}",
    )


FINISHED_RUN_PAGE = _page("latest_finished_run")
"""The page of the run if the configuration enables `url`, otherwise of the pipeline, otherwise nothing."""
LATEST_RUN_PAGE = _page("latest_run")
BLIND = ask(
    "pipeline:ci_pipeline_up:blind{@pipeline}",
    "\nThis may be out of date: the exporter cannot see the pipeline now. Look for alerts PipelineExporter*.",
)
CAUSE = ask(
    "pipeline_exporter_project_failure_info{@project}",
    " Cause: {{ with . | first }}{{ .Labels.operation }} failed with {{ .Labels.code }}"
    "{{ if .Labels.error_code }} ({{ .Labels.error_code }}){{ end }}{{ end }}.",
    " The log names the cause.",
)
LOG = "kubectl logs --since=1h --tail=-1 -l app.kubernetes.io/name=pipeline-exporter"


def log(pattern: str, then: str) -> str:
    """Return the next step: the command that shows the exporter's log about something, and what to do then."""
    return f"\nNext: {LOG} | grep {pattern} (outside Kubernetes, search the exporter's log). {then}"
