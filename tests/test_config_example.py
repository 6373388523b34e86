"""The example configuration, held against the settings: complete, loadable, and in step with the defaults."""

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from exporter.config.fields import Section
from exporter.config.schema import Config, load
from exporter.config.secret import FileSecret, Secret

EXAMPLE = Path(__file__).parents[1] / "config.example.yaml"
ENVIRONMENT = {"HUAWEICLOUD_SDK_AK": "an-access-key"}
# Shown with a value, though the default is none: a project needs this or an endpoint.
CHOSEN = {"region"}
COMMENTED = re.compile(r"(?m)^( *)# ( *(?:- )?[a-z_]+:(?: .*)?)$")
# Names of labels are the user's own.
LABELS = {"team"}


def sections_within(annotation: Any) -> Iterator[type[Section]]:
    for part in types_within(annotation):
        if isinstance(part, type) and issubclass(part, Section):
            yield part
            for field in part.model_fields.values():
                yield from sections_within(field.annotation)


def types_within(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in typing.get_args(annotation):
        yield from types_within(argument)


def keys_of(section: type[Section]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield name
        if Secret in types_within(field.annotation):
            yield f"{name}_file"


def sections_of(value: object) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from sections_of(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from sections_of(item)


@pytest.fixture
def uncommented(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(COMMENTED.sub(r"\1\2", EXAMPLE.read_text()))
    return load(file, ENVIRONMENT)


def test_example_loads():
    """The example is a valid configuration as it is, given the one variable that it names."""
    config = load(EXAMPLE, ENVIRONMENT)
    [project] = config.projects
    assert project.auth.method == "aksk"
    assert project.auth.access_key.reveal() == "an-access-key"
    assert isinstance(project.auth.secret_key, FileSecret)
    assert project.auth.secret_key.path == Path("/run/secrets/codearts/sk")


def test_example_shows_the_defaults():
    """What the example sets to something that has a default is that default; no default is left unshown."""
    for section in sections_of(load(EXAMPLE, ENVIRONMENT)):
        for name, field in type(section).model_fields.items():
            if field.is_required() or name in CHOSEN:
                continue
            assert getattr(section, name) == field.default, name
            if field.default not in (None, {}):
                assert name in section.model_fields_set, name


def test_example_uncommented_loads(uncommented):
    """With every commented key taken in, the example is still valid: no unknown key hides in a comment."""
    payments, mobile = uncommented.projects
    assert payments.endpoint == "https://pipeline.example.com"
    assert payments.auth.security_token.path == Path("/run/secrets/codearts/security-token")
    assert payments.pipelines[1].name == "checkout-service"
    assert mobile.auth.method == "token"


def test_example_shows_every_section(uncommented):
    """Each kind of section stands in the example, commented or not."""
    assert {type(section) for section in sections_of(uncommented)} == set(sections_within(Config))


def test_example_shows_every_key_and_no_other():
    """Each key of the settings appears in the text, and nothing that looks like a key is anything else."""
    keys = {key for section in sections_within(Config) for key in keys_of(section)}
    shown = set(re.findall(r"(?<![\w.-])([a-z_]+):(?=\s|$)", EXAMPLE.read_text()))
    assert shown - LABELS == keys
