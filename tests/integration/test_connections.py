"""Clients that idle, send slowly, leave or do not read: the exporter serves the others, and polls."""

import contextlib
import http.client
import itertools
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drivers.probe import MIB, HealthProbe
from tests.drivers.process import Process, Samples, eventually, exporter

QUICK = {"interval": "1s", "active_interval": "500ms", "timeout": "2s"}
REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"


def connect(process: Process) -> socket.socket:
    host, port = process.address().split(":")
    return socket.create_connection((host, int(port)), timeout=30)


@contextlib.contextmanager
def clients(process: Process, count: int) -> Iterator[list[socket.socket]]:
    """Open many connections, with room for them in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 500, hard), hard))
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(stack.enter_context(contextlib.closing(connect(process))))
            # Not faster than a busy machine accepts them: otherwise they would wait in the system's queue.
            time.sleep(0.001)
        yield connections


def ended(client: socket.socket) -> bool:
    """Read what the server has sent; return True if it has closed the connection."""
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def open_ones(connections: list[socket.socket]) -> int:
    return sum(not ended(client) for client in connections)


def sockets_of(process: Process) -> int:
    """Return how many client connections the exporter holds."""
    port = int(process.address().split(":")[1])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Established connections that a process holds have an inode.
    return sum(int(row[1].split(":")[1], 16) == port and row[3] == "01" and row[9] != "0" for row in rows)


def settled(process: Process) -> None:
    eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
    eventually(lambda: process.samples().value("pipeline_exporter_project_up") == 1, "project_up")


def scraped(process: Process) -> Samples:
    """Return a page, at the third attempt at the latest.

    A connection counts as idle until it has sent a request, and on a busy machine this process is slow to send it.
    """
    for _ in range(2):
        with contextlib.suppress(ConnectionResetError, http.client.RemoteDisconnected):
            return scraped_at_once(process)
    return scraped_at_once(process)


def scraped_at_once(process: Process) -> Samples:
    """Return a page, over a new connection: one that idles between two scrapes can be closed."""
    with contextlib.closing(http.client.HTTPConnection(process.address(), timeout=30)) as connection:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        return Samples(response.read().decode())


def polls_continue(process: Process) -> None:
    name = "pipeline_exporter_last_poll_timestamp_seconds"
    before = scraped(process).value(name)
    eventually(lambda: scraped(process).value(name) != before, "a further poll")
    assert scraped(process).value("pipeline_exporter_project_up") == 1


@pytest.fixture
def limited(tmp_path, cloud) -> Iterator[Process]:
    """An exporter that may open 64 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    settings = {
        "poll": QUICK,
        "projects": [cloud.project()],
        "state": {"path": str(tmp_path / "state.db")},
    }
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    stack = contextlib.ExitStack()
    try:
        with contextlib.ExitStack() as entered:
            # The child inherits the limit; this process needs more.
            process = entered.enter_context(exporter(tmp_path, settings))
            stack = entered.pop_all()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with stack:
        settled(process)
        yield process


@pytest.fixture
def process(tmp_path, cloud) -> Iterator[Process]:
    with exporter(tmp_path, {"poll": QUICK, "projects": [cloud.project()]}) as process:
        settled(process)
        yield process


def quiet(process: Process, *warnings: str) -> None:
    """Assert that the log has these warnings once each, and nothing else above `info`."""
    # On a busy machine a poll can take longer than its interval, with or without these clients.
    lines = [
        line
        for line in process.log
        if "level=info" not in line and "level=debug" not in line and "poll skipped" not in line
    ]
    assert len(lines) == len(warnings), lines[:10]
    assert all(any(warning in line for line in lines) for warning in warnings)


TOO_MANY = "too many connections, closing the longest idle ones"


def test_hundred_idle_clients_leave_half_of_64_descriptors(limited):
    """They leave descriptors for polls and the state; one line is logged."""
    with HealthProbe(limited) as probe, clients(limited, 100):
        eventually(lambda: sockets_of(limited) <= 32, "most are closed")
        polls_continue(limited)
        time.sleep(5)
        assert limited.open_files() < 48
        polls_continue(limited)
    assert not probe.failures
    assert probe.worst < 1
    assert limited.samples().value("pipeline_exporter_state_up") == 1
    quiet(limited, TOO_MANY)


def test_clients_that_reconnect_do_not_keep_others_out(limited):
    stop = threading.Event()

    def keep_coming():
        held = [connect(limited) for _ in range(100)]
        while not stop.wait(0.02):
            for index, client in enumerate(held):
                if ended(client):
                    client.close()
                    held[index] = connect(limited)
                    # Other clients get a turn between connecting and sending: all are threads of one process.
                    time.sleep(0.001)
        for client in held:
            client.close()

    thread = threading.Thread(target=keep_coming)
    with HealthProbe(limited) as probe:
        thread.start()
        try:
            for _ in range(5):
                polls_continue(limited)
        finally:
            stop.set()
            thread.join()
    assert not probe.failures
    assert probe.worst < 1
    quiet(limited, TOO_MANY)


def test_at_most_512_of_two_thousand_idle_clients_are_kept(process):
    """The clients that connected last are kept."""
    with HealthProbe(process) as probe, clients(process, 2000) as idle:
        eventually(lambda: sockets_of(process) <= 512, "most are closed")
        polls_continue(process)
        assert open_ones(idle[:1000]) == 0
        # All of these are closed, because none sends a request in time.
        eventually(lambda: open_ones(idle) == 0, "none sends a request in ten seconds")
    assert not probe.failures
    assert probe.worst < 1
    assert probe.growth < 50 * MIB
    quiet(process, TOO_MANY)


SLOW_REQUESTS = {
    "headers": (b"", b"GET /metrics HTTP/1.1\r\nX-Long: "),
    "headers of a second request": (REQUEST, b"GET /metrics HTTP/1.1\r\nX-Long: "),
    "headers of a pipelined request": (b"", REQUEST + b"GET /metrics HTTP/1.1\r\nX-Long: "),
    "a body": (b"", b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"),
    "a body of a second request": (
        REQUEST,
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
    ),
    "chunks": (b"", b"POST /-/healthy HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n"),
}


def test_slow_request_is_closed_after_ten_seconds(process):
    """It is closed although the client keeps sending."""
    with HealthProbe(process) as probe, clients(process, 300) as slow:
        for client, (before, start) in zip(slow, itertools.cycle(SLOW_REQUESTS.values()), strict=False):
            if before:
                client.sendall(before)
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
            client.sendall(start)
        started = time.monotonic()
        left = slow
        early = 0
        while left and time.monotonic() - started < 15:
            for client in left:
                with contextlib.suppress(OSError):
                    client.send(b"x")
            left = [client for client in left if not ended(client)]
            if time.monotonic() - started < 8:
                early = 300 - len(left)
            time.sleep(0.2)
        assert (early, len(left)) == (0, 0)
        polls_continue(process)
    assert not probe.failures
    assert probe.worst < 1
    quiet(process)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ],
)
def test_request_with_two_lengths_is_refused(process, head):
    """Neither the request nor the bytes after it are used."""
    with connect(process) as client:
        client.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n0\r\n\r\n" + REQUEST)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    quiet(process)


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbodyno end",
        REQUEST + b"no request at all\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbodyno request at all\r\n\r\n",
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_invalid_bytes_after_a_request_close_the_connection(process, request_, apart):
    """Nothing is logged, whether or not the response has begun."""
    head, _, rest = request_.partition(b"\r\n\r\n")
    with connect(process) as client:
        if apart:
            client.sendall(head + b"\r\n\r\n")
            time.sleep(0.1)
            client.sendall(rest)
        else:
            client.sendall(request_)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(65536):
                pass
    assert process.get("/metrics").status_code == 200
    quiet(process)


def test_clients_that_leave_early_log_nothing(tmp_path, cloud):
    """They leave at once, after the request, or during the response."""
    with exporter(tmp_path, {"poll": QUICK, "projects": [cloud.project()]}, "--log.level=debug") as process:
        settled(process)
        for read, reset in itertools.product((None, 0, 1, 5000), (False, True)):
            for _ in range(20):
                with connect(process) as client:
                    if reset:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    if read is not None:
                        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                        client.recv(read)
        assert process.get("/metrics").status_code == 200
        quiet(process)


def test_running_out_of_descriptors_is_logged_once(process):
    """The limit is lowered while the exporter runs."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (process.open_files() + 5, hard))
    with clients(process, 100):
        eventually(
            lambda: any("cannot accept another connection" in line for line in process.log), "the line"
        )
        time.sleep(3)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    settled(process)
    lines = [line for line in process.log if "cannot accept another connection" in line]
    assert len(lines) == 1
    assert sum(len(line) for line in process.log) < 20_000
