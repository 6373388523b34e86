"""The page in force: made once for all who ask, kept for those who go on asking, and swapped whole."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing

import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Message

from exporter.app.bootstrap import Exporter, assemble
from exporter.core.clock import Clock, SystemClock
from exporter.core.model import Run, Status
from exporter.exposition import Body, Exposition, Format, Variant, own_series
from exporter.exposition.publisher import FORGET, REST, ClosedError, Publisher
from exporter.metrics.catalogue import Catalogue, Family, MetricType, Sample, catalogue
from exporter.settings.settings import Metrics
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.project import ProjectView, View
from exporter.web.routes import application
from tests.drivers.support import PIPELINE_ID, FakeClock, config, project
from tests.drivers.views import counting

TEXT, OPENMETRICS = (Variant(form, gzip=False) for form in Format)
ZIPPED = Variant(Format.OPENMETRICS, gzip=True)


def exporter(clock: Clock | None = None, **sections: object) -> Exporter:
    """An exporter of one pipeline, at rest."""
    named = project(pipelines=[{"id": PIPELINE_ID, "name": "checkout"}])
    return assemble(config(named, **sections), clock or SystemClock())


def answer(exporter: Exporter, number: int) -> None:
    """The latest run is one of this number."""
    run = Run(id=str(number), number=number, status=Status.RUNNING)
    exporter.trackers[0].answered([PIPELINE_ID], {PIPELINE_ID: run}, asked=float(number), now=float(number))


def publisher_of(one: Exporter, clock: Clock, *families: Family[View]) -> Publisher:
    """A publisher of what an exporter knows, in these families."""
    telemetry = Telemetry()
    exposition = Exposition(
        Catalogue(pipelines=families, projects=()),
        lambda form: own_series(telemetry.registry, form),
        created_series=False,
    )
    return Publisher(one.trackers, exposition, telemetry, clock)


def family(name: str, work: Callable[[], None]) -> Family[View]:
    """A family that does some work for each pipeline."""

    def samples(_: View) -> tuple[Sample, ...]:
        work()
        return (Sample((), 1.0),)

    return Family[View](name=name, type=MetricType.GAUGE, help="A.", samples=samples)


def numbers(body: Body) -> list[str]:
    """The numbers of latest runs on a page."""
    lines = b"".join(body.chunks).decode().splitlines()
    return [line.rpartition(" ")[2] for line in lines if line.startswith("ci_pipeline_latest_run_number{")]


@pytest.fixture
def rendered(monkeypatch):
    """The variants of page that are put together, in their order."""
    made: list[Variant] = []

    def watch(exporter: Exporter) -> list[Variant]:
        exposition = exporter.publisher.exposition
        body = exposition.body

        def noted(variant: Variant) -> Body:
            made.append(variant)
            return body(variant)

        monkeypatch.setattr(exposition, "body", noted)
        return made

    return watch


def test_who_asks_first_waits_and_all_others_with_it(rendered):
    """A variant is made once, however many ask for it at once; and later it is there."""
    one = exporter()
    made = rendered(one)

    async def ask() -> None:
        publisher = one.publisher
        answer(one, 1)
        await publisher.publish()
        assert made == []
        bodies = await asyncio.gather(*[publisher.body(TEXT) for _ in range(20)], publisher.body(ZIPPED))
        assert sorted(made) == [ZIPPED, TEXT]
        assert all(body is bodies[0] for body in bodies[:20])
        assert numbers(bodies[0]) == ["1.0"]
        assert await publisher.body(TEXT) is bodies[0]
        assert len(made) == 2

    asyncio.run(ask())


def test_a_page_shows_what_was_published_last():
    """Not what the boards know since; a page that somebody holds stays as it is."""
    one = exporter()

    async def ask() -> None:
        publisher = one.publisher
        assert numbers(await publisher.body(TEXT)) == []
        answer(one, 1)
        assert numbers(await publisher.body(TEXT)) == []
        await publisher.publish()
        held = await publisher.body(TEXT)
        answer(one, 2)
        assert numbers(await publisher.body(OPENMETRICS)) == ["1.0"]
        await publisher.publish()
        assert numbers(await publisher.body(TEXT)) == ["2.0"]
        assert numbers(await publisher.body(OPENMETRICS)) == ["2.0"]
        assert numbers(held) == ["1.0"]

    asyncio.run(ask())


def test_what_nobody_asks_for_is_no_longer_made(rendered):
    """After ten minutes; who asks again waits again."""
    clock = FakeClock()
    one = exporter(clock)
    made = rendered(one)

    async def ask() -> None:
        publisher = one.publisher
        await publisher.body(TEXT)
        await publisher.body(ZIPPED)
        clock.now += FORGET
        await publisher.body(TEXT)
        made.clear()
        await publisher.publish()
        assert set(made) == {TEXT, ZIPPED}
        clock.now += 1
        made.clear()
        await publisher.publish()
        await publisher.publish()
        assert made == [TEXT, TEXT]
        await publisher.body(ZIPPED)
        assert made == [TEXT, TEXT, ZIPPED]

    asyncio.run(ask())


async def changed(one: Exporter, number: int) -> list[str]:
    """The numbers on the page in force after a change and its publication."""
    answer(one, number)
    await one.publisher.publish()
    return numbers(await one.publisher.body(TEXT))


@pytest.fixture
def updates(monkeypatch):
    """How often a page is rendered; the first so many times it fails."""
    times: list[int] = []

    def watch(exporter: Exporter, failing: int = 0) -> list[int]:
        exposition = exporter.publisher.exposition
        update = exposition.update

        def noted(pipelines: Sequence[View], projects: Sequence[ProjectView]) -> None:
            times.append(len(pipelines))
            if len(times) <= failing:
                raise LookupError("no such thing")
            update(pipelines, projects)

        monkeypatch.setattr(exposition, "update", noted)
        return times

    return watch


def test_publications_that_are_asked_for_meanwhile_are_one(updates):
    """Each returns when its change is on the page; those that wait for the one under way share the next."""
    one = exporter()
    times = updates(one)

    async def ask() -> None:
        await one.publisher.body(TEXT)
        assert await asyncio.gather(*[changed(one, number) for number in (1, 2, 3)]) == [
            ["1.0"],
            ["3.0"],
            ["3.0"],
        ]

    asyncio.run(ask())
    assert len(times) == one.publisher.published == 2


def test_a_publication_that_fails_leaves_its_changes_to_the_next(updates):
    """To those, too, that waited for their turn together with it; only pages that there were are counted."""
    one = exporter()
    times = updates(one, failing=1)

    async def ask() -> None:
        asking = one.publisher.body(TEXT)  # which has the turn
        publishing = [changed(one, number) for number in (1, 2, 3)]
        _, failed, *rest = await asyncio.gather(asking, *publishing, return_exceptions=True)
        assert isinstance(failed, LookupError)
        assert rest == [["3.0"], ["3.0"]]

    asyncio.run(ask())
    assert len(times) == 2
    assert one.publisher.published == 1


def test_what_nobody_asks_for_is_no_longer_rendered():
    """Not even what a page would be made of."""
    clock = FakeClock()
    one = exporter(clock)
    shown, asked = counting()
    publisher = publisher_of(one, clock, shown)

    async def ask() -> None:
        await publisher.body(TEXT)
        for number, since in ((1, 0.0), (2, FORGET), (3, 1.0)):
            clock.now += since
            answer(one, number)
            await publisher.publish()

    asyncio.run(ask())
    assert len(asked) == 2


def test_rendering_rests_while_a_page_is_sent():
    """Four times as long as it has worked, and no longer: a client that does not read holds up no publication."""
    clock = FakeClock()
    one = exporter(clock)

    def work() -> None:
        clock.now += 1 / 64

    publisher = publisher_of(one, clock, family("a", work), family("b", work))

    async def ask() -> None:
        await publisher.body(TEXT)
        answer(one, 1)
        async with publisher.sending(TEXT), asyncio.timeout(10):
            epoch_start = time.monotonic()
            await publisher.publish()
            assert time.monotonic() - epoch_start >= REST / 64

    asyncio.run(ask())


def test_rendering_goes_on_when_the_page_has_been_sent():
    """However long it would have rested."""
    clock = FakeClock()
    one = exporter(clock)

    async def ask() -> None:
        loop, working = asyncio.get_running_loop(), asyncio.Event()

        def work() -> None:
            clock.now += 1000
            loop.call_soon_threadsafe(working.set)

        with closing(publisher_of(one, clock, family("a", work), family("b", work))) as publisher:
            await publisher.body(TEXT)
            answer(one, 1)
            async with asyncio.timeout(10):
                async with publisher.sending(TEXT):
                    publishing = asyncio.create_task(publisher.publish())
                    await working.wait()
                await publishing

    asyncio.run(ask())


def test_the_time_between_publications_is_no_work():
    """The next one does not begin with a rest of four times as long."""
    clock = FakeClock()
    one = exporter(clock)

    async def ask() -> None:
        publisher = one.publisher
        for number in (1, 2):
            await publisher.body(TEXT)
            answer(one, number)
            clock.now += 1000
            async with publisher.sending(TEXT), asyncio.timeout(10):
                await publisher.publish()

    asyncio.run(ask())


def test_closing_breaks_off_what_is_rendered():
    """Before the next block; and the thread ends."""
    one = exporter()
    second, asked = counting()
    closed = threading.Event()
    threads: list[threading.Thread] = []

    async def ask() -> None:
        loop, working = asyncio.get_running_loop(), asyncio.Event()

        def work() -> None:
            threads.append(threading.current_thread())
            loop.call_soon_threadsafe(working.set)
            closed.wait(10)

        publisher = publisher_of(one, SystemClock(), family("first", work), second)
        await publisher.body(TEXT)
        answer(one, 1)
        publishing = asyncio.create_task(publisher.publish())
        async with asyncio.timeout(10):
            await working.wait()
        publisher.close()
        closed.set()
        with pytest.raises(ClosedError):
            await publishing
        assert publisher.published == 0

    asyncio.run(ask())
    assert asked == []
    [thread] = threads
    thread.join(10)
    assert not thread.is_alive()


def test_a_fault_is_told_once_and_counted(caplog):
    """The page goes on without the family; the log asks for a report, and does so once."""

    def samples(_: View) -> tuple[Sample, ...]:
        raise LookupError("no such thing")

    failing = Family[View](name="ci_broken", type=MetricType.GAUGE, help="B.", samples=samples)
    whole = exporter()
    publisher = publisher_of(whole, FakeClock(), failing, *catalogue(Metrics()).pipelines)

    async def ask() -> Body:
        for number in (1, 2):
            answer(whole, number)
            await publisher.publish()
            await publisher.body(TEXT)
        await publisher.publish()
        return await publisher.body(TEXT)

    with caplog.at_level(logging.ERROR):
        page = asyncio.run(ask())
    assert [record.getMessage() for record in caplog.records] == [
        "a page lacks some of ci_broken: LookupError: no such thing; please report this"
    ]
    assert b'pipeline_exporter_render_failures_total{family="ci_broken"} 2.0\n' in b"".join(page.chunks)
    assert numbers(page) == ["2.0"]


def test_what_the_limit_withholds_is_on_the_page():
    """0 while all is shown."""

    def withheld(limit: int) -> list[str]:
        one = exporter(limits={"max_series": limit})

        async def page() -> str:
            answer(one, 1)
            await one.publisher.publish()
            return b"".join((await one.publisher.body(TEXT)).chunks).decode()

        lines = asyncio.run(page()).splitlines()
        return [line for line in lines if line.startswith(("pipeline_exporter_series_withheld{", "ci_"))]

    own, *shown = withheld(0)
    assert own == 'pipeline_exporter_series_withheld{project="payments"} 0.0'
    assert withheld(1) == [f'pipeline_exporter_series_withheld{{project="payments"}} {len(shown)}.0']


Headers = Sequence[tuple[str, str]]


def pages_of(page: Callable[[Variant], AbstractAsyncContextManager[Body]]) -> Starlette:
    """A web application of these pages."""
    return application(
        page=page, problem=lambda: "", ready=lambda: True, effective_config="", telemetry_path="/metrics"
    )


async def sent(body: Body, method: str = "GET", headers: Headers = ()) -> list[Message]:
    """What is sent to a client that asks for a page; `body` is in force until it has its beginning."""
    pages = [body]
    messages: list[Message] = []

    @asynccontextmanager
    async def page(_: Variant) -> AsyncIterator[Body]:
        yield pages[-1]

    async def send(message: Message) -> None:
        messages.append(message)
        pages.append(Body.of([b"another"]))

    async def receive() -> Message:
        raise NotImplementedError

    given = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "method": method, "path": "/metrics", "headers": given, "query_string": b""}
    await pages_of(page)(scope, receive, send)
    return messages


def test_a_scrape_gets_one_page_though_another_is_published_meanwhile():
    """Chunk after chunk, as fast as it reads, of the page that it began with; of the length that was told."""
    start, *rest = asyncio.run(sent(Body.of([b"a" * 10, b"b" * 5])))
    assert (b"content-length", b"15") in start["headers"]
    assert [message["body"] for message in rest] == [b"a" * 10, b"b" * 5, b""]
    assert [message["more_body"] for message in rest] == [True, True, False]


OPENMETRICS_RANGE = ("accept", "application/openmetrics-text")


@pytest.mark.parametrize(
    ("headers", "variant"),
    [
        ([("accept", "application/json"), ("accept-encoding", "identity;q=0")], TEXT),
        ([OPENMETRICS_RANGE, ("accept-encoding", "gzip")], ZIPPED),
        (
            [
                ("accept", "text/html"),
                OPENMETRICS_RANGE,
                ("accept-encoding", "br"),
                ("accept-encoding", "gzip"),
            ],
            ZIPPED,
        ),
    ],
    ids=["nothing that there is", "what there is", "over several lines"],
)
def test_head_tells_what_get_would_send(headers, variant):
    """The same headers, the length with them, and no body; whatever is asked for, it is never refused."""
    body = Body.of([b"a" * 10, b"b" * 5])
    got, *_ = asyncio.run(sent(body, headers=headers))
    head, *rest = asyncio.run(sent(body, "HEAD", headers))
    assert head == got
    assert head["status"] == 200
    told = dict(head["headers"])
    assert told[b"content-length"] == b"15"
    assert told[b"content-type"] == variant.form.value.encode()
    assert (told.get(b"content-encoding") == b"gzip") is variant.gzip
    assert told[b"vary"] == b"Accept, Accept-Encoding"
    assert [message["body"] for message in rest] == [b""]


def test_a_scrape_that_fails_is_told(caplog):
    """As a fault of this program, once, with the trace; the client gets an answer all the same."""

    def page(_: Variant) -> AbstractAsyncContextManager[Body]:
        raise LookupError("no such page")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(pages_of(page), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get("http://exporter/metrics")

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(ask()).status_code == 500
    assert [record.getMessage() for record in caplog.records] == [
        "scrape ended by an internal error, please report this"
    ]
    assert "LookupError: no such page" in caplog.text
