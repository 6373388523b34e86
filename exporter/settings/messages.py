"""Convert the errors of pydantic to faults: the line, the key as users write it, and a message with a remedy."""

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import ConfigDict, ValidationError

from exporter.config.project_section import CommonSection
from exporter.config.section import Context
from exporter.config.yaml_source import Document, Fault, key_text
from exporter.config.yaml_source import Path as KeyPath


class _UnknownProject(CommonSection):
    """A project with an unknown provider. Only the settings that all providers share are validated."""

    model_config = ConfigDict(extra="ignore")


def _errors(error: ValidationError, document: Document, context: Context) -> Iterator[dict[str, Any]]:
    """Yield the errors of pydantic. For a project with an unknown provider, add those of its common settings."""
    for item in error.errors(include_url=False, include_input=False):
        yield dict(item)
        path, around = _locate(item["loc"], document)
        if item["type"] == "union_tag_invalid" and path[:-1] == ("projects",):
            try:
                _UnknownProject.model_validate({**around[path[-1]], "provider": "-"}, context=context)
            except ValidationError as others:
                for other in others.errors(include_url=False, include_input=False):
                    yield {**other, "loc": (*path, "-", *other["loc"])}


def faults_of(error: ValidationError, document: Document, context: Context) -> list[Fault]:
    """Return the errors of pydantic as faults."""
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
            continue  # each of its items has a fault of its own
        if kind.startswith("union_tag"):
            path = (*path, str(details["discriminator"]).strip("'"))
        elif kind == "value_error" and isinstance(around, dict) and around.get(str(path[-1])) is None:
            file = f"{path[-1]}_file"
            if around.get(file) is not None:
                path = (*path[:-1], file)  # the secret is given by a file, so the fault belongs to that key
        faults.append(
            Fault(
                document.line(path),
                key_text(path),
                _message(kind, item["msg"], details, path, around, context),
            )
        )
    return faults


def _locate(location: tuple[int | str, ...], document: Document) -> tuple[KeyPath, Any]:
    """Return the path in the document for a location of pydantic, and the value that contains it.

    pydantic's location also contains the tags of unions, and `id` for an entry that is only an id.
    """
    path: KeyPath = ()
    around: Any = None
    here: Any = document.root
    tagged = 0
    for part in location:
        # pydantic adds `[key]` where the key itself is wrong.
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
    """Return whether the value at a path is a tagged union: a project (by provider) or `auth` (by method)."""
    return path[:1] == ("projects",) and (len(path) == 2 or path[2:] == ("auth",))


_MESSAGES = {
    "missing": "is missing (it has no default)",
    "string_type": "must be text (quote it if it is empty or begins with [ or {)",
    "list_type": "must be a list ([one, two])",
    "tuple_type": "must be a list ([one, two])",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a mapping (key: value)",
    "model_attributes_type": "must be a mapping (key: value)",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
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


def _message(
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
    return _MESSAGES.get(kind) or message.replace("Input should", "must").replace("String should", "must")
