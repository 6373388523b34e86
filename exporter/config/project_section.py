"""The settings of a project that all providers share."""

import re
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, ClassVar, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from exporter.config.proxy import ProxyUrl
from exporter.config.section import Section
from exporter.config.tls import Tls
from exporter.config.types import Duration, Identifier, Labels, Pattern, is_url
from exporter.config.yaml_source import Path as KeyPath


class RateLimit(Section):
    """The request budget of a project in this process."""

    requests_per_second: float = Field(default=10, ge=0.001, le=100_000, allow_inf_nan=False)
    burst: int = Field(default=20, ge=1, le=100_000)


class PipelineEntry(Section):
    """A pipeline to watch."""

    id: Identifier
    name: str | None = Field(default=None, min_length=1)
    labels: Labels = Field(default={})


P = TypeVar("P", bound=PipelineEntry)


def _entry(value: object) -> object:
    if isinstance(value, str):
        return {"id": value}
    if not isinstance(value, dict | PipelineEntry):
        raise ValueError("must be an id, or a mapping with an id")  # noqa: TRY004  # pydantic collects ValueError
    return value


Listed = Annotated[P, BeforeValidator(_entry)]
"""A pipeline to watch, given as a mapping or as an id alone."""


class LabelsByName(Section):
    """Labels for the pipelines whose name matches."""

    match: Pattern
    labels: Labels


class Discover(Section):
    """Which of the provider's pipelines to watch in addition to the listed ones."""

    interval: Duration = 600.0
    include: Annotated[tuple[Pattern, ...], Field(min_length=1)] = (re.compile(".*"),)
    exclude: tuple[Pattern, ...] = ()
    labels: tuple[LabelsByName, ...] = ()

    def matches(self, name: str) -> bool:
        """Return whether to watch a pipeline of this name."""
        included = any(pattern.fullmatch(name) for pattern in self.include)
        return included and not any(pattern.fullmatch(name) for pattern in self.exclude)

    def labels_of(self, name: str) -> dict[str, str]:
        """Return the labels of a pipeline of this name. Where rules give one label twice, the last one wins."""
        found: dict[str, str] = {}
        for rule in self.labels:
            if rule.match.fullmatch(name):
                found |= rule.labels
        return found


def _template(value: str) -> str:
    filled = value.replace("{project_id}", "p").replace("{pipeline_id}", "i")
    if "{" in filled or "}" in filled:
        raise ValueError("may hold {project_id} and {pipeline_id} (and no other { or })")
    if not is_url(filled):
        raise ValueError("must be a URL such as https://devcloud.example.com/{project_id}/{pipeline_id}")
    if "@" in urlsplit(filled).netloc:
        raise ValueError("must not hold a user or password (it is shown as a label)")
    return value


def is_placeholder(identity: str) -> bool:
    """Return whether an id stands for one that still has to be filled in, such as all zeros."""
    return set(identity.lower()) in ({"0"}, {"x"})


class CommonSection(Section):
    """The settings that every provider's project has."""

    name: str = Field(min_length=1, max_length=256)
    provider: str
    rate_limit: RateLimit = RateLimit()
    labels: Labels = Field(default={})
    """Labels of each of its pipelines. A pipeline's own labels take precedence."""
    url_template: Annotated[str, AfterValidator(_template)] | None = None
    """URL of a pipeline's page, with `{project_id}` and `{pipeline_id}`."""
    pipelines: tuple[Listed[PipelineEntry], ...] = ()
    discover: Discover | None = None
    tls: Tls = Tls()
    proxy: ProxyUrl | None = None


class ProjectSection(CommonSection):
    """A project of any provider, as the rest of the exporter sees it."""

    scope_key: ClassVar[str]
    """The key that holds the vendor's id of the project."""

    @property
    @abstractmethod
    def scope(self) -> str:
        """The vendor's id of the project. It identifies the project in the state, also after a rename."""

    @property
    @abstractmethod
    def base_url(self) -> str:
        """The URL to which the paths of the API are appended."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Every URL to which credentials are sent."""
        return (self.base_url,)

    @abstractmethod
    def warnings(self) -> Iterator[tuple[KeyPath, str]]:
        """Yield settings that are allowed but probably not intended: the path in the project, and the problem."""

    @property
    def discovery(self) -> Discover | None:
        """What to discover: as configured, or everything where no pipeline is listed."""
        return self.discover or (None if self.pipelines else Discover())

    def page_url(self, pipeline: str) -> str:
        """Return the URL of a pipeline's page; empty without a template."""
        template = self.url_template or ""
        return template.replace("{project_id}", self.scope).replace("{pipeline_id}", pipeline)
