"""The example configuration is valid, complete and shows the defaults."""

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from exporter.config.secret import FileSecret, Secret
from exporter.config.section import Section
from exporter.providers.codearts import directory_endpoint
from exporter.settings.load import load
from exporter.settings.settings import Config, Metrics, Poll

EXAMPLE = Path(__file__).parents[3] / "config.example.yaml"
ENVIRONMENT = {"HUAWEICLOUD_SDK_AK": "an-access-key"}
# Shown with a value although they have no default: a project needs a region or an endpoint, and an id, and most list pipelines.
CHOSEN = {"region", "project_id", "pipelines"}
# Rarely used blocks are in comments, although they have defaults.
OPTIONAL = {"state", "tls", "insecure_skip_verify"}
CERTIFICATE = Path(__file__).parents[2] / "config" / "ca" / "good.pem"
COMMENTED = re.compile(r"(?m)^( *)# ( *(?:- )?[a-z_]+:(?: .*)?)$")
# Label names that the user chooses.
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


WHOLE = COMMENTED.sub(r"\1\2", EXAMPLE.read_text())
"""The example with every commented key enabled."""


@pytest.fixture
def uncommented(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(WHOLE)
    (tmp_path / "private-cloud.pem").write_bytes(CERTIFICATE.read_bytes())
    return load(file, ENVIRONMENT)


def test_example_loads():
    """It needs one environment variable."""
    config = load(EXAMPLE, ENVIRONMENT)
    [project] = config.projects
    assert project.auth.method == "aksk"
    assert project.auth.access_key.reveal() == "an-access-key"
    assert isinstance(project.auth.secret_key, FileSecret)
    assert project.auth.secret_key.path == Path("/run/secrets/codearts/sk")


def test_example_shows_the_defaults():
    """Every key with a default is in the example, with its default."""
    for section in sections_of(load(EXAMPLE, ENVIRONMENT)):
        for name, field in type(section).model_fields.items():
            if field.is_required() or name in CHOSEN:
                continue
            assert getattr(section, name) == field.default, name
            if field.default not in (None, {}) and name not in OPTIONAL:
                assert name in section.model_fields_set, name


def test_example_uncommented_loads(uncommented):
    """The commented keys are valid, too."""
    assert uncommented.state.path == "/var/lib/pipeline-exporter/state.db"
    payments, mobile, web, account, embedded, tools, apps, games, intranet = uncommented.projects
    assert payments.endpoint == "https://pipeline.example.com"
    assert payments.auth.security_token.path == Path("/run/secrets/codearts/security-token")
    assert payments.pipelines[1].name == "checkout-service"
    assert payments.discover.matches("anything")
    assert payments.tls.ca_file.name == "private-cloud.pem"
    assert mobile.auth.method == "token"
    assert web.auth.iam_endpoint == web.auth.model_copy(update={"iam_endpoint": None}).endpoint_in(web.region)
    assert web.auth.iam_project == web.region
    assert web.discovery.labels_of("shop-api") == {"team": "web"}
    assert account.project_search.base_url == directory_endpoint(account.region)
    assert account.project_search.names.matches("anything")
    assert (embedded.auth.method, tools.auth.method) == ("metadata", "default")
    assert embedded.discovery.matches("anything")
    assert (apps.auth.method, games.auth.method, intranet.auth.method) == ("yunxiao_token", "aksk", "default")
    assert [(entry.id, entry.name) for entry in apps.pipelines] == [("12222", "checkout-app")]
    assert apps.base_url == apps.model_copy(update={"endpoint": None}).base_url
    assert apps.page_url("12222") == "https://flow.aliyun.com/pipelines/12222/current"
    assert games.discovery.matches("anything")


def test_example_has_no_warnings(uncommented):
    assert [warning for project in uncommented.projects for warning in project.warnings()] == []


def test_example_shows_the_defaults_of_commented_keys(uncommented):
    payments, *others = uncommented.projects
    apps = next(project for project in others if project.provider == "flow")
    assert (apps.edition, "edition" in apps.model_fields_set) == ("central", True)
    for section in (payments.discover, payments.tls, *(project.auth for project in others)):
        for name, field in type(section).model_fields.items():
            if not field.is_required() and field.default is not None:
                assert getattr(section, name) == field.default, name
                assert name in section.model_fields_set or name == "expires", name


def test_example_has_the_order_of_the_documentation():
    """Required keys first, rarely used keys last."""
    whole = yaml.safe_load(WHOLE)
    assert list(whole) == ["poll", "metrics", "state", "limits", "projects"]
    assert list(whole["poll"]) == list(Poll.model_fields)
    assert list(whole["metrics"]) == list(Metrics.model_fields)
    assert list(whole["projects"][0]) == [
        "name", "provider", "region", "endpoint", "project_id", "stage_time_zone", "rate_limit", "labels",
        "url_template", "run_url_template", "auth", "pipelines", "discover", "tls", "proxy",
    ]  # fmt: skip
    assert list(whole["projects"][6]) == [
        "name", "provider", "organization_id", "auth", "edition", "endpoint", "url_template", "pipelines",
    ]  # fmt: skip


def test_example_shows_every_section(uncommented):
    assert {type(section) for section in sections_of(uncommented)} == set(sections_within(Config))


def test_example_shows_every_key_and_no_unknown_one():
    keys = {key for section in sections_within(Config) for key in keys_of(section)}
    shown = set(re.findall(r"(?<![\w.-])([a-z_]+):(?=\s|$)", EXAMPLE.read_text()))
    assert shown - LABELS == keys
