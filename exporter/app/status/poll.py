"""Poll the projects of a configuration for the command `status`."""

from exporter.app.once import poll_once
from exporter.app.status.page import Samples, read_samples
from exporter.core.shard import Shard
from exporter.polling.progress import Progress
from exporter.settings.settings import Config

_METRICS = {
    "run_status_series": "current",
    "stage_status_series": "current",
    "run_info_labels": ["branch", "url"],
    "details": "none",
    "run_histogram": "off",
    "stage_histogram": "off",
    "created_series": False,
}
"""Settings of `metrics` that expose what the command `status` needs, independent of the configuration."""


async def poll(config: Config, shard: Shard | None, progress: Progress) -> tuple[Samples, dict[str, str]]:
    """Poll every project once. Return the samples, and the remedy for each project with a failure, by name."""
    metrics = config.metrics.model_copy(update=_METRICS)
    limits = config.limits.model_copy(update={"max_series": 0})
    exporter, page = await poll_once(
        config.model_copy(update={"metrics": metrics, "limits": limits}), shard, progress
    )
    causes = {poller.project: poller.health.cause for poller in exporter.pollers}
    causes |= {one.settings.name: one.finder.cause for one in exporter.finders}
    remedies = {project: cause.remedy for project, cause in causes.items() if cause is not None}
    return read_samples(b"".join(page.chunks).splitlines()), remedies
