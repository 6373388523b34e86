"""The daemon within this process, so that its clock and limits can be set."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import time

import httpx

from exporter.app import daemon, scheduler
from exporter.core.clock import SystemClock
from exporter.exposition import Body
from exporter.exposition.publisher import Publisher
from exporter.web import connections
from exporter.web.server import listen
from tests.drivers.support import config


class SetClock(SystemClock):
    """The system's clocks; the monotonic one can be set forward."""

    ahead = 0.0

    def monotonic(self):
        return time.monotonic() + self.ahead


@contextlib.asynccontextmanager
async def running_daemon(settings, clock=None):
    listener = listen("127.0.0.1:0")
    port = listener.getsockname()[1]
    task = asyncio.create_task(daemon.run(settings, daemon.Serving(listener=listener), clock))
    try:
        yield port
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(task, 10) == 0


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # the condition has no event
            await asyncio.sleep(0.02)


def test_client_without_a_complete_request_is_closed(cloud, monkeypatch):
    """Other clients are served meanwhile."""
    monkeypatch.setattr(connections, "_REQUEST", 0.3)

    async def scenario():
        async with running_daemon(config(cloud.project())) as port:
            silent, idle = await asyncio.open_connection("127.0.0.1", port)
            half, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHo")
            whole, client = await asyncio.open_connection("127.0.0.1", port)
            client.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await whole.readline()).startswith(b"HTTP/1.1 200")
            async with asyncio.timeout(5):
                assert await silent.read() == b""
                await half.read()
            # A client that has sent a request may send another one.
            client.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                while not (await whole.readline()).startswith(b"HTTP/1.1 200"):
                    pass
            for stream in (idle, writer, client):
                stream.close()

    asyncio.run(scenario())


def test_client_that_does_not_read_is_closed(cloud, monkeypatch):
    """It would keep a page in memory. A client that reads slowly is served."""
    monkeypatch.setattr(connections, "_STUCK", 2.0)
    page = Body.of([b"x" * 1_000_000] * 40)

    async def body(*_):
        return page

    monkeypatch.setattr(Publisher, "body", body)

    async def scenario():
        async with running_daemon(config(cloud.project())) as port:
            (stuck, idle), (slow, decoded) = [
                await asyncio.open_connection("127.0.0.1", port, limit=1 << 16) for _ in range(2)
            ]
            for writer in (idle, decoded):
                writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            got = 0
            async with asyncio.timeout(20):
                while some := await slow.read(1 << 20):
                    got += len(some)
                    await asyncio.sleep(0.01)
            assert got > page.length
            # The slow client may be done before the other one has been stuck for long enough.
            await asyncio.sleep(connections._STUCK)
            with contextlib.suppress(ConnectionResetError):
                assert len(await stuck.read()) < page.length
            for stream in (idle, decoded):
                stream.close()

    asyncio.run(scenario())


def test_client_that_reads_too_slowly_is_closed(cloud, monkeypatch):
    """A page must be read within a time, even if the client makes progress."""
    monkeypatch.setattr(connections, "_RESPONSE", 1.0)
    page = Body.of([b"x" * 1_000_000] * 40)

    async def body(*_):
        return page

    monkeypatch.setattr(Publisher, "body", body)

    async def scenario():
        async with running_daemon(config(cloud.project())) as port:
            slow, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            got = 0
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionResetError):
                    while some := await slow.read(1 << 16):
                        got += len(some)
                        await asyncio.sleep(0.05)
            assert 0 < got < page.length
            writer.close()

    asyncio.run(scenario())


def test_client_that_leaves_the_end_of_a_response_unread_is_closed(cloud, monkeypatch):
    """The server waits for the client before it closes the connection, but not forever."""
    monkeypatch.setattr(connections, "_STUCK", 0.5)
    opened: list[connections.Connection] = []
    made = connections.Connection.connection_made

    def connection_made(self, transport):
        # A small buffer, so that uvicorn or asyncio keeps the rest until the client reads it.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        opened.append(self)
        made(self, transport)

    monkeypatch.setattr(connections.Connection, "connection_made", connection_made)
    page = Body.of([b"x" * 50_000])

    async def body(*_):
        return page

    monkeypatch.setattr(Publisher, "body", body)

    async def scenario():
        async with running_daemon(config(cloud.project())) as port:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, b"GET /metrics HTTP/1.0\r\n\r\n")
            await until(lambda: opened and opened[0].cycle and opened[0].cycle.response_complete)
            transport = opened[0].transport
            assert transport.get_write_buffer_size() > 0
            await until(lambda: transport.get_write_buffer_size() == 0)
            client.close()

    asyncio.run(scenario())


def test_body_that_comes_after_the_response_leaves_the_connection_usable(cloud, monkeypatch):
    """The deadline of that request does not end the idle connection."""
    monkeypatch.setattr(connections, "_REQUEST", 0.5)

    async def scenario():
        async with running_daemon(config(cloud.project())) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 405")
            await reader.readuntil(b"Method Not Allowed")
            writer.write(b"body")
            await asyncio.sleep(1)
            writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()

    asyncio.run(scenario())


def test_stuck_request_turns_health_to_503(cloud):
    """For any `poll.timeout`."""
    clock = SetClock()

    async def health(port):
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{port}/-/healthy")
            return answer.status_code, answer.text

    async def scenario():
        cloud.codearts.latency = 3600.0
        async with running_daemon(config(cloud.project(), poll={"timeout": "1h"}), clock) as port:
            await until(lambda: cloud.codearts.in_flight)
            assert await health(port) == (200, "Healthy\n")
            clock.ahead = 590.0
            assert (await health(port))[0] == 200
            clock.ahead = 700.0
            status, text = await health(port)
            assert status == 503
            assert re.fullmatch(r"Unhealthy: project payments: a request has been running for 70\d s\n", text)

    asyncio.run(scenario())


def test_pages_are_published_while_a_poll_hangs(cloud, monkeypatch):
    monkeypatch.setattr(scheduler, "_HEARTBEAT", 0.2)
    cloud.codearts.latency = 3.0
    pages: list[bytes] = []

    async def scenario():
        async with running_daemon(config(cloud.project())) as port:
            # CPU seconds are rounded on a page, and one page takes few.
            while len(set(pages)) < 2 and len(pages) < 100:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
                page = await reader.read()
                pages.append(
                    next(line for line in page.splitlines() if line.startswith(b"process_cpu_seconds_total"))
                )
                writer.close()
                await asyncio.sleep(0.1)

    asyncio.run(scenario())
    assert len(set(pages)) > 1
