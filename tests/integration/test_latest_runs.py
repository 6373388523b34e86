"""Latest runs on the metrics page of a process with both simulated clouds: failed stages, links and waiting times."""

import time
from contextlib import contextmanager

import pytest
import yaml

from exporter.simulator import (
    CodeArts,
    Flow,
    InjectedFault,
    Scenario,
    SimulatedStatus,
    World,
    combine,
    running,
)
from tests.drivers.process import Samples, command, eventually, exporter
from tests.drivers.support import project

WORLD = World(seed=5, pipelines=4)
FAILED_STAGE = "ci_pipeline_latest_finished_run_failed_stage"
FAILED_JOB = "ci_pipeline_latest_finished_run_failed_job"


class Clouds:
    """Both simulated clouds on one port, with the same scenario."""

    def __init__(self, scenario):
        self.scenario = scenario
        self.codearts = CodeArts(WORLD, runs=scenario)
        self.flow = Flow(WORLD, runs=scenario)
        self.app = combine(self.codearts, self.flow)
        self.url = ""

    def ids(self, provider):
        """Return the ids of the pipelines, in the order of the world."""
        cloud = self.codearts if provider == "codearts" else self.flow
        return [cloud.pipeline_id(pipeline.id) for pipeline in WORLD.pipelines]

    def sections(self, **changes):
        own = {
            "codearts": {
                "project_id": WORLD.project_id,
                "auth": {"method": "token", "token": self.codearts.credentials.token},
            },
            "flow": {
                "organization_id": self.flow.organization_id,
                "auth": {"method": "yunxiao_token", "token": self.flow.credentials.personal_token},
            },
        }
        for provider, keys in own.items():
            section = project(name=provider, provider=provider, endpoint=self.url, **keys)
            if provider == "flow":
                del section["project_id"]
            named = [{"id": one, "name": f"pipeline {one}"} for one in self.ids(provider)]
            yield section | {"pipelines": named} | changes

    def configuration(self, *, metrics=None, **changes):
        """Return a configuration of both projects that is polled often."""
        return {
            "poll": {"interval": "500ms", "active_interval": "250ms"},
            "metrics": metrics or {},
            "projects": list(self.sections(**changes)),
        }


@contextmanager
def clouds_with(scenario):
    clouds = Clouds(scenario)
    with running(clouds.app) as clouds.url:
        yield clouds


def ended(scenario, index, start, status):
    """Add a run of a minute; return it."""
    run = scenario.begin(WORLD.pipelines[index].id, start)
    scenario.end(run, start + 60, status)
    return run


def red_behind_a_run_in_progress():
    """Return a scenario: pipeline 0 failed and runs again, 1 failed, 2 was ignored and runs again, 3 succeeded."""
    scenario, now = Scenario(WORLD), time.time()
    for index, status in enumerate(
        (SimulatedStatus.FAILED, SimulatedStatus.FAILED, SimulatedStatus.IGNORED, SimulatedStatus.COMPLETED)
    ):
        ended(scenario, index, now - 7200, status)
    for index in (0, 2):
        scenario.begin(WORLD.pipelines[index].id, now - 600)
    return scenario


def failed_stages_of(scenario, index):
    """Return name and sequence of the failed stages of a pipeline's first run."""
    (run, *_) = scenario.history(WORLD.pipelines[index], time.time())
    return {
        (stage.name, str(stage.sequence)) for stage in run.stages if stage.status == SimulatedStatus.FAILED
    }


def shown_stages(page, provider, pipeline_id):
    found = page.get(FAILED_STAGE, provider=provider, pipeline_id=pipeline_id)
    assert set(found.values()) <= {1.0}
    return {(dict(labels)["stage_name"], dict(labels)["stage_sequence"]) for labels in found}


def test_failed_stages_are_shown_also_if_the_next_run_had_started_before_the_exporter_did(tmp_path):
    """Each such pipeline takes one page of its run list, in Flow also one detail. The stages survive a restart."""
    scenario = red_behind_a_run_in_progress()
    truth = [failed_stages_of(scenario, 0), failed_stages_of(scenario, 1), set(), set()]
    assert truth[0]
    assert truth[1]
    with clouds_with(scenario) as clouds:
        configuration = clouds.configuration() | {"state": {"path": str(tmp_path / "state.db")}}

        def as_in_truth(page):
            return all(
                shown_stages(page, provider, one) == stages
                for provider in ("codearts", "flow")
                for one, stages in zip(clouds.ids(provider), truth, strict=True)
            )

        with exporter(tmp_path, configuration) as process:
            eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
            eventually(lambda: as_in_truth(process.samples()), "failed stages are those of the clouds")
            lists = [one for one in clouds.codearts.requests if one.operation == "ListPipelineRuns"]
            # One for each pipeline whose latest run is in progress or failed.
            assert sorted(one.pipeline_ids[0] for one in lists) == sorted(clouds.ids("codearts")[:3])
            assert not [one for one in clouds.codearts.requests if one.operation == "ShowPipelineRunDetail"]
            details = [
                one for one in clouds.flow.requests if one.operation == "GetPipelineRun" and one.run_id == "1"
            ]
            # Pipelines 0, and of 1, 2 and 3 those whose first run is the latest or may be shown.
            assert len(details) <= 4
        code, output, _ = command("once", "--config.file", str(tmp_path / "config.yaml"))
        assert (code, as_in_truth(Samples(output))) == (0, True)
        # The clouds fail from now on, so the values come from the state.
        clouds.codearts.injected_fault = clouds.flow.injected_fault = InjectedFault.SERVER_ERROR
        with exporter(tmp_path, configuration) as process:
            assert as_in_truth(process.samples())


def test_failed_jobs_stay_while_the_next_run_is_in_progress(tmp_path):
    scenario, now = Scenario(WORLD), time.time()
    pipeline = WORLD.pipelines[0]
    ended(scenario, 0, now - 7200, SimulatedStatus.FAILED)
    with (
        clouds_with(scenario) as clouds,
        exporter(tmp_path, clouds.configuration(metrics={"details": "jobs"})) as process,
    ):

        def jobs():
            page = process.samples()
            found = [
                page.get(FAILED_JOB, provider=provider, pipeline_id=clouds.ids(provider)[0])
                for provider in ("codearts", "flow")
            ]
            return found if all(found) else None

        before = eventually(jobs, "failed jobs of both clouds")
        page = process.samples()
        for provider, found in zip(("codearts", "flow"), before, strict=True):
            failed = page.get(
                "ci_pipeline_latest_run_job_status",
                provider=provider,
                pipeline_id=clouds.ids(provider)[0],
                status="failed",
            )
            assert set(found) == {tuple(item for item in labels if item[0] != "status") for labels in failed}
        scenario.begin(pipeline.id, time.time() - 1)
        eventually(
            lambda: (
                len(process.samples().get("ci_pipeline_latest_run_status", status="running")) > 0
                and set(
                    process.samples().get("ci_pipeline_latest_run_number", pipeline_id=pipeline.id).values()
                )
                == {2.0}
                and len(process.samples().get("ci_pipeline_latest_run_number").values()) == 2
                and set(process.samples().get("ci_pipeline_latest_run_number").values()) == {2.0}
            ),
            "the next run is shown",
        )
        assert jobs() == before


def test_run_pages_are_those_that_the_cloud_reports_or_the_template(tmp_path):
    scenario = red_behind_a_run_in_progress()
    metrics = {"run_info_labels": ["url"]}

    def urls(page, name, provider):
        return {
            dict(labels)["pipeline_id"]: dict(labels)["url"] for labels in page.get(name, provider=provider)
        }

    def page_of(configuration):
        with exporter(tmp_path, configuration) as process:
            eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
            return process.samples()

    with clouds_with(scenario) as clouds:
        page = page_of(clouds.configuration(metrics=metrics))
        for pipeline in WORLD.pipelines:
            run = scenario.latest(pipeline.id, time.time())
            base = f"{clouds.url}/cicd/project/{WORLD.project_id}/pipeline/detail"
            assert (
                urls(page, "ci_pipeline_latest_run_info", "codearts")[pipeline.id]
                == f"{base}/{pipeline.id}/{run.id}"
            )
        # Flow reports no URL of a run, and there is no default URL of a pipeline for an unknown endpoint.
        assert set(urls(page, "ci_pipeline_latest_run_info", "flow").values()) == {""}
        assert set(urls(page, "ci_pipeline_info", "flow").values()) == {""}
        assert set(urls(page, "ci_pipeline_info", "codearts").values()) == {""}
        clouds.codearts.token_region = False
        page = page_of(clouds.configuration(metrics=metrics))
        assert set(urls(page, "ci_pipeline_latest_run_info", "codearts").values()) == {""}
        clouds.codearts.token_region = True
        templates = {
            "url_template": "https://ci.example.com/{project_id}/{pipeline_id}",
            "run_url_template": "https://ci.example.com/{project_id}/{pipeline_id}/{run_id}?n={run_number}",
        }
        page = page_of(clouds.configuration(metrics=metrics, **templates))
        for provider, scope in (("codearts", WORLD.project_id), ("flow", clouds.flow.organization_id)):
            for pipeline, one in zip(WORLD.pipelines, clouds.ids(provider), strict=True):
                run = scenario.latest(pipeline.id, time.time())
                run_id = run.id if provider == "codearts" else str(run.number)
                expected = f"https://ci.example.com/{scope}/{one}"
                assert urls(page, "ci_pipeline_info", provider)[one] == expected
                shown = urls(page, "ci_pipeline_latest_run_info", provider)[one]
                assert shown == f"{expected}/{run_id}?n={run.number}"


def test_flow_has_a_default_page_of_a_pipeline_only_for_the_vendors_own_cloud(tmp_path):
    """Without a connection the page has the pipelines under their configured names."""
    flow = {
        "name": "mobile",
        "provider": "flow",
        "organization_id": "5ebbc0228123212b59abcdef",
        "auth": {"method": "yunxiao_token", "token": "pt-0123456789abcdef"},
        "pipelines": [{"id": 12222, "name": "app"}],
        # No request leaves this machine.
        "proxy": "http://127.0.0.1:9",
    }
    region = {"edition": "region", "organization_id": "5" * 32, "endpoint": "http://127.0.0.1:9"}
    for changes, url in (({}, "https://flow.aliyun.com/pipelines/12222/current"), (region, "")):
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({"projects": [flow | changes]}))
        code, output, _ = command("once", "--config.file", str(file))
        assert code == 1
        assert (
            f'ci_pipeline_info{{pipeline="app",pipeline_id="12222",project="mobile",provider="flow",url="{url}"}} 1.0'
            in output
        )


@pytest.mark.parametrize("details", ["none", "jobs"])
def test_waiting_run_dates_from_the_start_of_what_waits(tmp_path, details):
    """An exporter that starts an hour later knows when the wait began."""
    scenario, now = Scenario(WORLD), time.time()
    run = scenario.begin(WORLD.pipelines[0].id, now - 3700)
    scenario.pause(run, now - 3600)
    with (
        clouds_with(scenario) as clouds,
        exporter(tmp_path, clouds.configuration(metrics={"details": details})) as process,
    ):
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")

        def waiting_stages():
            page = process.samples()
            stages = page.get("ci_pipeline_latest_run_stage_status_change_timestamp_seconds")
            with_jobs = page.get("ci_pipeline_latest_run_job_start_timestamp_seconds")
            providers = {dict(labels)["provider"] for labels in with_jobs}
            return stages if len(stages) == 2 and (details == "none" or len(providers) == 2) else None

        stages = eventually(waiting_stages, "both clouds show the waiting stage")
        page = process.samples()
        for labels, since in stages.items():
            own = {key: value for key, value in labels if key in {"provider", "stage_name"}}
            jobs = page.get("ci_pipeline_latest_run_job_start_timestamp_seconds", **own)
            starts = jobs or page.get("ci_pipeline_latest_run_stage_start_timestamp_seconds", **own)
            assert since in starts.values()
            assert since < now - 3000
            change = "ci_pipeline_latest_run_status_change_timestamp_seconds"
            assert page.value(change, provider=own["provider"]) == since
