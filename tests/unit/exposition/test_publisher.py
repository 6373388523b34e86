"""Test that pages are rendered once for all clients, kept while they are requested, and replaced as a whole."""

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

from exporter.app.bootstrap import assemble
from exporter.app.exporter import Exporter
from exporter.core.clock import Clock, SystemClock
from exporter.core.model import Run, Status
from exporter.exposition import PROMETHEUS, Body, Format, Variant
from exporter.exposition.publisher import FORGET, REST, ClosedError, Publisher
from exporter.metrics.catalogue import Catalogue, catalogue
from exporter.metrics.family import Family, MetricType, Sample
from exporter.settings.settings import Metrics
from exporter.status_page.page import StatusPage
from exporter.telemetry.recorder import Telemetry
from exporter.tracking.views import ProjectView, View
from exporter.web.routes import application
from exporter.web.status_routes import StatusSource
from tests.drivers.support import PIPELINE_ID, FakeClock, config, project
from tests.drivers.views import counting

TEXT, OPENMETRICS = (Variant(form, gzip=False) for form in Format)
ZIPPED = Variant(Format.OPENMETRICS, gzip=True)


def exporter(clock: Clock | None = None, **sections: object) -> Exporter:
    """Return an exporter of one pipeline that does not poll."""
    named = project(pipelines=[{"id": PIPELINE_ID, "name": "checkout"}])
    return assemble(config(named, **sections), clock or SystemClock())


def answer(exporter: Exporter, number: int) -> None:
    """Give the tracker a response whose latest run has this number."""
    run = Run(id=str(number), number=number, status=Status.RUNNING)
    exporter.trackers[0].answered([PIPELINE_ID], {PIPELINE_ID: run}, sent_at=float(number), now=float(number))


def publisher_of(one: Exporter, clock: Clock, *families: Family[View]) -> Publisher:
    """Return a publisher of an exporter's trackers with only these families."""
    families_of_pipelines = Catalogue(pipelines=families, projects=())
    return Publisher(one.trackers, families_of_pipelines, Telemetry(), clock, created_series=False)


def family(name: str, work: Callable[[], None]) -> Family[View]:
    """Return a family that does some work for each pipeline."""

    def samples(_: View) -> tuple[Sample, ...]:
        work()
        return (Sample((), 1.0),)

    return Family[View](name=name, type=MetricType.GAUGE, help="A.", samples=samples)


def numbers(body: Body) -> list[str]:
    """Return the numbers of latest runs on a page."""
    lines = b"".join(body.chunks).decode().splitlines()
    return [line.rpartition(" ")[2] for line in lines if line.startswith("ci_pipeline_latest_run_number{")]


@pytest.fixture
def rendered(monkeypatch):
    """Record the variants that are rendered, in order."""
    made: list[Variant] = []

    def watch(exporter: Exporter) -> list[Variant]:
        exposition = exporter.publisher.exposition
        body = exposition.body

        def recorded(variant: Variant) -> Body:
            made.append(variant)
            return body(variant)

        monkeypatch.setattr(exposition, "body", recorded)
        return made

    return watch


def test_variant_is_rendered_once_for_all_clients_that_wait(rendered):
    one = exporter()
    made = rendered(one)

    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_page_shows_the_last_publication_and_never_changes():
    one = exporter()

    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_variant_of_prometheus_is_ready_before_its_first_request_and_never_dropped(rendered):
    clock = FakeClock()
    one = assemble(config(project()), clock, variants=(PROMETHEUS,))
    made = rendered(one)

    async def scenario() -> None:
        for _ in range(2):
            await one.publisher.publish()
            assert made == [PROMETHEUS]
            await one.publisher.body(PROMETHEUS)
            assert made == [PROMETHEUS]
            clock.now += 10 * FORGET
            made.clear()

    asyncio.run(scenario())


def test_variant_without_requests_for_ten_minutes_is_dropped(rendered):
    clock = FakeClock()
    one = exporter(clock)
    made = rendered(one)

    async def scenario() -> None:
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

    asyncio.run(scenario())


async def changed(one: Exporter, number: int) -> list[str]:
    """Return the numbers on the page after a change and its publication."""
    answer(one, number)
    await one.publisher.publish()
    return numbers(await one.publisher.body(TEXT))


@pytest.fixture
def updates(monkeypatch):
    """Record the updates of the exposition; the first ones can be made to fail."""
    times: list[int] = []

    def watch(exporter: Exporter, failing: int = 0) -> list[int]:
        exposition = exporter.publisher.exposition
        update = exposition.update

        def recorded(pipelines: Sequence[View], projects: Sequence[ProjectView]) -> None:
            times.append(len(pipelines))
            if len(times) <= failing:
                raise LookupError("no such thing")
            update(pipelines, projects)

        monkeypatch.setattr(exposition, "update", recorded)
        return times

    return watch


def test_publications_requested_at_the_same_time_share_one_rendering(updates):
    """The second one includes all changes since the first one started."""
    one = exporter()
    times = updates(one)

    async def scenario() -> None:
        await one.publisher.body(TEXT)
        assert await asyncio.gather(*[changed(one, number) for number in (1, 2, 3)]) == [
            ["1.0"],
            ["3.0"],
            ["3.0"],
        ]

    asyncio.run(scenario())
    assert len(times) == one.publisher.published == 2


def test_failed_publication_leaves_its_changes_to_the_next(updates):
    """Failed publications are not counted."""
    one = exporter()
    times = updates(one, failing=1)

    async def scenario() -> None:
        request = one.publisher.body(TEXT)  # takes the lock first
        publishing = [changed(one, number) for number in (1, 2, 3)]
        _, failed, *rest = await asyncio.gather(request, *publishing, return_exceptions=True)
        assert isinstance(failed, LookupError)
        assert rest == [["3.0"], ["3.0"]]

    asyncio.run(scenario())
    assert len(times) == 2
    assert one.publisher.published == 1


def test_families_without_requests_for_ten_minutes_are_not_rendered():
    clock = FakeClock()
    one = exporter(clock)
    family, rendered = counting()
    publisher = publisher_of(one, clock, family)

    async def scenario() -> None:
        await publisher.body(TEXT)
        for number, since in ((1, 0.0), (2, FORGET), (3, 1.0)):
            clock.now += since
            answer(one, number)
            await publisher.publish()

    asyncio.run(scenario())
    assert len(rendered) == 2


def test_rendering_rests_four_times_its_work_while_a_page_is_sent():
    """A client that does not read its page must not stop publications."""
    clock = FakeClock()
    one = exporter(clock)

    def work() -> None:
        clock.now += 1 / 64

    publisher = publisher_of(one, clock, family("a", work), family("b", work))

    async def scenario() -> None:
        await publisher.body(TEXT)
        answer(one, 1)
        async with publisher.sending(TEXT), asyncio.timeout(10):
            started = time.monotonic()
            await publisher.publish()
            assert time.monotonic() - started >= REST / 64

    asyncio.run(scenario())


def test_rendering_continues_at_once_when_the_page_is_sent():
    clock = FakeClock()
    one = exporter(clock)

    async def scenario() -> None:
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

    asyncio.run(scenario())


def test_time_between_publications_does_not_count_as_work():
    clock = FakeClock()
    one = exporter(clock)

    async def scenario() -> None:
        publisher = one.publisher
        for number in (1, 2):
            await publisher.body(TEXT)
            answer(one, number)
            clock.now += 1000
            async with publisher.sending(TEXT), asyncio.timeout(10):
                await publisher.publish()

    asyncio.run(scenario())


def test_close_aborts_rendering_and_ends_the_thread():
    one = exporter()
    second, rendered = counting()
    closed = threading.Event()
    threads: list[threading.Thread] = []

    async def scenario() -> None:
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

    asyncio.run(scenario())
    assert rendered == []
    [thread] = threads
    thread.join(10)
    assert not thread.is_alive()


def test_render_failure_is_logged_once_and_counted_and_page_has_the_rest(caplog):
    def samples(_: View) -> tuple[Sample, ...]:
        raise LookupError("no such thing")

    failing = Family[View](name="ci_broken", type=MetricType.GAUGE, help="B.", samples=samples)
    whole = exporter()
    publisher = publisher_of(whole, FakeClock(), failing, *catalogue(Metrics()).pipelines)

    async def scenario() -> Body:
        for number in (1, 2):
            answer(whole, number)
            await publisher.publish()
            await publisher.body(TEXT)
        await publisher.publish()
        return await publisher.body(TEXT)

    with caplog.at_level(logging.ERROR):
        page = asyncio.run(scenario())
    [record] = caplog.records
    assert record.getMessage() == "metric family left out after an internal error, please report this"
    fields = vars(record)
    assert fields["id"] == "family-not-rendered"
    assert fields["family"] == "ci_broken"
    assert fields["error"] == "LookupError: no such thing"
    assert b'pipeline_exporter_render_failures_total{family="ci_broken"} 2.0\n' in b"".join(page.chunks)
    assert numbers(page) == ["2.0"]


def test_page_shows_the_number_of_withheld_series():
    def withheld(limit: int) -> list[str]:
        one = exporter(limits={"max_series": limit})

        async def page() -> str:
            answer(one, 1)
            await one.publisher.publish()
            return b"".join((await one.publisher.body(TEXT)).chunks).decode()

        lines = asyncio.run(page()).splitlines()
        return [line for line in lines if line.startswith(("pipeline_exporter_series_withheld{", "ci_"))]

    own, *shown = withheld(0)
    assert own == 'pipeline_exporter_series_withheld{project="payments",provider="codearts"} 0.0'
    assert withheld(1) == [
        f'pipeline_exporter_series_withheld{{project="payments",provider="codearts"}} {len(shown)}.0'
    ]


Headers = Sequence[tuple[str, str]]


def pages_of(page: Callable[[Variant], AbstractAsyncContextManager[Body]]) -> Starlette:
    """Return a web application that serves these pages."""
    return application(
        page=page,
        problem=lambda: "",
        ready=lambda: True,
        effective_config=lambda: "",
        status=StatusSource(
            page=StatusPage("/metrics"),
            catalogue=lambda: catalogue(Metrics()),
            views=list,
            facts=list,
            clock=FakeClock(),
        ),
        telemetry_path="/metrics",
    )


async def sent(body: Body, method: str = "GET", headers: Headers = ()) -> list[Message]:
    """Return the messages for a client that requests a page; another page is published as soon as it starts."""
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


def test_scrape_gets_one_page_while_another_is_published():
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
    ids=["unsupported types", "supported types", "repeated headers"],
)
def test_head_returns_the_headers_of_get(headers, variant):
    body = Body.of([b"a" * 10, b"b" * 5])
    got, *_ = asyncio.run(sent(body, headers=headers))
    head, *rest = asyncio.run(sent(body, "HEAD", headers))
    assert head == got
    assert head["status"] == 200
    headers_sent = dict(head["headers"])
    assert headers_sent[b"content-length"] == b"15"
    assert headers_sent[b"content-type"] == variant.form.value.encode()
    assert (headers_sent.get(b"content-encoding") == b"gzip") is variant.gzip
    assert headers_sent[b"vary"] == b"Accept, Accept-Encoding"
    assert [message["body"] for message in rest] == [b""]


def test_failed_scrape_is_logged_with_its_traceback_and_gets_status_500(caplog):
    def page(_: Variant) -> AbstractAsyncContextManager[Body]:
        raise LookupError("no such page")

    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(pages_of(page), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get("http://exporter/metrics")

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(scenario()).status_code == 500
    assert [record.getMessage() for record in caplog.records] == [
        "scrape failed by an internal error, please report this"
    ]
    assert "LookupError: no such page" in caplog.text
