"""The settings of a project that all providers share."""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from exporter.config.proxy import ProxyUrl
from exporter.config.section import Section
from exporter.config.tls import Tls
from exporter.config.types import Duration, Identifier, Labels, Pattern, is_url
from exporter.config.yaml_source import Path as KeyPath
from exporter.core.model import url_label


class RateLimit(Section):
    """The request budget of a project in this process."""

    requests_per_second: float = Field(default=10, ge=0.001, le=100_000, allow_inf_nan=False)
    """Requests per second on average."""
    burst: int = Field(default=20, ge=1, le=100_000)
    """Requests that may be sent at once after a pause."""


class PipelineEntry(Section):
    """A pipeline to watch."""

    id: Identifier
    """The provider's id of the pipeline."""
    name: str | None = Field(default=None, min_length=1)
    """Value of the label `pipeline`; by default the name in the provider's list."""
    labels: Labels = Field(default={})
    """Labels of this pipeline; they override those of the project."""


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
    """A regular expression that must match the whole name."""
    labels: Labels
    """Labels of the matching pipelines."""


class NameFilter(Section):
    """What to watch of a list, by name."""

    include: Annotated[tuple[Pattern, ...], Field(min_length=1)] = (re.compile(".*"),)
    """Patterns of names to watch. One of them must match the whole name."""
    exclude: tuple[Pattern, ...] = ()
    """Patterns of names not to watch, even if `include` matches them."""

    def matches(self, name: str) -> bool:
        """Return whether to watch what has this name."""
        included = any(pattern.fullmatch(name) for pattern in self.include)
        return included and not any(pattern.fullmatch(name) for pattern in self.exclude)


class Discover(NameFilter):
    """Which of the provider's pipelines to watch in addition to the listed ones."""

    interval: Duration = 600.0
    """How often the list is read, as part of a refresh."""
    labels: tuple[LabelsByName, ...] = ()
    """Labels by name. If several entries set the same label, the last one wins."""

    def labels_of(self, name: str) -> dict[str, str]:
        """Return the labels of a pipeline of this name. If several rules set the same label, the last one wins."""
        found: dict[str, str] = {}
        for rule in self.labels:
            if rule.match.fullmatch(name):
                found |= rule.labels
        return found


def _filled(template: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _template(*names: str) -> Callable[[str], str]:
    """Return a validator of URL templates with these placeholders."""
    *first, last = (f"{{{name}}}" for name in names)

    def check(value: str) -> str:
        filled = _filled(value, dict.fromkeys(names, "i"))
        if "{" in filled or "}" in filled:
            raise ValueError(f"may hold {', '.join(first)} and {last} (and no other {{ or }})")
        if not is_url(filled):
            raise ValueError(f"must be a URL such as https://devcloud.example.com/{'/'.join((*first, last))}")
        if "@" in urlsplit(filled).netloc:
            raise ValueError("must not hold a user or password (it is shown as a label)")
        return value

    return check


def is_placeholder(identity: str) -> bool:
    """Return whether an id is only a placeholder, made of zeros or of x."""
    return set(identity.lower()) in ({"0"}, {"x"})


@dataclass(frozen=True, slots=True)
class ProjectSearch:
    """How an entry of the configuration finds its projects."""

    names: NameFilter
    interval: float
    """Seconds between two readings of the list."""
    base_url: str
    """URL to which the path of the list is appended."""


class CommonSection(Section):
    """The settings that every provider's project has."""

    name: str = Field(min_length=1, max_length=256)
    """Value of the label `project`, unique in the file."""
    provider: str
    """The cloud."""
    rate_limit: RateLimit = RateLimit()
    """Request budget of this project."""
    labels: Labels = Field(default={})
    """Labels of each of its pipelines. A pipeline's own labels take precedence."""
    url_template: Annotated[str, AfterValidator(_template("project_id", "pipeline_id"))] | None = None
    """URL of a pipeline's web page."""
    run_url_template: (
        Annotated[str, AfterValidator(_template("project_id", "pipeline_id", "run_id", "run_number"))] | None
    ) = None
    """URL of a run's web page. It replaces the URL that the provider reports."""
    pipelines: tuple[Listed[PipelineEntry], ...] = ()
    """Pipelines to watch, as ids or mappings. Without any, and without `discover`, every pipeline is watched."""
    discover: Discover | None = None
    """Pipelines to find by name, in addition to `pipelines`."""
    tls: Tls = Tls()
    """How the certificate of the cloud is verified."""
    proxy: ProxyUrl | None = None
    """URL of an HTTP proxy for this project."""


class ProjectSection(CommonSection):
    """Base class of the settings of a project, with the interface that every provider implements."""

    scope_key: ClassVar[str]
    """The configuration key for the vendor's id of the project."""

    @property
    @abstractmethod
    def scope(self) -> str:
        """The vendor's id of the project. The state of pipelines is stored under it, and so survives a change of `name`."""

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
        """Yield the path (in the project) and the problem of each setting that is allowed but probably not intended."""

    @property
    def discovery(self) -> Discover | None:
        """Which pipelines to discover: as configured, or all if none is listed. None if discovery is off."""
        return self.discover or (None if self.pipelines else Discover())

    @property
    def project_search(self) -> ProjectSearch | None:
        """Which projects this entry of the configuration stands for; None if it is one project."""
        return None

    def found_project(self, name: str, scope: str) -> Self:
        """Return the settings of a project that this entry has found: its label `project`, and the vendor's id."""
        raise NotImplementedError

    @property
    def default_url_template(self) -> str:
        """The vendor's documented URL template of a pipeline's web page; empty if it documents none."""
        return ""

    def page_url(self, pipeline: str) -> str:
        """Return the URL of a pipeline's web page; empty without a template."""
        values = {"project_id": self.scope, "pipeline_id": pipeline}
        return url_label(_filled(self.url_template or self.default_url_template, values))

    def run_url(self, pipeline: str, run: str, number: int | None) -> str:
        """Return the URL of a run's web page; empty without a template, or if the run lacks an id or number that it uses.

        `run` is the run's id, empty if missing. `number` is its run number, None if missing.
        """
        template = self.run_url_template
        if (
            not template
            or ("{run_id}" in template and not run)
            or ("{run_number}" in template and number is None)
        ):
            return ""
        values = {
            "project_id": self.scope,
            "pipeline_id": pipeline,
            "run_id": quote(run, safe=""),
            "run_number": str(number),
        }
        return url_label(_filled(template, values))
