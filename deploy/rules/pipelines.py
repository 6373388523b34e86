"""Alerts about pipelines. They use recorded values, so that they outlive a restart, a failed scrape and an outage."""

from dataclasses import replace
from textwrap import indent

from deploy.rules.model import IDENTITY, PROJECT, Alert, Group, joined, with_labels
from deploy.rules.texts import (
    BLIND,
    FAILED_STAGES,
    FINISHED_RUN,
    FINISHED_RUN_PAGE,
    FIRST,
    HIDDEN,
    LATEST_RUN,
    LATEST_RUN_PAGE,
    PIPELINE,
    PRESENT_STAGES,
    RED_SINCE,
    THE_FINISHED_RUN,
    THE_LATEST_RUN,
    WAITING_STAGES,
    ask,
)

_FAILED = "pipeline:ci_pipeline_latest_finished_run_failed:held"
_START = "pipeline:ci_pipeline_latest_run_start_timestamp_seconds:held"
_OLDEST = "pipeline:ci_pipeline_oldest_active_run_start_timestamp_seconds:held"
_CHANGE = "pipeline:ci_pipeline_latest_run_status_change_timestamp_seconds:held"
_WAITING = "pipeline:ci_pipeline_latest_run_waiting:held"
_STAGE_WAITS = "pipeline:ci_pipeline_latest_run_stage_status_change_timestamp_seconds:held"
_RUNS = "pipeline:ci_pipeline_runs:increase"
_RATIO = "pipeline:ci_pipeline_runs:success_ratio"
_DURATION = "pipeline:ci_pipeline_run_duration_seconds"
_STAGE = "stage:ci_pipeline_stage_duration_seconds"

_NOT_WAITING = f"""\
unless on ({IDENTITY})
  ({_WAITING} == 1 or {_STAGE_WAITS} > 0)"""

# Alerts on histograms have no pipeline where metrics.run_histogram or metrics.stage_histogram is `project`.
_OF = (
    "{{ if .Labels.pipeline }}pipeline {{ .Labels.pipeline }} (project {{ .Labels.project }})"
    "{{ else }}project {{ .Labels.project }}{{ end }}"
)


def _history(name: str) -> str:
    return ask(name, f"{{{{ {FIRST} | value | humanizeDuration }}}}", "unknown")


ALERTS = Group(
    name="pipelines",
    rules=(
        Alert(
            "PipelineFailed",
            f"{_FAILED} == 1",
            severity="warning",
            of_pipeline=True,
            note=(
                "The latest finished run, not the latest: a red pipeline stays red while its next run is in progress. No "
                "`for`: a failed run is a fact, not a symptom that may pass."
            ),
            summary="The latest finished run of a pipeline failed.",
            description=(
                f"Pipeline {PIPELINE} is red: {FINISHED_RUN} failed{FAILED_STAGES}.{RED_SINCE}"
                f"{FINISHED_RUN_PAGE}"
                "\nNext: open the run and read the log of the failed stage. The alert ends with the next run that does not fail."
                f"{BLIND}"
            ),
        ),
        Alert(
            "PipelineFailingRepeatedly",
            "pipeline:ci_pipeline_consecutive_failures:held >= 3",
            severity="warning",
            of_pipeline=True,
            summary="A pipeline failed three times or more in a row.",
            description=(
                f"Pipeline {PIPELINE} failed {{{{ .Value }}}} times in a row, the last time in {FINISHED_RUN}"
                f"{FAILED_STAGES}.{RED_SINCE}{FINISHED_RUN_PAGE}"
                "\nNext: compare the failed stage with the run before the first failure. Revert the change, or stop the trigger."
                f"{BLIND}"
            ),
        ),
        Alert(
            "PipelinesManyRed",
            f"sum by ({PROJECT}) ({_FAILED}) >= 5\nand\navg by ({PROJECT}) ({_FAILED}) > 0.25",
            severity="critical",
            note=(
                "One message instead of many: the Alertmanager example inhibits the alerts of the single pipelines. It counts "
                "all red pipelines, so that these alerts do not follow an hour later."
            ),
            summary="More than a quarter of the pipelines of a project failed.",
            description=(
                "{{ .Value }} pipelines of project {{ .Labels.project }} are red, more than a quarter. Something that they "
                "share is likely broken: agents, a registry, a repository, the network."
                + ask(
                    "topk(10, pipeline:ci_pipeline_latest_finished_run_failed:held{@project} == 1)",
                    '\nRed, up to ten of them:{{ range sortByLabel "pipeline" . }} {{ .Labels.pipeline }};{{ end }}',
                )
                + "\nNext: open two of them and compare the failed stages."
            ),
        ),
        Alert(
            "PipelineRunStuck",
            f"""\
time() - ({_OLDEST} > 0)
  > clamp_min(2 * {_DURATION}:p95_7d, 1800)
{_NOT_WAITING}""",
            severity="warning",
            of_pipeline=True,
            note=(
                "The oldest run in progress, which may be hidden by a newer one. The half hour keeps short pipelines quiet. No "
                "`for`: the duration of the run is the waiting time."
            ),
            summary="A run takes more than twice as long as usual.",
            description=(
                f"Pipeline {PIPELINE} has had a run in progress for {{{{ .Value | humanizeDuration }}}}; 95 % of its successful "
                f"runs of the past week took at most {_history(_DURATION + ':p95_7d{@pipeline}')}."
                f"{THE_LATEST_RUN}{PRESENT_STAGES}{HIDDEN}{LATEST_RUN_PAGE}"
                "\nNext: read the log of its present stage. Cancel the run if it no longer makes progress; check agents if it is pending."
                f"{BLIND}"
            ),
        ),
        Alert(
            "PipelineRunStuckWithoutHistory",
            f"""\
time() - ({_OLDEST} > 0) > 7200
unless on ({IDENTITY}) {_DURATION}:p95_7d > 0
{_NOT_WAITING}""",
            severity="warning",
            of_pipeline=True,
            note="The twin of PipelineRunStuck for pipelines without a successful run in the past week.",
            summary="A run has been in progress for more than two hours.",
            description=(
                f"Pipeline {PIPELINE} has had a run in progress for {{{{ .Value | humanizeDuration }}}}, and no successful run in "
                f"the past week to compare with.{THE_LATEST_RUN}{PRESENT_STAGES}{HIDDEN}{LATEST_RUN_PAGE}"
                "\nNext: read the log of its present stage. Cancel the run if it no longer makes progress; check agents if it is pending."
                f"{BLIND}"
            ),
        ),
        Alert(
            "PipelineRunWaiting",
            f"""\
(
  time() - ({_STAGE_WAITS} > 0) > 14400
  or
  time() - {_CHANGE} > 14400 and on ({IDENTITY}) {_WAITING} == 1
)
unless
  time() - ({_OLDEST} > 0) <= 2 * {_DURATION}:p95_7d""",
            severity="warning",
            of_pipeline=True,
            note=(
                "Waiting, paused or suspended, as a whole or in a stage. Not where runs usually take that long, pauses included."
            ),
            summary="A run has been waiting for a person for more than four hours.",
            description=(
                f"Pipeline {PIPELINE}: {LATEST_RUN} has been waiting, paused or suspended{WAITING_STAGES} for "
                f"{{{{ .Value | humanizeDuration }}}}.{LATEST_RUN_PAGE}"
                "\nNext: approve, resume or cancel the run."
                f"{BLIND}"
            ),
        ),
        Alert(
            "PipelineNotRun",
            f"""\
time() - {_START} > 3 * 86400
and on ({IDENTITY})
  sum without (status) ({_RUNS}7d offset 3d) >= 7""",
            severity="warning",
            of_pipeline=True,
            note="Only pipelines that ran once a day or more in the week before. Three days bridge a weekend.",
            summary="A pipeline that usually runs daily has not run for three days.",
            description=(
                f"Pipeline {PIPELINE} last started a run {{{{ .Value | humanizeDuration }}}} ago.{THE_LATEST_RUN} In the week "
                f"before, it ran at least once a day on average.{LATEST_RUN_PAGE}"
                "\nNext: check its schedule, its trigger and the webhook of its repository."
                f"{BLIND}"
            ),
        ),
        Alert(
            "PipelineSuccessRatioDropped",
            f"""\
{_RATIO}1d < {_RATIO}7d offset 1d - 0.25
and
sum without (status) ({_RUNS}1d{{status=~"success|failed"}}) >= 8""",
            severity="warning",
            of_pipeline=True,
            waiting="15m",
            keep_firing="1h",
            summary="A pipeline fails much more often than in the week before.",
            description=(
                f"{{{{ .Value | humanizePercentage }}}} of the runs of pipeline {PIPELINE} succeeded in the past 24 hours; in "
                "the week before it was "
                + ask(
                    f"{_RATIO}7d{{@pipeline}} offset 1d",
                    f"{{{{ {FIRST} | value | humanizePercentage }}}}",
                    "unknown",
                )
                + f".{THE_FINISHED_RUN}{FINISHED_RUN_PAGE}"
                "\nNext: look for a flaky stage in the failed runs of today."
            ),
        ),
        Alert(
            "PipelineSlower",
            f"""\
{_DURATION}:p95_1d > 1.5 * {_DURATION}:p95_7d offset 1d
and
{_DURATION}:p95_1d - {_DURATION}:p95_7d offset 1d > 60
and ignoring (le)
{_DURATION}_bucket:increase1d{{le="+Inf"}} >= 5""",
            severity="info",
            of_pipeline=True,
            maybe_of_project=True,
            waiting="30m",
            keep_firing="1h",
            note="A quantile of a histogram is as exact as its buckets. The minute keeps short pipelines quiet.",
            summary="Successful runs take much longer than in the week before.",
            description=(
                f"The 95th percentile of successful runs of {_OF} was {{{{ .Value | humanizeDuration }}}} in the past 24 hours, "
                "over 1.5 times that of the week before."
                "\nNext: compare the stages of a run of today with one of last week."
            ),
        ),
        Alert(
            "PipelineStageSlower",
            f"""\
{_STAGE}:mean1d > 1.5 * {_STAGE}:mean7d offset 1d
and
{_STAGE}:mean1d - {_STAGE}:mean7d offset 1d > 60
and
{_STAGE}_count:increase1d >= 5""",
            severity="info",
            of_pipeline=True,
            maybe_of_project=True,
            waiting="30m",
            keep_firing="1h",
            summary="A stage takes much longer than in the week before.",
            description=(
                f'Stage "{{{{ .Labels.stage_name }}}}" took {{{{ .Value | humanizeDuration }}}} on average in all runs of {_OF} in '
                "the past 24 hours, over 1.5 times as long as in the week before."
                "\nNext: find the slowest with topk(5, ci_pipeline_latest_run_stage_duration_seconds"
                '{project="{{ .Labels.project }}",stage_name="{{ .Labels.stage_name }}"}). Compare the log of its stage with one '
                "of last week: agents, caches, tests that were added."
            ),
        ),
    ),
)


def by_label(labels: str) -> Group[Alert]:
    """Return the alerts with labels that the configuration gives to pipelines, for routing."""
    red = joined(_FAILED, labels)
    by = f"{PROJECT}, {labels}"
    many = (
        f"sum by ({by}) (\n{indent(red, '  ')}\n) >= 5\nand\navg by ({by}) (\n{indent(red, '  ')}\n) > 0.25"
    )
    rules = tuple(
        replace(alert, expr=many) if alert.name == "PipelinesManyRed" else with_labels(alert, labels)
        for alert in ALERTS.rules
    )
    return replace(ALERTS, rules=rules)
