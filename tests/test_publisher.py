"""The page in force: made once for all who ask, kept for those who go on asking, and swapped whole."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Message

from exporter import publisher as publisher_module
from exporter.assembly import Exporter, assemble
from exporter.board import View
from exporter.clock import Clock, SystemClock
from exporter.config.schema import Metrics
from exporter.exposition import Body, Exposition, Format, Kind, own_series
from exporter.metrics import Catalogue, Family, Sample, Type, catalogue
from exporter.model import Run, Status
from exporter.publisher import FORGET, Publisher
from exporter.telemetry import Telemetry
from exporter.web import application
from tests.support import PIPELINE_ID, FakeClock, config, project

TEXT, OPENMETRICS = (Kind(form, gzip=False) for form in Format)
ZIPPED = Kind(Format.OPENMETRICS, gzip=True)


def exporter(clock: Clock | None = None, **sections: object) -> Exporter:
    """An exporter of one pipeline, at rest."""
    named = project(pipelines=[{"id": PIPELINE_ID, "name": "checkout"}])
    return assemble(config(named, **sections), clock or SystemClock())


def answer(exporter: Exporter, number: int) -> None:
    """The latest run is one of this number."""
    run = Run(id=str(number), number=number, status=Status.RUNNING)
    exporter.boards[0].answered([PIPELINE_ID], {PIPELINE_ID: run}, asked=float(number), now=float(number))


def numbers(body: Body) -> list[str]:
    """The numbers of latest runs on a page."""
    lines = b"".join(body.chunks).decode().splitlines()
    return [line.rpartition(" ")[2] for line in lines if line.startswith("ci_pipeline_latest_run_number{")]


@pytest.fixture
def rendered(monkeypatch):
    """The kinds of page that are put together, in their order."""
    made: list[Kind] = []

    def watch(exporter: Exporter) -> list[Kind]:
        exposition = exporter.publisher.exposition
        body = exposition.body

        def noted(kind: Kind) -> Body:
            made.append(kind)
            return body(kind)

        monkeypatch.setattr(exposition, "body", noted)
        return made

    return watch


def test_who_asks_first_waits_and_all_others_with_it(rendered):
    """A kind is made once, however many ask for it at once; and later it is there."""
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


def test_rendering_gives_way_to_a_page_that_is_sent(monkeypatch):
    """For as long as that takes, and not for ever: a client that does not read holds up no publication."""
    one = exporter()

    async def ask() -> None:
        publisher = one.publisher
        await publisher.body(TEXT)
        answer(one, 1)
        async with publisher.sending(TEXT) as body:
            publishing = asyncio.create_task(publisher.publish())
            await asyncio.sleep(0.05)
            assert not publishing.done()
        await publishing
        assert numbers(body) == []
        assert numbers(await publisher.body(TEXT)) == ["1.0"]
        monkeypatch.setattr(publisher_module, "PATIENCE", 0.01)
        answer(one, 2)
        async with publisher.sending(TEXT), asyncio.timeout(10):
            await publisher.publish()
        assert numbers(await publisher.body(TEXT)) == ["2.0"]

    asyncio.run(ask())


def test_a_fault_is_told_once_and_counted(caplog):
    """The page goes on without the family; the log asks for a report, and does so once."""

    def samples(_: View) -> tuple[Sample, ...]:
        raise LookupError("no such thing")

    failing = Family[View](name="ci_broken", type=Type.GAUGE, help="B.", samples=samples)
    whole, telemetry = exporter(), Telemetry()
    families = Catalogue(pipelines=(failing, *catalogue(Metrics()).pipelines), projects=())
    exposition = Exposition(families, lambda form: own_series(telemetry.registry, form), created_series=False)
    publisher = Publisher(whole.boards, exposition, telemetry, FakeClock())

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


async def sent(body: Body, method: str = "GET", **headers: str) -> list[Message]:
    """What is sent to a client that asks for a page; `body` is in force until it has its beginning."""
    pages = [body]
    messages: list[Message] = []

    @asynccontextmanager
    async def page(_: Kind) -> AsyncIterator[Body]:
        yield pages[-1]

    async def send(message: Message) -> None:
        messages.append(message)
        pages.append(Body.of([b"another"]))

    async def receive() -> Message:
        raise NotImplementedError

    web = application(page=page, ready=lambda: True, effective_config="", telemetry_path="/metrics")
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/metrics", "headers": given, "query_string": b""}
    await web(scope, receive, send)
    return messages


def test_a_scrape_gets_one_page_though_another_is_published_meanwhile():
    """Chunk after chunk, as fast as it reads, of the page that it began with; of the length that was told."""
    start, *rest = asyncio.run(sent(Body.of([b"a" * 10, b"b" * 5])))
    assert (b"content-length", b"15") in start["headers"]
    assert [message["body"] for message in rest] == [b"a" * 10, b"b" * 5, b""]
    assert [message["more_body"] for message in rest] == [True, True, False]


@pytest.mark.parametrize(
    ("accept", "coding", "kind"),
    [
        ("application/json", "identity;q=0", TEXT),
        ("application/openmetrics-text", "gzip", ZIPPED),
    ],
)
def test_head_tells_what_get_would_send(accept, coding, kind):
    """The same headers, the length with them, and no body; whatever is asked for, it is never refused."""
    body = Body.of([b"a" * 10, b"b" * 5])
    got, *_ = asyncio.run(sent(body, accept=accept, accept_encoding=coding))
    head, *rest = asyncio.run(sent(body, "HEAD", accept=accept, accept_encoding=coding))
    assert head == got
    assert head["status"] == 200
    headers = dict(head["headers"])
    assert headers[b"content-length"] == b"15"
    assert headers[b"content-type"] == kind.form.value.encode()
    assert (headers.get(b"content-encoding") == b"gzip") is kind.gzip
    assert [message["body"] for message in rest] == [b""]
