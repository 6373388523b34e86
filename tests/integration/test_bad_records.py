"""One record that cannot be read affects only its pipeline, in batches and in lists of runs."""

import asyncio
import time
from collections import Counter

import pytest

from exporter.app.bootstrap import assemble
from exporter.providers.row_repair import LONGEST, readable_rows
from exporter.simulator import CodeArts, Flow, World, running
from tests.conftest import Cloud
from tests.drivers.process import Samples, eventually, exporter
from tests.drivers.support import FakeClock, config, shown

BATCH, RUNS = "BatchShowPipelinesLatestStatus", "ListPipelineRuns"
VALUES = {
    "nan": b"NaN",
    "infinity": b"-Infinity",
    "nested": b"[" * 10_000 + b"]" * 10_000,
    "unquoted": b"word",
}
OVERLONG = "overlong_id"
QUICK = {"interval": "300ms", "active_interval": "100ms", "timeout": "5s"}


def spoil(codearts, pipeline, kind):
    """Make the record of one pipeline bad from now on."""
    if kind == OVERLONG:
        codearts.rewrite = lambda records: [
            {**record, "pipeline_id": "x" * 300} if record["pipeline_id"] == pipeline else record
            for record in records
        ]
    else:
        codearts.bad_records = {pipeline: VALUES[kind]}


def heal(codearts):
    codearts.rewrite = None
    codearts.bad_records = {}


def ups(page):
    return {dict(labels)["pipeline_id"]: value for labels, value in page.get("ci_pipeline_up").items()}


def ran(codearts):
    """Return the ids of pipelines that have a run."""
    world = codearts.world
    return [one.id for one in world.pipelines if world.latest_run(one.id, codearts.clock()) is not None]


@pytest.mark.parametrize("kind", [*VALUES, OVERLONG])
def test_bad_record_of_a_batch_affects_its_pipeline_only(tmp_path, kind):
    """In a real process, others have values, the project is up, and the pipeline returns when its record is good."""
    now = time.time()
    codearts = CodeArts(World(pipelines=30), clock=lambda: now)
    ids = [one.id for one in codearts.world.pipelines]
    bad = ran(codearts)[3]
    expected = {one: float(one != bad) for one in ids}
    with running(codearts.app) as url:
        own = Cloud(codearts, url).project()
        with exporter(tmp_path, {"poll": QUICK, "projects": [own]}) as process:
            eventually(lambda: ups(process.samples()) == dict.fromkeys(ids, 1.0), "the first refresh")
            known = process.samples().get("ci_pipeline_latest_run_number")
            spoil(codearts, bad, kind)
            eventually(lambda: ups(process.samples()) == expected, "the pipeline is quarantined")

            def settled():
                page = process.samples()
                up, refused = (
                    page.value("pipeline_exporter_project_up"),
                    "pipeline_exporter_pipelines_refused",
                )
                return up == page.value(refused) == 1 and ups(page) == expected

            eventually(settled, "the project is up")
            codearts.requests.clear()
            eventually(lambda: len(codearts.requests) > 12, "more polls")
            page = process.samples()
            assert settled()
            # Nothing is withdrawn, including the run of the bad record.
            assert page.get("ci_pipeline_latest_run_number") == known
            sent = [call.pipeline_ids for call in codearts.requests if call.operation == BATCH]
            assert all(bad not in one or one == (bad,) for one in sent)
            assert (bad,) in sent
            assert sum("polling it alone" in line for line in process.log) == 1
            heal(codearts)
            eventually(lambda: ups(process.samples()) == dict.fromkeys(ids, 1.0), "the recovery")
            eventually(
                lambda: process.samples().value("pipeline_exporter_pipelines_refused") == 0, "back in batches"
            )


def play(codearts, settings, clock, *steps):
    """Refresh once a minute, with calls in between; return the batches of each refresh and the page after it."""

    async def refreshes():
        exporter = assemble(settings, clock)
        (poller,) = exporter.pollers
        sent, pages = [], []
        for step in steps:
            if callable(step):
                step()
                continue
            codearts.requests.clear()
            await poller.tick()
            sent.append([call.pipeline_ids for call in codearts.requests if call.operation == BATCH])
            pages.append(Samples(shown(exporter)))
            clock.now += 60
        await poller.close()
        return sent, pages

    return asyncio.run(refreshes())


@pytest.fixture
def large():
    codearts = CodeArts(World(pipelines=500))
    clock = FakeClock(codearts.world.start + 20 * 86400.0)
    moment = clock.now
    codearts.clock = lambda: moment
    with running(codearts.app) as url:
        own = Cloud(codearts, url).project(rate_limit={"requests_per_second": 100_000, "burst": 10_000})
        settings = config(own, poll={"active_interval": "60s", "timeout": "60s"})
        yield codearts, settings, clock


@pytest.mark.parametrize("kind", [*VALUES, OVERLONG])
def test_other_pipelines_are_correct_from_the_third_refresh_on(large, kind):
    """Each refresh then takes one request more, and recovery takes one refresh."""
    codearts, settings, clock = large
    ids = [one.id for one in codearts.world.pipelines]
    bad = ran(codearts)[200]
    sent, pages = play(
        codearts,
        settings,
        clock,
        0,
        lambda: spoil(codearts, bad, kind),
        *range(5),
        lambda: heal(codearts),
        0,
        0,
    )
    expected = {one: float(one != bad) for one in ids}
    for page, batches in zip(pages[3:6], sent[3:6], strict=True):
        assert ups(page) == expected
        assert page.value("pipeline_exporter_project_up") == 1
        assert page.value("pipeline_exporter_pipelines_refused") == 1
        assert len(page.get("ci_pipeline_has_run")) == 500
        assert page.get("ci_pipeline_latest_run_number") == pages[0].get("ci_pipeline_latest_run_number")
        assert sorted(map(len, batches)) == [1, *[50] * 9, 499 - 450] or len(batches) == 11
        assert [one for one in batches if bad in one] == [(bad,)]
    assert set(ups(pages[6]).values()) == {1}
    assert pages[6].value("pipeline_exporter_pipelines_refused") == 0
    assert [len(batch) for batch in sent[7]] == [50] * 10


def test_more_than_two_unreadable_pipelines_are_polled_in_turn(large):
    """A refresh polls at most two of them."""
    codearts, settings, clock = large
    bad = ran(codearts)[100:105]

    def spoil_all():
        codearts.bad_records = dict.fromkeys(bad, b"NaN")

    sent, pages = play(codearts, settings, clock, 0, spoil_all, *range(8))
    assert pages[-1].value("pipeline_exporter_pipelines_refused") == 5
    alone = [[one[0] for one in batches if len(one) == 1] for batches in sent[-5:]]
    assert all(len(one) == 2 for one in alone)
    assert Counter(one for each in alone for one in each) == dict.fromkeys(bad, 2)


def test_cloud_with_only_unreadable_answers_quarantines_no_pipeline(large):
    """It takes a few requests; the project is down until the cloud answers."""
    codearts, settings, clock = large
    ids = [one.id for one in codearts.world.pipelines]

    def spoil_all():
        codearts.bad_records = dict.fromkeys(ids, b"NaN")

    sent, pages = play(codearts, settings, clock, 0, spoil_all, *range(4), lambda: heal(codearts), 0)
    for page, batches in zip(pages[1:5], sent[1:5], strict=True):
        assert page.value("pipeline_exporter_project_up") == 0
        assert page.value("pipeline_exporter_pipelines_refused") == 0
        assert len(batches) <= 12
    assert set(ups(pages[5]).values()) == {1}
    assert pages[5].value("pipeline_exporter_project_up") == 1


def test_record_that_is_bad_for_one_refresh_quarantines_no_pipeline(large):
    codearts, settings, clock = large
    bad = ran(codearts)[200]
    sent, pages = play(
        codearts, settings, clock, 0, lambda: spoil(codearts, bad, "nan"), 0, lambda: heal(codearts), 0
    )
    assert [len(batches) for batches in sent] == [10, 10, 10]
    assert [page.value("pipeline_exporter_pipelines_refused") for page in pages] == [0, 0, 0]
    assert set(ups(pages[2]).values()) == {1}


def test_bad_record_of_a_run_list_affects_its_pipeline_only(tmp_path):
    """The test polls Flow with a real process."""
    flow = Flow(World(pipelines=8))
    ids = [flow.pipeline_id(one.id) for one in flow.world.pipelines]
    bad = flow.world.pipelines[3].id
    expected = {one: float(one != flow.pipeline_id(bad)) for one in ids}
    with running(flow.app) as url:
        own = {
            "name": "mobile",
            "provider": "flow",
            "endpoint": url,
            "organization_id": flow.organization_id,
            "auth": {"method": "yunxiao_token", "token": flow.credentials.personal_token},
            "pipelines": [{"id": one, "name": f"name of {one}"} for one in ids],
            "rate_limit": {"requests_per_second": 1000, "burst": 1000},
        }
        flow.bad_records = {bad: b"NaN"}
        with exporter(tmp_path, {"poll": QUICK, "projects": [own]}) as process:

            def settled():
                page = process.samples()
                return page.value("pipeline_exporter_project_up") == 1 and ups(page) == expected

            eventually(settled, "the pipeline is quarantined, the project is up")
            flow.bad_records = {}
            eventually(lambda: ups(process.samples()) == dict.fromkeys(ids, 1.0), "the recovery")


@pytest.mark.parametrize("kind", VALUES)
def test_bad_row_of_a_list_neither_adds_nor_removes_pipelines(kind):
    """CodeArts with discovery: the row is rejected, and the project is up."""
    codearts = CodeArts(World(pipelines=130))
    clock = FakeClock(codearts.world.start + 20 * 86400.0)
    codearts.clock = clock.time
    ids = [one.id for one in codearts.world.pipelines]
    late, bad = ids[7], ids[3]
    codearts.deleted.add(late)

    def change():
        codearts.deleted.clear()
        codearts.bad_records = {bad: VALUES[kind]}

    with running(codearts.app) as url:
        own = Cloud(codearts, url).project(pipelines=[], discover={"interval": "60s"})
        _, pages = play(codearts, config(own), clock, 0, change, *range(4))
    assert late not in ups(pages[0])
    for page in pages[1:]:
        assert set(ups(page)) == set(ids)
    assert pages[-1].value("pipeline_exporter_project_up") == 1
    assert pages[-1].value("pipeline_exporter_rejected_records_total", reason="unreadable") > 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'[{"a":1},{"b":[NaN]},"x"]', b'[{"a":1},null,"x"]'),
        (
            b'{"n":2,"rows":[{"a":",]}\\""} , -Infinity],"o":{"p":1}}',
            b'{"n":2,"rows":[{"a":",]}\\""} ,null],"o":{"p":1}}',
        ),
        (b"[1," + VALUES["nested"] + b"]", b"[1,null]"),
        (b'[{"a":"\\ud800"},NaN]', b'[{"a":"\\ud800"},null]'),
        (b"[1,2", b"[1,2"),
        (b"<html>", b"<html>"),
        (b"", b""),
    ],
)
def test_only_unreadable_rows_are_replaced(body, expected):
    assert readable_rows(body) == expected


@pytest.mark.parametrize(
    "unit", [b"[", b"{},", b"NaN,", b'\\"', b'"', b"[[],", b"{"], ids=lambda unit: unit.decode()
)
def test_search_for_rows_takes_limited_time(unit):
    """Responses may have any content; longer ones are not searched."""
    body = b"[NaN," + unit * (LONGEST // len(unit) - 5)
    started = time.process_time()
    readable_rows(body)
    assert time.process_time() - started < 1
