"""Rehearsed troubles with real processes: `simulate --trouble`, and the exporter with the configuration that it prints."""

import re
import time
from contextlib import contextmanager
from functools import partial

import httpx
import pytest
import yaml

from exporter.simulator import Trouble
from tests.drivers.process import Process, eventually, exporter

PROJECTS = ("simulated-codearts", "simulated-flow")
ERRORS = "pipeline_exporter_api_errors_total"
REQUESTS = "pipeline_exporter_api_requests_total"


@contextmanager
def simulate(*flags):
    """Run the simulated clouds; yield a client for their page, and the configuration that they print."""
    process = Process(
        ["simulate", "--web.listen-address", "127.0.0.1:0", "--simulate.pipelines", "30", *flags]
    )
    try:
        eventually(lambda: "".join(process.output).endswith("\n\n"), "the configuration is printed")
        printed = "".join(process.output)
        address = re.search(r"http://[0-9.:]+", printed)
        assert address
        with httpx.Client(base_url=address[0], trust_env=False) as client:
            yield client, yaml.safe_load(printed)
    finally:
        assert process.stop() == 0
        assert "Traceback" not in "".join(process.log)


def has_positive(page, metric, **labels):
    return any(page.get(metric, **labels).values())


def down(page, project):
    return page.value("pipeline_exporter_project_up", project=project) == 0


def shows_outage(page, project):
    codes = ("502", "503", "connect")
    return down(page, project) and all(
        has_positive(page, REQUESTS, project=project, code=one) for one in codes
    )


def shows_throttling(page, project):
    code = {"simulated-codearts": "APIGW.0308", "simulated-flow": "TooManyRequests"}[project]
    return (
        down(page, project)
        and has_positive(page, ERRORS, project=project, error_code=code)
        and has_positive(page, "pipeline_exporter_api_throttled_total", project=project)
    )


def shows_expired_token(page, project):
    code = {"simulated-codearts": "APIGW.0301", "simulated-flow": "ExpiredTokenError"}[project]
    return (
        down(page, project)
        and page.value("pipeline_exporter_credentials_valid", project=project) == 0
        and has_positive(page, ERRORS, project=project, error_code=code)
    )


def shows_lost_membership(page, project):
    if project == "simulated-codearts":
        # Its list is empty instead of an error, and no id of a pipeline is known.
        return down(page, project) and page.value("pipeline_exporter_pipelines", project=project) == 0
    code = "Forbidden.InvalidUser.UserNotInCurrentOrganization"
    return down(page, project) and has_positive(page, ERRORS, project=project, error_code=code)


def shows_slow(page, project):
    return down(page, project) and has_positive(page, REQUESTS, project=project, code="timeout")


def shows_bad_records(page, project):
    """Two of the pipelines are affected, and no other."""
    up = list(page.get("ci_pipeline_up", project=project).values())
    if project == "simulated-flow":
        refused = page.value("pipeline_exporter_pipelines_refused", project=project)
        return (len(up), sum(up), refused) == (30, 28, 2)
    # Their rows in the list cannot be read, so they are not discovered.
    rejected = page.value("pipeline_exporter_rejected_records_total", project=project, reason="unreadable")
    return (len(up), sum(up)) == (28, 28) and rejected >= 2


SHOWS = {
    Trouble.OUTAGE: shows_outage,
    Trouble.THROTTLING: shows_throttling,
    Trouble.EXPIRED_TOKEN: shows_expired_token,
    Trouble.LOST_MEMBERSHIP: shows_lost_membership,
    Trouble.SLOW: shows_slow,
    Trouble.BAD_RECORDS: shows_bad_records,
}


def recovered(page):
    return all(
        page.value("pipeline_exporter_project_up", project=project) == 1
        and list(page.get("ci_pipeline_up", project=project).values()) == [1.0] * 30
        for project in PROJECTS
    )


@pytest.mark.parametrize("trouble", Trouble)
def test_exporter_shows_a_trouble_and_recovers(tmp_path, trouble):
    with simulate("--trouble", trouble) as (client, configuration):
        configuration["poll"] = {"interval": "300ms", "active_interval": "100ms", "timeout": "2s"}
        for project in configuration["projects"]:
            # What was not discovered because of the trouble is discovered soon.
            project["discover"]["interval"] = "1s"
        with exporter(tmp_path, configuration) as process:
            for project in PROJECTS:
                eventually(
                    partial(lambda name: SHOWS[trouble](process.samples(), name), project),
                    f"{project} shows {trouble}",
                )
            assert client.post("/", data={"trouble": ""}).status_code == 303
            eventually(lambda: recovered(process.samples()), "both projects recover")


def test_trouble_begins_and_ends_by_its_flags():
    with simulate("--trouble", "outage", "--trouble.after", "1500ms", "--trouble.for", "2s") as (client, _):
        truth = client.get("/truth").json()
        assert truth["trouble"]["name"] == "outage"
        begins, ends = truth["trouble"]["begins"], truth["trouble"]["ends"]
        assert ends - begins == pytest.approx(2)

        def active():
            return (client.get("/truth").json()["trouble"] or {}).get("active", False)

        eventually(active, "the trouble begins")
        assert begins <= time.time()
        eventually(lambda: not active(), "the trouble ends")
        assert ends <= time.time()
        assert client.get("/truth").json()["trouble"] is None
        assert client.post("/v5/p/api/pipelines/list").status_code == 401


def test_demo_prints_the_address_of_its_clouds():
    process = Process(["demo", "--web.listen-address", "127.0.0.1:0", "--simulate.pipelines", "5"])
    try:
        found = eventually(
            lambda: re.search(r"Clouds +(http://[0-9.:]+)/", "".join(process.output)), "the demo prints"
        )
        truth = httpx.get(f"{found[1]}/truth", trust_env=False).json()
        assert [(cloud["project"], len(cloud["pipelines"])) for cloud in truth["clouds"]] == [
            ("simulated-codearts", 5),
            ("simulated-flow", 5),
        ]
    finally:
        assert process.stop() == 0
