"""The way out, against real sockets: whatever a server does costs one clear error, and nothing afterwards."""

import asyncio
import contextlib
import gzip
import itertools
import json
import socket
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.routing import Mount

from exporter.client.api_client import ApiClient, ApiError, ApiResponse
from exporter.client.credential_state import CredentialState
from exporter.client.rate_limiter import RateLimiter
from exporter.client.transport import TransportOptions, tls_context
from exporter.core.failures import FailureKind
from exporter.providers.registry import ApiRequest
from exporter.simulator import CodeArts, Credentials, InjectedFault, World, running
from exporter.telemetry.recorder import Telemetry
from tests.drivers.support import PIPELINE_ID, FakeClock, config, connected, project
from tests.unit.core.test_logs import configured

TLS = tls_context()
WORLD = World(seed=3, pipelines=12)
IDS = [pipeline.id for pipeline in WORLD.pipelines]
NOW = WORLD.start + 86_400.0
RETRIES = 2
TOKEN = "a-token-that-nobody-may-see"  # that of tests.support.project
OPERATION = {"provider": "codearts", "project": "payments", "operation": "BatchShowPipelinesLatestStatus"}


pytestmark = pytest.mark.usefixtures("no_proxy")


class Speaker:
    """An `ApiClient`, the clock by which it waits in no time, and what it counted."""

    def __init__(self, api: ApiClient, call: ApiRequest, clock: FakeClock, telemetry: Telemetry) -> None:
        self.api = api
        self.call = call
        self.clock = clock
        self.telemetry = telemetry

    async def send(self) -> ApiResponse:
        """Send the batch request."""
        return await self.api.send(self.call)

    async def fails(self) -> ApiError:
        """Send, and return the error that this must end in."""
        with pytest.raises(ApiError) as told:
            await self.send()
        return told.value

    def count(self, name: str, **labels: str) -> float:
        """A counter of requests, as it is exposed; 0 if it is not."""
        return self.telemetry.registry.get_sample_value(f"pipeline_exporter_api_{name}_total", labels) or 0.0

    def requests(self, code: str) -> float:
        """How many ended with this code."""
        return self.count("requests", **OPERATION, code=code)

    def errors(self, error_code: str) -> float:
        """How many failed with this code of the vendor."""
        return self.count("errors", **OPERATION, error_code=error_code)

    @property
    def retries(self) -> float:
        """How many were sent again."""
        return self.count("retries", project="payments")

    @property
    def throttled(self) -> float:
        """How often the vendor asked for fewer."""
        return self.count("throttled", project="payments")


@contextlib.asynccontextmanager
async def speaking(
    url: str,
    *,
    timeout: float = 10.0,
    concurrency: int = 4,
    rate: float = 1000.0,
    burst: int = 1000,
    ids: list[str] | None = None,
    clock: FakeClock | None = None,
    **changes: Any,
) -> AsyncIterator[Speaker]:
    """What a project says to a server, closed at the end."""
    clock = clock or FakeClock(NOW)
    telemetry = Telemetry()
    provider, auth, base_url = connected(config(project(endpoint=url, **changes)).projects[0])
    api = ApiClient(
        "payments",
        provider,
        CredentialState(auth, clock, 60.0),
        base_url,
        rate_limiter=RateLimiter(rate, burst, clock),
        concurrency=concurrency,
        timeout=timeout,
        transport=TransportOptions(tls=TLS, bypass_proxy=True),
        telemetry=telemetry,
        clock=clock,
    )
    try:
        yield Speaker(api, provider.batch_request(ids or [PIPELINE_ID]), clock, telemetry)
    finally:
        await api.close()


IssuerReply = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Door:
    """A server of raw bytes: `reply` is called with each request's bytes and writes what it likes."""

    def __init__(self, reply: IssuerReply) -> None:
        self.reply = reply
        self.url = ""
        self.connections = 0
        self.requests: list[bytes] = []
        self.came = asyncio.Event()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until either side has enough."""
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    lengths = [
                        line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
                    ]
                    body = await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                    self.requests.append(head + body)
                    self.came.set()
                    await self.reply(head + body, writer)
                    await writer.drain()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def opened(reply: IssuerReply) -> AsyncIterator[Door]:
    """A door on a free port; whatever it still does at the end is broken off."""
    door = Door(reply)
    visits: set[asyncio.Task[None]] = set()

    def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.add(asyncio.ensure_future(door.meet(reader, writer)))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    door.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield door
    finally:
        server.close()
        for context in visits:
            context.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        await server.wait_closed()


def http(status: int = 200, body: bytes = b"[]", **headers: str) -> bytes:
    """An answer as bytes, with its right length unless `headers` says otherwise."""
    named = {"content-length": str(len(body))} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    lines = "".join(f"{name}: {text}\r\n" for name, text in named.items())
    return f"HTTP/1.1 {status} Words\r\n{lines}\r\n".encode() + body


class Cut(bytes):
    """An answer after which the connection is dropped."""

    __slots__ = ()


def saying(*answers: bytes) -> IssuerReply:
    """Answer with these in turn, the last for ever."""
    left = list(answers)

    async def reply(_: bytes, writer: asyncio.StreamWriter) -> None:
        answer = left.pop(0) if len(left) > 1 else left[0]
        writer.write(answer)
        if isinstance(answer, Cut):
            await writer.drain()
            raise ConnectionResetError

    return reply


# -- the simulated cloud


@pytest.fixture
def codearts() -> CodeArts:
    return CodeArts(WORLD, clock=lambda: NOW)


@pytest.fixture
def url(codearts: CodeArts) -> Iterator[str]:
    with running(codearts.app) as address:
        yield address


def at_home(codearts: CodeArts, **changes: Any) -> dict[str, Any]:
    """The settings with which the simulated cloud lets a project in."""
    token = {"method": "token", "token": codearts.credentials.token}
    return {"project_id": WORLD.project_id, "auth": token, "ids": IDS, **changes}


def test_success(codearts: CodeArts, url: str) -> None:
    async def main() -> None:
        async with speaking(url, **at_home(codearts)) as speaker:
            answer = await speaker.send()
            assert len(json.loads(answer.body)) > 5
            assert (answer.now, answer.asked) == (NOW, NOW)
            assert speaker.requests("200") == 1
            page = generate_latest(speaker.telemetry.registry)
            assert b"api_errors_total{" not in page
            assert (speaker.retries, speaker.throttled) == (0, 0)

    asyncio.run(main())


BAD_DAYS = {
    InjectedFault.HTML: ("invalid", "invalid", FailureKind.UNREADABLE, "answered an HTML page", 1),
    InjectedFault.BAD_GATEWAY: ("502", "502", FailureKind.TRANSIENT, "HTTP 502 with an HTML page", 3),
    InjectedFault.EMPTY: ("invalid", "invalid", FailureKind.UNREADABLE, "answered an empty body", 1),
    InjectedFault.TRUNCATED: ("invalid", "invalid", FailureKind.TRANSIENT, "the answer broke off", 3),
    InjectedFault.CUT: ("invalid", "invalid", FailureKind.UNREADABLE, "answered no valid JSON", 1),
    InjectedFault.HUGE: ("invalid", "invalid", FailureKind.UNREADABLE, "more than 8 MiB", 1),
    InjectedFault.ERROR_OBJECT: ("200", "DEVPIPE.00011136", FailureKind.CONTENT, "项目ID和流水线不匹配", 1),
    InjectedFault.NESTED_ERROR: ("200", "DEVPIPE.00011136", FailureKind.CONTENT, "项目ID和流水线不匹配", 1),
    InjectedFault.SERVER_ERROR: ("500", "APIGW.0601", FailureKind.TRANSIENT, "Internal server error", 3),
    InjectedFault.THROTTLED: ("429", "APIGW.0308", FailureKind.THROTTLED, "limit:200,time:5 minute", 1),
    InjectedFault.DENIED: ("403", "APIGW.0302", FailureKind.PROJECT, "not authorized", 1),
    InjectedFault.REDIRECT: ("302", "302", FailureKind.PROJECT, "redirects are not followed", 1),
    InjectedFault.DRIP: ("timeout", "timeout", FailureKind.TRANSIENT, "no whole answer within 0.3 s", 3),
    InjectedFault.NULL: (
        "invalid",
        "invalid",
        FailureKind.UNREADABLE,
        "a JSON value that is not its answer",
        1,
    ),
}


@pytest.mark.parametrize("injected_fault", BAD_DAYS, ids=lambda injected_fault: injected_fault.name)
def test_a_bad_day_is_one_clear_error(codearts: CodeArts, url: str, injected_fault: InjectedFault) -> None:
    """With the right code, tried again only where that can help, and gone when the cloud is well again."""
    code, error_code, kind, words, tries = BAD_DAYS[injected_fault]

    async def main() -> None:
        timeout = 0.3 if injected_fault is InjectedFault.DRIP else 10.0
        async with speaking(url, timeout=timeout, **at_home(codearts)) as speaker:
            codearts.injected_fault = injected_fault
            error = await speaker.fails()
            assert (error.failure.kind, error.failure.code) == (kind, code)
            assert words in str(error)
            assert str(error).isprintable()
            assert error.operation == OPERATION["operation"]
            assert speaker.requests(code) == speaker.errors(error_code) == len(codearts.requests) == tries
            assert speaker.retries == tries - 1
            assert speaker.throttled == (1 if injected_fault is InjectedFault.THROTTLED else 0)
            if code not in {"invalid", "timeout"}:
                assert error.failure.request_id
            codearts.injected_fault = None
            # A server that drips has no time for another; a pause that was ordered has to pass.
            speaker.clock.now += 300
            if injected_fault is not InjectedFault.DRIP:
                assert (await speaker.send()).body

    asyncio.run(main())


def test_every_bad_day_is_tested() -> None:
    assert set(InjectedFault) - set(BAD_DAYS) == {InjectedFault.GARBLED}


def test_one_spoilt_record_is_no_failed_request(codearts: CodeArts, url: str) -> None:
    async def main() -> None:
        async with speaking(url, **at_home(codearts)) as speaker:
            codearts.injected_fault = InjectedFault.GARBLED
            await speaker.send()
            assert speaker.requests("200") == 1

    asyncio.run(main())


@pytest.mark.parametrize("path", ["", "/", "/cloud", "/a%20b/%E6%B5%81/%2541/"])
def test_signatures_hold_below_a_base_path_and_with_a_port(codearts: CodeArts, path: str) -> None:
    """The server checks the path as it came, and the Host header with its port."""
    base = unquote(path).rstrip("/")
    app = Starlette(routes=[Mount(base, app=codearts.app)]) if base else codearts.app
    keys = codearts.credentials
    auth = {
        "method": "aksk",
        "access_key": keys.access_key,
        "secret_key": keys.secret_key,
        "iam_project_id": "0605",
    }

    async def main(url: str) -> None:
        async with speaking(url + path, **at_home(codearts, auth=auth)) as speaker:
            assert json.loads((await speaker.send()).body)

    with running(app) as url:
        asyncio.run(main(url))


def test_no_more_requests_at_once_than_allowed(codearts: CodeArts, url: str) -> None:
    async def main() -> None:
        codearts.latency = 0.02
        async with speaking(url, concurrency=3, **at_home(codearts)) as speaker:
            await asyncio.gather(*(speaker.send() for _ in range(15)))
        assert codearts.max_in_flight == 3

    asyncio.run(main())


# -- another try

DATES = {seconds: formatdate(1_677_919_688 + seconds, usegmt=True) for seconds in (0, 7, 99)}
"""Of a server whose clock is far from ours."""


@pytest.mark.parametrize(
    "bad",
    [http(500), http(502, b"<html>"), http(503), http(408), Cut(b""), Cut(http()[:-1]), Cut(http()[:20])],
)
def test_what_may_pass_is_tried_again(bad: bytes) -> None:
    """Once is enough if the second answer is good; three bad ones are the end, with a pause before each try."""

    async def main() -> None:
        async with opened(saying(bad, http())) as door, speaking(door.url) as speaker:
            assert (await speaker.send()).body == b"[]"
            assert speaker.retries == 1
            assert speaker.requests("200") == 1
            assert len(door.requests) == 2
            assert len(speaker.clock.slept) == 1
        async with opened(saying(bad)) as door, speaking(door.url) as speaker:
            assert (await speaker.fails()).failure.kind is FailureKind.TRANSIENT
            assert speaker.retries == RETRIES
            assert len(door.requests) == RETRIES + 1
            first, second = speaker.clock.slept
            assert 0.2 <= first <= 0.5 <= second <= 1.0

    asyncio.run(main())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 302])
@pytest.mark.parametrize("cut", [False, True])
def test_what_will_not_pass_is_not_tried_again(status: int, cut: bool) -> None:
    """Also if its body breaks off: five refusals in a row lock a key."""
    body = b'{"error_code":"X.1","error_msg":"words"}'

    async def main() -> None:
        answer = http(status, body)
        async with opened(saying(Cut(answer[:-9]) if cut else answer)) as door, speaking(door.url) as speaker:
            error = await speaker.fails()
            assert error.failure.code == str(status)
            assert error.failure.error_code == ("" if cut else "X.1")
            assert len(door.requests) == 1
            assert (speaker.retries, speaker.requests(str(status))) == (0, 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"retry_after": "7"}, "slow down"),
        ({}, "limit:5,time:7 second"),
        ({"retry_after": "7"}, "time:1 second"),
        ({"retry_after": DATES[7], "date": DATES[0]}, "time:1 second"),
        ({"retry_after": DATES[7]}, "time:7 second"),
        ({"retry_after": "Sat, 99 Foo 2023 08:48:08 GMT", "date": DATES[0]}, "time:7 second"),
    ],
)
def test_throttling_is_waited_out_as_told(headers: dict[str, Any], words: str) -> None:
    """By the header, its date by the answer's own, else by the window in the message; counted, and tried again."""
    refusal = json.dumps({"error_code": "APIGW.0308", "error_msg": words}).encode()

    async def main() -> None:
        reply = saying(http(429, refusal, **headers), http())
        async with opened(reply) as door, speaking(door.url) as speaker:
            begun = speaker.clock.now
            assert begun + 7 <= (await speaker.send()).asked < begun + 8
            assert (speaker.throttled, speaker.retries, speaker.requests("429")) == (1, 1, 1)

    asyncio.run(main())


def test_throttling_holds_back_those_who_wait_for_their_turn() -> None:
    """Their place in the budget was not yet taken when the pause came."""

    async def main() -> None:
        reply = saying(http(429, retry_after="5"), http())
        async with opened(reply) as door, speaking(door.url, concurrency=1) as speaker:
            begun = speaker.clock.now
            answers = await asyncio.gather(*(speaker.send() for _ in range(4)))
            assert min(answer.asked for answer in answers) >= begun + 5

    asyncio.run(main())


def test_a_pause_longer_than_a_poll_is_left_to_the_next() -> None:
    async def main() -> None:
        async with opened(saying(http(429, retry_after="45"), http())) as door, speaking(door.url) as speaker:
            begun = speaker.clock.now
            error = await speaker.fails()
            assert (error.failure.kind, error.failure.wait) == (FailureKind.THROTTLED, 45)
            assert (await speaker.fails()).failure.kind is FailureKind.THROTTLED
            assert (len(door.requests), speaker.retries, speaker.clock.now) == (1, 0, begun)
            assert (speaker.throttled, speaker.requests("429")) == (1, 1)
            speaker.clock.now += 45
            await speaker.send()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "99999"}, 99_999),
        ({"retry_after": "100000"}, 99_999),
        ({"retry_after": "9" * 5000}, 99_999),
        ({"retry_after": "000045"}, 45),
        ({"retry_after": DATES[99], "date": DATES[0]}, 99),
        ({"retry_after": formatdate(9_999_999_999, usegmt=True), "date": DATES[0]}, 99_999),
    ],
)
def test_a_time_that_is_very_long_is_not_forgotten(headers: dict[str, Any], wait: float) -> None:
    """Nor does it hold for more than an hour."""

    async def main() -> None:
        reply = saying(http(429, **headers), http())
        async with opened(reply) as door, speaking(door.url) as speaker:
            assert (await speaker.fails()).failure.wait == wait
            speaker.clock.now += min(wait, 3600) - 11
            assert (await speaker.fails()).failure.kind is FailureKind.THROTTLED
            assert len(door.requests) == 1
            speaker.clock.now += 11
            await speaker.send()

    asyncio.run(main())


@pytest.mark.parametrize("headers", [{"retry_after": "0"}, {"retry_after": DATES[0], "date": DATES[7]}])
def test_a_time_that_is_over_is_no_pause(headers: dict[str, Any]) -> None:
    """Only the least pause before a retry."""

    async def main() -> None:
        async with opened(saying(http(429, **headers), http())) as door, speaking(door.url) as speaker:
            begun = speaker.clock.now
            assert begun < (await speaker.send()).asked <= begun + 0.5

    asyncio.run(main())


@pytest.mark.parametrize("headers", [{"retry_after": "7"}, {"retry_after": DATES[7], "date": DATES[0]}])
def test_a_service_that_tells_when_it_is_back_is_asked_then(headers: dict[str, Any]) -> None:
    """Under 503 the header is heeded too; others of the credential are not held back by it."""

    async def main() -> None:
        reply = saying(http(503, **headers), http())
        async with opened(reply) as door, speaking(door.url) as speaker:
            begun = speaker.clock.now
            assert begun + 7 <= (await speaker.send()).asked < begun + 8
            assert (speaker.throttled, speaker.retries, speaker.requests("503")) == (0, 1, 1)

    asyncio.run(main())


def test_a_service_that_is_away_for_long_is_left_to_the_next_poll() -> None:
    async def main() -> None:
        async with opened(saying(http(503, retry_after="11"), http())) as door, speaking(door.url) as speaker:
            begun = speaker.clock.now
            error = await speaker.fails()
            assert (error.failure.kind, error.failure.wait) == (FailureKind.TRANSIENT, 11)
            assert (len(door.requests), speaker.retries, speaker.clock.now) == (1, 0, begun)
            await speaker.send()

    asyncio.run(main())


@pytest.mark.parametrize("answer", [http(500, retry_after="60"), http(503), http(503, retry_after="soon")])
def test_other_failures_of_the_service_are_tried_again_soon(answer: bytes) -> None:
    async def main() -> None:
        async with opened(saying(answer, http())) as door, speaking(door.url) as speaker:
            begun = speaker.clock.now
            assert (await speaker.send()).asked <= begun + 0.5

    asyncio.run(main())


class PatientClock(FakeClock):
    """A clock on which a wait lasts until the answers to what was sent before it are in."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.05)
        await super().sleep(seconds)


def test_a_pause_ordered_meanwhile_holds_for_those_who_wait_for_the_budget() -> None:
    """What they had been granted is lost: the budget holds after the pause as well."""

    async def main() -> None:
        clock = PatientClock(NOW)
        async with (
            opened(saying(http())) as door,
            speaking(door.url, rate=1.0, burst=1, clock=clock) as speaker,
        ):
            await speaker.send()
            door.reply = saying(http(429, retry_after="5"), http())
            begun = clock.now
            answers = await asyncio.gather(*(speaker.send() for _ in range(3)))
            asked = sorted(answer.asked for answer in answers)
            assert asked[0] >= begun + 1 + 5
            assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(asked))
            assert len(door.requests) == 5

    asyncio.run(main())


def test_throttling_without_a_time_backs_off() -> None:
    async def main() -> None:
        async with opened(saying(http(429))) as door, speaking(door.url) as speaker:
            begun = speaker.clock.now
            await speaker.fails()
            assert (speaker.throttled, speaker.retries, len(door.requests)) == (3, 2, 3)
            assert speaker.clock.now - begun >= 0.5 + 1.0
            assert (await speaker.fails()).failure.kind is FailureKind.THROTTLED
            assert speaker.clock.now - begun >= 0.5 + 1.0 + 2.0

    asyncio.run(main())


def test_tries_go_through_the_budget() -> None:
    async def main() -> None:
        async with opened(saying(http())) as door, speaking(door.url, rate=4.0, burst=2) as speaker:
            begun = speaker.clock.now
            assert [(await speaker.send()).asked - begun for _ in range(4)] == [0, 0, 0.25, 0.5]
            door.reply = saying(http(500))
            await speaker.fails()
            assert speaker.clock.now - begun >= 0.5 + 3 * 0.25

    asyncio.run(main())


# -- time


async def silent(_: bytes, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def dripping_head(_: bytes, writer: asyncio.StreamWriter) -> None:
    for letter in http(x="y" * 10_000).decode():
        writer.write(letter.encode())
        await writer.drain()
        await asyncio.sleep(0.01)


async def dripping_body(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(http(content_length="99999")[:-1])
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


SLOW = [silent, dripping_head, dripping_body]


@pytest.mark.parametrize("reply", SLOW)
def test_the_time_limit_is_total(reply: IssuerReply) -> None:
    """A server that keeps the connection busy gains nothing by it."""

    async def main() -> None:
        async with opened(reply) as door, speaking(door.url, timeout=0.3) as speaker:
            begun = time.monotonic()
            error = await speaker.fails()
            assert 0.85 < time.monotonic() - begun < 2.0
            assert (error.failure.kind, error.failure.code) == (FailureKind.TRANSIENT, "timeout")
            assert "0.3 s" in str(error)
            assert speaker.requests("timeout") == speaker.errors("timeout") == 3

    asyncio.run(main())


@pytest.mark.parametrize("reply", SLOW)
def test_nothing_is_lost_to_requests_that_ran_out_of_time(reply: IssuerReply) -> None:
    """More of them than there are connections, alone and together; then the next is answered."""

    async def main() -> None:
        async with opened(reply) as door, speaking(door.url, timeout=0.2, concurrency=2) as speaker:
            await speaker.fails()
            await asyncio.gather(*(speaker.fails() for _ in range(4)))
            assert speaker.requests("timeout") == 15
            door.reply = saying(http())
            for _ in range(3):
                assert (await speaker.send()).body == b"[]"

    asyncio.run(main())


def test_a_request_that_runs_out_of_time_does_not_disturb_another() -> None:
    """One that goes on in the same client is read to its end."""

    async def main() -> None:
        async def reply(request: bytes, writer: asyncio.StreamWriter) -> None:
            if len(door.requests) == 1:
                await asyncio.sleep(60)
            await asyncio.sleep(0.2)
            writer.write(http())

        async with opened(reply) as door, speaking(door.url, timeout=0.3, concurrency=2) as speaker:
            stuck = asyncio.create_task(speaker.send())
            await asyncio.sleep(0.15)
            assert (await speaker.send()).body == b"[]"
            assert (await stuck).body == b"[]"
            assert (speaker.requests("timeout"), speaker.requests("200"), len(door.requests)) == (1, 2, 3)

    asyncio.run(main())


def test_a_caller_that_is_cancelled_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with opened(silent) as door, speaking(door.url, concurrency=2) as speaker:
            for _ in range(5):
                sending = asyncio.create_task(speaker.send())
                await door.came.wait()
                door.came.clear()
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
            door.reply = saying(http())
            assert (await speaker.send()).body == b"[]"

    asyncio.run(main())


def test_closing_ends_what_is_under_way() -> None:
    async def main() -> None:
        async with opened(silent) as door, speaking(door.url) as speaker:
            sending = asyncio.create_task(speaker.fails())
            await door.came.wait()
            door.reply = saying(http(403))
            await speaker.api.close()
            assert (await sending).failure.code in {"connect", "403"}

    asyncio.run(main())


# -- size

MIB = 1 << 20
# A mebibyte of spaces in a block of deflate that can be repeated, since a full flush makes it depend on nothing.
_press = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
_BLOCK = _press.compress(b" " * MIB) + _press.flush(zlib.Z_FULL_FLUSH)
BOMB = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + _BLOCK * 1024
SMALL_BOMB = gzip.compress(BOMB)


async def forty_megabytes(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for _ in range(640):
        writer.write(chunk)
        await writer.drain()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        pytest.param(forty_megabytes, "more than 8 MiB", id="plain"),
        pytest.param(saying(http(body=BOMB, content_encoding="gzip")), "more than 8 MiB", id="gzip"),
        pytest.param(
            saying(http(body=SMALL_BOMB, content_encoding="gzip, gzip")), "'gzip, gzip'", id="gzip in gzip"
        ),
        pytest.param(saying(http(body=_BLOCK * 1024, content_encoding="deflate")), "'deflate'", id="deflate"),
    ],
)
def test_an_answer_too_large_costs_bounded_memory(reply: IssuerReply, words: str) -> None:
    """A gibibyte that was packed into a megabyte, or into a few kilobytes, included."""

    async def main() -> int:
        async with opened(reply) as door, speaking(door.url) as speaker:
            tracemalloc.start()
            try:
                error = await speaker.fails()
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert (error.failure.kind, error.failure.code) == (FailureKind.UNREADABLE, "invalid")
            assert words in str(error)
            assert (len(door.requests), speaker.requests("invalid")) == (1, 1)
            door.reply = saying(http())
            assert (await speaker.send()).body == b"[]"
            return peak

    assert asyncio.run(main()) < 50 * MIB


def test_an_answer_that_announces_too_much_is_not_read() -> None:
    async def main() -> None:
        answer = http(body=b"[", content_length=str(8 * MIB + 1))
        async with opened(saying(answer)) as door, speaking(door.url) as speaker:
            begun = time.monotonic()
            error = await speaker.fails()
            assert time.monotonic() - begun < 5
            assert "more than 8 MiB" in str(error)
            assert speaker.requests("invalid") == 1

    asyncio.run(main())


def test_a_large_answer_within_the_limit_is_read() -> None:
    async def main() -> None:
        body = b"[" + b" " * (7 * MIB) + b"]"
        answers = [http(body=body), http(body=gzip.compress(body), content_encoding="gzip")]
        async with opened(saying(*answers)) as door, speaking(door.url) as speaker:
            for _ in answers:
                assert (await speaker.send()).body == body

    asyncio.run(main())


def test_an_oversized_page_of_failure_counts_as_its_status() -> None:
    async def main() -> None:
        answer = http(503, body=b"<", content_length=str(99 * MIB))
        async with opened(saying(answer)) as door, speaking(door.url) as speaker:
            assert (await speaker.fails()).failure.code == "503"
            assert speaker.requests("503") == 3

    asyncio.run(main())


def test_broken_gzip_is_an_error_with_words() -> None:
    async def main() -> None:
        reply = saying(http(body=b"[]", content_encoding="gzip"))
        async with opened(reply) as door, speaking(door.url) as speaker:
            error = await speaker.fails()
            assert error.failure.code == "invalid"
            assert "broke off" in str(error)

    asyncio.run(main())


# -- the network


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    async def main() -> None:
        async with speaking(f"http://127.0.0.1:{port}") as speaker:
            error = await speaker.fails()
            assert (error.failure.kind, error.failure.code) == (FailureKind.TRANSIENT, "connect")
            assert f"no answer from 127.0.0.1:{port}" in str(error)
            assert speaker.requests("connect") == speaker.errors("connect") == 3
            assert speaker.retries == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://[bad\r\ncontent-length: 0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_an_error_of_the_connection(answer: bytes) -> None:
    async def main() -> None:
        async with opened(saying(Cut(answer))) as door, speaking(door.url, timeout=2.0) as speaker:
            error = await speaker.fails()
            assert error.failure.code in {"connect", "302"}
            assert str(error)
            assert len(str(error)) < 400

    asyncio.run(main())


def test_tls_where_there_is_none(url: str) -> None:
    async def main() -> None:
        async with speaking(url.replace("http", "https")) as speaker:
            assert (await speaker.fails()).failure.code == "connect"

    asyncio.run(main())


def test_a_redirect_is_not_followed() -> None:
    async def main() -> None:
        async with opened(saying(http())) as elsewhere:
            answer = http(307, b"", location=f"{elsewhere.url}/v5")
            async with opened(saying(answer)) as door, speaking(door.url) as speaker:
                error = await speaker.fails()
                assert (error.failure.kind, error.failure.code) == (FailureKind.PROJECT, "307")
                assert "redirected to 127.0.0.1" in str(error)
                assert (len(door.requests), len(elsewhere.requests)) == (1, 0)

    asyncio.run(main())


def test_connections_are_used_again() -> None:
    async def main() -> None:
        async with opened(saying(http())) as door, speaking(door.url, concurrency=2) as speaker:
            for _ in range(10):
                await asyncio.gather(*(speaker.send() for _ in range(4)))
            assert len(door.requests) == 40
            assert door.connections <= 2

    asyncio.run(main())


def test_a_connection_that_the_server_has_closed_meanwhile_is_replaced() -> None:
    async def main() -> None:
        async with opened(saying(Cut(http()))) as door, speaking(door.url, concurrency=1) as speaker:
            for _ in range(5):
                await speaker.send()
                await asyncio.sleep(0.01)
            assert speaker.requests("200") == door.connections == 5

    asyncio.run(main())


def test_the_request_on_the_wire() -> None:
    async def main() -> None:
        async with opened(saying(http())) as door, speaking(door.url) as speaker:
            await speaker.send()
            head, _, body = door.requests[0].decode().partition("\r\n\r\n")
            first, *lines = head.split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            assert first == f"POST {speaker.call.path} HTTP/1.1"
            assert json.loads(body) == [PIPELINE_ID]
            assert headers["host"] == door.url.removeprefix("http://")
            assert headers["content-type"] == "application/json"
            assert headers["accept-encoding"] == "gzip"
            assert headers["user-agent"].startswith("pipeline-exporter/")
            assert headers["x-auth-token"] == TOKEN

    asyncio.run(main())


# -- the clock of an answer


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        (formatdate(1_677_919_688, usegmt=True), 1_677_919_688),
        ("Sat, 04 Mar 2023 08:48:08 -0000", 1_677_919_688),
        ("Sat, 04 Mar 2023 16:48:08 +0800", 1_677_919_688),
        ("yesterday", NOW),
        ("", NOW),
        ("Sat, 99 Foo 2023 08:48:08 GMT", NOW),
        ("1677919688", NOW),
        ("Fri, 31 Dec 9999 23:59:59 GMT", NOW),
        ("Thu, 01 Jan 1970 00:00:00 GMT", NOW),
        (None, NOW),
    ],
)
def test_the_date_of_an_answer_is_its_clock(date: str | None, seconds: float) -> None:
    """Ours serves where it gives none that can be read."""

    async def main() -> None:
        headers: dict[str, Any] = {} if date is None else {"date": date}
        async with opened(saying(http(**headers))) as door, speaking(door.url) as speaker:
            assert (await speaker.send()).now == seconds

    asyncio.run(main())


# -- secrets

SECRETS = {
    "access_key": "AKVERYPRIVATE0123456",
    "secret_key": "sk-very-private-0123456789",
    "security_token": "st-very-private/+==" + "x" * 400,
}
AUTHS = {
    "token": {"method": "token", "token": TOKEN + "MIIatAYJ" * 500},
    "aksk": {"method": "aksk", **SECRETS},
}


def hidden(speaker: Speaker, errors: list[ApiError], log: str, private: list[str]) -> None:
    """Nothing private stands in what a user can see."""
    page = generate_latest(speaker.telemetry.registry).decode()
    seen = "\n".join([log, page, *(f"{error!r} {error} {error.failure}" for error in errors)])
    for value in private:
        for part in {value, value[:40], value[-20:]}:
            assert part not in seen


def echoing(status: int, form: str) -> IssuerReply:
    """A server that repeats the request's headers wherever it can."""

    async def reply(request: bytes, writer: asyncio.StreamWriter) -> None:
        head = request.partition(b"\r\n\r\n")[0].decode()
        headers = {
            name.lower(): text for name, _, text in (line.partition(": ") for line in head.split("\r\n")[1:])
        }
        proof = headers.get("x-auth-token") or headers.get("x-security-token") or ""
        bodies = {
            "message": {"error_code": "X.1", "error_msg": f"I saw: {head}"},
            "one by one": {"error_code": "X.1", "error_msg": " | ".join(headers.values())},
            "code": {"error_code": proof, "error_msg": "words", "request_id": proof},
            "nested": {"error": {"code": proof[:200] + proof[200:], "message": json.dumps(headers)}},
        }
        header = {"x_request_id": proof} if form == "code" else {}
        writer.write(http(status, json.dumps(bodies[form]).encode(), **header))

    return reply


@pytest.mark.parametrize("form", ["message", "one by one", "code", "nested"])
@pytest.mark.parametrize("status", [200, 401, 429, 500])
@pytest.mark.parametrize("method", AUTHS)
def test_a_server_that_repeats_the_request_reveals_nothing(
    method: str, status: int, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In logs at debug level, in errors, in metrics; the signature, which can be replayed, is hidden as well."""

    async def main() -> None:
        reply = echoing(status, form)
        async with opened(reply) as door, speaking(door.url, auth=AUTHS[method]) as speaker:
            errors = [await speaker.fails()]
            head = door.requests[0].decode()
            signature = head.partition("Signature=")[2][:64]
            private = [value for name, value in AUTHS[method].items() if name != "method"]
            hidden(speaker, errors, capsys.readouterr().err, [*private, *([signature] if signature else [])])

    with configured("debug", "logfmt"):
        asyncio.run(main())


def test_a_gateway_that_refuses_a_signature_reveals_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It repeats the request that it would have signed."""
    codearts = CodeArts(
        WORLD, Credentials(access_key=SECRETS["access_key"], secret_key="another"), clock=lambda: NOW
    )

    async def main(url: str) -> None:
        async with speaking(url, **at_home(codearts, auth=AUTHS["aksk"])) as speaker:
            error = await speaker.fails()
            assert (error.failure.kind, error.failure.error_code) == (FailureKind.CREDENTIALS, "APIGW.0301")
            assert "verify aksk signature fail" in str(error)
            hidden(speaker, [error], capsys.readouterr().err, list(SECRETS.values()))

    with configured("debug", "json"), running(codearts.app) as url:
        asyncio.run(main(url))


def test_a_key_that_does_not_exist_is_not_repeated(codearts: CodeArts, url: str) -> None:
    async def main() -> None:
        async with speaking(url, **at_home(codearts, auth=AUTHS["aksk"])) as speaker:
            error = await speaker.fails()
            assert str(error) == "Incorrect IAM authentication information: ak <secret> not exist"

    asyncio.run(main())


def test_a_token_that_was_replaced_meanwhile_stays_hidden(tmp_path: Path) -> None:
    """The one that was sent is masked, not the one that stands in the file by now."""
    file = tmp_path / "token"
    file.write_text("the-old-token")

    async def main() -> None:
        async def reply(_: bytes, writer: asyncio.StreamWriter) -> None:
            file.write_text("the-new-token")
            writer.write(http(403, b'{"error_code":"X.1","error_msg":"no: the-old-token"}'))

        auth = {"method": "token", "token_file": str(file)}
        async with opened(reply) as door, speaking(door.url, auth=auth) as speaker:
            assert str(await speaker.fails()) == "no: <secret>"

    asyncio.run(main())


def test_a_secret_that_cannot_be_read_is_a_failure_without_request(tmp_path: Path) -> None:
    file = tmp_path / "token"

    async def main() -> None:
        auth = {"method": "token", "token_file": str(file)}
        async with opened(saying(http())) as door, speaking(door.url, auth=auth) as speaker:
            error = await speaker.fails()
            assert error.failure.kind is FailureKind.CREDENTIALS
            assert str(file) in str(error)
            assert not door.requests
            assert (speaker.requests("secret"), speaker.errors("secret"), speaker.retries) == (0, 1, 0)
            file.write_text("now-it-can")
            await speaker.send()

    asyncio.run(main())


def test_a_secret_that_no_header_can_carry_is_a_failure_without_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Told without the value, which the HTTP library's own words would hold."""

    async def main() -> None:
        auth = {"method": "token", "token": "tökén-private"}
        async with opened(saying(http())) as door, speaking(door.url, auth=auth) as speaker:
            error = await speaker.fails()
            assert error.failure.kind is FailureKind.CREDENTIALS
            assert "X-Auth-Token" in str(error)
            assert not door.requests
            hidden(speaker, [error], capsys.readouterr().err, ["tökén-private", "-private"])

    with configured("debug", "logfmt"):
        asyncio.run(main())


def test_words_of_a_vendor_are_one_short_line() -> None:
    body = json.dumps({"error_code": "X.1", "error_msg": "a\nb\x1b[31m\u2028" + "long " * 1000}).encode()

    async def main() -> None:
        async with opened(saying(http(400, body))) as door, speaking(door.url) as speaker:
            error = await speaker.fails()
            assert str(error).startswith("a b [31m long")
            assert str(error).isprintable()
            assert len(str(error)) <= 301

    asyncio.run(main())


def test_vendors_codes_are_bounded() -> None:
    """Their length and their number: they are labels."""

    async def main() -> None:
        async def reply(_: bytes, writer: asyncio.StreamWriter) -> None:
            code = f"X.{len(door.requests)}." + "y" * 500
            writer.write(http(400, json.dumps({"error_code": code, "error_msg": "w"}).encode()))

        async with opened(reply) as door, speaking(door.url) as speaker:
            for _ in range(105):
                await speaker.fails()
            assert speaker.errors("other") == 5
            assert speaker.errors("X.1." + "y" * 60) == 1

    asyncio.run(main())
