"""`docs/configuration.md` documents every key with its type and default, and no other key."""

import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin
from zoneinfo import ZoneInfo

import pytest
import yaml
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from exporter.auth.aliyun import sections as aliyun
from exporter.auth.huawei import sections as huawei
from exporter.cli.parser import COMMANDS, FLAGS
from exporter.config.project_section import CommonSection, Discover, LabelsByName, PipelineEntry, RateLimit
from exporter.config.secret import Secret
from exporter.config.section import SecretText, Section
from exporter.config.tls import Tls
from exporter.config.types import Duration, Endpoint, Identifier, Labels, Moment, Pattern
from exporter.providers import codearts, flow
from exporter.settings.settings import Config, Limits, Metrics, Poll, State
from tests.unit.settings.test_example import keys_of, sections_within

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "configuration.md").read_text(encoding="utf-8")
COMMANDS_PAGE = (DOCS / "commands.md").read_text(encoding="utf-8")

SECTIONS: dict[str, type[Section]] = {
    "`poll`": Poll,
    "`metrics`": Metrics,
    "`state`": State,
    "`limits`": Limits,
    "`projects[].discover_projects`": codearts.project.DiscoverProjects,
    "`projects[].rate_limit`": RateLimit,
    "`projects[].pipelines[]`": PipelineEntry,
    "`projects[].discover`": Discover,
    "`projects[].discover.labels[]`": LabelsByName,
    "`projects[].tls`": Tls,
    "CodeArts, `method: aksk`": huawei.HuaweiAkskSection,
    "CodeArts, `method: password`": huawei.PasswordSection,
    "CodeArts, `method: metadata`": huawei.MetadataSection,
    "CodeArts, `method: default`": huawei.HuaweiDefaultSection,
    "CodeArts, `method: token`": huawei.TokenSection,
    "Flow, `method: yunxiao_token`": aliyun.YunxiaoTokenSection,
    "Flow, `method: aksk`": aliyun.AliyunAkskSection,
    "Flow, `method: default`": aliyun.AliyunDefaultSection,
}
PROJECTS: dict[str, type[CommonSection]] = {
    "CodeArts projects": codearts.CodeArtsProject,
    "Flow projects": flow.FlowProject,
}
SHARED = "`projects[]`"

NAMES: list[tuple[Any, str]] = [
    (Duration, "duration"),
    (SecretText, "secret"),
    (Secret, "secret"),
    (Moment, "date"),
    (Endpoint, "URL"),
    (huawei.IamEndpoint, "URL"),
    (huawei.MetadataEndpoint, "URL"),
    (Identifier, "id"),
    (Pattern, "regular expression"),
    (Labels, "mapping of labels"),
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (ZoneInfo, "time zone"),
    (Path, "path"),
]


class Row(NamedTuple):
    """Documented properties of a key."""

    type: str
    default: str
    example: str


def table(heading: str) -> dict[str, Row]:
    """Return the rows of the table under a heading, by the keys in their first cell."""
    text = re.split(rf"^#+ {re.escape(heading)}$", PAGE, flags=re.MULTILINE)[1]
    rows = re.findall(r"^\|.*\|$", re.split(r"^#", text, flags=re.MULTILINE)[0], re.MULTILINE)
    documented = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {
        ", ".join(re.findall(r"`(\w+)`", cells[0])): Row(cells[1], cells[2], cells[4])
        for cells in documented
        if len(cells) == 5 and cells[0].startswith("`")
    }


def rows_of(section: type[Section]) -> dict[str, Row]:
    for heading, project in PROJECTS.items():
        if project is section:
            return table(SHARED) | table(heading)
    return table(next(heading for heading, documented in SECTIONS.items() if documented is section))


def type_of(hint: Any) -> str:
    """Return the name of a type as the page writes it."""
    if get_origin(hint) in {types.UnionType, Union}:
        kinds = {type_of(part) for part in get_args(hint) if part is not type(None)}
        assert len(kinds) == 1
        return kinds.pop()
    for known, name in NAMES:
        if hint == known:
            return name
    if get_origin(hint) is typing.Annotated:
        return type_of(get_args(hint)[0])
    if get_origin(hint) is Literal:
        *others, last = (f"`{choice}`" for choice in get_args(hint))
        return f"{', '.join(others)} or {last}" if others else last
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        if get_origin(item) is typing.Annotated and issubclass(
            get_origin(get_args(item)[0]) or get_args(item)[0], PipelineEntry
        ):
            return "list of ids or mappings"
        kind = type_of(item)
        return f"list of {kind}" if kind.startswith("`") else f"list of {kind}s"
    assert issubclass(hint, Section), hint
    return "mapping"


def fields(section: type[Section]) -> Iterator[tuple[str, str, FieldInfo, Any]]:
    """Yield the name, the documented key, the field and the type of each setting."""
    hints = typing.get_type_hints(section, include_extras=True)
    for name, field in section.model_fields.items():
        key = f"{name}, {name}_file" if f"{name}_file" in keys_of(section) else name
        yield name, key, field, hints[name]


def value(cell: str, hint: Any) -> Any:
    """Return the value that a cell stands for; scalars are text, as in the exporter's own YAML reader."""
    return TypeAdapter(hint, config=Section.model_config).validate_python(
        yaml.load(cell.strip("`"), yaml.BaseLoader)
    )


every_section = pytest.mark.parametrize(
    "section",
    [*SECTIONS.values(), *PROJECTS.values()],
    ids=lambda section: f"{section.__module__}.{section.__name__}",
)


@every_section
def test_every_key_is_documented_and_no_other(section):
    assert set(rows_of(section)) == {key for _, key, _, _ in fields(section)}


@every_section
def test_types_are_those_of_the_code(section):
    rows = rows_of(section)
    for name, key, _, hint in fields(section):
        if name == "provider":
            continue  # each project has one value, the page lists both
        assert rows[key].type == type_of(hint), key


@every_section
def test_defaults_are_those_of_the_code(section):
    rows = rows_of(section)
    for _, key, field, hint in fields(section):
        documented = rows[key].default
        if field.is_required():
            assert documented == "required", key
        elif field.default is None:
            assert documented == "none", key
        elif isinstance(field.default, Section):
            assert documented.startswith("[below](#"), key
        else:
            assert value(documented, hint) == field.default, key


@every_section
def test_examples_are_valid(section):
    rows = rows_of(section)
    for name, key, _, hint in fields(section):
        row = rows[key]
        if name == "provider":
            continue
        if row.type in {"mapping", "path"} or (row.type == "list of mappings"):
            assert bool(row.example) == (row.type == "path"), key
            continue
        assert re.fullmatch("`[^`]+`", row.example), key
        if row.type != "list of ids or mappings":
            value(row.example, hint)


def test_every_section_has_a_table():
    documented = {*SECTIONS.values(), *PROJECTS.values(), Config, flow.project.FlowPipelineEntry}
    assert set(sections_within(Config)) | {Config, PipelineEntry} == documented


def test_providers_are_the_documented_ones():
    assert table(SHARED)["provider"].type == "`codearts` or `flow`"


def test_example_pipelines_are_valid():
    assert yaml.safe_load(table(SHARED)["pipelines"].example.strip("`")) == [12222, 12223]


def test_flags_and_their_environment_variables_are_documented():
    rows = re.findall(r"^\| `--([\w.-]+)` \| `(\w+)` \| .* \| (.*) \| .* \|$", COMMANDS_PAGE, re.MULTILINE)
    assert {name: variable for name, variable, _ in rows} == {
        name: flag.variable for name, flag in FLAGS.items()
    }
    for name, _, listed in rows:
        having = {command for command, one in COMMANDS.items() if name in {flag.name for flag in one.flags}}
        named = set(re.findall(r"`([\w-]+)`", listed))
        assert (COMMANDS.keys() - named if listed.startswith("all") else named) == having


@pytest.mark.parametrize("name", COMMANDS)
def test_exit_codes_of_commands_are_documented(name):
    section = re.split(rf"^## `{name}`$", COMMANDS_PAGE, flags=re.MULTILINE)[1].split("\n## ")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d) \|", section, re.MULTILINE)}
    assert codes == COMMANDS[name].exit_codes.keys() or "Exit codes are those of [`run`]" in section
