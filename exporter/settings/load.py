"""Load a configuration file: return the settings, or raise one error that lists all problems."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from exporter.config.files import NotUsableError, read_file, too_large
from exporter.config.section import Context
from exporter.config.yaml_source import Document, Fault, key_text, read_document
from exporter.config.yaml_source import Path as KeyPath
from exporter.settings.messages import faults_of
from exporter.settings.settings import Config

FILE_LIMIT = 4 << 20
"""Maximum bytes of a configuration file."""


class ConfigError(Exception):
    """A configuration is invalid. The message has one line for each fault: `FILE:LINE: KEY: problem (remedy)`."""

    def __init__(self, file: Path, faults: list[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: fault.line)
        super().__init__(
            "\n".join(f"{file}:{fault.line}: {fault.key}: {fault.text}" for fault in self.faults)
        )


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A valid configuration, and the file that it was loaded from."""

    file: Path
    document: Document
    config: Config
    digest: bytes
    """SHA-256 of the file's content."""


def load(file: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Return the settings of a configuration file.

    Raises:
        ConfigError: the file cannot be read or is invalid. The error lists all faults.

    """
    return load_file(file, environment).config


def load_file(
    file: Path, environment: Mapping[str, str] = os.environ, *, content: bytes | None = None
) -> LoadedFile:
    """Return the configuration of a file, and its document with line numbers. `content`, if given, replaces the file's.

    Raises:
        ConfigError: the file cannot be read or is invalid. The error lists all faults.

    """
    try:
        if content is None:
            content = read_file(file, FILE_LIMIT)
        elif len(content) > FILE_LIMIT:
            raise too_large(FILE_LIMIT)
        text = content.decode()
    except NotUsableError as error:
        raise ConfigError(file, [Fault(1, "(file)", str(error))]) from None
    except OSError as error:
        raise ConfigError(file, [Fault(1, "(file)", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise ConfigError(file, [Fault(1, "(file)", "is not UTF-8 text (save it as UTF-8)")]) from None
    document = read_document(text, environment)
    faults = document.faults
    # A value that could not be parsed is reported already. A second message about its missing value would mislead.
    reported = {fault.key for fault in faults}
    if "(yaml)" in reported:
        raise ConfigError(file, faults)
    faults += [fault for fault in _duplicates(document) if fault.key not in reported]
    context = Context(file.parent)
    try:
        config = Config.model_validate(document.root if document.root is not None else {}, context=context)
    except ValidationError as error:
        faults += [fault for fault in faults_of(error, document, context) if fault.key not in reported]
        raise ConfigError(file, faults) from None
    faults += [
        fault for fault in _same_endpoint(config, document) if fault.key not in {f.key for f in faults}
    ]
    if faults:
        raise ConfigError(file, faults)
    return LoadedFile(file, document, config, hashlib.sha256(content).digest())


def _same_endpoint(config: Config, document: Document) -> list[Fault]:
    """Return faults for pipelines that are listed in two projects with the same base URL.

    Unlike `_duplicates`, this finds them even if one project gives a `region` and the other the region's `endpoint`.
    """
    faults = []
    seen: dict[tuple[str, str, str], str] = {}
    for index, project in enumerate(config.projects):
        for position, entry in enumerate(project.pipelines):
            key = (project.provider, project.base_url, entry.id)
            if key in seen and seen[key] != project.name:
                path = ("projects", index, "pipelines", position)
                text = f"the pipeline {entry.id} is in project {seen[key]!r} already (keep one)"
                faults.append(Fault(document.line(path), key_text(path), text))
            seen.setdefault(key, project.name)
    return faults


def _duplicates(document: Document) -> list[Fault]:
    """Return faults for project names and pipelines that occur twice.

    This searches the raw document, so that they are reported together with other faults.
    """
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
                text = f"a project {name!r} is in line {names[name]} already (give each its own name)"
                faults.append(Fault(line, key_text((*path, "name")), text))
            names.setdefault(name, line)
        entries = project.get("pipelines")
        for position, entry in enumerate(entries if isinstance(entries, list) else []):
            identifier = entry.get("id") if isinstance(entry, dict) else entry
            if not isinstance(identifier, str):
                continue
            cloud = project.get("endpoint") or project.get("region")
            key = (str(project.get("provider")), str(cloud), identifier)
            where = (*path, "pipelines", position)
            line = document.line(where)
            if key in pipelines:
                text = f"the pipeline {identifier!r} is in {pipelines[key]} already (keep one)"
                faults.append(Fault(line, key_text(where), text))
            owner = f"project {name!r}" if isinstance(name, str) else key_text(path)
            pipelines.setdefault(key, f"line {line}, {owner},")
    return faults
