"""A disk that hangs in fsync: polls and gauges continue, no run is lost or counted twice, and SIGTERM ends the process."""

import os
import shutil
import subprocess
import time
from pathlib import Path

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
    latest_shown,
    shown_series,
)
from tests.drivers.probe import HealthProbe
from tests.drivers.process import eventually, exporter

PIPELINES = 4
SOURCE = Path(__file__).parents[1] / "drivers" / "hang.c"


class Disk:
    """Makes the disk of a process hang."""

    def __init__(self, directory: Path, library: Path) -> None:
        self._flag = directory / "hang"
        self._entered = directory / "hang.entered"
        self.environment = {"LD_PRELOAD": str(library), "HANG_FLAG": str(self._flag)}

    def hang(self) -> None:
        self._flag.touch()

    def wait_until_hanging(self) -> None:
        """Wait until a call hangs."""
        eventually(self._entered.exists, "a call hangs")

    def recover(self) -> None:
        self._flag.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The library that makes fsync hang; without a compiler the test is skipped, except in CI."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None and not os.environ.get("CI"):
        pytest.skip("no C compiler is installed")
    assert compiler, "no C compiler is installed"
    library = tmp_path_factory.mktemp("hang") / "hang.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


@pytest.fixture
def disk(tmp_path, library):
    disk = Disk(tmp_path, library)
    yield disk
    disk.recover()


@pytest.fixture
def load():
    """A few pipelines with about ten runs a second."""
    return RunLoad(PIPELINES, max_length=0.5, burst_gap=0.2)


@pytest.fixture
def settings(tmp_path, load):
    with running(load.app) as url:
        yield configuration(load.cloud, url, tmp_path / "state.db")


def counters(samples, load):
    """Return the counters of all pipelines, and the histograms that they share."""
    own = {pipeline: shown_series(samples, COUNTERS, pipeline_id=pipeline) for pipeline in load.ids}
    return {**own, "": shown_series(samples, STAGES)}


def runs_counted(samples):
    """Return the number of counted runs."""
    return sum(samples.get("ci_pipeline_runs_total").values())


def begin(process, watch, load):
    """Begin to create runs after the first poll, and wait until some are counted."""
    eventually(lambda: all_listed(watch.scrape(process), PIPELINES), "the first sight")
    load.begin()
    eventually(lambda: runs_counted(watch.scrape(process)) > 20, "runs are counted")


def assert_all_counted_once(process, watch, load):
    """Wait until all runs are known and saved, and compare the counters with the true runs; return the counters."""

    def last():
        samples = watch.scrape(process)
        up = samples.value("pipeline_exporter_state_up") == 1
        return samples if up and all_counted(samples, load) else None

    found = counters(eventually(last, "all runs are counted"), load)
    for pipeline in load.ids:
        assert not differences(found[pipeline], load.series(pipeline))
    assert not differences(found[""], load.stages())
    return found


def test_gauges_continue_and_runs_are_counted_once_when_the_disk_is_back(tmp_path, disk, load, settings):
    """The late save succeeds after its polls were rolled back; a restart shows that the file has them once."""
    watch = CounterWatch()
    with exporter(tmp_path, settings, environment=disk.environment) as process:
        begin(process, watch, load)
        with HealthProbe(process) as probe:
            disk.hang()
            disk.wait_until_hanging()
            started = time.monotonic()

            def down():
                samples = watch.scrape(process)
                return samples if samples.value("pipeline_exporter_state_up") == 0 else None

            before = eventually(down, "the save counts as failed")
            assert 8 < time.monotonic() - started < 15
            since = {pipeline: load.number(pipeline) for pipeline in load.ids}
            eventually(
                lambda: all(load.number(one) > since[one] + 3 for one in since) and watch.scrape(process),
                "more runs begin",
            )
            load.end()

            def fresh():
                samples = watch.scrape(process)
                assert counters(samples, load) == counters(before, load)
                assert samples.value("pipeline_exporter_state_up") == 0
                assert samples.value("pipeline_exporter_project_up") == 1
                return latest_shown(samples, load)

            eventually(fresh, "the last runs are shown")
            assert sum("not finished within 10 s, the disk may hang" in line for line in process.log) == 1
            disk.recover()
            found = assert_all_counted_once(process, watch, load)
        assert not probe.failures
        assert probe.worst < 1
    with exporter(tmp_path, settings) as process:
        eventually(lambda: all_listed(watch.scrape(process), PIPELINES), "what was saved is shown")
        assert counters(watch.scrape(process), load) == found
    assert not watch.failures


@pytest.mark.parametrize(
    "declared", [False, True], ids=["during the save", "after the save counts as failed"]
)
def test_sigterm_ends_the_process_while_the_disk_hangs(declared, tmp_path, disk, load, settings):
    """The next process counts the runs that ended in between."""
    watch = CounterWatch()
    with exporter(tmp_path, settings, environment=disk.environment) as process:
        begin(process, watch, load)
        disk.hang()
        disk.wait_until_hanging()
        if declared:
            eventually(
                lambda: watch.scrape(process).value("pipeline_exporter_state_up") == 0,
                "the save counts as failed",
            )
        started = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started < 10
    disk.recover()
    with exporter(tmp_path, settings, environment=disk.environment) as process:
        load.end()
        assert_all_counted_once(process, watch, load)
    assert not watch.failures


def test_sigterm_ends_the_process_while_the_state_is_opened(tmp_path, disk, settings):
    disk.hang()
    with exporter(tmp_path, settings, environment=disk.environment) as process:
        disk.wait_until_hanging()
        started = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started < 10
