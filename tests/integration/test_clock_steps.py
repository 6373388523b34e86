"""A wall clock that is set while the exporter runs. Only the process sees it, through Debian's `faketime` library."""

import os
import time
from pathlib import Path

import pytest

from tests.drivers.process import eventually, exporter

INTERVAL = 2.0
DAY = 86_400


@pytest.fixture
def library():
    """Return the path of the library; without it the test is skipped, except in CI."""
    path = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if path is None and not os.environ.get("CI"):
        pytest.skip("faketime is not installed")
    assert path, "faketime is not installed"
    return path


@pytest.mark.parametrize("steps", [(DAY, -DAY), (-DAY,)], ids=["a day ahead and back", "a day back"])
@pytest.mark.parametrize("method", ["token", "aksk"])
def test_polls_continue_within_two_intervals_of_a_step(tmp_path, cloud, library, steps, method):
    """Polls continue even if requests are signed with the time."""
    file = tmp_path / "offset"

    def set_clock(offset):
        new = tmp_path / "offset.new"
        new.write_text(f"{offset:+d}\n")
        new.rename(file)

    set_clock(0)
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    credentials = cloud.codearts.credentials
    auth = {
        "token": {"method": "token", "token": credentials.token},
        "aksk": {
            "method": "aksk",
            "access_key": credentials.access_key,
            "secret_key": credentials.secret_key,
        },
    }[method]
    settings = {
        "poll": {"interval": f"{INTERVAL:g}s", "active_interval": f"{INTERVAL:g}s"},
        "projects": [cloud.project(auth=auth)],
    }
    with exporter(tmp_path, settings, environment=environment) as process:
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")

        def logged():
            lines = [line for line in process.log if "wall clock stepped" in line]
            return [int(line.split("seconds=")[1]) for line in lines]

        for number, step in enumerate(steps, start=1):
            set_clock(sum(steps[:number]))
            since = time.monotonic()
            for _ in range(2):
                cloud.codearts.requests.clear()
                eventually(lambda: cloud.codearts.requests, "a poll")
                now = time.monotonic()
                assert now - since < 2 * INTERVAL
                since = now
            eventually(lambda: len(logged()) == number, "a line for the step")  # noqa: B023  # called at once
            # The two clocks are not read at the same moment.
            assert logged()[-1] == pytest.approx(step, abs=2)
        assert process.samples().value("pipeline_exporter_project_up") == 1
