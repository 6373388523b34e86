"""An exporter with `/-/poll` enabled and a simulated cloud, in one event loop in virtual time."""

import asyncio
from contextlib import asynccontextmanager

import httpx

from exporter.app.bootstrap import assemble
from exporter.app.poll_now import PollNow
from exporter.app.scheduler import Scheduler
from exporter.app.status_source import status_source
from exporter.client.transport import ConnectionPools
from exporter.exposition.publisher import Publisher
from exporter.settings.settings import Config
from exporter.web.poll_now import PollToken, poll_route
from exporter.web.routes import application
from tests.drivers.virtual_time import LoopClock, VirtualTimeLoop

TOKEN = "poll-token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class CloudClock(LoopClock):
    """Clock of the event loop whose wall clock starts at `begin` (Unix seconds)."""

    def __init__(self, begin: float) -> None:
        self.begin = begin

    def time(self) -> float:
        return self.begin + self.monotonic() + self.step

    def monotonic(self) -> float:
        """Return the time of the event loop; 0 before it runs."""
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return 0.0


def play(scenario):
    """Run a coroutine function in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario())


class Instance:
    """A running exporter: its parts, a client of its web server, and a log of the pages that it published."""

    def __init__(self, exporter, config, client, clock):
        self.exporter = exporter
        self.config = config
        self.client = client
        self.clock = clock
        self.published: list[tuple[float, dict[str, float]]] = []
        """(monotonic seconds, counted runs by pipeline id) of each page."""

        self.when_published = lambda: None

    def record_page(self):
        """Record a page that is published now."""
        views = [view for tracker in self.exporter.trackers for view in tracker.views()]
        counts = {
            view.pipeline.id: float(sum(view.counters.runs.values()))
            for view in views
            if view.counters is not None
        }
        self.published.append((self.clock.monotonic(), counts))
        self.when_published()

    async def call(self, pipeline_id, project="payments", headers=HEADERS):
        """Request a poll of a pipeline; return the status code."""
        parameters = {"project": project, "pipeline_id": pipeline_id}
        return (await self.client.post("/-/poll", params=parameters, headers=headers)).status_code

    def counted_at(self, pipeline_id, runs):
        """Return when a page first counted `runs` runs of a pipeline, in monotonic seconds; None if no page did."""
        return next((at for at, counts in self.published if counts.get(pipeline_id, 0) >= runs), None)


@asynccontextmanager
async def instance(monkeypatch, directory, app, clock, settings, *, latency=0.0):
    """Run an exporter whose requests go to an ASGI application, each after `latency` seconds."""
    cloud = httpx.ASGITransport(app=app)

    async def exchange(_, request):
        await asyncio.sleep(latency)
        async with httpx.AsyncClient(transport=cloud) as client:
            response = await client.send(request)
        return response.status_code, dict(response.headers), response.content

    monkeypatch.setattr(ConnectionPools, "exchange", exchange)
    file = directory / "poll-token"
    file.write_text(TOKEN)

    async def publish(_):
        running.record_page()

    # Pages are rendered in a thread, which takes real time.
    monkeypatch.setattr(Publisher, "publish", publish)
    config = Config.model_validate(settings)
    exporter = assemble(config, clock)
    web = application(
        page=exporter.publisher.sending,
        problem=str,
        ready=lambda: True,
        effective_config=lambda: "",
        status=status_source(exporter, clock, "/metrics"),
        telemetry_path="/metrics",
        poll_now=poll_route(PollToken(file), PollNow(lambda: exporter.pollers)),
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=web), base_url="http://exporter"
    ) as client:
        running = Instance(exporter, config, client, clock)
        scheduler = Scheduler(exporter, clock)
        scheduler.start()
        try:
            yield running
        finally:
            await scheduler.stop()
            for poller in exporter.pollers:
                await poller.close()
            exporter.publisher.close()
