"""Generate the JSON Schema of the configuration, for editors, from the types and their docstrings.

The schema describes the format of a file. Only `check-config` checks values such as file paths and regions.
"""

import ast
import inspect
import json
import textwrap
from itertools import pairwise
from typing import Any

from exporter.config.duration import DURATION_PATTERN
from exporter.config.project_section import PipelineEntry
from exporter.config.section import FILE_FORM, Section, secrets_of
from exporter.config.types import ID_PATTERN
from exporter.settings.settings import Config

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_VARIABLE = r"\$\{"
"""Pattern of a reference to an environment variable. Any value may contain one."""
_NUMBER = r"^[-+]?[0-9][0-9_.eE+-]*$"
_TRUTH = "|".join(
    "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in word)
    for word in ("true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0")
)
_ID_ALONE = {"type": ["string", "integer"], "pattern": f"{ID_PATTERN}|{_VARIABLE}"}
_NULL = {"type": "null"}
"""Schema of an optional key without a value, which counts as left out."""

Schema = dict[str, Any]


def schema() -> Schema:
    """Return the schema as a JSON value."""
    found = Config.model_json_schema()
    sections = {section.__name__: section for section in _sections(Section)}
    definitions = {
        name: _section(definition, sections[name]) for name, definition in found.pop("$defs").items()
    }
    root = _section(found, Config)
    return {"$schema": _DIALECT, "title": "Configuration of pipeline-exporter", **root, "$defs": definitions}


def schema_text() -> str:
    """Return the schema as JSON text."""
    return f"{json.dumps(schema(), ensure_ascii=False, indent=2)}\n"


def _sections(section: type[Section]) -> list[type[Section]]:
    return [one for child in section.__subclasses__() for one in (child, *_sections(child))]


def _section(definition: Schema, section: type[Section]) -> Schema:
    """Return the schema of a section: its keys with their descriptions, and a key `x_file` for each secret `x`."""
    texts, secrets = _docstrings(section), secrets_of(section)
    required = [key for key in definition.get("required", ()) if key not in secrets]
    properties: Schema = {}
    conditions: list[Schema] = []
    for key, value in definition["properties"].items():
        shown: Schema = {"description": texts[key]} if key in texts else {}
        if value.get("default") is not None:
            shown["default"] = value["default"]
        written = _as_written(value)
        optional = key not in required
        properties[key] = {**shown, **_any_of(written, *([_NULL] if optional else []))}
        if key in secrets:
            file = f"{key}_file"
            text = f"Path of a file with it. {texts.get(key, '')}".strip()
            properties[file] = {"description": text, **_any_of(FILE_FORM, _NULL)}
            given = [{"required": [name], "properties": {name: {"not": _NULL}}} for name in (key, file)]
            conditions.append({"not": {"allOf": given}})
            if key in definition.get("required", ()):
                conditions.append({"anyOf": given})
    return {
        "description": definition["description"],
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
        **({"allOf": conditions} if conditions else {}),
    }


def _as_written(value: Schema) -> Schema:
    """Return the schema of a value as users may write it in YAML: without quotes, or as a `${NAME}` reference."""
    alternatives = value.get("anyOf") or value.get("oneOf")
    if alternatives:
        return _any_of(*(_as_written(one) for one in alternatives))
    if "$ref" in value:
        reference = {"$ref": value["$ref"]}
        entry = value["$ref"].endswith(PipelineEntry.__name__)
        return _any_of(reference, _ID_ALONE) if entry else reference
    if "const" in value or "enum" in value:
        choices = {"enum": value.get("enum") or [value["const"]]}
        return _any_of(choices, {"type": "string", "pattern": _VARIABLE})
    kept = {name: one for name, one in value.items() if name not in {"title", "default", "description"}}
    match value.get("type"):
        case "string":
            # Names and ids that look like numbers or booleans need no quotes. Durations have units.
            if value.get("pattern") not in {DURATION_PATTERN, FILE_FORM["pattern"]}:
                kept["type"] = ["string", "number", "boolean"]
            if "pattern" in value:
                kept["pattern"] = f"{value['pattern']}|{_VARIABLE}"
        case "integer" | "number":
            return _any_of(kept, {"type": "string", "pattern": f"{_NUMBER}|{_VARIABLE}"})
        case "boolean":
            text = {"type": "string", "pattern": f"^({_TRUTH})$|{_VARIABLE}"}
            return _any_of(kept, {"enum": [0, 1]}, text)
        case "array":
            kept["items"] = _as_written(value["items"])
        case "object":
            kept["additionalProperties"] = _as_written(value["additionalProperties"])
    return kept


def _any_of(*schemas: Schema) -> Schema:
    """Return a schema that accepts what any of the schemas accepts."""
    flat = [
        one for schema in schemas for one in (schema["anyOf"] if schema.keys() == {"anyOf"} else [schema])
    ]
    unique = [one for index, one in enumerate(flat) if one not in flat[:index]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


def _docstrings(section: type[Section]) -> dict[str, str]:
    """Return the docstrings of a section's fields, by name. The section's own take precedence over inherited ones."""
    found: dict[str, str] = {}
    for one in reversed(section.__mro__):
        if not issubclass(one, Section):
            continue
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for statement, below in pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = ast.literal_eval(below.value) if isinstance(below, ast.Expr) else None
                if isinstance(text, str):
                    found[statement.target.id] = inspect.cleandoc(text).replace("\n", " ")
    return found
