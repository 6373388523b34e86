"""Estimates of the requests and series that a project's configuration causes."""

from collections.abc import Iterator

from exporter.app.check_config import series_each
from exporter.app.config_warnings import MANY_SERIES
from exporter.app.doctor.checks import Check, Name, ok, warning
from exporter.app.estimate import requests
from exporter.providers.registry import AnyProject
from exporter.settings.settings import Config


def estimates(config: Config, project: AnyProject, watched: int | None) -> Iterator[Check]:
    """Yield the estimated requests of a project, then its series unless `watched`, its number of pipelines, is None."""
    lines = [line.strip(" -") for line in requests(config, project, None)]
    yield ok(Name.REQUESTS, "; ".join(lines[:2]))
    if watched is None:
        return
    series, limit = watched * series_each(config), config.limits.max_series
    detail = f"about {series} for {watched} pipelines"
    if series <= MANY_SERIES and not 0 < limit < series:
        yield ok(Name.SERIES, detail)
        return
    yield warning(
        Name.SERIES, detail, "expose fewer (metrics, discover), or use several exporters; see docs/scaling.md"
    )
