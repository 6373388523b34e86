"""The example for Alertmanager: routes by team, inhibition, grouping, and the messages of a simulated day."""

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import yaml

from tests.drivers.process import PATIENCE, eventually
from tests.drivers.rules import DEPLOY, PROJECT, Labels
from tests.drivers.tools import installed

EXAMPLE = DEPLOY / "alertmanager" / "alertmanager.yml"


def amtool(*arguments: str) -> str:
    done = subprocess.run([installed("amtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_amtool_accepts_the_example():
    assert "SUCCESS" in amtool("check-config", str(EXAMPLE))


@pytest.mark.parametrize(
    ("receiver", "labels"),
    [
        ("payments", {"alertname": "PipelineFailed", "label_team": "payments"}),
        ("mobile", {"alertname": "PipelinesManyRed", "label_team": "mobile"}),
        ("ci", {"alertname": "PipelineFailed", "label_team": "unknown"}),
        ("ci", {"alertname": "PipelineFailed"}),
        ("exporter", {"alertname": "PipelineExporterProjectDown"}),
        ("exporter", {"alertname": "PipelineExporterRunsMissed", "label_team": "payments"}),
    ],
)
def test_an_alert_is_routed_to_its_team(receiver, labels):
    pairs = [f"{name}={value}" for name, value in labels.items()]
    found = amtool(
        "config", "routes", "test", f"--config.file={EXAMPLE}", f"--verify.receivers={receiver}", *pairs
    )
    assert found.split()[0] == receiver


class Messages:
    """A receiver of webhooks."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                bodies.append({**body, "team": self.path.strip("/")})
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def alerts(self, status: str) -> list[tuple[str, str, str]]:
        """Return message by message the team, the name and the pipeline of each alert with this status."""
        return [
            (body["team"], alert["labels"]["alertname"], alert["labels"].get("pipeline", ""))
            for body in self.bodies
            for alert in body["alerts"]
            if alert["status"] == status
        ]


def shortened(configuration: str, messages: str, faster: float) -> str:
    """Return the example with other addresses and durations divided."""
    found = yaml.safe_load(configuration)
    for name in ("group_wait", "group_interval", "repeat_interval"):
        number, unit = re.findall(r"^(\d+)([smhd])$", found["route"][name])[0]
        seconds = int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
        found["route"][name] = f"{round(seconds * 1000 / faster)}ms"
    for receiver in found["receivers"]:
        receiver["webhook_configs"] = [{"url": f"{messages}/{receiver['name']}"}]
    return yaml.safe_dump(found)


class Alertmanager:
    """A running Alertmanager with the example."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self._url}/-/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def post(self, alerts: list[dict[str, Any]]) -> None:
        httpx.post(f"{self._url}/api/v2/alerts", json=alerts, trust_env=False).raise_for_status()


def alert(labels: Labels, start: float, end: float) -> dict[str, Any]:
    return {"labels": labels, "startsAt": _iso(start), "endsAt": _iso(end)}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


@contextmanager
def alertmanager(folder, faster: float) -> Iterator[tuple[Alertmanager, Messages]]:
    program = installed("prometheus-alertmanager")
    messages = Messages()
    file = folder / "alertmanager.yml"
    file.write_text(shortened(EXAMPLE.read_text(), messages.url, faster))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            program,
            f"--config.file={file}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = Alertmanager(f"http://127.0.0.1:{port}")
        eventually(found.ready, "Alertmanager is ready")
        yield found, messages
    finally:
        process.terminate()
        process.wait(PATIENCE)
        messages.close()


def labels(alertname: str, number: int | None = None, **more: str) -> Labels:
    own = {"alertname": alertname, "job": "pipeline-exporter", **PROJECT, "label_team": "payments", **more}
    return own if number is None else own | {"pipeline": f"service-{number}", "pipeline_id": f"s{number}"}


def test_pipelines_that_fail_together_are_one_message_to_their_team(tmp_path):
    with alertmanager(tmp_path, 60) as (manager, messages):
        now = time.time()
        manager.post([alert(labels("PipelineFailed", number), now, now + 60) for number in range(4)])
        eventually(lambda: messages.bodies, "a message is there")
        time.sleep(1)
        (message,) = messages.bodies
        assert message["team"] == "payments"
        assert len(message["alerts"]) == 4


def test_an_alert_that_includes_others_inhibits_them(tmp_path):
    """Many red pipelines, repeated failures, and a project that is down."""
    with alertmanager(tmp_path, 60) as (manager, messages):
        now = time.time()
        shop = [labels("PipelinesManyRed"), *(labels("PipelineFailed", number) for number in range(4))]
        repeated = [
            labels("PipelineFailingRepeatedly", 7, project="other"),
            labels("PipelineFailed", 7, project="other"),
        ]
        again = labels("PipelineFailed", 8, project="other")
        outage = [
            labels("PipelineExporterCredentialsRefused", project="down"),
            labels("PipelineExporterProjectDown", project="down"),
            labels("PipelineNotRun", 9, project="down"),
            labels("PipelineFailed", 9, project="down"),
        ]
        manager.post([alert(one, now, now + 60) for one in (*shop, *repeated, again, *outage)])
        eventually(lambda: len(messages.bodies) >= 5, "the messages are there")
        time.sleep(1)
        assert sorted(messages.alerts("firing")) == [
            ("exporter", "PipelineExporterCredentialsRefused", ""),
            ("payments", "PipelineFailed", "service-8"),
            ("payments", "PipelineFailed", "service-9"),
            ("payments", "PipelineFailingRepeatedly", "service-7"),
            ("payments", "PipelinesManyRed", ""),
        ]
