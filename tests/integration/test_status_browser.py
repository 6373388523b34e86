"""The status page in a real browser: accessibility, widths, keyboard, updates, and malicious texts."""

from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.applications import Starlette

from exporter.core.model import Pipeline
from exporter.simulator import running
from exporter.web.status_routes import StatusSource, status_routes
from tests.drivers.browser import ENTER, TAB, browser
from tests.drivers.process import eventually
from tests.drivers.support import FakeClock
from tests.drivers.tools import fetched
from tests.unit.status_page.pages import (
    FAILED,
    FAMILIES,
    HOUR,
    NOON,
    RUNNING,
    WAITING,
    facts,
    problem,
    run,
    status_page,
    view,
)
from tests.unit.status_page.test_status_page import NASTY

HEALTHY = [view(f"pipeline-{index:02}") for index in range(60)]
TROUBLED = [
    view("broken", status=FAILED),
    view("held", status=WAITING, before=FAILED),
    view("slow", status=RUNNING, latest=run(RUNNING, start=NOON - 2 * HOUR), up=False),
    view("new", latest=None, finished=None, has_run=False, streak=None, runs=()),
    *HEALTHY,
]
NASTY_VIEWS = [
    view(
        text,
        status=FAILED,
        pipeline=Pipeline("flow", "shop", f"id-{index}", text),
        latest=run(FAILED, branch=text),
    )
    for index, text in enumerate(NASTY)
]
DOWN = facts(
    "payments", up=False, problem=problem(), credentials_accepted=False, credentials_expire=NOON - HOUR
)


class Exporter:
    """The data behind the status page; a test changes it."""

    def __init__(self):
        self.views = HEALTHY
        self.facts = [facts()]
        source = StatusSource(
            page=status_page(),
            catalogue=lambda: FAMILIES,
            views=lambda: self.views,
            facts=lambda: self.facts,
            clock=FakeClock(NOON),
        )
        self.app = Starlette(routes=list(status_routes(source, root=True)))


@pytest.fixture(scope="module")
def session():
    with browser() as session:
        yield session


@pytest.fixture(scope="module")
def server():
    exporter = Exporter()
    with running(exporter.app) as url:
        yield exporter, url


@pytest.fixture
def page(session, server):
    """A browser in its initial state, the exporter, and its address."""
    exporter, url = server
    exporter.views, exporter.facts = HEALTHY, [facts()]
    session.set_scripts(enabled=True)
    session.show(1280, 900)
    session.messages()
    return session, exporter, url


def violations(session):
    """Return what axe-core finds, as rules with the elements."""
    session.run(Path(fetched("axe-core/axe.min.js")).read_text(encoding="utf-8"))
    found = session.run("return axe.run()")
    assert len(found["passes"]) > 15
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]


def headline(session):
    """Return the headline. The element may be replaced at any time, so it is found and read in one step."""
    return session.run("return document.querySelector('h1').textContent")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
@pytest.mark.parametrize(
    "path", ["/", "/?status=red&sort=name", "/pipeline?project=shop&pipeline_id=id-broken"]
)
def test_axe_finds_nothing(page, path, width, dark):
    session, exporter, url = page
    exporter.views, exporter.facts = TROUBLED, [facts(), DOWN]
    session.show(width, 900, dark=dark)
    session.open(url + path)
    assert violations(session) == []
    assert session.messages() == []


def test_axe_finds_nothing_on_healthy_and_empty_pages(page):
    session, exporter, url = page
    session.open(url)
    assert violations(session) == []
    exporter.views, exporter.facts = [], [facts(up=None, last_poll=None, credentials_accepted=None)]
    session.open(url)
    assert violations(session) == []


@pytest.mark.parametrize("width", [390, 768, 1600])
def test_nothing_is_wider_than_the_window(page, width):
    session, exporter, url = page
    exporter.facts = [facts("x" * 256), DOWN]
    exporter.views = NASTY_VIEWS
    session.show(width, 900)
    for path in ("/", *(f"/pipeline?project=shop&pipeline_id=id-{index}" for index in range(len(NASTY)))):
        session.open(url + path)
        assert session.run("return document.documentElement.scrollWidth") <= width, path


def test_hostile_texts_run_nothing_and_load_nothing(page):
    session, exporter, url = page
    exporter.views = NASTY_VIEWS
    exporter.facts = [facts(), facts(up=False, problem=problem(message=NASTY[0], error_code=NASTY[1]))]
    session.open(f"{url}/?q={quote(NASTY[1])}")
    session.open(url)
    assert "<script>alert(1)</script>" in session.text("main")
    assert session.messages() == []
    loaded = session.run("return performance.getEntriesByType('resource').map(one => one.name)")
    assert {name.removeprefix(url) for name in loaded} <= {
        "/assets/status.css",
        "/assets/status.js",
        "/assets/icon.svg",
    }


def test_renewal_keeps_focus_and_scroll_position(page):
    session, exporter, url = page
    session.open(url)
    target = "a[href*='id-pipeline-40']"
    session.run(f'document.querySelector("{target}").focus(); scrollTo(0, 1200)')
    before = session.run("return scrollY")
    assert before > 0
    exporter.views = [*HEALTHY[:59], view("pipeline-59", status=FAILED)]
    session.run("document.dispatchEvent(new Event('visibilitychange'))")
    eventually(lambda: headline(session) == "1 pipeline red", "the page is renewed")
    assert session.run("return document.activeElement.href").endswith("id-pipeline-40")
    assert session.run("return scrollY") == before
    assert session.run("return document.title").startswith("1 pipeline red")


def test_renewal_waits_while_text_is_selected_or_it_is_switched_off(page):
    session, exporter, url = page
    session.open(url)
    exporter.views = [view("pipeline-00", status=FAILED)]
    renew = "document.dispatchEvent(new Event('visibilitychange'))"
    wait = "return new Promise(done => setTimeout(() => done(document.querySelector('h1').textContent), 300))"
    session.run(f"getSelection().selectAllChildren(document.querySelector('h2')); {renew}")
    assert session.run(wait) == "All green"
    session.run(
        f"getSelection().removeAllRanges(); document.querySelector('#refresh input').click(); {renew}"
    )
    assert session.run(wait) == "All green"
    session.run(f"document.querySelector('#refresh input').click(); {renew}")
    eventually(lambda: headline(session) == "1 pipeline red", "the page is renewed")


def test_keyboard_alone_filters_and_opens_a_pipeline(page):
    session, exporter, url = page
    exporter.views = TROUBLED
    session.open(url)
    session.press(session.find("body"), TAB)
    assert session.run("return document.activeElement.className") == "brand"
    session.press(session.find("input[name=q]"), f"held{ENTER}")
    eventually(lambda: "q=held" in session.url(), "the form is sent")
    assert "1 to 1 of 1" in session.text("main")
    link = session.find(".pipelines tbody th a")
    session.press(link, ENTER)
    eventually(lambda: "/pipeline?" in session.url(), "the page of the pipeline opens")
    assert session.text("h1").startswith("held")


def test_page_works_without_scripts(page):
    session, exporter, url = page
    exporter.views = TROUBLED
    session.set_scripts(enabled=False)
    session.open(url)
    assert session.text("#refresh") == ""
    session.press(session.find("input[name=q]"), "broken")
    session.click(session.find("form button"))
    eventually(lambda: "q=broken" in session.url(), "the form is sent")
    assert "1 to 1 of 1" in session.text("main")
    session.click(session.find("thead a[href*='sort=name']"))
    eventually(lambda: "sort=name" in session.url(), "the order changes")
