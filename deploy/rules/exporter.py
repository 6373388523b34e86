"""Alerts about the exporter and what it can see."""

from deploy.rules.model import PROJECT, Alert, Group, seen
from deploy.rules.texts import CAUSE, FIRST, ask, log

_DOWN = seen("pipeline_exporter_project_down_since_timestamp_seconds")
_UP = seen("pipeline_exporter_project_up", how="min")
_SUCCESS = seen("pipeline_exporter_last_success_timestamp_seconds")
_INTERVAL = seen("pipeline_exporter_poll_interval_seconds")
_EXPIRY = "pipeline_exporter_credentials_expiry_timestamp_seconds"
_SELECTED = seen('pipeline_exporter_pipelines_listed{selected="true"}', "selected")
_SHARDS = "last_over_time(pipeline_exporter_shards[5m])"
_PROJECT_LOG = "project={{ .Labels.project }}"


def _increase(metric: str, window: str) -> str:
    return f"sum without (instance, pod) (increase({metric}[{window}])) > 0"


ALERTS = Group(
    name="pipeline-exporter",
    rules=(
        Alert(
            "PipelineExporterProjectDown",
            f"{_DOWN}\nunless on ({PROJECT}) {_UP} == 1",
            severity="critical",
            waiting="5m",
            keep_firing="5m",
            note="A single failed request does not make a project down: two refreshes in a row, or one without any answer, do.",
            summary="The exporter cannot refresh the pipelines of a project.",
            description=(
                "No refresh of project {{ .Labels.project }} ({{ .Labels.provider }}) has succeeded since "
                f"{{{{ .Value | humanizeTimestamp }}}}.{CAUSE} No new failure of its pipelines is noticed. They keep their last "
                "values for poll.max_age (15 minutes); their alerts keep firing for up to 24 hours and may be out of date."
                + log(
                    _PROJECT_LOG,
                    "With a code 5xx, wait for the provider. Otherwise the field remedy names a heading of "
                    "docs/troubleshooting.md.",
                )
            ),
        ),
        Alert(
            "PipelineExporterStale",
            f"""\
time() - {_SUCCESS}
  > clamp_min(3 * {_INTERVAL}, 900)
unless on ({PROJECT}) {_DOWN}
or
{_UP} == 0
unless on ({PROJECT}) {_DOWN}
unless on ({PROJECT}) {_SUCCESS}""",
            severity="critical",
            waiting="10m",
            keep_firing="5m",
            note="For a project that is not down, but has no complete refresh either: refreshes hang, are slow, or fail in turns.",
            summary="Every refresh of a project fails in part, or takes too long.",
            description=(
                "No refresh of project {{ .Labels.project }} has been complete"
                + ask(
                    "max(pipeline_exporter_last_success_timestamp_seconds{@project})",
                    f" since {{{{ {FIRST} | value | humanizeTimestamp }}}}",
                    " since the exporter started",
                )
                + ", although the provider answers requests. Values of some pipelines are old."
                + log(
                    _PROJECT_LOG,
                    'In Prometheus, ci_pipeline_up{project="{{ .Labels.project }}"} == 0 lists the pipelines with old values. '
                    "Without a line in the log, refreshes take too long: raise poll.interval.",
                )
            ),
        ),
        Alert(
            "PipelineExporterCredentialsRefused",
            f"{seen('pipeline_exporter_credentials_valid', how='min')} == 0",
            severity="critical",
            waiting="5m",
            keep_firing="5m",
            summary="The provider refuses the credentials of a project.",
            description=(
                "{{ .Labels.provider }} refuses the credentials of project {{ .Labels.project }}."
                f"{CAUSE} The exporter tries again at growing intervals, because repeated refusals lock a key. Do not "
                "test the key by hand meanwhile."
                "\nNext: check that the user of the key still is a member of the project. If so, put a new key or token into the "
                "Secret or file; the exporter reads it without a restart."
            ),
        ),
        Alert(
            "PipelineExporterCredentialsExpiring",
            f"""\
{seen(_EXPIRY + '{renewal="manual"}', how="min")} - time() < 7 * 86400
or
{seen(_EXPIRY + '{renewal="auto"}', how="min")} - time() < 300""",
            severity="warning",
            waiting="5m",
            summary="The credentials of a project expire soon.",
            description=(
                "The credentials of project {{ .Labels.project }} ({{ .Labels.provider }}) "
                '{{ if lt .Value 0.0 }}expired {{ .Value | humanizeDuration | reReplaceAll "^-" "" }} ago'
                "{{ else }}expire in {{ .Value | humanizeDuration }}{{ end }}."
                '{{ if eq .Labels.renewal "manual" }} You renew them.'
                "\nNext: create a new key or token, replace the Secret or file, and set auth.expires to its date."
                "{{ else }} The exporter should have renewed them, so the renewal fails."
                f"{log('id=credential-renewal-failed', 'The error says why.')}{{{{ end }}}}"
            ),
        ),
        Alert(
            "PipelineExporterThrottled",
            _increase("pipeline_exporter_api_throttled_total", "15m"),
            severity="warning",
            waiting="15m",
            keep_firing="15m",
            summary="A provider throttles the exporter.",
            description=(
                '{{ .Labels.provider }} throttled the exporter {{ .Value | printf "%.0f" }} times in 15 minutes for project '
                "{{ .Labels.project }}. Polls are delayed, so values are older than poll.interval."
                "\nNext: raise poll.interval of the configuration, or halve rate_limit.requests_per_second of the project, until "
                "the alert ends. pipeline-exporter check-config FILE shows the requests a minute."
            ),
        ),
        Alert(
            "PipelineExporterRecordsRejected",
            _increase("pipeline_exporter_rejected_records_total", "1h"),
            severity="info",
            note="A single bad record affects one poll of one pipeline. What stays unreadable has PipelineExporterPipelinesRefused.",
            summary="Responses of a provider have records that cannot be used.",
            description=(
                '{{ .Value | printf "%.0f" }} records of project {{ .Labels.project }} were rejected in an hour, reason '
                "{{ .Labels.reason }}."
                '{{ if eq .Labels.reason "wrong_number" }} Only the numbers of these runs are not used; counters and '
                "statuses are right."
                '{{ else if eq .Labels.reason "duplicate" }} The other record of the same run was used, so values are right.'
                "{{ else }} Their pipelines keep their last values until the records can be used.{{ end }}"
                + log(
                    "-e id=record-rejected -e id=wrong-run-number",
                    "Each line names the record and the field. If they continue for a day, report them as a bug.",
                )
            ),
        ),
        Alert(
            "PipelineExporterRunsMissed",
            _increase("ci_pipeline_runs_missed_total", "1h"),
            severity="warning",
            of_pipeline=True,
            summary="Runs of a pipeline ended, but could not be counted.",
            description=(
                '{{ .Value | printf "%.0f" }} runs of pipeline {{ .Labels.pipeline }} (project {{ .Labels.project }}) ended, '
                "but the exporter cannot find out how. Its counters and ratios will always lack these runs; its status is right."
                + log(
                    "id=runs-given-up",
                    "The reason says why. There is nothing to repair unless this happens again.",
                )
            ),
        ),
        Alert(
            "PipelineExporterSeriesWithheld",
            f"{seen('pipeline_exporter_series_withheld')} > 0",
            severity="warning",
            waiting="10m",
            keep_firing="5m",
            summary="The exporter withholds series because of limits.max_series.",
            description=(
                "{{ .Value }} series of project {{ .Labels.project }} are left out of /metrics, because the project exceeds "
                "limits.max_series. Whole pipelines may be without alerts."
                "\nNext: pipeline-exporter check-config FILE shows the expected series. Raise limits.max_series together with "
                "sample_limit of Prometheus, or set metrics.run_status_series: current."
            ),
        ),
        Alert(
            "PipelineExporterPipelinesRefused",
            f"{seen('pipeline_exporter_pipelines_refused')} > 0",
            severity="warning",
            waiting="10m",
            keep_firing="5m",
            summary="A provider refuses pipelines of a project.",
            description=(
                "{{ .Value }} pipelines of project {{ .Labels.project }} are refused by {{ .Labels.provider }}, or their "
                "responses cannot be read. They have old values or none; the others are not affected."
                + log(
                    "-e id=pipeline-refused -e id=pipeline-unreadable",
                    "Each line names a pipeline and the reason: give the user access to it, or take it out of the configuration.",
                )
            ),
        ),
        Alert(
            "PipelineExporterPipelinesNotListed",
            f"{seen('pipeline_exporter_pipelines_not_listed')} > 0",
            severity="warning",
            waiting="10m",
            keep_firing="5m",
            summary="Configured pipelines are not in the provider's list.",
            description=(
                "{{ .Value }} configured pipelines of project {{ .Labels.project }} are not in the list of "
                "{{ .Labels.provider }}. They were deleted, belong to another project, or the user may not see them."
                "\nNext: compare with the output of pipeline-exporter discover, then correct the ids under pipelines."
            ),
        ),
        Alert(
            "PipelineExporterNothingSelected",
            f"{_SELECTED} == 0",
            severity="warning",
            waiting="10m",
            keep_firing="5m",
            summary="The discovery of a project selects no pipeline.",
            description=(
                "Discovery of project {{ .Labels.project }} selects none of the "
                + ask(
                    'max(pipeline_exporter_pipelines_listed{@project,selected="false"})',
                    f'{{{{ {FIRST} | value | printf "%.0f" }}}} ',
                )
                + "pipelines that {{ .Labels.provider }} lists. Nothing discovered is watched."
                "\nNext: compare discover.include and discover.exclude with the names that pipeline-exporter discover prints. If "
                "the list is empty, the user is not a member of the project."
            ),
        ),
        Alert(
            "PipelineExporterStateDown",
            f"{seen('pipeline_exporter_state_up', how='min')} == 0",
            severity="warning",
            waiting="10m",
            keep_firing="5m",
            note="`for` is longer than the five minutes for which the last 0 of a replaced pod is still seen.",
            summary="The exporter cannot write its state and counts nothing.",
            description=(
                "Gauges and alerts on red pipelines are right. Counters, histograms and what is computed from them stand still. "
                "Once the state can be written, the exporter counts the runs that ended meanwhile: those of the past week, and at "
                "most 1,000 of each pipeline."
                + log(
                    "id=state-not-saved", "Check whether the disk of state.path is full, read-only or slow."
                )
            ),
        ),
        Alert(
            "PipelineExporterReloadFailed",
            f"{seen('pipeline_exporter_config_last_reload_successful', how='min')} == 0",
            severity="warning",
            waiting="10m",
            keep_firing="5m",
            note="`for` is long enough to correct a file by hand, and longer than the last 0 of a replaced pod is still seen.",
            summary="The exporter cannot apply its changed configuration.",
            description=(
                "The configuration file has faults. The exporter runs with the configuration from before the change, so the "
                "change has no effect; all values are right. Do not restart it: it would not start with this file."
                + log(
                    "id=config-reload-failed",
                    "Each line is one fault. Check the corrected file with pipeline-exporter check-config FILE; the exporter "
                    "then applies it by itself.",
                )
            ),
        ),
        Alert(
            "PipelineExporterShardMissing",
            "job:pipeline_exporter_shard_index:missing > 0",
            severity="critical",
            waiting="5m",
            keep_firing="5m",
            note="For exporters that share a configuration (--shard.total). `for` is longer than a rolling replacement.",
            summary="No exporter watches a part of the pipelines.",
            description=(
                "{{ .Value }} of the exporters that share the configuration do not answer scrapes. No new failure of their "
                "pipelines is noticed; alerts on them keep firing for up to 24 hours and may be out of date."
                "\nNext: kubectl get pods -l app.kubernetes.io/name=pipeline-exporter. Then compare the Targets page of "
                "Prometheus: every pod is a target of its own."
            ),
        ),
        Alert(
            "PipelineExporterShardMismatch",
            f"max without (instance, pod) ({_SHARDS})\n  - min without (instance, pod) ({_SHARDS}) > 0",
            severity="critical",
            waiting="15m",
            keep_firing="5m",
            note="`for` is longer than a rolling replacement after a change of --shard.total.",
            summary="Exporters do not agree on the number of shards.",
            description=(
                "Exporters that share a configuration have different values of --shard.total, so some pipelines are watched "
                "twice or by none."
                "\nNext: kubectl get statefulset,pod -l app.kubernetes.io/name=pipeline-exporter -o yaml | grep -e ' name: ' "
                "-e replicas: -e shard.total. Set replicas and --shard.total to one number, apply it, and delete the pods that "
                "still have another."
            ),
        ),
        Alert(
            "PipelineExporterGone",
            'absent(max without (instance, pod) (up{job="pipeline-exporter"}) == 1)',
            severity="critical",
            waiting="5m",
            keep_firing="5m",
            labels={"job": "pipeline-exporter"},
            note="absent() returns no labels here. job is set so that the alert can be routed like the others.",
            summary="No pipeline-exporter answers scrapes.",
            description=(
                "No target of the job pipeline-exporter has answered scrapes for five minutes. No new failure of a pipeline is "
                "noticed; alerts on pipelines keep firing for up to 24 hours and may be out of date."
                "\nNext: look at the job on the Targets page of Prometheus. Without a target, correct the scrape configuration. "
                "With an error, run kubectl get pods -l app.kubernetes.io/name=pipeline-exporter."
            ),
        ),
    ),
)
