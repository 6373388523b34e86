"""A real Prometheus that scrapes one exporter, and its API."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.drivers.process import PATIENCE, eventually


@contextmanager
def scraping(
    program: str,
    target: str,
    directory: Path,
    *flags: str,
    interval: float = 1,
    timeout: float = 1,
    **access: object,
) -> Iterator[str]:
    """Run Prometheus while the context lasts; yield its URL.

    `interval` and `timeout` are in seconds. `access` are further keys of the scrape configuration.
    """
    job = {
        "job_name": "pipeline-exporter",
        "scrape_interval": f"{max(interval, timeout):g}s",
        "scrape_timeout": f"{timeout:g}s",
        "static_configs": [{"targets": [target]}],
        **access,
    }
    with _running(program, directory, {"scrape_configs": [job]}, *flags) as url:
        yield url


@contextmanager
def stored(program: str, directory: Path) -> Iterator[str]:
    """Run Prometheus on the blocks in `data` within `directory` while the context lasts; yield its URL."""
    with _running(program, directory, {}, "--storage.tsdb.retention.time=10y") as url:
        eventually(lambda: query(url, "vector(1)"), "Prometheus has loaded its blocks")
        yield url


@contextmanager
def _running(program: str, directory: Path, configuration: dict[str, Any], *flags: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    server = subprocess.Popen(
        [
            program,
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *flags,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE)


def api_get(url: str, path: str, **parameters: Any) -> Any:
    """Return the data of a response of the API; None if the request fails."""
    try:
        answer = httpx.get(f"{url}/api/v1/{path}", params=parameters, trust_env=False, timeout=PATIENCE)
    except httpx.TransportError:
        return None
    return answer.json()["data"] if answer.status_code == 200 else None


def query(url: str, expression: str, **parameters: Any) -> list[dict[str, Any]]:
    """Return the result of an instant query; empty if the request fails."""
    found = api_get(url, "query", query=expression, **parameters)
    return found["result"] if found else []
