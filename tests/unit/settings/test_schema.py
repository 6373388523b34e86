"""The JSON Schema of the configuration accepts every good file, and rejects each file with a fault of its form."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import exporter.settings
from exporter.settings.schema import schema, schema_text

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "tests" / "config"
SHIPPED = Path(exporter.settings.__file__).parent / "config.schema.json"
SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)

ONLY_VALUES = re.compile(
    r"is not a (regular expression|time zone)|has no known endpoint|must increase|given twice|in (line|project) "
    r"|already|too short|too long|nothing is set|\$\{|environment variable|is not a date|cannot be read|holds no"
    r"|damaged|must not (hold|be (empty|given))|no address of|label name|may hold|must be a URL|is missing \((edition|give region|give project_id)|iam_"
    r"|is an edition|cannot be encoded|must end with|not the id of a pipeline|as the ids|control characters"
    r"|regular file|is empty|must be one line|\(yaml\)|aliases|merge|anchor|not UTF-8|is text|bytes"
)
"""Faults that a schema cannot find: references, relations between values, and what YAML itself forbids."""


class Editor(yaml.SafeLoader):
    """Reads YAML as editors do: by the core schema of YAML 1.2, without dates and with two booleans."""


Editor.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in {"timestamp", "bool"}
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Editor.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))


def read(text: str) -> Any:
    return yaml.load(text, Editor)


def problems(text: str) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(read(text))]


def good_files() -> list[Path]:
    return [ROOT / "config.example.yaml", *sorted((CONFIG / "warned").glob("*.yaml"))]


def good_blocks() -> list[str]:
    """Return the whole configurations in the documents."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [
        block
        for page in pages
        for block in re.findall(
            r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
    ]
    return [block for block in blocks if re.search(r"^projects:$", block, re.MULTILINE) and "…" not in block]


def is_yaml(file: Path) -> bool:
    try:
        json.dumps(read(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return False  # an editor says so without the schema
    return True


def bad_files() -> list[Path]:
    """Return the bad files whose faults a schema can find."""
    found = []
    for file in sorted((CONFIG / "bad").glob("*.yaml")):
        lines = file.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
        if is_yaml(file) and not any(ONLY_VALUES.search(line) for line in lines):
            found.append(file)
    return found


def test_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


def test_shipped_schema_is_the_generated_one():
    """`pipeline-exporter check-config --schema` prints it."""
    assert SHIPPED.read_text(encoding="utf-8") == schema_text()
    assert json.loads(schema_text()) == SCHEMA


@pytest.mark.parametrize("file", good_files(), ids=lambda file: file.stem)
def test_good_file_has_the_form(file):
    assert problems(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("block", good_blocks(), ids=range(len(good_blocks())))
def test_configuration_in_a_document_has_the_form(block):
    assert problems(block) == []


def test_many_bad_files_are_wrong_in_form():
    assert len(bad_files()) > 60


@pytest.mark.parametrize("file", bad_files(), ids=lambda file: file.stem)
def test_file_that_is_wrong_in_form_is_refused(file):
    assert problems(file.read_text(encoding="utf-8"))


GOOD = """
projects:
  - name: 2027
    provider: {provider}
    organization_id: 5ebbc0228123212b59abcdef
    auth: {{method: yunxiao_token, token_file: token}}
"""


@pytest.mark.parametrize(
    "more",
    [
        "    pipelines: [12222, '12223', {id: 12224, labels: {deploys: true, team: 7}}]",
        "    pipelines:",
        "    rate_limit: {requests_per_second: '2.5', burst: \"${BURST}\"}",
        'poll: {interval: "${INTERVAL}"}',
        'metrics: {created_series: on, run_histogram: off, details: "${DETAILS}"}',
        "state:",
    ],
)
def test_spellings_that_the_exporter_accepts_have_the_form(more):
    assert problems(GOOD.format(provider="flow") + more) == []


@pytest.mark.parametrize(
    "more",
    [
        "    token: x",
        "poll: {interval: 90}",
        "poll: {intervall: 90s}",
        "metrics: {created_series: perhaps}",
        "    pipelines: {id: 1}",
        "    rate_limit: {burst: many}",
    ],
)
def test_forms_that_the_exporter_refuses_are_refused(more):
    assert problems(GOOD.format(provider="flow") + more)


def test_every_key_has_a_description():
    definitions = {"Config": SCHEMA, **SCHEMA["$defs"]}
    without = [
        f"{name}.{key}"
        for name, definition in definitions.items()
        for key, value in definition["properties"].items()
        if not value.get("description")
    ]
    assert without == []


def test_example_names_the_schema_for_editors():
    first = (ROOT / "config.example.yaml").read_text(encoding="utf-8").splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found
    assert (ROOT / found[1]).resolve() == SHIPPED.resolve()
