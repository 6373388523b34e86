"""The settings, their defaults, and `load`: a file in, `Config` or every fault out."""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError

from exporter.config.files import NotUsableError, read_file
from exporter.config.section import (
    CommonSection,
    Context,
    Duration,
    Section,
    increasing,
    placed,
    without_twins,
)
from exporter.config.yaml_source import Document, Fault, key_text, read_document
from exporter.config.yaml_source import Path as KeyPath
from exporter.core.histograms import HistogramScope
from exporter.core.redaction import redact
from exporter.providers.registry import AnyProject

Buckets = Annotated[tuple[Duration, ...], AfterValidator(increasing)]

RunInfoLabel = Literal[
    "trigger", "branch", "tag", "run_id", "commit", "executor", "event", "merge_id", "source_branch", "url"
]


_FILE_LIMIT = 4 << 20
"""Bytes of a configuration."""
_MINUTE = 60.0
_HOUR = 3600.0


class Poll(Section):
    """When and how the cloud is asked."""

    interval: Duration = 60.0
    active_interval: Duration = 15.0
    chunk_size: int = Field(default=50, ge=1, le=1000)
    concurrency: int = Field(default=4, ge=1, le=100)
    timeout: Duration = 10.0
    max_age: Duration = 15 * _MINUTE


class Metrics(Section):
    """What is exposed."""

    run_status_series: Literal["all", "current"] = "all"
    stage_status_series: Literal["all", "current"] = "current"
    run_info_labels: Annotated[tuple[RunInfoLabel, ...], AfterValidator(without_twins)] = (
        "trigger",
        "branch",
    )
    details: Literal["none", "jobs", "steps"] = "none"
    run_histogram: HistogramScope = "pipeline"
    stage_histogram: HistogramScope = "project"
    run_duration_buckets: Buckets = (
        15.0, 30.0, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, 30 * _MINUTE,
        _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 24 * _HOUR,
    )  # fmt: skip
    stage_duration_buckets: Buckets = (30.0, 2 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE, 2 * _HOUR)
    created_series: bool = False


class State(Section):
    """Where what is to survive a restart is kept."""

    path: Annotated[str, Field(min_length=1), AfterValidator(placed)] | None = None


class Limits(Section):
    """What a page may grow to."""

    max_series: int = Field(default=0, ge=0)
    """Of one project, beside the exporter's own; 0 is no limit."""
    max_pipelines: int = Field(default=20_000, ge=1)
    """Of one project, after include and exclude, and of this shard."""


def _of_a_provider(value: object) -> object:
    # Of an empty tag pydantic tells which there are, of a missing one it does not.
    return {**value, "provider": ""} if isinstance(value, dict) and not value.get("provider") else value


class Config(Section):
    """The whole configuration."""

    poll: Poll = Poll()
    metrics: Metrics = Metrics()
    state: State = State()
    limits: Limits = Limits()
    projects: tuple[Annotated[AnyProject, BeforeValidator(_of_a_provider)], ...] = Field(min_length=1)

    def effective(self) -> str:
        """The configuration in force as YAML, defaults filled in, every secret as `<secret>`."""
        values = _redacted(self.model_dump(mode="json"))
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _redacted(value: Any) -> Any:
    """Return settings whose texts have no secrets: a user may have put one where none belongs."""
    if isinstance(value, dict):
        return {key: _redacted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_redacted(one) for one in value]
    return redact(value) if isinstance(value, str) else value


class ConfigError(Exception):
    """Every fault of a configuration file, a line each: `FILE:LINE: KEY: what is wrong (and what would be right)`."""

    def __init__(self, file: Path, faults: list[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: fault.line)
        super().__init__(
            "\n".join(f"{file}:{fault.line}: {fault.key}: {fault.text}" for fault in self.faults)
        )


def load(file: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: with every fault that the file has.

    """
    try:
        text = read_file(file, _FILE_LIMIT).decode()
    except NotUsableError as error:
        raise ConfigError(file, [Fault(1, "(file)", str(error))]) from None
    except OSError as error:
        raise ConfigError(file, [Fault(1, "(file)", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError(file, [Fault(1, "(file)", "is not UTF-8 text (save it as UTF-8)")]) from None
    document = read_document(text, environment)
    faults = document.faults
    # A value that could not be read has been told; what the schema says of the gap that it left would mislead.
    told = {fault.key for fault in faults}
    if "(yaml)" in told:
        raise ConfigError(file, faults)
    faults += [fault for fault in _twins(document) if fault.key not in told]
    context = Context(file.parent)
    try:
        config = Config.model_validate(document.root if document.root is not None else {}, context=context)
    except ValidationError as error:
        faults += [fault for fault in _faults(error, document, context) if fault.key not in told]
        raise ConfigError(file, faults) from None
    faults += [fault for fault in _same_place(config, document) if fault.key not in {f.key for f in faults}]
    if faults:
        raise ConfigError(file, faults)
    return config


def _same_place(config: Config, document: Document) -> list[Fault]:
    """Pipelines that stand twice where one project says `region` and the other its `endpoint`."""
    faults = []
    seen: dict[tuple[str, str, str], str] = {}
    for index, project in enumerate(config.projects):
        for place, entry in enumerate(project.pipelines):
            key = (project.provider, project.base_url, entry.id)
            if key in seen and seen[key] != project.name:
                path = ("projects", index, "pipelines", place)
                text = f"the pipeline {entry.id} stands in project {seen[key]!r} already (keep one)"
                faults.append(Fault(document.line(path), key_text(path), text))
            seen.setdefault(key, project.name)
    return faults


def _twins(document: Document) -> list[Fault]:
    """Names and pipelines that stand twice, found in the raw document so that they are told with everything else."""
    faults: list[Fault] = []
    names: dict[str, int] = {}
    pipelines: dict[tuple[str, str, str], str] = {}
    root = document.root
    projects = root.get("projects") if isinstance(root, dict) else None
    for index, project in enumerate(projects if isinstance(projects, list) else []):
        if not isinstance(project, dict):
            continue
        path: KeyPath = ("projects", index)
        name = project.get("name")
        if isinstance(name, str):
            line = document.line((*path, "name"))
            if name in names:
                text = f"a project {name!r} stands in line {names[name]} already (give each its own name)"
                faults.append(Fault(line, key_text((*path, "name")), text))
            names.setdefault(name, line)
        entries = project.get("pipelines")
        for place, entry in enumerate(entries if isinstance(entries, list) else []):
            identifier = entry.get("id") if isinstance(entry, dict) else entry
            if not isinstance(identifier, str):
                continue
            cloud = project.get("endpoint") or project.get("region")
            key = (str(project.get("provider")), str(cloud), identifier)
            where = (*path, "pipelines", place)
            line = document.line(where)
            if key in pipelines:
                text = f"the pipeline {identifier!r} stands in {pipelines[key]} already (keep one)"
                faults.append(Fault(line, key_text(where), text))
            owner = f"project {name!r}" if isinstance(name, str) else key_text(path)
            pipelines.setdefault(key, f"line {line}, {owner},")
    return faults


class _OfAnybody(CommonSection):
    """A project of which nobody knows what else it should have."""

    model_config = ConfigDict(extra="ignore")


def _errors(error: ValidationError, document: Document, context: Context) -> Iterator[dict[str, Any]]:
    """What pydantic finds, and of a project without a known provider what can be told all the same."""
    for item in error.errors(include_url=False, include_input=False):
        yield dict(item)
        path, around = _locate(item["loc"], document)
        if item["type"] == "union_tag_invalid" and path[:-1] == ("projects",):
            try:
                _OfAnybody.model_validate({**around[path[-1]], "provider": "-"}, context=context)
            except ValidationError as others:
                for other in others.errors(include_url=False, include_input=False):
                    yield {**other, "loc": (*path, "-", *other["loc"])}


def _faults(error: ValidationError, document: Document, context: Context) -> list[Fault]:
    faults = []
    for item in _errors(error, document, context):
        path, around = _locate(item["loc"], document)
        kind, details = item["type"], item.get("ctx", {})
        if (
            kind == "too_short"
            and around is not None
            and isinstance(around, dict)
            and around.get(str(path[-1]))
        ):
            continue  # it has items, each with a fault of its own
        if kind.startswith("union_tag"):
            path = (*path, str(details["discriminator"]).strip("'"))
        elif kind == "value_error" and isinstance(around, dict) and around.get(str(path[-1])) is None:
            file = f"{path[-1]}_file"
            if around.get(file) is not None:
                path = (*path[:-1], file)  # the secret was given by a file: that key is what is wrong
        faults.append(
            Fault(
                document.line(path), key_text(path), _text(kind, item["msg"], details, path, around, context)
            )
        )
    return faults


def _locate(location: tuple[int | str, ...], document: Document) -> tuple[KeyPath, Any]:
    """The path in the document, without what pydantic adds: the tags of unions, the `id` of an entry that is one."""
    path: KeyPath = ()
    around: Any = None
    here: Any = document.root
    tagged = 0
    for part in location:
        # A key that is wrong itself has `[key]` after it.
        if isinstance(here, str) or (part == "[key]" and not (isinstance(here, dict) and part in here)):
            break
        if len(path) > tagged and _is_tagged(path):
            tagged = len(path)
            continue
        path = (*path, part)
        around = here
        if isinstance(here, dict):
            here = here.get(str(part))
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            here = None
    return path, around


def _is_tagged(path: KeyPath) -> bool:
    """Whether what stands at a path is of one of several kinds: a project of a provider, an `auth` of a method."""
    return path[:1] == ("projects",) and (len(path) == 2 or path[2:] == ("auth",))


_TEXTS = {
    "missing": "is missing (it has no default)",
    "string_type": "must be text (quote it if it is empty or begins with [ or {)",
    "list_type": "must be a list ([one, two])",
    "tuple_type": "must be a list ([one, two])",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of sane size",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}

_BOUNDS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "string_too_long": "at most {max_length} characters long",
}


def _text(
    kind: str, message: str, details: dict[str, Any], path: KeyPath, around: object, context: Context
) -> str:
    if kind == "extra_forbidden":
        known = context.known.get(id(around), ())
        if ":" in str(path[-1]):
            return "unknown key (write a space after the colon)"
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key ({hint})"
    if kind == "value_error":
        return str(details["error"])
    if kind in {"literal_error", "union_tag_invalid"}:
        expected = str(details.get("expected", details.get("expected_tags"))).replace("'", "")
        choice = f"one of: {expected.replace(' or ', ', ')}"
        return f"must be {choice}" if details.get("tag") != "" else f"is missing ({choice})"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**details)}"
    return _TEXTS.get(kind) or message.replace("Input should", "must").replace("String should", "must")
