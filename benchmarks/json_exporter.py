"""Measure json_exporter, another exporter, which queries the cloud, decodes and renders at every scrape.

It needs a binary of https://github.com/prometheus-community/json_exporter. One probe covers 50 pipelines, whose ids are a
parameter of the probe. Its configuration language can expose numbers and times of runs and, as labels, their statuses. It
cannot assign stages to their pipeline, so stages are left out.
"""

import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import msgspec
import yaml

from benchmarks.machine import resident

_STATUS = {
    "name": "ci_pipeline_run_status",
    "type": "object",
    "path": "{ [*] }",
    "labels": {"pipeline_id": "{ .pipeline_id }", "status": "{ .status }"},
    "values": {"info": "1"},
}
_NUMBERS = {
    "name": "ci_pipeline_run",
    "type": "object",
    "path": "{ [*] }",
    "labels": {"pipeline_id": "{ .pipeline_id }"},
    "values": {
        "number": "{ .run_number }",
        "start_time_milliseconds": "{ .start_time }",
        "end_time_milliseconds": "{ .end_time }",
    },
}
_START = 10.0
"""Time limit for the start of json_exporter, in seconds."""


class Peer(msgspec.Struct, frozen=True):
    """Cost of probing all pipelines once, as medians."""

    cpu: float
    """CPU seconds."""
    seconds: float
    """Wall-clock seconds of all probes, one after the other."""
    series: int
    resident: int
    """Resident bytes after the last turn."""


def measure(binary: Path, target: str, chunks: Sequence[Sequence[str]], turns: int) -> Peer:
    """Probe all chunks of pipelines in each turn; `target` is the URL that json_exporter queries."""
    configuration = {
        "modules": {
            "codearts": {
                "headers": {"X-Auth-Token": "t", "Content-Type": "application/json"},
                "body": {"content": "{{ .ids | first }}", "templatize": True},
                "metrics": [_STATUS, _NUMBERS],
            }
        }
    }
    probes = [{"module": "codearts", "target": target, "ids": json.dumps(list(ids))} for ids in chunks]
    cpu, seconds = [], []
    with (
        _running(binary, configuration) as (process, address),
        httpx.Client(trust_env=False, timeout=60, base_url=address) as client,
    ):
        for _ in range(turns):
            before, started = _cpu(process), time.perf_counter()
            pages = [client.get("/probe", params=probe).raise_for_status().content for probe in probes]
            seconds.append(time.perf_counter() - started)
            cpu.append(_cpu(process) - before)
        memory = resident(process)
    series = sum(line.startswith(b"ci_") for page in pages for line in page.splitlines())
    return Peer(statistics.median(cpu), statistics.median(seconds), series, memory)


@contextmanager
def _running(binary: Path, configuration: object) -> Iterator[tuple[int, str]]:
    """Run json_exporter while the context lasts; yield its process id and URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with TemporaryDirectory() as directory:
        file = Path(directory) / "config.yml"
        file.write_text(yaml.safe_dump(configuration))
        command = (binary, f"--config.file={file}", f"--web.listen-address={address}", "--log.level=error")
        with subprocess.Popen(command) as process:  # noqa: S603  # the user gives the binary
            try:
                _wait(f"http://{address}/")
                yield process.pid, f"http://{address}"
            finally:
                process.terminate()


def _wait(url: str) -> None:
    """Wait until a URL responds; raise the last error after the time limit."""
    end = time.monotonic() + _START
    while True:
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _cpu(process: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
