"""Configuration of a Flow organization: API, endpoint, and warnings."""

import json
from textwrap import dedent
from typing import Any

import pytest

from exporter.providers.flow import PERSONAL_ENDPOINT, SIGNED_ENDPOINT, FlowProvider
from exporter.providers.protocol import SupportsActivityQuery, SupportsBatchQuery
from exporter.providers.registry import AnyProject, connect
from exporter.settings.load import ConfigError, load
from exporter.settings.settings import Config
from tests.drivers.support import PIPELINE_ID, PROJECT_ID
from tests.drivers.support import project as codearts_project

CENTRAL_ID = "5ebbc0228123212b59abcdef"
REGION_ID = "5ebbc0228123212b59abcdef01234567"
OWN_DOMAIN = "https://example.devops.aliyuncs.com"
TOKEN = {"method": "yunxiao_token", "token": "pt-must-stay-private"}
KEYS = {"method": "aksk", "access_key": "LTAIexample", "secret_key": "a-secret-key-of-a-test"}


def settings(**changes: Any) -> dict[str, Any]:
    """Return the configuration of a project, as loaded from YAML."""
    return {
        "name": "mobile",
        "provider": "flow",
        "organization_id": CENTRAL_ID,
        "auth": TOKEN,
        "pipelines": ["12222"],
        **changes,
    }


def configured(**changes: Any) -> AnyProject:
    (project,) = Config.model_validate({"projects": [settings(**changes)]}).projects
    return project


# -- endpoints


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "https://openapi-rdc.aliyuncs.com"),
        ({"edition": "central"}, "https://openapi-rdc.aliyuncs.com"),
        ({"auth": KEYS}, "https://devops.cn-hangzhou.aliyuncs.com"),
        ({"auth": KEYS, "edition": "central"}, "https://devops.cn-hangzhou.aliyuncs.com"),
        ({"auth": {"method": "default"}}, "https://devops.cn-hangzhou.aliyuncs.com"),
        ({"edition": "region", "endpoint": f"{OWN_DOMAIN}/"}, OWN_DOMAIN),
        ({"auth": KEYS, "endpoint": "http://127.0.0.1:8080/clouds"}, "http://127.0.0.1:8080/clouds"),
    ],
)
def test_auth_method_selects_the_api(changes: dict[str, Any], url: str) -> None:
    """Each has its own endpoint, unless one is configured."""
    project = configured(**changes)
    flow, auth, base_url = connect(project, {})
    assert (base_url, project.base_url, project.urls) == (url, url, (url,))
    assert flow.name == "flow"
    signed = changes.get("auth", TOKEN)["method"] != "yunxiao_token"
    assert ("acs3" in auth.credential_id or not auth.credential_id.startswith("yunxiao_token")) is signed


def test_flow_supports_activity_queries_not_batches() -> None:
    """CodeArts supports batches, not activity queries."""
    flow, _, _ = connect(configured(), {})
    assert isinstance(flow, FlowProvider)
    assert isinstance(flow, SupportsActivityQuery)
    assert not flow.batched
    assert not hasattr(flow, "batch_request")
    (other,) = Config.model_validate({"projects": [codearts_project()]}).projects
    batching, _, _ = connect(other, {})
    assert isinstance(batching, SupportsBatchQuery)
    assert batching.batched
    assert not hasattr(batching, "activity_request")


def test_scope_is_the_organization_id() -> None:
    """It has its own configuration key. Page cursors are the same for all providers."""
    project = configured(url_template="https://flow.example.com/{project_id}/{pipeline_id}?{pipeline_id}")
    assert (project.scope, project.scope_key) == (CENTRAL_ID, "organization_id")
    assert project.page_url("12222") == f"https://flow.example.com/{CENTRAL_ID}/12222?12222"
    assert configured().page_url("12222") == "https://flow.aliyun.com/pipelines/12222/current"
    assert configured(endpoint="http://127.0.0.1:1").page_url("12222") == ""
    elsewhere = configured(
        edition="region", endpoint="https://x.devops.aliyuncs.com", organization_id="r" * 32
    )
    assert elsewhere.page_url("12222") == ""
    (other,) = Config.model_validate({"projects": [codearts_project()]}).projects
    assert (other.scope, other.scope_key) == (PROJECT_ID, "project_id")


# -- ids


@pytest.mark.parametrize("entry", ["12222", "'12222'", "{id: 12222}", "{id: '12222', name: checkout}"])
def test_pipeline_ids_are_numbers_in_any_notation(tmp_path: Any, entry: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        dedent(f"""
        projects:
          - name: mobile
            provider: flow
            organization_id: {CENTRAL_ID}
            auth: {{method: yunxiao_token, token: opensesame}}
            pipelines: [{entry}]
        """)
    )
    (project,) = load(file, {}).projects
    assert [one.id for one in project.pipelines] == ["12222"]


def test_projects_of_both_clouds_in_one_configuration(tmp_path: Any) -> None:
    """Each with its own settings. The effective configuration can be loaded again."""
    projects = [codearts_project(), settings(), settings(name="games", auth=KEYS, pipelines=["12223"])]
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"projects": projects}))
    config = load(file, {})
    assert [project.scope for project in config.projects] == [PROJECT_ID, CENTRAL_ID, CENTRAL_ID]
    file.write_text(config.effective())
    assert load(file, {}).effective() == config.effective()


@pytest.mark.parametrize("pipelines", [["12222"], [PIPELINE_ID]])
def test_equal_ids_in_different_clouds_are_not_duplicates(tmp_path: Any, pipelines: list[str]) -> None:
    """A number can be a pipeline id in both. Flow accepts nothing but numbers."""
    file = tmp_path / "config.yaml"
    projects = [codearts_project(pipelines=pipelines, endpoint="http://127.0.0.1:1")]
    projects.append(settings(pipelines=pipelines, endpoint="http://127.0.0.1:1"))
    file.write_text(json.dumps({"projects": projects}))
    if pipelines == ["12222"]:
        assert len(load(file, {}).projects) == 2
    else:
        with pytest.raises(
            ConfigError, match=r"projects\[1\]\.pipelines\[0\]: .* is not the id of a pipeline"
        ):
            load(file, {})


# -- warnings


SIGNED = "the API of signed requests (method: aksk or default)"
CENTRAL = "the API of personal tokens (method: yunxiao_token, edition: central)"
REGION = "a region's API of personal tokens (method: yunxiao_token, edition: region)"


def odd(identity: str, length: int, edition: str) -> str:
    return f"{identity} is not {length} characters long, as those of the {edition} edition are"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"auth": KEYS}, ""),
        ({"endpoint": PERSONAL_ENDPOINT}, ""),
        ({"auth": KEYS, "endpoint": SIGNED_ENDPOINT}, ""),
        ({"endpoint": "http://127.0.0.1:1"}, ""),
        ({"organization_id": REGION_ID, "edition": "region", "endpoint": OWN_DOMAIN}, ""),
        ({"organization_id": REGION_ID}, f"{odd(REGION_ID, 24, 'central')}: is edition right?"),
        (
            {"edition": "region", "endpoint": OWN_DOMAIN},
            f"{odd(CENTRAL_ID, 32, 'region')}: is edition right?",
        ),
        ({"organization_id": "o1", "auth": KEYS}, odd("o1", 24, "central")),
        ({"endpoint": SIGNED_ENDPOINT}, f"{SIGNED_ENDPOINT} belongs to {SIGNED}"),
        (
            {"auth": KEYS, "endpoint": PERSONAL_ENDPOINT},
            f"{PERSONAL_ENDPOINT} belongs to {CENTRAL}",
        ),
        ({"endpoint": OWN_DOMAIN}, f"{OWN_DOMAIN} belongs to {REGION}"),
        (
            {"organization_id": REGION_ID, "edition": "region", "endpoint": PERSONAL_ENDPOINT},
            f"{PERSONAL_ENDPOINT} belongs to {CENTRAL}",
        ),
    ],
)
def test_value_of_another_edition_or_api_is_a_warning(changes: dict[str, Any], message: str) -> None:
    """For known hosts of the vendor only."""
    assert [text for _, text in configured(**changes).warnings()] == ([message] if message else [])


def test_warnings_of_codearts_are_about_the_form_of_ids() -> None:
    pipelines = [PIPELINE_ID, "one", "two"]
    doubtful = codearts_project(project_id="p1", pipelines=pipelines)
    (sound, odd) = Config.model_validate(
        {"projects": [codearts_project(), doubtful]},
    ).projects
    assert list(sound.warnings()) == []
    assert list(odd.warnings()) == [
        (path, f"{identity} is not 32 letters and digits, as the ids of CodeArts are")
        for path, identity in ((("project_id",), "p1"), (("pipelines", 1), "one"), (("pipelines", 2), "two"))
    ]


@pytest.mark.parametrize(
    ("changes", "urls"),
    [
        ({}, ("http://127.0.0.1:1",)),
        (
            {"iam_project": "one", "iam_endpoint": "http://127.0.0.1:2"},
            ("http://127.0.0.1:1", "http://127.0.0.1:2"),
        ),
        ({"region": "cn-north-4"}, ("http://127.0.0.1:1", "https://iam.cn-north-4.myhuaweicloud.com")),
    ],
)
def test_codearts_password_is_sent_to_iam_as_well(changes: dict[str, Any], urls: tuple[str, ...]) -> None:
    """A password is sent to any IAM endpoint, a token is not."""
    region = {"region": changes.pop("region")} if "region" in changes else {}
    auth: dict[str, Any] = {"method": "token", "token": "opensesame"}
    if changes or region:
        auth = {"method": "password", "domain": "d", "username": "u", "password": "opensesame", **changes}
    (project,) = Config.model_validate({"projects": [codearts_project(auth=auth, **region)]}).projects
    assert project.urls == urls
