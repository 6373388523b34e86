"""Exporters that are killed, stopped, doubled and starved of disk in the middle of their work: none loses what it counted."""

import json
import resource
import signal
import socket
import sqlite3
from contextlib import ExitStack, closing

import pytest

from exporter.simulator import running
from tests.drivers.killing import (
    COUNTERS,
    STAGES,
    Bustle,
    Watch,
    differences,
    kill_often,
    newest,
    seen,
    settings,
    settled,
    shown,
)
from tests.drivers.process import command, eventually, exporter

PIPELINES = 4


@pytest.fixture
def bustle():
    """A few pipelines, without runs at first."""
    return Bustle(PIPELINES, longest=0.5)


@pytest.fixture
def url(bustle):
    """Where their cloud answers."""
    with running(bustle.app) as url:
        yield url


@pytest.fixture
def state(tmp_path):
    """Where the state is kept."""
    return tmp_path / "state.db"


def first_sight(process):
    """The page once the exporter shows the pipelines, by what it was told or remembers."""

    def sight():
        samples = process.samples()
        return samples if seen(samples, PIPELINES) else None

    return eventually(sight, "the first sight")


def counters(samples, bustle):
    """The counters of all pipelines, and the histograms that they share."""
    own = {pipeline: shown(samples, COUNTERS, pipeline_id=pipeline) for pipeline in bustle.ids}
    return {**own, "": shown(samples, STAGES)}


def counted(samples):
    """How many runs are counted."""
    return sum(samples.get("ci_pipeline_runs_total").values())


def is_all_that_was(samples, bustle):
    """Each run is counted once."""
    found = counters(samples, bustle)
    for pipeline in bustle.ids:
        assert not differences(found[pipeline], bustle.series(pipeline))
    assert not differences(found[""], bustle.stages())


def learnt(process, bustle):
    """The page once all runs are known and the state is written."""

    def last():
        samples = process.samples()
        up = samples.value("pipeline_exporter_state_up") == 1
        return samples if up and settled(samples, bustle) else None

    return eventually(last, "all is learnt")


def fill_disk(process, *, full=True):
    """Let no file of a process grow; or let them grow again."""
    most = 0 if full else resource.RLIM_INFINITY
    resource.prlimit(process._process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def test_killed_at_any_instant_it_loses_no_run_and_counts_none_twice(tmp_path):
    """Ten kills, while it starts, asks, saves and shows; what a page once showed is never taken back."""
    count = kill_often(tmp_path, 10)
    assert not count.failures, "\n".join(count.failures)
    assert count.true == count.accounted > 300
    assert (count.missed, count.lost, count.double) == (0, 0, 0)
    assert count.pages > 30


def test_stopped_in_the_middle_of_polls_it_goes_on_with_the_same_counters(tmp_path, bustle, state):
    """SIGTERM is a good end at any moment; the counters are back before the cloud has answered anything."""
    watch = Watch()
    with ExitStack() as stack:
        url = stack.enter_context(running(bustle.app))
        port = int(url.rsplit(":", 1)[1])
        configuration = settings(bustle.cloud, url, state)
        process = stack.enter_context(exporter(tmp_path, configuration))
        first_sight(process)
        bustle.begin()
        for runs in (30, 60):
            eventually(lambda: counted(watch.look(process)) > runs, f"{runs} runs are counted")  # noqa: B023
            assert process.stop(signal.SIGTERM) == 0
            process = stack.enter_context(exporter(tmp_path, configuration))
            watch.look(process)
        bustle.end()
        before = learnt(process, bustle)
        assert process.stop(signal.SIGTERM) == 0
    is_all_that_was(before, bustle)
    assert not watch.failures

    # A cloud that takes connections and answers nothing, then is not there at all, then is back.
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", port)))
        process = stack.enter_context(exporter(tmp_path, configuration))
        samples = first_sight(process)
        assert counters(samples, bustle) == counters(before, bustle)
        assert samples.value("pipeline_exporter_state_up") == 1
        assert samples.get("ci_pipeline_up") == samples.get("ci_pipeline_latest_run_status") == {}
        assert process.get("/-/ready").status_code == 503
        assert process.get("/-/healthy").status_code == 200

        silent.close()
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh has failed")
        samples = process.samples()
        assert counters(samples, bustle) == counters(before, bustle)
        assert set(samples.get("ci_pipeline_up").values()) == {0.0}

        stack.enter_context(running(bustle.app, port=port))
        eventually(lambda: sum(process.samples().get("ci_pipeline_up").values()) == PIPELINES, "it is back")
        assert counters(learnt(process, bustle), bustle) == counters(before, bustle)


def test_a_second_exporter_on_the_same_state_ends_and_the_first_goes_on(tmp_path, bustle, url, state):
    """It says which file is in use, and spoils nothing."""
    with exporter(tmp_path, settings(bustle.cloud, url, state)) as process:
        first_sight(process)
        bustle.begin()
        eventually(lambda: counted(process.samples()) > 10, "runs are counted")
        address = ("--web.listen-address", "127.0.0.1:0")
        code, output, words = command("run", "--config.file", str(tmp_path / "config.yaml"), *address)
        assert (code, output) == (1, "")
        assert f"the state {state} is in use by another process" in words
        assert "Traceback" not in words
        bustle.end()
        is_all_that_was(learnt(process, bustle), bustle)


def refused(tmp_path, configuration):
    """What an exporter says that ends with exit code 1 before it listens."""
    file = tmp_path / "refused.yaml"
    file.write_text(json.dumps(configuration))
    address = ("--web.listen-address", "127.0.0.1:0")
    code, output, message = command("run", "--config.file", str(file), *address)
    assert (code, output) == (1, "")
    assert "Traceback" not in message
    return message


def test_hard_link_to_the_state_of_a_running_exporter_is_refused(tmp_path, bustle, url, state):
    """Two exporters on one file would spoil it; the first continues. Others cannot read what it writes."""
    with exporter(tmp_path, settings(bustle.cloud, url, state)) as process:
        first_sight(process)
        assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("state.db*")} == {0o600}
        link = tmp_path / "link.db"
        link.hardlink_to(state)
        message = refused(tmp_path, settings(bustle.cloud, url, link))
        assert f"cannot use the state {link}: the file has 2 names (hard links)" in message
        bustle.begin()
        eventually(lambda: counted(process.samples()) > 10, "runs are counted")
        bustle.end()
        is_all_that_was(learnt(process, bustle), bustle)


def test_state_of_a_newer_format_ends_the_exporter_and_is_left_untouched(tmp_path, bustle, url, state):
    """Both versions and the remedy are in the message."""
    with exporter(tmp_path, settings(bustle.cloud, url, state)) as process:
        first_sight(process)
    with closing(sqlite3.connect(state, isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version = 7")
    before = {file.name: file.read_bytes() for file in tmp_path.glob("state.db*")}
    message = refused(tmp_path, settings(bustle.cloud, url, state))
    assert f"the state {state} has format version 7" in message
    assert "this release supports version 1: run the newer release, or give another state.path" in message
    assert {file.name: file.read_bytes() for file in tmp_path.glob("state.db*")} == before


def test_a_state_that_is_garbage_is_kept_aside_and_counting_begins_anew(tmp_path, bustle, url, state):
    """Whoever needs it finds it beside the new one; the log says where."""
    garbage = bytes(range(256)) * 64
    state.write_bytes(garbage)
    with exporter(tmp_path, settings(bustle.cloud, url, state)) as process:
        first_sight(process)
        (aside,) = tmp_path.glob("state.db.corrupt-*")
        assert aside.read_bytes() == garbage
        assert f"renamed to {aside}" in "".join(process.log)
        assert counted(process.samples()) == 0
        bustle.begin()
        eventually(lambda: counted(process.samples()) > 10, "runs are counted")
        bustle.end()
        before = learnt(process, bustle)
        is_all_that_was(before, bustle)
    with exporter(tmp_path, settings(bustle.cloud, url, state)) as process:
        assert counters(first_sight(process), bustle) == counters(before, bustle)


@pytest.mark.parametrize("killed", [False, True], ids=["and goes on", "and is killed"])
def test_on_a_full_disk_nothing_is_counted_until_there_is_room(killed, tmp_path, bustle, url, state):
    """Gauges stay fresh meanwhile, counters stand still, and in the end each run is counted once."""
    configuration = settings(bustle.cloud, url, state)
    watch = Watch()
    with ExitStack() as processes:
        process = processes.enter_context(exporter(tmp_path, configuration))
        first_sight(process)
        bustle.begin()
        eventually(lambda: counted(process.samples()) > 30, "runs are counted")
        fill_disk(process)

        def down():
            found = watch.look(process)
            return found if found.value("pipeline_exporter_state_up") == 0 else None

        before = eventually(down, "the disk is full")

        def fresh():
            found = watch.look(process)
            assert found.value("pipeline_exporter_state_up") == 0
            assert counters(found, bustle) == counters(before, bustle)
            return newest(found, bustle)

        since = {pipeline: bustle.number(pipeline) for pipeline in bustle.ids}
        eventually(lambda: all(bustle.number(one) > since[one] + 5 for one in since), "more runs begin")
        bustle.end()
        eventually(fresh, "the last runs are shown")
        if killed:
            process.kill()
            assert process.wait() == -signal.SIGKILL
            process = processes.enter_context(exporter(tmp_path, configuration))
            watch.look(process)
        else:
            fill_disk(process, full=False)
        is_all_that_was(learnt(process, bustle), bustle)
        watch.look(process)
    assert not watch.failures
