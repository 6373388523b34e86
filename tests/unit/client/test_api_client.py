"""Requests over real sockets: each fault of a server is one clear error and does not affect later requests."""

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
from exporter.providers.protocol import ApiRequest
from exporter.simulator import CodeArts, Credentials, InjectedFault, World, running
from exporter.telemetry.recorder import Telemetry
from tests.drivers.support import PIPELINE_ID, FakeClock, config, connected, project
from tests.unit.core.test_logs import configured

TLS = tls_context()
WORLD = World(seed=3, pipelines=12)
IDS = [pipeline.id for pipeline in WORLD.pipelines]
NOW = WORLD.start + 86_400.0
RETRIES = 2
TOKEN = "a-token-to-keep-secret"  # as in tests.drivers.support.project
OPERATION = {"provider": "codearts", "project": "payments", "operation": "BatchShowPipelinesLatestStatus"}


pytestmark = [pytest.mark.process, pytest.mark.usefixtures("no_proxy")]


class Harness:
    """An `ApiClient` with its telemetry, and a clock on which waits take no time."""

    def __init__(self, api: ApiClient, call: ApiRequest, clock: FakeClock, telemetry: Telemetry) -> None:
        self.api = api
        self.call = call
        self.clock = clock
        self.telemetry = telemetry

    async def send(self) -> ApiResponse:
        """Send the batch request."""
        return await self.api.send(self.call)

    async def fails(self) -> ApiError:
        """Send the batch request, and return the expected error."""
        with pytest.raises(ApiError) as raised:
            await self.send()
        return raised.value

    def count(self, name: str, **labels: str) -> float:
        """Return an exposed counter of requests, or 0."""
        return self.telemetry.registry.get_sample_value(f"pipeline_exporter_api_{name}_total", labels) or 0.0

    def requests(self, code: str) -> float:
        """Return the number of requests with a code."""
        return self.count("requests", **OPERATION, code=code)

    def errors(self, error_code: str) -> float:
        """Return the number of failures with an error code of the vendor."""
        return self.count("errors", **OPERATION, error_code=error_code)

    @property
    def retries(self) -> float:
        """Number of retries."""
        return self.count("retries", provider="codearts", project="payments")

    @property
    def throttled(self) -> float:
        """Number of throttled requests."""
        return self.count("throttled", provider="codearts", project="payments")


@contextlib.asynccontextmanager
async def client_for(
    url: str,
    *,
    timeout: float = 10.0,
    concurrency: int = 4,
    rate: float = 1000.0,
    burst: int = 1000,
    ids: list[str] | None = None,
    clock: FakeClock | None = None,
    **changes: Any,
) -> AsyncIterator[Harness]:
    """A client of a project at `url`."""
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
        yield Harness(api, provider.batch_request(ids or [PIPELINE_ID]), clock, telemetry)
    finally:
        await api.close()


Reply = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """A server of raw bytes: `reply` is called with the bytes of each request and a writer."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.url = ""
        self.connections = 0
        self.requests: list[bytes] = []
        self.came = asyncio.Event()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until either side closes it."""
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
async def raw_server(reply: Reply) -> AsyncIterator[RawServer]:
    """A server on a free port. Its connections are aborted at the end."""
    server = RawServer(reply)
    visits: set[asyncio.Task[None]] = set()

    def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.add(asyncio.ensure_future(server.meet(reader, writer)))

    listener = await asyncio.start_server(meet, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for context in visits:
            context.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        await listener.wait_closed()


def http(status: int = 200, body: bytes = b"[]", **headers: str) -> bytes:
    """Return a response as bytes, with its length unless `headers` has another one."""
    named = {"content-length": str(len(body))} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    lines = "".join(f"{name}: {text}\r\n" for name, text in named.items())
    return f"HTTP/1.1 {status} Words\r\n{lines}\r\n".encode() + body


class Cut(bytes):
    """Response after which the connection is closed."""

    __slots__ = ()


def replying(*responses: bytes) -> Reply:
    """Send these responses in turn, then repeat the last."""
    left = list(responses)

    async def reply(_: bytes, writer: asyncio.StreamWriter) -> None:
        response = left.pop(0) if len(left) > 1 else left[0]
        writer.write(response)
        if isinstance(response, Cut):
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


def simulated(codearts: CodeArts, **changes: Any) -> dict[str, Any]:
    """Return settings that the simulated cloud accepts."""
    token = {"method": "token", "token": codearts.credentials.token}
    return {"project_id": WORLD.project_id, "auth": token, "ids": IDS, **changes}


def test_success_returns_the_body_and_counts_one_request(codearts: CodeArts, url: str) -> None:
    async def main() -> None:
        async with client_for(url, **simulated(codearts)) as harness:
            response = await harness.send()
            assert len(json.loads(response.body)) > 5
            assert (response.now, response.sent_at) == (NOW, NOW)
            assert harness.requests("200") == 1
            page = generate_latest(harness.telemetry.registry)
            assert b"api_errors_total{" not in page
            assert (harness.retries, harness.throttled) == (0, 0)

    asyncio.run(main())


FAULTS = {
    InjectedFault.HTML: ("invalid", "invalid", FailureKind.UNREADABLE, "an HTML page", 1),
    InjectedFault.BAD_GATEWAY: ("502", "502", FailureKind.TRANSIENT, "HTTP 502 with an HTML page", 3),
    InjectedFault.EMPTY: ("invalid", "invalid", FailureKind.UNREADABLE, "an empty body", 1),
    InjectedFault.TRUNCATED: (
        "invalid",
        "invalid",
        FailureKind.TRANSIENT,
        "incomplete or damaged response",
        3,
    ),
    InjectedFault.CUT: ("invalid", "invalid", FailureKind.UNREADABLE, "invalid JSON", 1),
    InjectedFault.HUGE: ("invalid", "invalid", FailureKind.UNREADABLE, "larger than 8 MiB", 1),
    InjectedFault.ERROR_OBJECT: ("200", "DEVPIPE.00011136", FailureKind.CONTENT, "项目ID和流水线不匹配", 1),
    InjectedFault.NESTED_ERROR: ("200", "DEVPIPE.00011136", FailureKind.CONTENT, "项目ID和流水线不匹配", 1),
    InjectedFault.SERVER_ERROR: ("500", "APIGW.0601", FailureKind.TRANSIENT, "Internal server error", 3),
    InjectedFault.THROTTLED: ("429", "APIGW.0308", FailureKind.THROTTLED, "limit:200,time:5 minute", 1),
    InjectedFault.DENIED: ("403", "APIGW.0302", FailureKind.PROJECT, "not authorized", 1),
    InjectedFault.REDIRECT: ("302", "302", FailureKind.PROJECT, "which is not followed", 1),
    InjectedFault.DRIP: ("timeout", "timeout", FailureKind.TRANSIENT, "no complete response within 0.3 s", 3),
    InjectedFault.NULL: (
        "invalid",
        "invalid",
        FailureKind.UNREADABLE,
        "a JSON value of another operation",
        1,
    ),
}


@pytest.mark.parametrize("injected_fault", FAULTS, ids=lambda injected_fault: injected_fault.name)
def test_injected_fault_is_one_error_with_code_and_message(
    codearts: CodeArts, url: str, injected_fault: InjectedFault
) -> None:
    """It is retried only where that can help. Requests succeed once the fault ends."""
    code, error_code, kind, message, tries = FAULTS[injected_fault]

    async def main() -> None:
        timeout = 0.3 if injected_fault is InjectedFault.DRIP else 10.0
        async with client_for(url, timeout=timeout, **simulated(codearts)) as harness:
            codearts.injected_fault = injected_fault
            error = await harness.fails()
            assert (error.failure.kind, error.failure.code) == (kind, code)
            assert message in str(error)
            assert str(error).isprintable()
            assert error.operation == OPERATION["operation"]
            assert harness.requests(code) == harness.errors(error_code) == len(codearts.requests) == tries
            assert harness.retries == tries - 1
            assert harness.throttled == (1 if injected_fault is InjectedFault.THROTTLED else 0)
            if code not in {"invalid", "timeout"}:
                assert error.failure.request_id
            codearts.injected_fault = None
            # A requested pause has to pass. A server that drips is still busy.
            harness.clock.now += 300
            if injected_fault is not InjectedFault.DRIP:
                assert (await harness.send()).body

    asyncio.run(main())


def test_every_injected_fault_is_covered() -> None:
    assert set(InjectedFault) - set(FAULTS) == {InjectedFault.GARBLED}


def test_one_unreadable_record_does_not_fail_the_request(codearts: CodeArts, url: str) -> None:
    async def main() -> None:
        async with client_for(url, **simulated(codearts)) as harness:
            codearts.injected_fault = InjectedFault.GARBLED
            await harness.send()
            assert harness.requests("200") == 1

    asyncio.run(main())


@pytest.mark.parametrize("path", ["", "/", "/cloud", "/a%20b/%E6%B5%81/%2541/"])
def test_signature_covers_base_path_and_port(codearts: CodeArts, path: str) -> None:
    """The server checks the path as received, and the Host header with its port."""
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
        async with client_for(url + path, **simulated(codearts, auth=auth)) as harness:
            assert json.loads((await harness.send()).body)

    with running(app) as url:
        asyncio.run(main(url))


def test_concurrency_is_limited(codearts: CodeArts, url: str) -> None:
    async def main() -> None:
        codearts.latency = 0.02
        async with client_for(url, concurrency=3, **simulated(codearts)) as harness:
            await asyncio.gather(*(harness.send() for _ in range(15)))
        assert codearts.max_in_flight == 3

    asyncio.run(main())


# -- retries

DATES = {seconds: formatdate(1_677_919_688 + seconds, usegmt=True) for seconds in (0, 7, 99)}
"""Dates of a server whose clock differs from ours."""


@pytest.mark.parametrize(
    "bad",
    [http(500), http(502, b"<html>"), http(503), http(408), Cut(b""), Cut(http()[:-1]), Cut(http()[:20])],
)
def test_transient_failure_is_retried(bad: bytes) -> None:
    """One retry if that succeeds, two in total, with a pause before each."""

    async def main() -> None:
        async with raw_server(replying(bad, http())) as server, client_for(server.url) as harness:
            assert (await harness.send()).body == b"[]"
            assert harness.retries == 1
            assert harness.requests("200") == 1
            assert len(server.requests) == 2
            assert len(harness.clock.slept) == 1
        async with raw_server(replying(bad)) as server, client_for(server.url) as harness:
            assert (await harness.fails()).failure.kind is FailureKind.TRANSIENT
            assert harness.retries == RETRIES
            assert len(server.requests) == RETRIES + 1
            first, second = harness.clock.slept
            assert 0.2 <= first <= 0.5 <= second <= 1.0

    asyncio.run(main())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 302])
@pytest.mark.parametrize("cut", [False, True])
def test_permanent_failure_is_not_retried(status: int, cut: bool) -> None:
    """It is not retried even if its body is incomplete, because five rejections in a row lock a key."""
    body = b'{"error_code":"X.1","error_msg":"words"}'

    async def main() -> None:
        response = http(status, body)
        async with (
            raw_server(replying(Cut(response[:-9]) if cut else response)) as server,
            client_for(server.url) as harness,
        ):
            error = await harness.fails()
            assert error.failure.code == str(status)
            assert error.failure.error_code == ("" if cut else "X.1")
            assert len(server.requests) == 1
            assert (harness.retries, harness.requests(str(status))) == (0, 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"retry_after": "7"}, "slow down"),
        ({}, "limit:5,time:7 second"),
        ({"retry_after": "7"}, "time:1 second"),
        ({"retry_after": DATES[7], "date": DATES[0]}, "time:1 second"),
        ({"retry_after": DATES[7]}, "time:7 second"),
        ({"retry_after": "Sat, 99 Foo 2023 08:48:08 GMT", "date": DATES[0]}, "time:7 second"),
    ],
)
def test_throttling_pauses_for_the_requested_time(headers: dict[str, Any], message: str) -> None:
    """The time is in Retry-After, relative to the response's date, or in the message."""
    refusal = json.dumps({"error_code": "APIGW.0308", "error_msg": message}).encode()

    async def main() -> None:
        reply = replying(http(429, refusal, **headers), http())
        async with raw_server(reply) as server, client_for(server.url) as harness:
            begun = harness.clock.now
            assert begun + 7 <= (await harness.send()).sent_at < begun + 8
            assert (harness.throttled, harness.retries, harness.requests("429")) == (1, 1, 1)

    asyncio.run(main())


def test_throttling_pauses_requests_that_wait_for_a_slot() -> None:
    """The waiting requests had not acquired a slot when the pause started."""

    async def main() -> None:
        reply = replying(http(429, retry_after="5"), http())
        async with raw_server(reply) as server, client_for(server.url, concurrency=1) as harness:
            begun = harness.clock.now
            responses = await asyncio.gather(*(harness.send() for _ in range(4)))
            assert min(response.sent_at for response in responses) >= begun + 5

    asyncio.run(main())


def test_pause_longer_than_the_time_limit_fails_the_request() -> None:
    async def main() -> None:
        async with (
            raw_server(replying(http(429, retry_after="45"), http())) as server,
            client_for(server.url) as harness,
        ):
            begun = harness.clock.now
            error = await harness.fails()
            assert (error.failure.kind, error.failure.wait) == (FailureKind.THROTTLED, 45)
            assert (await harness.fails()).failure.kind is FailureKind.THROTTLED
            assert (len(server.requests), harness.retries, harness.clock.now) == (1, 0, begun)
            assert (harness.throttled, harness.requests("429")) == (1, 1)
            harness.clock.now += 45
            await harness.send()

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
def test_very_long_pause_is_kept(headers: dict[str, Any], wait: float) -> None:
    """A pause lasts at most an hour."""

    async def main() -> None:
        reply = replying(http(429, **headers), http())
        async with raw_server(reply) as server, client_for(server.url) as harness:
            assert (await harness.fails()).failure.wait == wait
            harness.clock.now += min(wait, 3600) - 11
            assert (await harness.fails()).failure.kind is FailureKind.THROTTLED
            assert len(server.requests) == 1
            harness.clock.now += 11
            await harness.send()

    asyncio.run(main())


@pytest.mark.parametrize("headers", [{"retry_after": "0"}, {"retry_after": DATES[0], "date": DATES[7]}])
def test_time_in_the_past_is_not_a_pause(headers: dict[str, Any]) -> None:
    """Only the shortest delay before a retry applies."""

    async def main() -> None:
        async with (
            raw_server(replying(http(429, **headers), http())) as server,
            client_for(server.url) as harness,
        ):
            begun = harness.clock.now
            assert begun < (await harness.send()).sent_at <= begun + 0.5

    asyncio.run(main())


@pytest.mark.parametrize("headers", [{"retry_after": "7"}, {"retry_after": DATES[7], "date": DATES[0]}])
def test_503_with_retry_after_is_retried_then(headers: dict[str, Any]) -> None:
    """Other requests with the credential are not paused."""

    async def main() -> None:
        reply = replying(http(503, **headers), http())
        async with raw_server(reply) as server, client_for(server.url) as harness:
            begun = harness.clock.now
            assert begun + 7 <= (await harness.send()).sent_at < begun + 8
            assert (harness.throttled, harness.retries, harness.requests("503")) == (0, 1, 1)

    asyncio.run(main())


def test_503_with_long_retry_after_is_not_retried() -> None:
    async def main() -> None:
        async with (
            raw_server(replying(http(503, retry_after="11"), http())) as server,
            client_for(server.url) as harness,
        ):
            begun = harness.clock.now
            error = await harness.fails()
            assert (error.failure.kind, error.failure.wait) == (FailureKind.TRANSIENT, 11)
            assert (len(server.requests), harness.retries, harness.clock.now) == (1, 0, begun)
            await harness.send()

    asyncio.run(main())


@pytest.mark.parametrize("response", [http(500, retry_after="60"), http(503), http(503, retry_after="soon")])
def test_server_error_without_time_is_retried_soon(response: bytes) -> None:
    async def main() -> None:
        async with raw_server(replying(response, http())) as server, client_for(server.url) as harness:
            begun = harness.clock.now
            assert (await harness.send()).sent_at <= begun + 0.5

    asyncio.run(main())


class PatientClock(FakeClock):
    """A clock whose waits last until earlier requests have their responses."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.05)
        await super().sleep(seconds)


def test_pause_applies_to_requests_that_wait_for_the_rate_limit() -> None:
    """Their tokens are lost, so that the rate limit holds after the pause."""

    async def main() -> None:
        clock = PatientClock(NOW)
        async with (
            raw_server(replying(http())) as server,
            client_for(server.url, rate=1.0, burst=1, clock=clock) as harness,
        ):
            await harness.send()
            server.reply = replying(http(429, retry_after="5"), http())
            begun = clock.now
            responses = await asyncio.gather(*(harness.send() for _ in range(3)))
            asked = sorted(response.sent_at for response in responses)
            assert asked[0] >= begun + 1 + 5
            assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(asked))
            assert len(server.requests) == 5

    asyncio.run(main())


def test_throttling_without_a_time_backs_off() -> None:
    async def main() -> None:
        async with raw_server(replying(http(429))) as server, client_for(server.url) as harness:
            begun = harness.clock.now
            await harness.fails()
            assert (harness.throttled, harness.retries, len(server.requests)) == (3, 2, 3)
            assert harness.clock.now - begun >= 0.5 + 1.0
            assert (await harness.fails()).failure.kind is FailureKind.THROTTLED
            assert harness.clock.now - begun >= 0.5 + 1.0 + 2.0

    asyncio.run(main())


def test_retries_count_for_the_rate_limit() -> None:
    async def main() -> None:
        async with (
            raw_server(replying(http())) as server,
            client_for(server.url, rate=4.0, burst=2) as harness,
        ):
            begun = harness.clock.now
            assert [(await harness.send()).sent_at - begun for _ in range(4)] == [0, 0, 0.25, 0.5]
            server.reply = replying(http(500))
            await harness.fails()
            assert harness.clock.now - begun >= 0.5 + 3 * 0.25

    asyncio.run(main())


# -- time limit


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
def test_time_limit_is_total(reply: Reply) -> None:
    """Slow data on the connection does not extend it."""

    async def main() -> None:
        async with raw_server(reply) as server, client_for(server.url, timeout=0.3) as harness:
            begun = time.monotonic()
            error = await harness.fails()
            assert 0.85 < time.monotonic() - begun < 10
            assert (error.failure.kind, error.failure.code) == (FailureKind.TRANSIENT, "timeout")
            assert "0.3 s" in str(error)
            assert harness.requests("timeout") == harness.errors("timeout") == 3

    asyncio.run(main())


@pytest.mark.parametrize("reply", SLOW)
def test_timeouts_leave_all_connections_usable(reply: Reply) -> None:
    """After more timeouts than there are connections, in sequence and in parallel."""

    async def main() -> None:
        async with raw_server(reply) as server, client_for(server.url, timeout=0.2, concurrency=2) as harness:
            await harness.fails()
            await asyncio.gather(*(harness.fails() for _ in range(4)))
            assert harness.requests("timeout") == 15
            server.reply = replying(http())
            for _ in range(3):
                assert (await harness.send()).body == b"[]"

    asyncio.run(main())


def test_timeout_does_not_affect_another_request() -> None:
    async def main() -> None:
        async def reply(request: bytes, writer: asyncio.StreamWriter) -> None:
            if len(server.requests) == 1:
                await asyncio.sleep(60)
            await asyncio.sleep(0.2)
            writer.write(http())

        async with raw_server(reply) as server, client_for(server.url, timeout=0.3, concurrency=2) as harness:
            stuck = asyncio.create_task(harness.send())
            await asyncio.sleep(0.15)
            assert (await harness.send()).body == b"[]"
            assert (await stuck).body == b"[]"
            assert (harness.requests("timeout"), harness.requests("200"), len(server.requests)) == (1, 2, 3)

    asyncio.run(main())


def test_cancelled_caller_releases_connections_and_locks() -> None:
    async def main() -> None:
        async with raw_server(silent) as server, client_for(server.url, concurrency=2) as harness:
            for _ in range(5):
                sending = asyncio.create_task(harness.send())
                await server.came.wait()
                server.came.clear()
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
            server.reply = replying(http())
            assert (await harness.send()).body == b"[]"

    asyncio.run(main())


def test_close_ends_requests_in_flight() -> None:
    async def main() -> None:
        async with raw_server(silent) as server, client_for(server.url) as harness:
            sending = asyncio.create_task(harness.fails())
            await server.came.wait()
            server.reply = replying(http(403))
            await harness.api.close()
            assert (await sending).failure.code in {"connect", "403"}

    asyncio.run(main())


# -- size

MIB = 1 << 20
# A deflate block of 1 MiB of spaces. It can be repeated, since a full flush makes it independent of others.
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
    ("reply", "message"),
    [
        pytest.param(forty_megabytes, "larger than 8 MiB", id="plain"),
        pytest.param(replying(http(body=BOMB, content_encoding="gzip")), "larger than 8 MiB", id="gzip"),
        pytest.param(
            replying(http(body=SMALL_BOMB, content_encoding="gzip, gzip")), "'gzip, gzip'", id="gzip in gzip"
        ),
        pytest.param(
            replying(http(body=_BLOCK * 1024, content_encoding="deflate")), "'deflate'", id="deflate"
        ),
    ],
)
def test_response_above_the_limit_takes_bounded_memory(reply: Reply, message: str) -> None:
    """Including 1 GiB compressed to 1 MiB or to a few KiB."""

    async def main() -> int:
        async with raw_server(reply) as server, client_for(server.url) as harness:
            tracemalloc.start()
            try:
                error = await harness.fails()
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert (error.failure.kind, error.failure.code) == (FailureKind.UNREADABLE, "invalid")
            assert message in str(error)
            assert (len(server.requests), harness.requests("invalid")) == (1, 1)
            server.reply = replying(http())
            assert (await harness.send()).body == b"[]"
            return peak

    assert asyncio.run(main()) < 50 * MIB


def test_response_with_content_length_above_the_limit_is_not_read() -> None:
    async def main() -> None:
        response = http(body=b"[", content_length=str(8 * MIB + 1))
        async with raw_server(replying(response)) as server, client_for(server.url) as harness:
            begun = time.monotonic()
            error = await harness.fails()
            assert time.monotonic() - begun < 5
            assert "larger than 8 MiB" in str(error)
            assert harness.requests("invalid") == 1

    asyncio.run(main())


def test_large_response_within_the_limit_is_read() -> None:
    async def main() -> None:
        body = b"[" + b" " * (7 * MIB) + b"]"
        responses = [http(body=body), http(body=gzip.compress(body), content_encoding="gzip")]
        async with raw_server(replying(*responses)) as server, client_for(server.url) as harness:
            for _ in responses:
                assert (await harness.send()).body == body

    asyncio.run(main())


def test_oversized_error_response_counts_by_status() -> None:
    async def main() -> None:
        response = http(503, body=b"<", content_length=str(99 * MIB))
        async with raw_server(replying(response)) as server, client_for(server.url) as harness:
            assert (await harness.fails()).failure.code == "503"
            assert harness.requests("503") == 3

    asyncio.run(main())


def test_damaged_gzip_is_an_error_with_message() -> None:
    async def main() -> None:
        reply = replying(http(body=b"[]", content_encoding="gzip"))
        async with raw_server(reply) as server, client_for(server.url) as harness:
            error = await harness.fails()
            assert error.failure.code == "invalid"
            assert "incomplete or damaged" in str(error)

    asyncio.run(main())


# -- the network


def test_closed_port_is_a_connect_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    async def main() -> None:
        async with client_for(f"http://127.0.0.1:{port}") as harness:
            error = await harness.fails()
            assert (error.failure.kind, error.failure.code) == (FailureKind.TRANSIENT, "connect")
            assert f"no response from 127.0.0.1:{port}" in str(error)
            assert harness.requests("connect") == harness.errors("connect") == 3
            assert harness.retries == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    "response",
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
def test_response_that_is_not_http_is_a_connect_error(response: bytes) -> None:
    async def main() -> None:
        async with (
            raw_server(replying(Cut(response))) as server,
            client_for(server.url, timeout=2.0) as harness,
        ):
            error = await harness.fails()
            assert error.failure.code in {"connect", "302"}
            assert str(error)
            assert len(str(error)) < 400

    asyncio.run(main())


def test_https_to_an_http_port_is_a_connect_error(url: str) -> None:
    async def main() -> None:
        async with client_for(url.replace("http", "https")) as harness:
            assert (await harness.fails()).failure.code == "connect"

    asyncio.run(main())


def test_redirect_is_not_followed() -> None:
    async def main() -> None:
        async with raw_server(replying(http())) as elsewhere:
            response = http(307, b"", location=f"{elsewhere.url}/v5")
            async with raw_server(replying(response)) as server, client_for(server.url) as harness:
                error = await harness.fails()
                assert (error.failure.kind, error.failure.code) == (FailureKind.PROJECT, "307")
                assert "redirected to 127.0.0.1" in str(error)
                assert (len(server.requests), len(elsewhere.requests)) == (1, 0)

    asyncio.run(main())


def test_connections_are_reused() -> None:
    async def main() -> None:
        async with raw_server(replying(http())) as server, client_for(server.url, concurrency=2) as harness:
            for _ in range(10):
                await asyncio.gather(*(harness.send() for _ in range(4)))
            assert len(server.requests) == 40
            assert server.connections <= 2

    asyncio.run(main())


def test_connection_closed_by_the_server_is_replaced() -> None:
    async def main() -> None:
        async with (
            raw_server(replying(Cut(http()))) as server,
            client_for(server.url, concurrency=1) as harness,
        ):
            for _ in range(5):
                await harness.send()
                await asyncio.sleep(0.01)
            assert harness.requests("200") == server.connections == 5

    asyncio.run(main())


def test_request_line_headers_and_body() -> None:
    async def main() -> None:
        async with raw_server(replying(http())) as server, client_for(server.url) as harness:
            await harness.send()
            head, _, body = server.requests[0].decode().partition("\r\n\r\n")
            first, *lines = head.split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            assert first == f"POST {harness.call.path} HTTP/1.1"
            assert json.loads(body) == [PIPELINE_ID]
            assert headers["host"] == server.url.removeprefix("http://")
            assert headers["content-type"] == "application/json"
            assert headers["accept-encoding"] == "gzip"
            assert headers["user-agent"].startswith("pipeline-exporter/")
            assert headers["x-auth-token"] == TOKEN

    asyncio.run(main())


# -- the date of a response


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
def test_date_header_is_the_provider_time(date: str | None, seconds: float) -> None:
    """Our clock is used if the date is missing or unreadable."""

    async def main() -> None:
        headers: dict[str, Any] = {} if date is None else {"date": date}
        async with raw_server(replying(http(**headers))) as server, client_for(server.url) as harness:
            assert (await harness.send()).now == seconds

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


def assert_hidden(harness: Harness, errors: list[ApiError], log: str, private: list[str]) -> None:
    """Assert that no secret is in the log, the metrics or the errors."""
    page = generate_latest(harness.telemetry.registry).decode()
    seen = "\n".join([log, page, *(f"{error!r} {error} {error.failure}" for error in errors)])
    for value in private:
        for part in {value, value[:40], value[-20:]}:
            assert part not in seen


def echoing(status: int, form: str) -> Reply:
    """Return a reply that repeats the headers of the request in its body and headers."""

    async def reply(request: bytes, writer: asyncio.StreamWriter) -> None:
        head = request.partition(b"\r\n\r\n")[0].decode()
        headers = {
            name.lower(): text for name, _, text in (line.partition(": ") for line in head.split("\r\n")[1:])
        }
        proof = headers.get("x-auth-token") or headers.get("x-security-token") or ""
        bodies = {
            "message": {"error_code": "X.1", "error_msg": f"I saw: {head}"},
            "one by one": {"error_code": "X.1", "error_msg": " | ".join(headers.values())},
            "code": {"error_code": proof, "error_msg": "message", "request_id": proof},
            "nested": {"error": {"code": proof[:200] + proof[200:], "message": json.dumps(headers)}},
        }
        header = {"x_request_id": proof} if form == "code" else {}
        writer.write(http(status, json.dumps(bodies[form]).encode(), **header))

    return reply


@pytest.mark.parametrize("form", ["message", "one by one", "code", "nested"])
@pytest.mark.parametrize("status", [200, 401, 429, 500])
@pytest.mark.parametrize("method", AUTHS)
def test_secrets_repeated_by_the_server_are_masked(
    method: str, status: int, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In debug logs, errors and metrics. The signature, which could be replayed, is masked as well."""

    async def main() -> None:
        reply = echoing(status, form)
        async with raw_server(reply) as server, client_for(server.url, auth=AUTHS[method]) as harness:
            errors = [await harness.fails()]
            head = server.requests[0].decode()
            signature = head.partition("Signature=")[2][:64]
            private = [value for name, value in AUTHS[method].items() if name != "method"]
            assert_hidden(
                harness, errors, capsys.readouterr().err, [*private, *([signature] if signature else [])]
            )

    with configured("debug", "logfmt"):
        asyncio.run(main())


def test_secrets_in_a_gateway_signature_error_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway repeats the canonical request."""
    codearts = CodeArts(
        WORLD, Credentials(access_key=SECRETS["access_key"], secret_key="another"), clock=lambda: NOW
    )

    async def main(url: str) -> None:
        async with client_for(url, **simulated(codearts, auth=AUTHS["aksk"])) as harness:
            error = await harness.fails()
            assert (error.failure.kind, error.failure.error_code) == (FailureKind.CREDENTIALS, "APIGW.0301")
            assert "verify aksk signature fail" in str(error)
            assert_hidden(harness, [error], capsys.readouterr().err, list(SECRETS.values()))

    with configured("debug", "json"), running(codearts.app) as url:
        asyncio.run(main(url))


def test_unknown_access_key_is_masked_in_the_error(codearts: CodeArts, url: str) -> None:
    async def main() -> None:
        async with client_for(url, **simulated(codearts, auth=AUTHS["aksk"])) as harness:
            error = await harness.fails()
            assert str(error) == "Incorrect IAM authentication information: ak <secret> not exist"

    asyncio.run(main())


def test_token_rotated_during_the_request_is_masked(tmp_path: Path) -> None:
    """The sent token is masked, not only the one in the file now."""
    file = tmp_path / "token"
    file.write_text("the-old-token")

    async def main() -> None:
        async def reply(_: bytes, writer: asyncio.StreamWriter) -> None:
            file.write_text("the-new-token")
            writer.write(http(403, b'{"error_code":"X.1","error_msg":"no: the-old-token"}'))

        auth = {"method": "token", "token_file": str(file)}
        async with raw_server(reply) as server, client_for(server.url, auth=auth) as harness:
            assert str(await harness.fails()) == "no: <secret>"

    asyncio.run(main())


def test_unreadable_secret_fails_without_a_request(tmp_path: Path) -> None:
    file = tmp_path / "token"

    async def main() -> None:
        auth = {"method": "token", "token_file": str(file)}
        async with raw_server(replying(http())) as server, client_for(server.url, auth=auth) as harness:
            error = await harness.fails()
            assert error.failure.kind is FailureKind.NOT_SENT
            assert str(file) in str(error)
            assert not server.requests
            assert (harness.requests("secret"), harness.errors("secret"), harness.retries) == (0, 1, 0)
            file.write_text("now-it-can")
            await harness.send()

    asyncio.run(main())


def test_secret_with_invalid_header_characters_fails_without_a_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error of the HTTP library would show the value."""

    async def main() -> None:
        auth = {"method": "token", "token": "tökén-private"}
        async with raw_server(replying(http())) as server, client_for(server.url, auth=auth) as harness:
            error = await harness.fails()
            assert error.failure.kind is FailureKind.NOT_SENT
            assert "X-Auth-Token" in str(error)
            assert not server.requests
            assert_hidden(harness, [error], capsys.readouterr().err, ["tökén-private", "-private"])

    with configured("debug", "logfmt"):
        asyncio.run(main())


def test_vendor_message_is_one_bounded_line() -> None:
    body = json.dumps({"error_code": "X.1", "error_msg": "a\nb\x1b[31m\u2028" + "long " * 1000}).encode()

    async def main() -> None:
        async with raw_server(replying(http(400, body))) as server, client_for(server.url) as harness:
            error = await harness.fails()
            assert str(error).startswith("a b [31m long")
            assert str(error).isprintable()
            assert len(str(error)) <= 301

    asyncio.run(main())


def test_vendor_error_codes_are_bounded() -> None:
    """In length and number, since they are label values."""

    async def main() -> None:
        async def reply(_: bytes, writer: asyncio.StreamWriter) -> None:
            code = f"X.{len(server.requests)}." + "y" * 500
            writer.write(http(400, json.dumps({"error_code": code, "error_msg": "w"}).encode()))

        async with raw_server(reply) as server, client_for(server.url) as harness:
            for _ in range(105):
                await harness.fails()
            assert harness.errors("other") == 5
            assert harness.errors("X.1." + "y" * 60) == 1

    asyncio.run(main())
