"""A whole CodeArts project: discovery, details, refusals and outages, from the configuration to the metrics page.

The simulated cloud and the exporter share one clock, which a test moves.
"""

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import yaml
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from exporter.app.bootstrap import assemble
from exporter.app.check_config import report
from exporter.simulator import CodeArts, InjectedFault, Scenario, World, running
from exporter.simulator import SimulatedStatus as Status
from tests.conftest import Cloud
from tests.drivers.process import Samples, command
from tests.drivers.support import FakeClock, config, shown

BATCH, LIST, DETAIL = "BatchShowPipelinesLatestStatus", "ListPipelines", "ShowPipelineRunDetail"
RUNS = "ListPipelineRuns"
FREE = {"requests_per_second": 100_000, "burst": 10_000}


@dataclass
class Stage:
    """A simulated cloud and an exporter, with a common clock."""

    cloud: Cloud
    clock: FakeClock

    @property
    def codearts(self):
        return self.cloud.codearts

    def play(self, settings, *seconds):
        """Run a tick at each time (seconds since the start), or call functions; return requests and page of each tick."""

        async def ticks():
            exporter = assemble(settings, self.clock)
            begin = self.clock.now
            requests, pages = [], []
            for second in seconds:
                if callable(second):
                    second()
                    continue
                self.clock.now = max(self.clock.now, begin + second)
                self.codearts.requests.clear()
                await asyncio.gather(*(poller.tick() for poller in exporter.pollers))
                requests.append(Counter(call.operation for call in self.codearts.requests))
                pages.append(Samples(shown(exporter)))
            for poller in exporter.pollers:
                await poller.close()
            return requests, pages

        return asyncio.run(ticks())


def stage(pipelines):
    codearts = CodeArts(World(pipelines=pipelines))
    clock = FakeClock(codearts.world.start + 20 * 86400.0)
    codearts.clock = clock.time
    return codearts, clock


@pytest.fixture
def small():
    codearts, clock = stage(130)
    with running(codearts.app) as url:
        yield Stage(Cloud(codearts, url), clock)


def names(page):
    return {dict(labels)["pipeline_id"]: dict(labels)["pipeline"] for labels in page.get("ci_pipeline_up")}


def rows_before_success(world, pipeline_id, now):
    """Return how many of the newest runs come before the last success."""
    run = world.latest_run(pipeline_id, now)
    count = 0
    while run is not None and run.status != "COMPLETED":
        count += 1
        run = world.run(pipeline_id, run.number - 1, now)
    return count


class TestDiscovery:
    """From an empty configuration to a full page."""

    @pytest.mark.parametrize("page", [100, 50])
    def test_every_pipeline_is_found_with_its_name(self, small, page):
        """With ⌈N/page⌉ + 1 requests, including the runs in the list."""
        small.codearts.page_limit = page
        requests, pages = small.play(config(small.cloud.project(pipelines=[], rate_limit=FREE)), 0)
        now = small.clock.now
        world = small.codearts.world
        latest = [world.latest_run(one.id, now) for one in world.pipelines]
        # The run list is read where other runs may be in progress or earlier ones have failed: one page, or two where
        # the last success is not among the first 50 rows.
        rows = [rows_before_success(world, one.id, now) for one in world.pipelines]
        assert requests == [
            Counter(
                {LIST: math.ceil(130 / page) + 1, RUNS: sum((count > 0) + (count > 50) for count in rows)}
            )
        ]
        assert names(pages[0]) == {one.id: one.name for one in small.codearts.world.pipelines}
        assert len(pages[0].get("ci_pipeline_latest_run_number")) == sum(run is not None for run in latest)
        assert len(pages[0].get("ci_pipeline_has_run")) == 130
        assert pages[0].value("pipeline_exporter_pipelines") == 130

    def test_discover_prints_pipelines_for_the_configuration(self, small, tmp_path):
        """Every pipeline with its name, in the form of the configuration."""
        small.codearts.clock = time.time
        file = tmp_path / "config.yaml"
        own = small.cloud.project(pipelines=[])
        file.write_text(yaml.safe_dump({"projects": [own]}))
        code, output, errors = command("discover", "--config.file", str(file))
        assert (code, errors) == (0, "")
        found = yaml.safe_load(output)["pipelines"]
        assert found == [{"id": one.id, "name": one.name} for one in small.codearts.world.pipelines]
        file.write_text(yaml.safe_dump({"projects": [{**own, "pipelines": found}]}))
        assert command("check-config", str(file))[0] == 0

    def test_missing_membership_is_reported(self, small, tmp_path, caplog):
        """An empty list with status 200 is not trusted. The log has the likely cause, and the project is down."""
        small.codearts.no_membership = True
        _, pages = small.play(config(small.cloud.project(pipelines=[])), 0)
        assert pages[0].value("pipeline_exporter_project_up") == 0
        (record,) = [record for record in caplog.records if getattr(record, "id", "") == "implausible-list"]
        assert "not a member of this project" in vars(record)["reason"]

    def test_pipelines_are_added_removed_and_renamed(self, small):
        """A deleted one is removed after two complete lists without it. A new name is used at once."""
        gone, renamed = (one.id for one in small.codearts.world.pipelines[:2])
        settings = config(small.cloud.project(pipelines=[], discover={"interval": "60s"}))

        def change():
            small.codearts.deleted.add(gone)
            small.codearts.renamed[renamed] = "another-name"

        _, pages = small.play(settings, 0, change, 60, 120)
        assert gone in names(pages[0])
        assert names(pages[1])[renamed] == "another-name"
        assert gone in names(pages[1])
        assert gone not in names(pages[2])
        assert len(names(pages[2])) == 129

    def test_rows_of_other_projects_are_passed_over(self, small):
        """A list with several projects shows our own only."""
        small.codearts.foreign_rows = 7
        _, pages = small.play(config(small.cloud.project(pipelines=[])), 0)
        assert len(names(pages[0])) == 130

    def test_configured_ids_are_exposed_once_their_name_is_known(self, small):
        """A configured pipeline without a name is not exposed under its id while its name may still be found."""
        world = small.codearts.world
        settings = config(small.cloud.project(pipelines=[one.id for one in world.pipelines[:10]]))
        small.codearts.injected_fault, small.codearts.injected_fault_operation = (
            InjectedFault.SERVER_ERROR,
            LIST,
        )

        def mend():
            small.codearts.injected_fault = None

        _, pages = small.play(settings, 0, 15, mend, 60)
        assert names(pages[0]) == names(pages[1]) == {}
        assert names(pages[2]) == {one.id: one.name for one in world.pipelines[:10]}

    @pytest.mark.parametrize(
        "trouble", [InjectedFault.DENIED, InjectedFault.ERROR_OBJECT, InjectedFault.HTML, InjectedFault.NULL]
    )
    def test_ids_are_used_at_once_if_names_cannot_be_listed(self, small, trouble, caplog):
        """The project is up without names."""
        ids = [one.id for one in small.codearts.world.pipelines[:10]]
        small.codearts.injected_fault, small.codearts.injected_fault_operation = trouble, LIST
        requests, pages = small.play(config(small.cloud.project(pipelines=ids)), 0, 60)
        assert names(pages[0]) == {identity: identity for identity in ids}
        assert pages[0].value("pipeline_exporter_project_up") == 1
        assert "cannot list pipeline names" in caplog.text
        assert requests[1] == Counter({BATCH: 1})

    def test_ids_are_used_after_a_minute_without_names(self, small):
        """Missing names do not delay the pipelines any longer."""
        ids = [one.id for one in small.codearts.world.pipelines[:10]]
        small.codearts.injected_fault, small.codearts.injected_fault_operation = (
            InjectedFault.SERVER_ERROR,
            LIST,
        )
        _, pages = small.play(config(small.cloud.project(pipelines=ids)), 0, 75)
        assert names(pages[0]) == {}
        assert names(pages[1]) == {identity: identity for identity in ids}


def test_list_ends_if_the_cloud_ignores_the_offset(small):
    """A page without new rows is the last one."""
    asked = []

    async def same_page(_):
        asked.append(1)
        rows = [
            {"pipeline_id": f"p{place}", "name": f"name {place}", "latest_run": None} for place in range(50)
        ]
        return JSONResponse({"pipelines": rows, "total": 500})

    stub = Starlette(routes=[Route("/v5/{project}/api/pipelines/list", same_page, methods=["POST"])])
    with running(stub) as url:
        small.play(config(small.cloud.project(endpoint=url, pipelines=[])), 0)
    assert len(asked) == 2


def test_details_that_end_late_skip_no_poll(small):
    """A tick that is due while only details are in flight follows at once, and does not count as skipped."""
    small.codearts.latency = 0.02
    settings = config(small.cloud.project(10), metrics={"details": "jobs"})

    async def scenario():
        exporter = assemble(settings, small.clock)
        poller = exporter.pollers[0]
        tick = asyncio.create_task(poller.tick())
        await poller.refreshed.wait()
        small.clock.now += 60
        poller.skip()
        await tick
        await poller.close()
        return Samples(shown(exporter))

    page = asyncio.run(scenario())
    assert page.value("pipeline_exporter_polls_skipped_total") == 0
    assert page.value("pipeline_exporter_poll_duration_seconds_count") == 2


class TestDetails:
    """One request for each new or changed run, none for an idle pipeline."""

    def test_requests_of_a_minute_equal_the_estimate(self):
        """2,000 pipelines, 20 of them running: the refresh, the active batches, and the changed runs."""
        codearts, clock = stage(2000)
        ids = [one.id for one in codearts.world.pipelines if codearts.world.latest_run(one.id, clock.now)]
        still = set(ids[:20])
        changed: set[str] = set()

        def rewrite(records):
            return [
                {
                    **record,
                    "status": "RUNNING" if record["pipeline_id"] in still else "COMPLETED",
                    "stage_status_list": []
                    if record["pipeline_id"] in changed
                    else record["stage_status_list"],
                }
                for record in records
            ]

        codearts.rewrite = rewrite
        moment = clock.now
        codearts.clock = lambda: moment
        with running(codearts.app) as url:
            play = Stage(Cloud(codearts, url), clock)
            named = play.cloud.project(rate_limit=FREE)
            settings = config(named, metrics={"details": "jobs"}, poll={"timeout": "60s"})
            requests, pages = play.play(settings, 0, 60, 75, 90, lambda: changed.update(ids[:7]), 105, 120)
        first, refresh, *active, last = requests
        assert first == Counter({BATCH: 40, DETAIL: len(ids), RUNS: 20, LIST: 21})
        # Idle and unchanged: the refresh, then one batch of the twenty every 15 s.
        assert refresh == Counter({BATCH: 40})
        assert active == [Counter({BATCH: 1}), Counter({BATCH: 1}), Counter({BATCH: 1, DETAIL: 7})]
        assert last == Counter({BATCH: 40})
        assert len(pages[0].get("ci_pipeline_latest_run_job_status")) > 2000
        text = report(settings)
        assert "40 requests a refresh, 40 a minute" in text
        assert "running pipelines: every 15s, 1 for each 50 of them" in text
        assert "metrics.details: 1 for each run that is new or has changed" in text

    def test_times_of_details_take_precedence_over_local_times(self, small):
        """With a wrong time zone stages have no start until the details are read."""
        settings = config(small.cloud.project(stage_time_zone="America/Lima"), metrics={"details": "steps"})
        _, pages = small.play(settings, 0)
        world, now = small.codearts.world, small.clock.now
        run = next(
            run
            for one in world.pipelines
            if (run := world.latest_run(one.id, now)) is not None and run.status.value == "COMPLETED"
        )
        starts = pages[0].get(
            "ci_pipeline_latest_run_stage_start_timestamp_seconds", pipeline_id=run.pipeline_id
        )
        assert sorted(starts.values()) == sorted(float(one.start) for one in run.stages if one.start)
        assert pages[0].get("ci_pipeline_latest_run_step_status", pipeline_id=run.pipeline_id)


class TestRefusals:
    """Refused requests affect as little as possible."""

    @pytest.mark.parametrize("refusal", [400, 413, 200])
    def test_refused_id_and_undocumented_limit_are_found(self, refusal):
        """Of 500 pipelines 499 are correct at once. The limit of 30 is found in a few refreshes."""
        codearts, clock = stage(500)
        moment = clock.now
        codearts.clock = lambda: moment
        codearts.batch_limit, codearts.batch_refusal = 30, refusal
        poison = codearts.world.pipelines[237].id
        codearts.poison.add(poison)
        with running(codearts.app) as url:
            play = Stage(Cloud(codearts, url), clock)
            settings = config(
                play.cloud.project(rate_limit=FREE), poll={"active_interval": "60s", "timeout": "60s"}
            )
            requests, pages = play.play(settings, *(60 * number for number in range(12)))
        for page in pages:
            ups = page.get("ci_pipeline_up")
            assert Counter(ups.values()) == {1.0: 499, 0.0: 1}
            assert page.value("ci_pipeline_up", pipeline_id=poison) == 0
            assert page.value("pipeline_exporter_pipelines_refused") == 1
            assert page.value("pipeline_exporter_project_up") == 1
        counts = [count[BATCH] for count in requests]
        assert counts[0] <= 10 + 4 * math.log2(50) + 8
        assert counts[1] <= math.ceil(500 / 25) + 3
        assert all(count <= math.ceil(500 / 30) + 2 for count in counts[7:])

    def test_refused_running_pipeline_leaves_the_project_up(self, small):
        """Alone in an active poll it does not concern the project. The refresh leaves it out."""
        own = small.codearts.world.pipelines[3].id
        small.codearts.rewrite = lambda records: [
            {**record, "status": "RUNNING" if record["pipeline_id"] == own else "COMPLETED"}
            for record in records
        ]
        moment = small.clock.now
        small.codearts.clock = lambda: moment
        settings = config(small.cloud.project(rate_limit=FREE))
        _, pages = small.play(settings, 0, lambda: small.codearts.poison.add(own), 15, 30, 60, 75)
        assert [page.value("pipeline_exporter_project_up") for page in pages] == [1] * 5
        assert [page.value("ci_pipeline_up", pipeline_id=own) for page in pages] == [1, 0, 0, 0, 0]
        assert pages[-1].value("pipeline_exporter_pipelines_refused") == 1

    def test_refused_project_takes_few_requests(self, small, caplog):
        """No pipeline is quarantined. The project is down, and the log says so."""
        small.codearts.poison.update(one.id for one in small.codearts.world.pipelines)
        requests, pages = small.play(config(small.cloud.project()), 0)
        assert requests[0][BATCH] <= 12
        assert set(pages[0].get("ci_pipeline_up").values()) == {0}
        assert pages[0].value("pipeline_exporter_pipelines_refused") == 0
        assert pages[0].value("pipeline_exporter_project_up") == 0
        assert "DEVPIPE.00011136" in str([vars(record) for record in caplog.records])


class TestOutages:
    """Each outage is visible, takes few requests, and ends in correct values without a restart."""

    def test_token_revoked_during_a_poll_is_renewed_once(self, small):
        """A fresh one is requested once, and nothing is missed."""
        codearts = small.codearts
        codearts.latency = 0.01
        revoked = asyncio.Event()

        def revoke(records):
            if not revoked.is_set():
                revoked.set()
                codearts.revoke_tokens()
            return records

        codearts.rewrite = revoke
        settings = config(small.cloud.project(auth=password(small)), poll={"chunk_size": 10})
        requests, pages = small.play(settings, 0)
        assert requests[0]["KeystoneCreateUserTokenByPassword"] == 2
        assert set(pages[0].get("ci_pipeline_up").values()) == {1}
        assert pages[0].value("pipeline_exporter_project_up") == 1
        assert pages[0].value("pipeline_exporter_credentials_valid") == 1
        assert pages[0].value("pipeline_exporter_credentials_expiry_timestamp_seconds", renewal="auto") > 0

    def test_key_rotated_in_the_mounted_file_is_used_at_the_next_poll(self, small, tmp_path):
        """The old one is rejected few times, and the new one is used at the next poll."""
        file = tmp_path / "sk"
        file.write_text(small.codearts.credentials.secret_key)
        auth = {
            "method": "aksk",
            "access_key": small.codearts.credentials.access_key,
            "secret_key_file": str(file),
        }
        old = small.codearts.credentials

        def rotate():
            small.codearts.credentials = replace(old, secret_key="another-secret-of-no-use")

        def mount():
            file.write_text("another-secret-of-no-use")

        requests, pages = small.play(
            config(small.cloud.project(auth=auth)), 0, rotate, 60, 75, 90, 120, mount, 135, 180
        )
        assert [page.value("pipeline_exporter_credentials_valid") for page in pages] == [1, 0, 0, 0, 0, 1, 1]
        assert [page.value("pipeline_exporter_project_up") for page in pages][-1] == 1
        # Rejected at 60 s and, an interval later, at 120 s, with no request in between.
        assert [count[BATCH] for count in requests[1:5]] == [1, 0, 0, 1]

    def test_clock_that_is_twenty_minutes_off(self, small):
        """One signature is rejected, then requests are signed with provider time."""
        small.codearts.skew = 1200.0
        credentials = small.codearts.credentials
        auth = {"method": "aksk", "access_key": credentials.access_key, "secret_key": credentials.secret_key}
        _, pages = small.play(config(small.cloud.project(auth=auth)), 0, 60)
        statuses = pages[1].get("pipeline_exporter_api_requests_total", operation=BATCH)
        assert {dict(labels)["code"]: count for labels, count in statuses.items()} == {"200": 6, "401": 1}
        assert pages[0].value("pipeline_exporter_project_up") == 1

    def test_project_recovers_from_throttling_for_a_minute(self, small):
        """The exporter waits as requested, reports it, and recovers."""
        small.codearts.throttle = (2, 60)
        _, pages = small.play(
            config(small.cloud.project()), 0, lambda: setattr(small.codearts, "throttle", None), 15, 60, 75
        )
        assert pages[0].value("pipeline_exporter_project_up") == 0
        assert pages[0].value("pipeline_exporter_api_throttled_total") == 1
        assert Counter(pages[0].get("ci_pipeline_up").values())[1.0] >= 50
        assert set(pages[-1].get("ci_pipeline_up").values()) == {1}
        assert [page.value("pipeline_exporter_project_up") for page in pages][-2:] == [1, 1]

    def test_token_is_used_during_an_iam_outage_of_ten_minutes(self, small):
        """The present token is used until it expires. Then IAM is contacted less and less often."""
        small.codearts.token_lifetime = 1200.0
        settings = config(small.cloud.project(auth=password(small)), poll={"active_interval": "60s"})
        minutes = [60 * minute for minute in range(32)]

        def down():
            small.codearts.iam_down = True

        def up():
            small.codearts.iam_down = False

        requests, pages = small.play(settings, *minutes[:12], down, *minutes[12:25], up, *minutes[25:])
        ups = [page.value("pipeline_exporter_project_up") for page in pages]
        # The token of the start is valid for twenty minutes. A new one comes with IAM.
        assert ups[:20] == [1] * 20
        assert ups[21:25] == [0] * 4
        assert ups[26:] == [1] * 6
        asked = sum(count["KeystoneCreateUserTokenByPassword"] for count in requests[12:25])
        assert asked <= 13
        assert set(pages[-1].get("ci_pipeline_up").values()) == {1}

    @pytest.mark.parametrize("method", ["aksk", "password"])
    def test_wrong_key_in_many_projects_is_tried_once(self, small, method):
        """Five rejections lock a key, from any project and for any scope."""
        wrong = {
            "aksk": {
                "method": "aksk",
                "access_key": small.codearts.credentials.access_key,
                "secret_key": "wrong",
            },
            "password": {**password(small), "password": "wrong"},
        }[method]
        scope = {"aksk": "iam_project_id", "password": "iam_project"}[method]
        projects = [
            small.cloud.project(3, name=f"project {place}", auth={**wrong, scope: f"scope{place}"})
            for place in range(6)
        ]
        for place, own in enumerate(projects):
            own["pipelines"] = [
                {"id": f"{place}-{one['id']}", "name": one["name"]} for one in own["pipelines"]
            ]
        requests, pages = small.play(config(*projects), 0, 15, 30, 60, 120)
        assert [count.total() for count in requests] == [1, 0, 0, 1, 0]
        assert len(pages[0].get("pipeline_exporter_credentials_valid")) == 6
        assert set(pages[0].get("pipeline_exporter_credentials_valid").values()) == {0}

    def test_throttled_project_does_not_slow_another(self, small):
        """The pause applies to its credential only."""
        other = CodeArts(World(seed=2, pipelines=20))
        other.clock = small.clock.time
        small.codearts.throttle = (1, 300)
        with running(other.app) as url:
            both = config(small.cloud.project(), Cloud(other, url).project(name="other"))
            _, pages = small.play(both, 0, 60)
        assert pages[1].value("pipeline_exporter_project_up", project="payments") == 0
        assert pages[1].value("pipeline_exporter_project_up", project="other") == 1


def password(small):
    credentials = small.codearts.credentials
    return {
        "method": "password",
        "domain": credentials.domain,
        "username": credentials.username,
        "password": credentials.password,
        "iam_project": small.codearts.world.region,
        "iam_endpoint": small.cloud.url,
    }


class TestAccounting:
    """Every run that a poll could see is counted, over hours."""

    def test_every_run_is_counted_once(self, small):
        """Counted, missed and active runs of each pipeline are all runs started since its first poll."""
        minutes = 90
        seconds = range(0, 60 * minutes, 15)
        _, pages = small.play(config(small.cloud.project(60, rate_limit=FREE)), *seconds)
        first, last = pages[0], pages[-1]

        def of(page, name, **labels):
            found: Counter[str] = Counter()
            for series, value in page.get(f"ci_pipeline_{name}", **labels).items():
                found[dict(series)["pipeline_id"]] += value
            return found

        epoch_start = of(last, "latest_run_number")
        epoch_start.subtract(of(first, "latest_run_number"))
        epoch_start.update(of(first, "runs_active"))
        accounted = of(last, "runs_total") + of(last, "runs_missed_total") + of(last, "runs_active")
        assert accounted == +epoch_start
        assert sum(of(last, "runs_total").values()) > 100
        assert of(last, "runs_missed_total").total() == 0
        world, now = small.codearts.world, small.clock.now
        failed = sum(
            run.status.value == "FAILED"
            for one in world.pipelines[:60]
            if one.id in epoch_start
            for number in range(
                int(of(first, "latest_run_number")[one.id]), int(of(last, "latest_run_number")[one.id]) + 1
            )
            if (run := world.run(one.id, number, now)) is not None
            and run.end is not None
            and run.end > now - seconds[-1]
        )
        assert of(last, "runs_total", status="failed").total() == failed


class TestHiddenRuns:
    """Runs that latest-run responses do not have are looked up."""

    @pytest.fixture
    def one_pipeline(self):
        """A cloud with one pipeline, whose runs a test sets."""
        world = World(pipelines=1)
        story = Scenario(world)
        clock = FakeClock(world.start + 1000.0)
        codearts = CodeArts(world, clock=clock.time, runs=story)
        with running(codearts.app) as url:
            yield story, world.pipelines[0].id, Stage(Cloud(codearts, url), clock)

    def test_hidden_run_is_counted_when_it_ends(self, one_pipeline):
        """It is looked up at growing intervals, and counted once."""
        story, own, stage = one_pipeline
        first = story.begin(own, stage.clock.now)

        def hide():
            story.begin(own, stage.clock.now + 10)

        def end():
            story.end(first, stage.clock.now, Status.FAILED)

        requests, pages = stage.play(
            config(stage.cloud.project()), 0, hide, 60, 75, 120, end, 180, 240, 300, 360
        )
        assert [count[DETAIL] for count in requests] == [0, 0, 0, 1, 0, 1, 0, 0]
        assert [page.value("ci_pipeline_runs_active") for page in pages] == [1, 2, 2, 2, 2, 1, 1, 1]
        assert [page.value("pipeline_exporter_runs_unresolved") for page in pages][-3:] == [0, 0, 0]
        assert pages[-1].value("ci_pipeline_runs_total", status="failed") == 1
        assert sum(pages[-1].get("ci_pipeline_runs_total").values()) == 1
        assert pages[-1].value("ci_pipeline_runs_missed_total") == 0

    def test_gap_is_filled_in_the_same_tick(self, one_pipeline):
        """Runs shorter than a poll are counted with their durations, with one request for all."""
        story, own, stage = one_pipeline

        def pass_by():
            for fate in (Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.COMPLETED):
                stage.clock.now += 5
                run = story.begin(own, stage.clock.now)
                stage.clock.now += 5
                story.end(run, stage.clock.now, fate)

        requests, pages = stage.play(config(stage.cloud.project()), 0, pass_by, 60)
        assert requests[1] == Counter({BATCH: 1, RUNS: 1})
        counted = {
            dict(labels)["status"]: count for labels, count in pages[1].get("ci_pipeline_runs_total").items()
        }
        assert counted == {"success": 2, "failed": 1, "canceled": 1, "ignored": 0}
        assert pages[1].value("ci_pipeline_run_duration_seconds_sum", status="success") == 10
        assert pages[1].value("ci_pipeline_recoveries_total") == 1
        assert pages[1].value("pipeline_exporter_runs_unresolved") == 0

    def test_failing_run_list_delays_no_poll(self, one_pipeline):
        """Gaps are retried at growing intervals. Once the list works, every run is counted."""
        story, own, stage = one_pipeline
        stage.codearts.injected_fault, stage.codearts.injected_fault_operation = InjectedFault.DENIED, RUNS

        def pass_by():
            for _ in range(2):
                run = story.begin(own, stage.clock.now)
                stage.clock.now += 5
                story.end(run, stage.clock.now, Status.COMPLETED)

        def mend():
            stage.codearts.injected_fault = None

        minutes = [60 * minute for minute in range(1, 12)]
        requests, pages = stage.play(config(stage.cloud.project()), 0, pass_by, *minutes, mend, 1020, 1080)
        assert [count[RUNS] for count in requests] == [0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
        assert [count[BATCH] for count in requests] == [1] * 14
        assert pages[-2].value("ci_pipeline_runs_total", status="success") == 2
        assert pages[-3].value("pipeline_exporter_runs_unresolved") == 1
        assert {page.value("pipeline_exporter_project_up") for page in pages} == {1}
