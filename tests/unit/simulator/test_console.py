"""The simulator's web console, in HTML and JSON, and its form."""

import asyncio
from dataclasses import asdict

import httpx
import pytest

from exporter.simulator import CodeArts, Console, Flow, Trouble, World
from exporter.simulator.console import console

pytestmark = pytest.mark.process

NOW = World().start + 3600.5

FORM = "application/x-www-form-urlencoded"


def seconds(text):
    """Read a duration; the exporter passes its own reader."""
    if not text.endswith("s"):
        raise ValueError(f"{text!r} is not a duration")
    return float(text[:-1])


class Site:
    """Two clouds and their page, without a port; the clock stands still until a test moves it."""

    def __init__(self, pipelines=40):
        self.now = NOW
        clock = lambda: self.now  # noqa: E731
        self.codearts = CodeArts(World(seed=2, pipelines=pipelines), clock=clock)
        self.flow = Flow(World(seed=3, pipelines=pipelines), clock=clock)
        self.console = Console({"pay": self.codearts, "<i>web": self.flow}, seconds, clock=clock)

    def request(self, method, path, client="127.0.0.1", **arguments):
        async def send():
            transport = httpx.ASGITransport(self.console.app, client=(client, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as sender:
                return await sender.request(method, path, **arguments)

        return asyncio.run(send())

    def post(self, client="127.0.0.1", headers=None, **form):
        return self.request("POST", "/", client, data=form, headers=headers)

    def truth(self):
        return self.request("GET", "/truth").json()

    def batch(self):
        path = f"/v5/{self.codearts.world.project_id}/api/pipelines/status"
        ids = [pipeline.id for pipeline in self.codearts.world.pipelines]
        return self.request("POST", path, json=ids, headers={"X-Auth-Token": self.codearts.credentials.token})


@pytest.fixture
def site():
    return Site()


def test_json_has_the_truth_red_pipelines_first(site):
    answer = site.truth()
    assert (answer["now"], answer["trouble"]) == (NOW, None)
    for cloud, source in zip(answer["clouds"], (site.codearts, site.flow), strict=True):
        expected = {truth.pipeline_id: asdict(truth) for truth in source.truth()}
        assert {one["pipeline_id"]: one | {"latest_run": None, "finished_run": None} for one in cloud["pipelines"]} == {
            key: one | {"latest_run": None, "finished_run": None} for key, one in expected.items()
        }  # fmt: skip
        streaks = [one["failures"] for one in cloud["pipelines"] if one["red"]]
        assert cloud["red"] == len(streaks) > 0
        assert streaks == sorted(streaks, reverse=True)
        assert all(one["red"] for one in cloud["pipelines"][: len(streaks)])


def test_client_that_accepts_json_gets_it_from_the_page(site):
    answer = site.request("GET", "/", headers={"Accept": "application/json"})
    assert answer.json() == site.truth()
    browser = site.request("GET", "/", headers={"Accept": "text/html,application/xhtml+xml,application/json"})
    assert browser.headers["content-type"] == "text/html; charset=utf-8"


def test_page_escapes_and_shows_each_pipeline(site):
    name = "<script>alert(1)</script>"
    site.flow.renamed = {site.flow.world.pipelines[0].id: name}
    page = site.request("GET", "/").text
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;i&gt;web: 40 pipelines" in page
    for truth in site.codearts.truth():
        assert truth.pipeline in page


def test_page_needs_neither_scripts_nor_inline_styles(site):
    answer = site.request("GET", "/")
    assert "script-src" not in (policy := answer.headers["content-security-policy"])
    assert policy.startswith("default-src 'none'; style-src 'self'; ")
    assert " style=" not in answer.text
    assert site.request("GET", "/console.css").headers["content-type"].startswith("text/css")


def test_large_cloud_is_cut_on_the_page_only(site, monkeypatch):
    monkeypatch.setattr(console, "ROWS", 30)
    assert "10 more pipelines are in the" in site.request("GET", "/").text
    assert len(site.truth()["clouds"][0]["pipelines"]) == 40


def test_requests_are_counted_by_operation_and_code(site):
    site.batch()
    site.post(trouble="outage")
    for _ in range(2):
        site.batch()
    first, second = site.truth()["clouds"]
    operation = "BatchShowPipelinesLatestStatus"
    assert first["requests"]["counts"] == [
        {"operation": operation, "code": code, "count": 1} for code in ("200", "502", "503")
    ]
    assert first["requests"]["recent"][-1] == {
        "at": NOW,
        "operation": operation,
        "code": "200",
        "pipelines": 40,
    }
    assert [one["code"] for one in first["requests"]["recent"]] == ["503", "502", "200"]
    # Requests for the page itself are not those of a cloud.
    assert second["requests"] == {"counts": [], "recent": []}


def test_form_begins_and_ends_a_trouble(site):
    answer = site.post(trouble="expired-token", after="5s", **{"for": "10s"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    trouble = {"name": "expired-token", "active": False, "begins": NOW + 5, "ends": NOW + 15}
    assert site.truth()["trouble"] == trouble
    assert "begins in 5s, for 10s" in site.request("GET", "/").text
    assert site.batch().status_code == 200
    site.now += 5
    assert site.batch().status_code == 401
    assert site.truth()["trouble"] == trouble | {"active": True}
    assert "ends in 10s" in site.request("GET", "/").text
    changed = [one["name"] for one in site.truth()["clouds"][0]["switches"] if one["changed"]]
    assert changed == ["credentials_expired"]
    site.now += 10
    assert site.batch().status_code == 200
    site.post(trouble="slow")
    assert site.post(trouble="").status_code == 303
    assert site.truth()["trouble"] is None
    assert "None. All clouds answer as usual." in site.request("GET", "/").text


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"trouble": "flood"}, f"'flood' is not one of {', '.join(Trouble)}\n"),
        ({"trouble": "slow", "after": "soon"}, "'soon' is not a duration\n"),
        ({"trouble": "slow", "for": "soon"}, "'soon' is not a duration\n"),
        ({"torubles": "slow"}, "'torubles' is not one of trouble, after, for\n"),
    ],
)
def test_wrong_form_is_refused_and_changes_nothing(site, form, message):
    site.post(trouble="outage")
    answer = site.post(**form)
    assert (answer.status_code, answer.text) == (400, message)
    assert site.truth()["trouble"]["name"] == "outage"


@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::1"])
def test_other_machine_may_look_and_not_switch(site, client):
    assert site.post(client, trouble="outage").status_code == 403
    assert site.request("GET", "/", client).status_code == 200
    assert site.truth()["trouble"] is None


def test_page_of_another_site_may_not_switch(site):
    assert site.post(trouble="outage", headers={"Origin": "http://other.example.com"}).status_code == 403
    assert site.post(trouble="outage", headers={"Origin": "http://testserver"}).status_code == 303


@pytest.mark.parametrize("client", ["::1", "127.0.0.2", "::ffff:127.0.0.1"])
def test_every_loopback_address_may_switch(site, client):
    assert site.post(client, trouble="outage").status_code == 303


def test_oversized_form_is_refused(site):
    answer = site.request("POST", "/", content="trouble=" + "x" * 5000, headers={"Content-Type": FORM})
    assert answer.status_code == 413
