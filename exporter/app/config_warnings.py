"""Find settings that are allowed but probably mistakes, for `check-config`."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from exporter.app.check_config import expected_series
from exporter.app.cloud_access import LOOPBACK
from exporter.app.estimate import batched, owned, quiet_requests
from exporter.config.duration import format_duration
from exporter.config.project_section import Discover, NameFilter
from exporter.config.secret import FileSecret, Secret, SecretError
from exporter.config.section import Section
from exporter.config.yaml_source import Path as KeyPath
from exporter.config.yaml_source import key_text
from exporter.core.clock import Clock
from exporter.core.shard import Shard
from exporter.providers.registry import AnyProject
from exporter.settings.load import LoadedFile
from exporter.settings.settings import Config

MANY_SERIES = 300_000
"""Series above which `check-config` warns."""

_VARIABLE = re.compile(r"\$[A-Z_][A-Z0-9_]*|\$\([A-Z_][A-Z0-9_]*\)|%[A-Z_][A-Z0-9_]*%|\{\{.*\}\}")
"""References to environment variables in the syntax of other programs."""
_GLOB = re.compile(r"(?<!\\)[A-Za-z0-9_-]\*")
_QUOTES = {'""', "''", "“”", "‘’"}  # noqa: RUF001  # what word processors write
_PIPELINE_ID = re.compile(r"[0-9a-f]{32}")


class ConfigWarning(NamedTuple):
    """A probable mistake: the path of the key, and the problem."""

    path: KeyPath
    text: str
    has_line: bool = True
    """False if the warning follows from many settings together."""


def warning_lines(loaded: LoadedFile, clock: Clock, shard: Shard | None = None) -> list[str]:
    """Return a line for each warning, in the order of the file; those without a line number come last."""
    found = sorted(
        (not warning.has_line, loaded.document.line(warning.path), position, warning)
        for position, warning in enumerate(warnings(loaded, clock, shard))
    )
    return [
        f"{loaded.file}:{f'{line}:' if warning.has_line else ''} {key_text(warning.path)}: warning: {warning.text}"
        for _, line, _, warning in found
    ]


def warnings(loaded: LoadedFile, clock: Clock, shard: Shard | None = None) -> Iterator[ConfigWarning]:
    """Yield every probable mistake in a configuration."""
    config = loaded.config
    yield from _poll_warnings(config)
    yield from _state_warnings(config)
    yield from _series_warnings(config, shard)
    for index, project in enumerate(config.projects):
        path: KeyPath = ("projects", index)
        yield from _empty_lists(loaded, path)
        yield from _project_warnings(config, project, path, shard)
        yield from (ConfigWarning((*path, *key), text) for key, text in project.warnings())
        yield from _secret_warnings(project, path)
        yield from _secret_warnings(project.auth, (*path, "auth"))
        expires = getattr(project.auth, "expires", None)
        if expires is not None and expires.timestamp() <= clock.time():
            yield ConfigWarning(
                (*path, "auth", "expires"),
                f"{expires:%Y-%m-%d} has passed (replace the credentials, and change the date)",
            )
    yield from _shared_projects(config)


def _poll_warnings(config: Config) -> Iterator[ConfigWarning]:
    poll = config.poll
    interval = format_duration(poll.interval)
    if poll.max_age < poll.interval:
        key = "max_age" if "max_age" in poll.model_fields_set else "interval"
        text = "max_age is below interval: values will disappear between refreshes (raise poll.max_age)"
        yield ConfigWarning(("poll", key), text)
    if poll.active_interval > poll.interval and "active_interval" in poll.model_fields_set:
        text = f"is above poll.interval ({interval}) and counts as that (lower it)"
        yield ConfigWarning(("poll", "active_interval"), text)


def _state_warnings(config: Config) -> Iterator[ConfigWarning]:
    if config.state.path is None:
        return
    file = Path(config.state.path)
    if file.is_dir():
        yield ConfigWarning(("state", "path"), f"{file} is a folder (give the path of a file in it)")
    elif not file.parent.is_dir():
        text = f"the folder {file.parent} does not exist (create it, or mount a volume there)"
        yield ConfigWarning(("state", "path"), text)


def _series_warnings(config: Config, shard: Shard | None) -> Iterator[ConfigWarning]:
    series, limits = expected_series(config, shard), config.limits
    if series > MANY_SERIES:
        text = (
            f"about {series} series are more than a scrape should have ({MANY_SERIES}): see metrics.details, "
            "run_histogram, run_status_series and the buckets"
        )
        yield ConfigWarning(("metrics",), text, has_line=False)
    for project in config.projects:
        listed = len(owned(project, shard))
        if listed > limits.max_pipelines:
            text = f"{project.name} lists {listed} pipelines: the last {listed - limits.max_pipelines} by id are not watched"
            yield ConfigWarning(("limits", "max_pipelines"), text)
        alone = config.model_copy(update={"projects": (project,)})
        expected = expected_series(alone, shard) if limits.max_series else 0
        if expected > limits.max_series:
            text = f"{project.name} has about {expected} series: some will be withheld (raise it, or expose fewer)"
            yield ConfigWarning(("limits", "max_series"), text)


def _empty_lists(loaded: LoadedFile, path: KeyPath) -> Iterator[ConfigWarning]:
    """Yield keys without a value. They count as left out, which is probably not intended."""
    projects = loaded.document.root["projects"] if isinstance(loaded.document.root, dict) else None
    raw = projects[int(path[-1])] if isinstance(projects, list) else None
    if not isinstance(raw, dict):
        return
    if "pipelines" in raw and raw["pipelines"] is None and not raw.get("discover"):
        text = "has no value, so every pipeline of the project is watched (write [] if that is intended)"
        yield ConfigWarning((*path, "pipelines"), text)
    if raw.get("pipelines") and "discover" in raw and raw["discover"] is None:
        text = "has no value and counts as left out, so nothing is discovered (write discover: {})"
        yield ConfigWarning((*path, "discover"), text)


def _project_warnings(
    config: Config, project: AnyProject, path: KeyPath, shard: Shard | None
) -> Iterator[ConfigWarning]:
    limit, interval = project.rate_limit, config.poll.interval
    needed = (quiet_requests(config, project, shard) - limit.burst) / limit.requests_per_second
    if needed > interval:
        text = (
            f"a refresh takes {needed:.0f} s under rate_limit, longer than poll.interval "
            f"({format_duration(interval)}): raise one of them{', or poll.chunk_size' if batched(project) else ''}"
        )
        yield ConfigWarning((*path, "rate_limit"), text, has_line=False)
    search = project.project_search
    if search is not None:
        yield from (
            ConfigWarning((*path, "discover_projects", *key), text)
            for key, text in _name_warnings(search.names, ())
        )
    if project.discover:
        yield from (
            ConfigWarning((*path, "discover", *key), text)
            for key, text in _discover_warnings(project.discover, interval)
        )
    if project.url_template and "{pipeline_id}" not in project.url_template:
        text = "has no {pipeline_id}: all pipelines will have the same url"
        yield ConfigWarning((*path, "url_template"), text)
    if project.tls.insecure_skip_verify:
        text = "an attacker in the network can read the credentials (use tls.ca_file instead)"
        yield ConfigWarning((*path, "tls", "insecure_skip_verify"), text)
    for url in project.urls:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            key = ("endpoint",) if url == project.base_url else ("auth", "iam_endpoint")
            if search is not None and url == search.base_url:
                key = ("discover_projects", "endpoint")
            text = f"{url} is not encrypted: credentials are sent in clear text (use https)"
            yield ConfigWarning((*path, *key), text)


def _discover_warnings(discover: Discover, interval: float) -> Iterator[tuple[KeyPath, str]]:
    if discover.interval < interval:
        own = format_duration(discover.interval)
        text = f"{own} is below poll.interval ({format_duration(interval)}), so the list is read once a refresh only"
        yield ("interval",), text
    rules = [
        (("labels", position, "match"), rule.match.pattern) for position, rule in enumerate(discover.labels)
    ]
    yield from _name_warnings(discover, rules)


def _name_warnings(names: NameFilter, rules: Iterable[tuple[KeyPath, str]]) -> Iterator[tuple[KeyPath, str]]:
    """Yield patterns of a filter that probably do not do what was intended; `rules` are further patterns to check."""
    patterns: list[tuple[KeyPath, str]] = []
    for key in ("include", "exclude"):
        seen: set[str] = set()
        for position, pattern in enumerate(getattr(names, key)):
            if pattern.pattern in seen:
                yield (key, position), f"{pattern.pattern} is given twice (keep one)"
            else:
                patterns.append(((key, position), pattern.pattern))
            seen.add(pattern.pattern)
    excluded = {pattern.pattern for pattern in names.exclude}
    for path, pattern in patterns:
        if path[0] == "exclude" and pattern in {".*", ".+", "^.*$"}:
            yield path, f"{pattern} matches every name, so nothing is discovered"
        elif path[0] == "include" and pattern in excluded:
            yield path, f"{pattern} is in exclude as well, so it selects nothing"
    for path, pattern in (*patterns, *rules):
        if problem := _pattern_problem(pattern):
            yield path, problem


def _pattern_problem(pattern: str) -> str:
    """Return why a pattern probably selects other names than intended; empty if it seems right.

    A pattern must match a whole name, so an anchor at one end suggests a misunderstanding.
    """
    if _PIPELINE_ID.fullmatch(pattern):
        return f"{pattern} looks like an id, but patterns match names (list ids under pipelines)"
    if glob := _GLOB.search(pattern):
        right = pattern.replace("*", ".*")
        return f"in {pattern} the * repeats {glob[0][0]!r}; any characters are .* (write {right})"
    if pattern.startswith("^") and re.fullmatch(r"[\w-]+", pattern[1:]):
        return f"{pattern} matches the name {pattern[1:]!r} only (for names that begin so write {pattern}.*)"
    if pattern.endswith("$") and re.fullmatch(r"[\w-]+", pattern[:-1]):
        return f"{pattern} matches the name {pattern[:-1]!r} only (for names that end so write .*{pattern})"
    return ""


def _secret_warnings(section: Section, path: KeyPath) -> Iterator[ConfigWarning]:
    """Yield secrets that cannot be read now, or that are probably mistakes. No warning repeats a secret."""
    values: dict[str, str] = {}
    for name in type(section).model_fields:
        secret = getattr(section, name)
        if not isinstance(secret, Secret):
            continue
        key = (*path, f"{name}_file" if isinstance(secret, FileSecret) else name)
        try:
            value = secret.reveal()
        except SecretError as error:
            yield ConfigWarning(key, f"{error} (mount the file, or correct the path)")
            continue
        if _VARIABLE.fullmatch(value):
            yield ConfigWarning(key, "looks like a variable that is not replaced (write ${NAME})")
        elif len(value) > 1 and value[0] + value[-1] in _QUOTES:
            yield ConfigWarning(key, "is in quotation marks, which are sent as a part of it (remove them)")
        elif value in values.values():
            other = next(known for known, one in values.items() if one == value)
            yield ConfigWarning(key, f"is the same as {other} (is one of them in the place of the other?)")
        values[str(key[-1])] = value


def _shared_projects(config: Config) -> Iterator[ConfigWarning]:
    """Yield projects that discover the same pipelines as an earlier project, which then owns all of them."""
    first: dict[tuple[object, ...], str] = {}
    for index, project in enumerate(config.projects):
        if (discovery := project.discovery) is None or project.project_search is not None:
            continue
        key = (project.provider, project.base_url, project.scope, discovery.include, discovery.exclude)
        if key in first:
            text = f"discovers the same pipelines as {first[key]}, which then has them all (remove one, or change include)"
            yield ConfigWarning(("projects", index, project.scope_key), text)
        first.setdefault(key, project.name)
