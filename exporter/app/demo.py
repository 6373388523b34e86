"""Run simulated clouds for `demo` and `simulate`, and the exporter on them."""

import asyncio
import contextlib
import signal
import socket
from typing import Any

import yaml

from exporter.app.daemon import run
from exporter.settings.settings import Config
from exporter.simulator import CodeArts, Flow, World, combine, serve
from exporter.web.server import address_of, listen


class Clouds:
    """A simulated CodeArts cloud and a simulated Flow cloud, each with one project."""

    def __init__(self, *, seed: int, pipelines: int) -> None:
        self._codearts = CodeArts(World(seed=seed, pipelines=pipelines))
        self._flow = Flow(World(seed=seed + 1, pipelines=pipelines))
        self.app = combine(self._codearts, self._flow)
        """The web application of both, for one port."""

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
                    "project_id": self._codearts.world.project_id,
                    # Like the vendor, the simulated cloud reports the pages of runs only.
                    "url_template": f"{url}/cicd/project/{{project_id}}/pipeline/detail/{{pipeline_id}}",
                    "auth": {
                        "method": "aksk",
                        "access_key": self._codearts.credentials.access_key,
                        "secret_key": self._codearts.credentials.secret_key,
                    },
                    **_common(url),
                },
                {
                    "name": "simulated-flow",
                    "provider": "flow",
                    "organization_id": self._flow.organization_id,
                    # Like the vendor, the simulated cloud reports no pages.
                    "url_template": f"{url}/pipelines/{{pipeline_id}}/current",
                    "run_url_template": f"{url}/pipelines/{{pipeline_id}}/builds/{{run_id}}",
                    "auth": {"method": "yunxiao_token", "token": self._flow.credentials.personal_token},
                    **_common(url),
                },
            ],
        }


def _common(url: str) -> dict[str, Any]:
    """Return the keys that both projects have. Each gets values of its own, since YAML shows shared ones as aliases."""
    return {
        "endpoint": url,
        # The simulated clouds do not throttle, and values should come soon.
        "rate_limit": {"requests_per_second": 200, "burst": 100},
        "discover": {"interval": "1m"},
    }


_WELCOME = """
  The exporter polls a simulated CodeArts project and a simulated Flow organization, each with {pipelines} pipelines.

  Page      http://{address}/
  Metrics   http://{address}{path}

  Metrics to look at
    ci_pipeline_latest_run_status                 1 for the status of each latest run
    ci_pipeline_latest_finished_run_status        a failed pipeline stays failed while its next run is in progress
    ci_pipeline_latest_run_stage_duration_seconds duration of each stage
    ci_pipeline_runs_total                        runs counted since the start, growing

  List the failed pipelines
    curl -s http://{address}{path} | grep 'finished_run_status.*status="failed"}} 1'

  Stop with Ctrl-C.
"""


async def run_demo(listener: socket.socket, telemetry_path: str, *, seed: int, pipelines: int) -> int:
    """Run simulated clouds on a free port and the exporter on them, until SIGTERM or SIGINT."""
    clouds = Clouds(seed=seed, pipelines=pipelines)
    cloud_listener = listen("127.0.0.1:0")
    config = Config.model_validate(clouds.configuration(f"http://{address_of(cloud_listener)}"))
    serving = asyncio.create_task(serve(clouds.app, cloud_listener))
    text = _WELCOME.format(address=address_of(listener), path=telemetry_path, pipelines=pipelines)
    print(text, flush=True)  # noqa: T201  # the command's output
    try:
        return await run(config, listener, telemetry_path)
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def simulate(listener: socket.socket, *, seed: int, pipelines: int) -> int:
    """Print a configuration for simulated clouds, and run them until SIGTERM or SIGINT."""
    clouds = Clouds(seed=seed, pipelines=pipelines)
    address = address_of(listener)
    config = clouds.configuration(f"http://{address}")
    print(f"# Simulated clouds listen on http://{address}; this configuration polls them.")  # noqa: T201
    print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), flush=True)  # noqa: T201
    serving = asyncio.create_task(serve(clouds.app, listener))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    return 0
