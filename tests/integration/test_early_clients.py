"""A client that leaves before it has the whole page leaves no line in the log."""

import socket
import struct

from tests.drivers.process import eventually, exporter
from tests.drivers.support import project

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n"


def leave_early(address: str, *, reset: bool) -> None:
    """Request a page and leave after the first bytes of it."""
    host, _, port = address.rpartition(":")
    client = socket.create_connection((host, int(port)))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sendall(REQUEST)
    client.recv(100)
    client.close()


def test_client_that_leaves_early_logs_nothing(tmp_path):
    """The page is larger than the buffers of the sockets."""
    pipelines = [{"id": f"{number:032x}", "name": f"pipeline {number}" * 10} for number in range(1, 4001)]
    dead = project(endpoint="http://127.0.0.1:9", pipelines=pipelines)
    with exporter(tmp_path, {"projects": [dead]}) as process:
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        eventually(lambda: len(process.get("/metrics").content) > 1_000_000, "the page is large")
        before = len(process.log)
        for _ in range(20):
            leave_early(process.address(), reset=True)
            leave_early(process.address(), reset=False)
        assert process.get("/-/healthy").status_code == 200
        assert process.stop() == 0
        lines = [line for line in process.log[before:] if "project" not in line]
    assert [line for line in lines if "stopping" not in line] == []
