"""Exporters that are killed, stopped, started twice, or run on a full disk: none loses or repeats a count."""

import json
import resource
import signal
import socket
import sqlite3
from contextlib import ExitStack, closing

import pytest

from exporter.simulator import running
from tests.drivers.kill_load import (
    COUNTERS,
    STAGES,
    CounterWatch,
    RunLoad,
    all_counted,
    all_listed,
    configuration,
    differences,
    kill_repeatedly,
    latest_shown,
    shown_series,
)
from tests.drivers.process import command, eventually, exporter

PIPELINES = 4


@pytest.fixture
def load():
    """A few pipelines, at first without runs."""
    return RunLoad(PIPELINES, max_length=0.5)


@pytest.fixture
def url(load):
    """The URL of their cloud."""
    with running(load.app) as url:
        yield url


@pytest.fixture
def state(tmp_path):
    """The path of the state."""
    return tmp_path / "state.db"


def first_page(process):
    """Return the page once the exporter shows the pipelines, from the cloud or from the state."""

    def page():
        samples = process.samples()
        return samples if all_listed(samples, PIPELINES) else None

    return eventually(page, "the first page")


def counters(samples, load):
    """Return the counters of all pipelines, and the histograms that they share."""
    own = {pipeline: shown_series(samples, COUNTERS, pipeline_id=pipeline) for pipeline in load.ids}
    return {**own, "": shown_series(samples, STAGES)}


def runs_counted(samples):
    """Return the number of counted runs."""
    return sum(samples.get("ci_pipeline_runs_total").values())


def assert_all_counted_once(samples, load):
    """Assert that each run is counted once."""
    found = counters(samples, load)
    for pipeline in load.ids:
        assert not differences(found[pipeline], load.series(pipeline))
    assert not differences(found[""], load.stages())


def wait_until_counted(process, load):
    """Return the page once all runs are counted and the state is written."""

    def last():
        samples = process.samples()
        up = samples.value("pipeline_exporter_state_up") == 1
        return samples if up and all_counted(samples, load) else None

    return eventually(last, "all runs are counted")


def fill_disk(process, *, full=True):
    """Prevent the files of a process from growing; with `full=False` allow it again."""
    limit = 0 if full else resource.RLIM_INFINITY
    resource.prlimit(process._process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def test_exporter_killed_at_random_times_counts_every_run_once(tmp_path):
    """Ten kills during start, polls and saves; no counter on a page ever decreases."""
    count = kill_repeatedly(tmp_path, 10)
    assert not count.failures, "\n".join(count.failures)
    assert count.true == count.accounted > 300
    assert (count.missed, count.lost, count.double) == (0, 0, 0)
    assert count.pages > 30


def test_exporter_stopped_during_polls_continues_with_the_same_counters(tmp_path, load, state):
    """SIGTERM gives exit code 0 at any time; counters are back before the first answer."""
    watch = CounterWatch()
    with ExitStack() as stack:
        url = stack.enter_context(running(load.app))
        port = int(url.rsplit(":", 1)[1])
        settings = configuration(load.cloud, url, state)
        process = stack.enter_context(exporter(tmp_path, settings))
        first_page(process)
        load.begin()
        for runs in (30, 60):
            eventually(lambda: runs_counted(watch.scrape(process)) > runs, f"{runs} runs are counted")  # noqa: B023
            assert process.stop(signal.SIGTERM) == 0
            process = stack.enter_context(exporter(tmp_path, settings))
            watch.scrape(process)
        load.end()
        before = wait_until_counted(process, load)
        assert process.stop(signal.SIGTERM) == 0
    assert_all_counted_once(before, load)
    assert not watch.failures

    # A cloud that accepts connections and never answers, then is gone, then is back.
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", port)))
        process = stack.enter_context(exporter(tmp_path, settings))
        samples = first_page(process)
        assert counters(samples, load) == counters(before, load)
        assert samples.value("pipeline_exporter_state_up") == 1
        assert samples.get("ci_pipeline_up") == samples.get("ci_pipeline_latest_run_status") == {}
        assert process.get("/-/ready").status_code == 503
        assert process.get("/-/healthy").status_code == 200

        silent.close()
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh has failed")
        samples = process.samples()
        assert counters(samples, load) == counters(before, load)
        assert set(samples.get("ci_pipeline_up").values()) == {0.0}

        stack.enter_context(running(load.app, port=port))
        eventually(
            lambda: sum(process.samples().get("ci_pipeline_up").values()) == PIPELINES, "the cloud is back"
        )
        assert counters(wait_until_counted(process, load), load) == counters(before, load)


def test_second_exporter_on_the_same_state_exits_and_the_first_continues(tmp_path, load, url, state):
    with exporter(tmp_path, configuration(load.cloud, url, state)) as process:
        first_page(process)
        load.begin()
        eventually(lambda: runs_counted(process.samples()) > 10, "runs are counted")
        address = ("--web.listen-address", "127.0.0.1:0")
        code, output, message = command("run", "--config.file", str(tmp_path / "config.yaml"), *address)
        assert (code, output) == (1, "")
        assert f"the state {state} is in use by another process" in message
        assert "Traceback" not in message
        load.end()
        assert_all_counted_once(wait_until_counted(process, load), load)


def refused(tmp_path, settings):
    """Return the errors of an exporter that exits with code 1 before it listens."""
    file = tmp_path / "refused.yaml"
    file.write_text(json.dumps(settings))
    address = ("--web.listen-address", "127.0.0.1:0")
    code, output, message = command("run", "--config.file", str(file), *address)
    assert (code, output) == (1, "")
    assert "Traceback" not in message
    return message


def test_hard_link_to_the_state_of_a_running_exporter_is_refused(tmp_path, load, url, state):
    """The first exporter continues. Other users cannot read its files."""
    with exporter(tmp_path, configuration(load.cloud, url, state)) as process:
        first_page(process)
        assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("state.db*")} == {0o600}
        link = tmp_path / "link.db"
        link.hardlink_to(state)
        message = refused(tmp_path, configuration(load.cloud, url, link))
        assert f"cannot use the state {link}: the file has 2 names (hard links)" in message
        load.begin()
        eventually(lambda: runs_counted(process.samples()) > 10, "runs are counted")
        load.end()
        assert_all_counted_once(wait_until_counted(process, load), load)


def test_state_of_a_newer_format_is_refused_and_left_untouched(tmp_path, load, url, state):
    """The message has both versions and the remedy."""
    with exporter(tmp_path, configuration(load.cloud, url, state)) as process:
        first_page(process)
    with closing(sqlite3.connect(state, isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version = 7")
    before = {file.name: file.read_bytes() for file in tmp_path.glob("state.db*")}
    message = refused(tmp_path, configuration(load.cloud, url, state))
    assert f"the state {state} has format version 7" in message
    assert "this release supports version 1: run the newer release, or give another state.path" in message
    assert {file.name: file.read_bytes() for file in tmp_path.glob("state.db*")} == before


def test_corrupt_state_is_renamed_and_counting_starts_at_zero(tmp_path, load, url, state):
    garbage = bytes(range(256)) * 64
    state.write_bytes(garbage)
    with exporter(tmp_path, configuration(load.cloud, url, state)) as process:
        first_page(process)
        (corrupt_copy,) = tmp_path.glob("state.db.corrupt-*")
        assert corrupt_copy.read_bytes() == garbage
        assert corrupt_copy.name in "".join(process.log)
        assert runs_counted(process.samples()) == 0
        load.begin()
        eventually(lambda: runs_counted(process.samples()) > 10, "runs are counted")
        load.end()
        before = wait_until_counted(process, load)
        assert_all_counted_once(before, load)
    with exporter(tmp_path, configuration(load.cloud, url, state)) as process:
        assert counters(first_page(process), load) == counters(before, load)


@pytest.mark.parametrize("killed", [False, True], ids=["running", "killed"])
def test_full_disk_pauses_counting_until_there_is_room(killed, tmp_path, load, url, state):
    """Gauges stay fresh, counters stand still, and in the end each run is counted once."""
    settings = configuration(load.cloud, url, state)
    watch = CounterWatch()
    with ExitStack() as processes:
        process = processes.enter_context(exporter(tmp_path, settings))
        first_page(process)
        load.begin()
        eventually(lambda: runs_counted(process.samples()) > 30, "runs are counted")
        fill_disk(process)

        def down():
            found = watch.scrape(process)
            return found if found.value("pipeline_exporter_state_up") == 0 else None

        before = eventually(down, "the disk is full")

        def fresh():
            found = watch.scrape(process)
            assert found.value("pipeline_exporter_state_up") == 0
            assert counters(found, load) == counters(before, load)
            return latest_shown(found, load)

        since = {pipeline: load.number(pipeline) for pipeline in load.ids}
        eventually(lambda: all(load.number(one) > since[one] + 5 for one in since), "more runs begin")
        load.end()
        eventually(fresh, "the last runs are shown")
        if killed:
            process.kill()
            assert process.wait() == -signal.SIGKILL
            process = processes.enter_context(exporter(tmp_path, settings))
            watch.scrape(process)
        else:
            fill_disk(process, full=False)
        assert_all_counted_once(wait_until_counted(process, load), load)
        watch.scrape(process)
    assert not watch.failures
