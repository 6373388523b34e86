"""`demo` and `simulate`: a simulated cloud, and the exporter on it."""

import asyncio
import contextlib
import signal
import socket
from typing import Any

import yaml

from exporter.config.schema import Config
from exporter.daemon import address_of, listen, run
from exporter.simulator import CodeArts, World, serve

_PROJECT = "simulated"


def cloud(*, seed: int, pipelines: int) -> CodeArts:
    """A simulated CodeArts cloud."""
    return CodeArts(World(seed=seed, pipelines=pipelines))


def configuration(simulated: CodeArts, url: str) -> dict[str, Any]:
    """A configuration that polls a simulated cloud at `url`, as a file would have it."""
    world = simulated.world
    return {
        "poll": {"interval": "15s", "active_interval": "5s"},
        "projects": [
            {
                "name": _PROJECT,
                "provider": "codearts",
                "endpoint": url,
                "project_id": world.project_id,
                "auth": {
                    "method": "aksk",
                    "access_key": simulated.credentials.access_key,
                    "secret_key": simulated.credentials.secret_key,
                },
                "discover": {"interval": "1m"},
            }
        ],
    }


_WELCOME = """
  The exporter runs on a simulated CodeArts project with {pipelines} pipelines.

  Page      http://{address}/
  Metrics   http://{address}{path}

  Look for
    ci_pipeline_latest_run_status                 1 for the state that each latest run is in
    ci_pipeline_latest_finished_run_status        a red pipeline stays red while its next run is under way
    ci_pipeline_latest_run_stage_duration_seconds how long each stage took
    ci_pipeline_runs_total                        runs counted since the start: watch them grow

  The red ones
    curl -s http://{address}{path} | grep 'finished_run_status.*status="failed"}} 1'

  Stop with Ctrl-C.
"""


async def run_demo(simulated: CodeArts, listener: socket.socket, telemetry_path: str) -> int:
    """Run a simulated cloud on a free port and the exporter on it, until SIGTERM or SIGINT."""
    port = listen("127.0.0.1:0")
    config = Config.model_validate(configuration(simulated, f"http://{address_of(port)}"))
    serving = asyncio.create_task(serve(simulated.app, port))
    text = _WELCOME.format(
        address=address_of(listener), path=telemetry_path, pipelines=len(simulated.world.pipelines)
    )
    print(text, flush=True)  # noqa: T201  # the command's output
    try:
        return await run(config, listener, telemetry_path)
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def simulate(simulated: CodeArts, listener: socket.socket) -> int:
    """Run a simulated cloud until SIGTERM or SIGINT, after printing a configuration for it."""
    address = address_of(listener)
    config = configuration(simulated, f"http://{address}")
    print(f"# A simulated CodeArts cloud listens on http://{address}; this configuration polls it.")  # noqa: T201
    print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), flush=True)  # noqa: T201
    serving = asyncio.create_task(serve(simulated.app, listener))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    return 0
