"""Responses of any shape, against a real process: health and scrapes continue, memory is bounded, and the exporter recovers."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.probe import MIB, HealthProbe
from tests.drivers.process import Process, eventually, exporter
from tests.drivers.rawcloud import RawCloud, RawReply, http, raw_cloud
from tests.drivers.support import project

WORST = 1.0
"""Maximum seconds of a response of `/-/healthy`."""
GROWTH = 150 * MIB
"""Maximum growth of resident memory in bytes."""
LEFT = 60 * MIB
"""Maximum growth in bytes that remains after valid responses; the allocator retains some memory."""

AT_ONCE = 4
IDS = [f"{place:032x}" for place in range(50 * AT_ONCE)]

FLOW = {
    "name": "shop",
    "provider": "flow",
    "organization_id": "5ebbc0228123212b59xxxxxx"[:24],
    "pipelines": [{"id": "12", "name": "build"}],
    "auth": {"method": "yunxiao_token", "token": "a-token-to-keep-secret"},
    "rate_limit": {"requests_per_second": 100, "burst": 100},
}


def stages(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Return stages in the form of the batch operation."""
    return [
        {
            "name": f"stage {place}",
            "sequence": place,
            "status": "COMPLETED",
            "start_time": "2026-01-01 00:00:01",
            "end_time": "2026-01-01 00:00:02",
            **changes,
        }
        for place in range(count)
    ]


def record(identity: str, **changes: Any) -> dict[str, Any]:
    """Return the latest run of a pipeline in the form of the batch operation."""
    return {
        "pipeline_id": identity,
        "pipeline_run_id": f"run-of-{identity}",
        "status": "COMPLETED",
        "run_number": 7,
        "start_time": 1_767_196_800_000,
        "end_time": 1_767_196_860_000,
        "stage_status_list": stages(2),
        **changes,
    }


def valid_batch(_: str, __: str, body: bytes) -> bytes:
    """Return a valid response to the batch operation."""
    return http(json.dumps([record(identity) for identity in json.loads(body)]).encode())


def codearts(cloud: RawCloud, **changes: Any) -> dict[str, Any]:
    """Return a configuration with enough pipelines for four batches in flight."""
    own: dict[str, Any] = {
        "endpoint": cloud.url,
        "pipelines": [{"id": identity, "name": identity[-4:]} for identity in IDS],
        "rate_limit": {"requests_per_second": 100, "burst": 100},
        **changes,
    }
    return {"poll": {"interval": "1s", "active_interval": "1s"}, "projects": [project(**own)]}


def always(answer: bytes) -> RawReply:
    return lambda *_: answer


def in_batch(part: bytes) -> bytes:
    """Return a batch of one record with `part` instead of its stages."""
    whole = json.dumps([record(IDS[0], stage_status_list="HERE")]).encode()
    return whole.replace(b'"HERE"', part)


def repeated(part: bytes, size: int) -> bytes:
    """Return an array of copies of a part, of about `size` bytes."""
    return b"[" + b",".join([part] * (size // (len(part) + 1) - 1)) + b"]"


_press = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
_BLOCK = _press.compress(b" " * MIB) + _press.flush(zlib.Z_FULL_FLUSH)
BOMB = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + _BLOCK * 2048

LARGEST = 8 * MIB - 4096


def tiny_chunks(*_: Any) -> Iterator[bytes]:
    """Return a body in chunks of two bytes."""
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n"
    yield b"2\r\n,1\r\n" * 8000
    yield b"1\r\n]\r\n0\r\n\r\n"


SHAPES: dict[str, Callable[[], RawReply]] = {
    "31 MiB of objects in gzip": lambda: always(
        http(gzip.compress(repeated(b"{}", 31 * MIB)), content_encoding="gzip")
    ),
    "objects up to the byte limit": lambda: always(http(repeated(b"{}", LARGEST))),
    "a million objects": lambda: always(http(repeated(b"{}", 3_000_000))),
    "a million numbers": lambda: always(http(repeated(b"1", 2_000_000))),
    "as many numbers as are read": lambda: always(http(repeated(b"1", 900_000))),
    "an object of 1.5 million keys": lambda: always(
        http(b"{%b}" % b",".join(b'"%d":1' % key for key in range(1_500_000)))
    ),
    "stages without end": lambda: always(http(in_batch(repeated(b"{}", LARGEST)))),
    "as many stages as are read": lambda: always(http(in_batch(repeated(b"{}", 24_000)))),
    "as many broken stages as are read": lambda: always(
        http(
            in_batch(
                repeated(b'{"name":[],"sequence":[],"status":[],"start_time":[],"end_time":[]}', 500_000)
            )
        )
    ),
    "records that all are broken": lambda: always(
        http(
            json.dumps([record(one, status=[], executor_id=[], trigger_type={}) for one in IDS * 9]).encode()
        )
    ),
    "a text of 10 MB": lambda: always(http(in_batch(b'"%b"' % (b"x" * 10_000_000)))),
    "a text up to the byte limit": lambda: always(http(in_batch(b'[{"name":"%b"}]' % (b"x" * LARGEST)))),
    "backslashes up to the byte limit": lambda: always(
        http(in_batch(b'"%b\\ud800"' % (b"\\\\" * (LARGEST // 2))))
    ),
    "an unknown word up to the byte limit": lambda: always(
        http(json.dumps([record(IDS[0], status="x" * LARGEST)]).encode())
    ),
    "digits up to the byte limit": lambda: always(http(in_batch(b"9" * LARGEST))),
    "deep nesting": lambda: always(http(b"[" * LARGEST)),
    "deep nesting in a record": lambda: always(http(in_batch(b"[" * (LARGEST // 2) + b"]" * (LARGEST // 2)))),
    "an error message up to the byte limit": lambda: always(
        http(json.dumps({"error_code": "X.1", "error_msg": "x\u00a0" * (LARGEST // 8)}).encode())
    ),
    "an error page of 10 MB": lambda: always(
        http(json.dumps({"error_msg": "x" * 10_000_000}).encode(), status=500)
    ),
    "a gzip bomb of 2 GiB": lambda: always(http(BOMB, content_encoding="gzip")),
    "chunks of two bytes": lambda: tiny_chunks,
}


def served(cloud: RawCloud, requests: int) -> bool:
    return len(cloud.requests) > requests


def up(process: Process) -> float | None:
    return process.samples().value("pipeline_exporter_project_up")


def is_ready(process: Process) -> bool:
    return process.get("/-/ready").status_code == 200


class Attacked:
    """An exporter and the cloud that it polls."""

    def __init__(self, cloud: RawCloud, process: Process) -> None:
        self.cloud = cloud
        self.process = process

    @property
    def refreshes(self) -> float:
        return self.process.samples().value("pipeline_exporter_poll_duration_seconds_count") or 0.0

    def attack(self, reply: RawReply, refreshes: int = 2) -> HealthProbe:
        """Respond with `reply` for some refreshes, then validly until the exporter recovers; return the probe."""
        eventually(lambda: up(self.process) == 1, "the project is up")
        with HealthProbe(self.process) as probe:
            last = self.refreshes + 1 + refreshes
            honestly, self.cloud.reply = self.cloud.reply, reply
            eventually(lambda: self.refreshes >= last, "refreshes end")
            self.cloud.reply = honestly
            last = self.refreshes + 2
            eventually(lambda: self.refreshes >= last and up(self.process) == 1, "the project is up again")
            eventually(lambda: probe.current_growth() <= LEFT, "memory comes back")
        return probe


def bounded(probe: HealthProbe) -> None:
    assert probe.answers > 10
    assert not probe.failures
    assert probe.worst < WORST
    assert probe.growth <= GROWTH


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """An exporter that sends four batches at once."""
    with (
        raw_cloud(valid_batch) as cloud,
        exporter(tmp_path_factory.mktemp("codearts"), codearts(cloud)) as process,
    ):
        eventually(lambda: is_ready(process), "the exporter is ready")
        yield Attacked(cloud, process)


@pytest.mark.parametrize("shape", list(SHAPES))
def test_batch_of_any_shape_takes_bounded_memory_and_blocks_nothing(shape: str, attacked: Attacked) -> None:
    bounded(attacked.attack(SHAPES[shape]()))


def flow(cloud: RawCloud) -> dict[str, Any]:
    """Return a configuration that polls run list and details of one pipeline of Flow."""
    return {
        "poll": {"interval": "1s", "active_interval": "1s"},
        "projects": [{**FLOW, "endpoint": cloud.url}],
    }


RUN = {"pipelineId": 12, "pipelineRunId": 7, "status": "RUNNING", "startTime": 1_767_196_800_000}


def in_flow(details: bytes) -> RawReply:
    """Return the reply with a list of one running run, and its details."""

    def reply(_: str, path: str, __: bytes) -> bytes:
        return http(details if path.endswith("/runs/7") else json.dumps([RUN]).encode())

    return reply


HONEST_DETAILS = json.dumps({**RUN, "stages": [{"index": "1", "name": "Build"}]}).encode()


def with_stages(part: bytes) -> bytes:
    return json.dumps({**RUN, "stages": "HERE"}).encode().replace(b'"HERE"', part)


@pytest.fixture(scope="module")
def attacked_flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """An exporter that reads the details of a run in each refresh."""
    with (
        raw_cloud(in_flow(HONEST_DETAILS)) as cloud,
        exporter(tmp_path_factory.mktemp("flow"), flow(cloud)) as process,
    ):
        eventually(lambda: is_ready(process), "the exporter is ready")
        yield Attacked(cloud, process)


@pytest.mark.parametrize(
    "details",
    [
        pytest.param(lambda: with_stages(repeated(b"{}", 6_000_000)), id="2,000,000 empty stages"),
        pytest.param(lambda: with_stages(repeated(b"{}", 149_000)), id="as many stages as are read"),
        pytest.param(
            lambda: with_stages(repeated(b'{"stageInfo":{"name":[],"jobs":[1]}}', 900_000)),
            id="as many broken stages as are read",
        ),
        pytest.param(
            lambda: b"{%b}" % b",".join(b'"%d":1' % key for key in range(1_500_000)), id="1.5 million keys"
        ),
    ],
)
def test_run_detail_of_any_shape_takes_bounded_memory_and_blocks_nothing(
    details: Callable[[], bytes], attacked_flow: Attacked
) -> None:
    bounded(attacked_flow.attack(in_flow(details())))


# -- framing


def run_numbers(process: Process) -> set[float]:
    return set(process.samples().get("ci_pipeline_latest_run_number").values())


@pytest.mark.parametrize("chunked", [False, True])
def test_bytes_after_a_response_are_not_the_next_response(chunked: bool, tmp_path: Path) -> None:
    """Complete or in part. The connection is closed."""
    forged = http(json.dumps([record(identity, run_number=666) for identity in IDS[:50]]).encode())

    def smuggling(_: str, __: str, body: bytes) -> bytes:
        answer = json.dumps([record(identity) for identity in json.loads(body)]).encode()
        if chunked:
            whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            return whole % (len(answer), answer) + forged
        return http(answer) + forged

    with raw_cloud(smuggling) as cloud:
        configuration = codearts(cloud, pipelines=[{"id": one, "name": one} for one in IDS[:50]])
        with exporter(tmp_path, configuration) as process:
            eventually(lambda: len(cloud.requests) >= 4 and up(process) == 1, "some refreshes")
            assert run_numbers(process) == {7}
            assert cloud.connections >= len(cloud.requests) - 1


def test_response_with_two_lengths_is_not_used(tmp_path: Path) -> None:
    def ambiguous(_: str, __: str, body: bytes) -> bytes:
        answer = json.dumps([record(identity) for identity in json.loads(body)]).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        return head % (len(answer), len(answer), answer)

    with raw_cloud(ambiguous) as cloud:
        configuration = codearts(cloud, pipelines=[{"id": IDS[0], "name": "build"}])
        with exporter(tmp_path, configuration) as process:
            eventually(lambda: len(cloud.requests) >= 3, "some refreshes")
            assert run_numbers(process) == set()
            assert up(process) == 0
            assert cloud.connections >= len(cloud.requests)
            cloud.reply = valid_batch
            eventually(lambda: run_numbers(process) == {7}, "honest answers are used")


# -- discovery

LISTED = 100_000
WATCHED = 1000


def listing(pipelines: int) -> RawReply:
    """Return the reply with pipelines that each have a latest run, listed from the last id to the first."""
    latest = {name: value for name, value in record("").items() if name != "pipeline_id"}
    row = json.dumps({"pipeline_id": "ID", "name": "pipeline ID", "latest_run": latest})

    def reply(method: str, path: str, body: bytes) -> bytes:
        if not path.endswith("/list"):
            return valid_batch(method, path, body)
        asked = json.loads(body)
        places = range(asked["offset"], min(asked["offset"] + asked["limit"], pipelines))
        rows = ",".join(row.replace("ID", f"{pipelines - 1 - place:032x}") for place in places)
        return http(b'{"pipelines":[%b]}' % rows.encode())

    return reply


def test_discovery_of_100_000_pipelines_takes_the_memory_of_the_watched_ones(tmp_path: Path) -> None:
    """The first ones by id are watched, in any order of the list, and the log reports the limit."""
    with raw_cloud(listing(WATCHED)) as cloud:
        configuration = codearts(cloud, pipelines=[], discover={"interval": "1s"})
        configuration["poll"] = {"interval": "1s", "active_interval": "1s", "concurrency": 4}
        configuration["limits"] = {"max_pipelines": WATCHED}
        configuration["projects"][0]["rate_limit"] = {"requests_per_second": 100_000, "burst": 100_000}
        with exporter(tmp_path, configuration) as process:
            eventually(lambda: is_ready(process) and up(process) == 1, "the exporter is ready")
            ids = [f"{place:032x}" for place in range(WATCHED)]
            with HealthProbe(process) as probe:
                before = len(cloud.requests)
                cloud.reply = listing(LISTED)
                for pages in range(0, LISTED // 100, 50):
                    missing_numbers = before + pages
                    eventually(partial(served, cloud, missing_numbers), f"{pages} pages are read")
                line = eventually(
                    lambda: next((line for line in process.log if "limits.max_pipelines" in line), ""),
                    "an error",
                )
                eventually(lambda: up(process) == 1, "the refresh ends")
            assert "level=error" in line
            assert f"pipelines={LISTED} limit={WATCHED}" in line
            watched = process.samples().get("ci_pipeline_up")
            assert {dict(labels)["pipeline_id"] for labels in watched} == set(ids)
            bounded(probe)
