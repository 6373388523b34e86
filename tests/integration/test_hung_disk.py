"""A disk that hangs in fsync: polls and gauges continue, nothing is counted twice or lost, and SIGTERM ends the process."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from exporter.simulator import running
from tests.drivers.killing import (
    COUNTERS,
    STAGES,
    Bustle,
    Watch,
    differences,
    newest,
    seen,
    settings,
    settled,
    shown,
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
        """Return when a call hangs."""
        eventually(self._entered.exists, "a call hangs")

    def recover(self) -> None:
        self._flag.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The library that makes fsync hang; without a compiler the test is skipped, but not in CI."""
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
def bustle():
    """A few pipelines with some ten runs a second, once they begin."""
    return Bustle(PIPELINES, longest=0.5, swarm=0.2)


@pytest.fixture
def configuration(tmp_path, bustle):
    with running(bustle.app) as url:
        yield settings(bustle.cloud, url, tmp_path / "state.db")


def counters(samples, bustle):
    """The counters of all pipelines, and the histograms that they share."""
    own = {pipeline: shown(samples, COUNTERS, pipeline_id=pipeline) for pipeline in bustle.ids}
    return {**own, "": shown(samples, STAGES)}


def counted(samples):
    """How many runs are counted."""
    return sum(samples.get("ci_pipeline_runs_total").values())


def begin(process, watch, bustle):
    """Let runs begin after the first sight, until some are counted."""
    eventually(lambda: seen(watch.look(process), PIPELINES), "the first sight")
    bustle.begin()
    eventually(lambda: counted(watch.look(process)) > 20, "runs are counted")


def audit(process, watch, bustle):
    """Wait until all runs are known and saved, and hold the counters to what was true; returns them."""

    def last():
        samples = watch.look(process)
        up = samples.value("pipeline_exporter_state_up") == 1
        return samples if up and settled(samples, bustle) else None

    found = counters(eventually(last, "all runs are counted"), bustle)
    for pipeline in bustle.ids:
        assert not differences(found[pipeline], bustle.series(pipeline))
    assert not differences(found[""], bustle.stages())
    return found


def test_gauges_continue_and_runs_are_counted_once_when_the_disk_is_back(
    tmp_path, disk, bustle, configuration
):
    """The save that hung is written late, after its polls were taken back; a restart shows that the file has them once."""
    watch = Watch()
    with exporter(tmp_path, configuration, environment=disk.environment) as process:
        begin(process, watch, bustle)
        with HealthProbe(process) as probe:
            disk.hang()
            disk.wait_until_hanging()
            started = time.monotonic()

            def down():
                samples = watch.look(process)
                return samples if samples.value("pipeline_exporter_state_up") == 0 else None

            before = eventually(down, "the save counts as failed")
            assert 8 < time.monotonic() - started < 15
            since = {pipeline: bustle.number(pipeline) for pipeline in bustle.ids}
            eventually(
                lambda: all(bustle.number(one) > since[one] + 3 for one in since) and watch.look(process),
                "more runs begin",
            )
            bustle.end()

            def fresh():
                samples = watch.look(process)
                assert counters(samples, bustle) == counters(before, bustle)
                assert samples.value("pipeline_exporter_state_up") == 0
                assert samples.value("pipeline_exporter_project_up") == 1
                return newest(samples, bustle)

            eventually(fresh, "the last runs are shown")
            assert sum("not finished within 10 s, the disk may hang" in line for line in process.log) == 1
            disk.recover()
            found = audit(process, watch, bustle)
        assert not probe.failures
        assert probe.worst < 1
    with exporter(tmp_path, configuration) as process:
        eventually(lambda: seen(watch.look(process), PIPELINES), "what was saved is shown")
        assert counters(watch.look(process), bustle) == found
    assert not watch.failures


@pytest.mark.parametrize(
    "declared", [False, True], ids=["while it is waited for", "after it counts as failed"]
)
def test_sigterm_ends_the_process_while_the_disk_hangs(declared, tmp_path, disk, bustle, configuration):
    """Within ten seconds and with exit code 0; the next process counts what ended meanwhile."""
    watch = Watch()
    with exporter(tmp_path, configuration, environment=disk.environment) as process:
        begin(process, watch, bustle)
        disk.hang()
        disk.wait_until_hanging()
        if declared:
            eventually(
                lambda: watch.look(process).value("pipeline_exporter_state_up") == 0, "it counts as failed"
            )
        started = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started < 10
    disk.recover()
    with exporter(tmp_path, configuration, environment=disk.environment) as process:
        bustle.end()
        audit(process, watch, bustle)
    assert not watch.failures


def test_sigterm_ends_the_process_while_the_state_is_opened(tmp_path, disk, configuration):
    """A disk may hang from the start."""
    disk.hang()
    with exporter(tmp_path, configuration, environment=disk.environment) as process:
        disk.wait_until_hanging()
        started = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started < 10
