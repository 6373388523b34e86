"""Run simulated clouds for `demo` and `simulate`, and the exporter on them."""

import asyncio
import contextlib
import signal
import socket
from dataclasses import dataclass
from typing import Any

import yaml

from exporter.app.daemon import Serving, run
from exporter.config.duration import parse_duration
from exporter.settings.settings import Config
from exporter.simulator import CodeArts, Console, Flow, Trouble, World, serve
from exporter.web.server import address_of, listen

TROUBLES = tuple(trouble.value for trouble in Trouble)


def parse_delay(text: str) -> float:
    """Return the seconds of a duration that may be 0; raise `ValueError` with a message for anything else."""
    return 0.0 if text in {"0", "0s"} else parse_duration(text)


@dataclass(frozen=True, slots=True)
class Simulation:
    """What to simulate: the size of the clouds, and their trouble, if any.

    The trouble begins `after` seconds from the start. It lasts for `duration` seconds, or until the end.
    """

    seed: int
    pipelines: int
    trouble: str | None = None
    after: float = 0.0
    duration: float | None = None


class Clouds:
    """A simulated CodeArts cloud and a simulated Flow cloud, each with one project."""

    def __init__(self, simulation: Simulation) -> None:
        seed, pipelines = simulation.seed, simulation.pipelines
        self.codearts = CodeArts(World(seed=seed, pipelines=pipelines))
        """The cloud of the first project."""
        self.flow = Flow(World(seed=seed + 1, pipelines=pipelines))
        """The cloud of the second project."""
        clouds = {"simulated-codearts": self.codearts, "simulated-flow": self.flow}
        console = Console(clouds, parse_delay)
        if simulation.trouble is not None:
            console.drill.plan(Trouble(simulation.trouble), simulation.after, simulation.duration)
        self.app = console.app
        """Web application that serves both clouds on one port."""

    def configuration(self, url: str) -> dict[str, Any]:
        """Return a configuration that polls both clouds at `url`."""
        return {
            "poll": {"interval": "20s", "active_interval": "10s"},
            # The address of each run's page, for links on dashboards. It starts new series with each run.
            "metrics": {"run_info_labels": ["trigger", "branch", "url"]},
            "projects": [
                {
                    "name": "simulated-codearts",
                    "provider": "codearts",
                    "project_id": self.codearts.world.project_id,
                    # Like the vendor, the simulated cloud reports the pages of runs only.
                    "url_template": f"{url}/cicd/project/{{project_id}}/pipeline/detail/{{pipeline_id}}",
                    "auth": {
                        "method": "aksk",
                        "access_key": self.codearts.credentials.access_key,
                        "secret_key": self.codearts.credentials.secret_key,
                    },
                    **_common(url),
                },
                {
                    "name": "simulated-flow",
                    "provider": "flow",
                    "organization_id": self.flow.organization_id,
                    # Like the vendor, the simulated cloud reports no pages.
                    "url_template": f"{url}/pipelines/{{pipeline_id}}/current",
                    "run_url_template": f"{url}/pipelines/{{pipeline_id}}/builds/{{run_id}}",
                    "auth": {"method": "yunxiao_token", "token": self.flow.credentials.personal_token},
                    **_common(url),
                },
            ],
        }


def _common(url: str) -> dict[str, Any]:
    """Return the settings that both projects have."""
    return {
        "endpoint": url,
        # The simulated clouds do not throttle, and values should come soon.
        "rate_limit": {"requests_per_second": 200, "burst": 100},
        "discover": {
            "interval": "1m",
            # Alerts are routed by team. The dashboard Delivery shows pipelines with the label `deploys`.
            "labels": [
                {"match": ".*-(web|mobile|sdk)-.*", "labels": {"team": "apps"}},
                {
                    "match": ".*-(api|batch|gateway|operator|schema|service|worker)-.*",
                    "labels": {"team": "backend"},
                },
                {"match": ".*-deploy", "labels": {"deploys": "production"}},
            ],
        },
    }


_WELCOME = """
  The exporter polls a simulated CodeArts project and a simulated Flow organization, each with {pipelines} pipelines.

  Page      http://{address}/
  Metrics   http://{address}{path}
  Clouds    http://{clouds}/ (their true state, and a form that begins troubles)

  Metrics to look at
    ci_pipeline_latest_run_status                 1 for the status of each latest run
    ci_pipeline_latest_finished_run_status        a failed pipeline stays failed while its next run is in progress
    ci_pipeline_latest_run_stage_duration_seconds duration of each stage
    ci_pipeline_runs_total                        runs counted since the start, growing

  List the failed pipelines
    curl -s http://{address}{path} | grep 'finished_run_status.*status="failed"}} 1'

  Stop with Ctrl-C.
"""


async def run_demo(listener: socket.socket, telemetry_path: str, simulation: Simulation) -> int:
    """Run simulated clouds on a free port and the exporter on them, until SIGTERM or SIGINT."""
    clouds = Clouds(simulation)
    cloud_listener = listen("127.0.0.1:0")
    config = Config.model_validate(clouds.configuration(f"http://{address_of(cloud_listener)}"))
    serving = asyncio.create_task(serve(clouds.app, cloud_listener))
    text = _WELCOME.format(
        address=address_of(listener),
        path=telemetry_path,
        clouds=address_of(cloud_listener),
        pipelines=simulation.pipelines,
    )
    print(text, flush=True)  # noqa: T201  # the command's output
    try:
        return await run(config, Serving(listener=listener, telemetry_path=telemetry_path))
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


class _PlainDumper(yaml.SafeDumper):
    """YAML dumper that writes no aliases, so that each project can be copied on its own."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


async def simulate(listener: socket.socket, simulation: Simulation) -> int:
    """Print a configuration for simulated clouds, and run them until SIGTERM or SIGINT."""
    clouds = Clouds(simulation)
    address = address_of(listener)
    config = clouds.configuration(f"http://{address}")
    print(f"# Simulated clouds listen on http://{address}; this configuration polls them.")  # noqa: T201
    print(f"# http://{address}/ shows their true state, and begins troubles.")  # noqa: T201
    print(yaml.dump(config, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True), flush=True)  # noqa: T201
    serving = asyncio.create_task(serve(clouds.app, listener))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    return 0
