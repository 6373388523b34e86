"""A minimal CodeArts cloud for benchmarks: its responses, and a server for them in another process."""

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import httpx
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.simulator import serve

STAGES = ("checkout", "build", "test", "package", "deploy")
NOW = 1_700_000_000.0
"""Time of the first runs, in Unix seconds."""


class Cloud:
    """A cloud whose pipelines have one run each, finished and with five stages."""

    def __init__(self, pipelines: int) -> None:
        self._random = Random(1)
        self.ids = [self._id() for _ in range(pipelines)]
        self._numbers = [self._random.randint(1, 5000) for _ in self.ids]
        self.bodies: dict[bytes, bytes] = {}
        """Responses to batch requests, by the body of the request."""
        self._records: dict[str, dict[str, Any]] = {}
        for index in range(pipelines):
            self._run(index, NOW)

    def _id(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _run(self, index: int, now: float) -> None:
        """Give a pipeline a new finished run."""
        identity = self.ids[index]
        self._numbers[index] += 1
        status = "FAILED" if self._random.random() < 0.2 else "COMPLETED"
        end = int(now) - self._random.randint(1, 50)
        start = end - self._random.randint(60, 3000)
        self._records[identity] = {
            "pipeline_id": identity,
            "pipeline_run_id": self._id(),
            "executor_id": "c5d3f0e9b9f24d37a6a4b3a2a6b5c2d1",
            "executor_name": "somebody",
            "stage_status_list": [
                {
                    "name": name,
                    "sequence": sequence,
                    "status": status if name == STAGES[-1] else "COMPLETED",
                    "start_time": _local(start + 10 * sequence),
                    "end_time": _local(start + 10 * sequence + 9),
                }
                for sequence, name in enumerate(STAGES)
            ],
            "status": status,
            "run_number": self._numbers[index],
            "trigger_type": "Manual",
            "build_params": {
                "action": "push",
                "build_type": "branch",
                "commit_id": self._id(),
                "event_type": "Manual",
                "merge_id": None,
                "message": "Somebody changed something",
                "source_branch": None,
                "tag": None,
                "target_branch": "main",
                "codehub_id": "2111",
                "source_codehub_id": None,
                "source_codehub_url": None,
                "source_codehub_http_url": None,
            },
            "artifact_params": None,
            "start_time": start * 1000,
            "end_time": end * 1000,
            "modify_url": f"https://devcloud.example.com/cicd/project/p/pipeline/edit/{identity}",
            "detail_url": f"https://devcloud.example.com/cicd/project/p/pipeline/detail/{identity}/r",
        }

    def change(self, share: float, now: float) -> None:
        """Give a random fraction `share` of the pipelines a new finished run."""
        for index in self._random.sample(range(len(self.ids)), round(share * len(self.ids))):
            self._run(index, now)
        self.bodies.clear()

    def respond(self, path: str, request: bytes) -> bytes:
        """Return the response to a request for the runs of a pipeline, the list of pipelines, or a batch."""
        if path.endswith("/pipeline-runs/list"):
            runs = [self._records[path.split("/")[-3]]]
            return orjson.dumps({"offset": 0, "limit": 100, "total": 1, "pipeline_runs": runs})
        if path.endswith("/list"):
            page = orjson.loads(request)
            ids = self.ids[page["offset"] : page["offset"] + page["limit"]]
            rows = [{"pipeline_id": identity, "name": identity} for identity in ids]
            return orjson.dumps({"total": len(self.ids), "pipelines": rows})
        return self.batch(request)

    def batch(self, request: bytes) -> bytes:
        """Return the response to a batch request."""
        if request not in self.bodies:
            self.bodies[request] = orjson.dumps(
                [self._records[identity] for identity in orjson.loads(request)]
            )
        return self.bodies[request]


def _local(moment: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment + 8 * 3600))


def chunks(cloud: Cloud) -> list[Sequence[str]]:
    """Return the pipeline ids of each batch request, with the default chunk size."""
    return [cloud.ids[first : first + 50] for first in range(0, len(cloud.ids), 50)]


def responses_of(cloud: Cloud) -> list[bytes]:
    """Return the responses to all batch requests of one refresh."""
    return [cloud.batch(orjson.dumps(ids)) for ids in chunks(cloud)]


@contextmanager
def serving(pipelines: int) -> Iterator[str]:
    """Serve a cloud with that many pipelines from another process while the context lasts; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.get_context("spawn").Process(
            target=serve_cloud, args=(pipelines, listener), daemon=True
        )
        process.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            process.join()


def serve_cloud(pipelines: int, listener: socket.socket) -> None:
    """Serve a cloud on `listener` until the process is terminated."""
    cloud = Cloud(pipelines)

    async def respond(request: Request) -> Response:
        body = cloud.respond(request.url.path, await request.body())
        return Response(body, media_type="application/json")

    async def change(request: Request) -> Response:
        changes = await request.json()
        if changes["share"]:
            cloud.change(changes["share"], changes["now"])
        responses_of(cloud)
        return Response()

    routes = [
        Route("/v5/{project}/api/pipelines/{operation:path}", respond, methods=["POST"]),
        Route("/change", change, methods=["POST"]),
    ]
    asyncio.run(serve(Starlette(routes=routes), listener))


async def change_server(url: str, share: float, now: float) -> None:
    """Make the server change its pipelines as `Cloud.change` does in this process."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        (await client.post(f"{url}/change", json={"share": share, "now": now})).raise_for_status()
