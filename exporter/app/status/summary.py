"""Compute which pipelines are red, waiting and long-running from the samples of /metrics."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

from exporter.app.status.page import Samples
from exporter.status_page.answer import (
    ENOUGH,
    RUNNING,
    WAITING,
    ActivePipeline,
    ProjectStatus,
    RedPipeline,
    describe,
    limit,
)

_Key = tuple[str, str]
"""Project and pipeline id."""


class Summary(msgspec.Struct, kw_only=True):
    """Projects and pipelines, in the order in which they are printed."""

    projects: list[ProjectStatus]
    red: list[RedPipeline]
    waiting: list[ActivePipeline]
    long_running: list[ActivePipeline]
    incomplete: frozenset[str] = frozenset()
    """Projects that are up although their last refresh partly failed."""
    remedies: Mapping[str, str] = MappingProxyType({})
    """Remedies for projects that are down, as headings of docs/troubleshooting.md."""

    @property
    def down(self) -> bool:
        """Whether any project is down."""
        return any(project.up is False for project in self.projects)

    def json(self) -> str:
        """Return the summary as JSON, with terminal control characters escaped."""
        shown = {
            name: [msgspec.structs.asdict(one) for one in getattr(self, name)]
            for name in ("projects", "red", "waiting", "long_running")
        }
        text = json.dumps(shown, ensure_ascii=False, indent=2)
        return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


class _Index:
    """Samples, indexed by pipeline."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._urls = {_key(labels): labels.get("url", "") for labels, _ in samples["ci_pipeline_info"]}

    def values(self, name: str) -> dict[_Key, float]:
        return {_key(labels): value for labels, value in self._samples[name]}

    def labels(self, name: str) -> dict[_Key, dict[str, str]]:
        return {_key(labels): labels for labels, _ in self._samples[name]}

    def statuses(self, name: str) -> Iterator[tuple[_Key, dict[str, str]]]:
        return ((_key(labels), labels) for labels, value in self._samples[name] if value == 1)

    def stages(self, name: str, statuses: frozenset[str] | None = None) -> dict[_Key, list[str]]:
        """Return the names of each pipeline's stages in order; with `statuses`, only of stages with one of them."""
        found: dict[_Key, list[tuple[int, str]]] = {}
        for key, labels in self.statuses(name):
            if statuses is None or labels.get("status") in statuses:
                sequence = labels.get("stage_sequence", "")
                place = int(sequence) if sequence.isdecimal() else 0
                found.setdefault(key, []).append((place, labels.get("stage_name", "")))
        return {key: [stage for _, stage in sorted(stages)] for key, stages in found.items()}

    def averages(self) -> dict[_Key, float]:
        """Return the mean duration of successful runs in seconds, for pipelines with at least `ENOUGH` of them."""
        sums, counts = (
            {
                _key(labels): value
                for labels, value in self._samples[name]
                if labels.get("status") == "success"
            }
            for name in ("ci_pipeline_run_duration_seconds_sum", "ci_pipeline_run_duration_seconds_count")
        )
        return {key: sums[key] / count for key, count in counts.items() if count >= ENOUGH and key in sums}

    def url(self, key: _Key, run: dict[str, str]) -> str | None:
        """Return the URL of a run's web page, or of its pipeline's. None unless it is http or https."""
        for url in (run.get("url", ""), self._urls.get(key, "")):
            if url.startswith(("https://", "http://")):
                return url
        return None


def _key(labels: dict[str, str]) -> _Key:
    return labels.get("project", ""), labels.get("pipeline_id", "")


def summarize(samples: Samples, now: float) -> Summary:
    """Return the summary of the samples at `now` (Unix seconds)."""
    index = _Index(samples)
    red = sorted(_red(index), key=lambda one: (-(one.since or 0), one.project, one.pipeline))
    latest = dict(index.statuses("ci_pipeline_latest_run_status"))

    def active(statuses: frozenset[str], since: str) -> list[ActivePipeline]:
        pipelines = {key: labels for key, labels in latest.items() if labels.get("status", "") in statuses}
        stages = index.stages("ci_pipeline_latest_run_stage_status", statuses)
        return list(_active(index, pipelines, index.values(since), stages))

    waiting = active(WAITING, "ci_pipeline_latest_run_status_change_timestamp_seconds")
    running = active(RUNNING, "ci_pipeline_latest_run_start_timestamp_seconds")
    long_running = [
        one for one in running if one.since is not None and now - one.since > limit(one.usual_seconds)
    ]
    for pipelines in (waiting, long_running):
        # The longest first; those of unknown age last.
        pipelines.sort(key=lambda one: (one.since or now, one.project, one.pipeline))
    counts = {
        "red": Counter(one.project for one in red),
        "running": Counter(
            project for (project, _), labels in latest.items() if labels.get("status") == "running"
        ),
        "waiting": Counter(one.project for one in waiting),
    }
    projects, incomplete = _projects(samples, counts)
    return Summary(
        projects=projects, red=red, waiting=waiting, long_running=long_running, incomplete=incomplete
    )


def _red(index: _Index) -> Iterator[RedPipeline]:
    since = index.values("ci_pipeline_broken_since_timestamp_seconds")
    failures = index.values("ci_pipeline_consecutive_failures")
    stages = index.stages("ci_pipeline_latest_finished_run_failed_stage")
    runs = index.labels("ci_pipeline_latest_finished_run_info")
    for key, labels in index.statuses("ci_pipeline_latest_finished_run_status"):
        if labels.get("status") != "failed":
            continue
        run = runs.get(key, {})
        count = failures.get(key)
        yield RedPipeline(
            project=key[0],
            pipeline=labels.get("pipeline", ""),
            pipeline_id=key[1],
            since=since.get(key),
            failures=None if count is None else int(count),
            failed_stages=stages.get(key, []),
            branch=run.get("branch") or None,
            url=index.url(key, run),
        )


def _active(
    index: _Index,
    latest: dict[_Key, dict[str, str]],
    since: dict[_Key, float],
    stages: dict[_Key, list[str]],
) -> Iterator[ActivePipeline]:
    runs = index.labels("ci_pipeline_latest_run_info")
    averages = index.averages()
    for key, labels in latest.items():
        run = runs.get(key, {})
        yield ActivePipeline(
            project=key[0],
            pipeline=labels.get("pipeline", ""),
            pipeline_id=key[1],
            status=labels.get("status", ""),
            since=since.get(key),
            stages=stages.get(key, []),
            branch=run.get("branch") or None,
            url=index.url(key, run),
            usual_seconds=averages.get(key),
        )


def _projects(
    samples: Samples, counts: dict[str, Counter[str]]
) -> tuple[list[ProjectStatus], frozenset[str]]:
    """Return the projects, and the names of those that are up although their last refresh partly failed."""

    def values(name: str) -> dict[str, float]:
        return {labels.get("project", ""): value for labels, value in samples[name]}

    down_since = values("pipeline_exporter_project_down_since_timestamp_seconds")
    polled = values("pipeline_exporter_last_poll_timestamp_seconds")
    pipelines = values("pipeline_exporter_pipelines")
    causes = {
        labels.get("project", ""): describe(
            labels.get("operation", ""), labels.get("code", ""), labels.get("error_code", "")
        )
        for labels, _ in samples["pipeline_exporter_project_failure_info"]
    }
    projects, incomplete = [], set()
    for labels, value in samples["pipeline_exporter_project_up"]:
        name = labels.get("project", "")
        down = name in down_since
        if value != 1 and not down and polled.get(name):
            incomplete.add(name)
        projects.append(
            ProjectStatus(
                project=name,
                provider=labels.get("provider", ""),
                up=False if down else (True if value == 1 or polled.get(name) else None),
                down_since=down_since.get(name),
                cause=causes.get(name),
                pipelines=int(pipelines.get(name, 0)),
                red=counts["red"][name],
                running=counts["running"][name],
                waiting=counts["waiting"][name],
            )
        )
    return projects, frozenset(incomplete)
