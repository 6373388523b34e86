"""The status page as HTML and JSON: content, order, and safe handling of texts from vendors."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from exporter.core import redaction
from exporter.core.model import Pipeline
from exporter.polling import cause
from exporter.status_page.chart import HEIGHT, LOWEST, chart
from exporter.status_page.overview import Overview
from exporter.status_page.page import selector
from exporter.status_page.query import PipelineQuery, QueryError
from exporter.status_page.remedies import REMEDIES
from exporter.tracking.ledger import EndedRun, Extent, Streak
from tests.unit.status_page.pages import (
    FAILED,
    FAMILIES,
    HOUR,
    NOON,
    RUNNING,
    SUCCESS,
    WAITING,
    facts,
    problem,
    run,
    status_page,
    view,
)

TROUBLESHOOTING = Path(__file__).parents[3] / "docs" / "troubleshooting.md"


class Text(HTMLParser):
    """Collects the visible text, the tags and the links of a page."""

    def __init__(self, page):
        super().__init__()
        self.words, self.tags, self.links, self.attributes = [], [], [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in {"href", "src", "action"}]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def html(*views, projects=None, **query):
    parameters = {name: str(value) for name, value in query.items()}
    return Text(status_page().page(views, projects or [facts()], PipelineQuery.of(parameters), NOON))


def answer(*views, projects=None, **query):
    parameters = {name: str(value) for name, value in query.items()}
    return json.loads(status_page().answer(views, projects or [facts()], PipelineQuery.of(parameters), NOON))


def names(*views, **query):
    return [one["pipeline"] for one in answer(*views, **query)["pipelines"]]


class TestOverview:
    """Content of the overview."""

    def test_healthy_page_says_so_first(self):
        page = html(view())
        assert "All green 3 pipelines of 1 project, 0 running" in page.text
        assert "shop flow up 3 0 0 0 12s ago in 48s 7 of 600 19 of 20 accepted" in page.text

    def test_project_that_is_down_comes_first_with_since_cause_error_code_and_remedy(self):
        page = html(
            view(), projects=[facts("well"), facts(up=False, problem=problem(), credentials_accepted=False)]
        )
        text = page.text
        assert "1 project down" in text
        assert "shop has been down since 20:13 (2h 0m)" in text
        assert "ListPipelines answered 401 Forbidden.Token: the token is no longer valid" in text
        assert "Error code Forbidden.Token , request request-1" in text
        assert REMEDIES["credentials-rejected"] in text
        assert "docs/troubleshooting.md#credentials-rejected" in text
        assert text.index("shop flow down") < text.index("well flow up")

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"message": ""}, "Why ListPipelines answered 401 Forbidden.Token Error code"),
            ({"code": "timeout", "error_code": "", "message": "10 s"}, "Why ListPipelines was not answered in time: 10 s What"),
            (
                {"code": "refused", "message": "request not sent: credentials rejected", "held_back": True},
                "Why request not sent: credentials rejected Error code",
            ),
            (
                {"code": "refused", "message": "", "held_back": True},
                "Why ListPipelines was not sent, since the credentials were refused (Forbidden.Token) Error code",
            ),
        ],
    )  # fmt: skip
    def test_cause_of_an_outage_is_said_once(self, changes, why):
        assert why in html(view(), projects=[facts(up=False, problem=problem(**changes))]).text

    def test_large_numbers_have_separators(self):
        views = [view(f"p-{index}", status=FAILED) for index in range(1001)]
        text = html(*views, projects=[facts(pipelines=12_000)]).text
        assert "1,001 pipelines red" in text
        assert "shop flow up 12,000 1,001 0 0 12s ago" in text

    @pytest.mark.parametrize("remedy", REMEDIES)
    def test_page_shows_each_remedy(self, remedy):
        text = html(view(), projects=[facts(up=False, problem=problem(remedy=remedy))]).text
        assert REMEDIES[remedy] in text

    def test_red_pipeline_has_since_stage_failures_branch_run_and_link(self):
        page = html(view(status=FAILED, latest=run(FAILED, url="https://flow.example.com/7/runs/7")))
        assert "1 pipeline red" in page.text
        row = "failed checkout shop · main 2h 0m 20:13 Deploy 3 #7 ↗ 21:13 10m"
        assert row in page.text
        assert "https://flow.example.com/7/runs/7" in page.links

    def test_red_pipeline_whose_next_run_waits_shows_both(self):
        failed = run(FAILED, 6, url="https://flow.example.com/7/runs/6")
        page = html(view(status=WAITING, before=FAILED, finished=failed))
        assert "3 #6 ↗ now #7 ↗" in page.text
        assert "https://flow.example.com/7/runs/6" in page.links
        assert "1 pipeline red, 1 waiting" in page.text
        assert "failed waiting checkout" in page.text
        assert "now Deploy" in page.text

    def test_failures_of_a_limited_streak_are_at_least_that_many(self):
        limited = Streak(1000, NOON - HOUR, None, Extent.LIMITED)
        assert "at least 1000" in html(view(status=FAILED, streak=limited)).text

    def test_run_of_unusual_length_is_marked(self):
        long = html(view(status=RUNNING, latest=run(RUNNING, start=NOON - 2 * HOUR)))
        assert "1 running unusually long" in long.text
        assert "running long checkout" in long.text
        assert "long" not in html(view(status=RUNNING)).text

    def test_pipelines_of_a_project_that_is_down_say_since_when_they_are_not_seen(self):
        unanswered = view(up=False)
        assert "poll failed" in html(unanswered).text
        page = html(unanswered, projects=[facts(up=False, problem=problem())])
        assert "poll failed" not in page.text
        assert "shop · main · not seen since 20:13" in page.text

    def test_headline_leads_to_what_it_counts(self):
        views = [view("red", status=FAILED), view("held", status=WAITING)]
        page = html(*views, projects=[facts(up=False, problem=problem())])
        assert {"#down-1", "/?status=red#pipelines", "/?status=waiting#pipelines"} <= set(page.links)

    def test_link_of_a_project_drops_the_other_filters(self):
        page = html(view(), q="checkout", status="success")
        assert "/?project=shop" in page.links

    def test_project_without_a_refresh_is_starting(self):
        page = html(projects=[facts(up=None, last_poll=None, credentials_accepted=None, next_poll=NOON)])
        assert "starting" in page.text
        assert "none yet now" in page.text
        assert "not tried yet" in page.text
        assert "No pipeline has been polled yet" in page.text

    @pytest.mark.parametrize(
        ("renewal", "text"), [("auto", "renewed automatically"), ("manual", "renew by hand")]
    )
    def test_expiry_of_credentials_says_who_renews_them(self, renewal, text):
        page = html(projects=[facts(credentials_expire=NOON + HOUR, credentials_renewal=renewal)])
        assert f"accepted, expire in 1h 0m ({text})" in page.text
        past = html(projects=[facts(credentials_expire=NOON - HOUR, credentials_renewal=renewal)])
        assert f"accepted, expired 1h 0m ago ({text})" in past.text


class TestSelection:
    """Filters, orders and pages."""

    VIEWS = (
        view("calm"),
        view("busy", status=RUNNING),
        view("held", status=WAITING),
        view("broken", status=FAILED),
        view("new", latest=None, finished=None, has_run=False, streak=None),
    )

    def test_red_comes_first_then_waiting_then_running(self):
        assert names(*self.VIEWS) == ["broken", "held", "busy", "calm", "new"]

    def test_newest_red_and_longest_waiting_come_first(self):
        older = view("older", status=FAILED, streak=Streak(9, NOON - 9 * HOUR, None, Extent.WHOLE))
        longer = view("longer", status=WAITING, status_change=NOON - 9 * HOUR)
        assert names(*self.VIEWS, older, longer)[:4] == ["broken", "older", "longer", "held"]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"q": "BRO"}, ["broken"]),
            ({"q": "id-calm"}, ["calm"]),
            ({"project": "shop"}, ["broken", "held", "busy", "calm", "new"]),
            ({"project": "sho"}, []),
            ({"status": "red"}, ["broken"]),
            ({"status": "waiting"}, ["held"]),
            ({"status": "none"}, ["new"]),
            ({"status": "success", "q": "a"}, ["calm"]),
            ({"sort": "name"}, ["broken", "busy", "calm", "held", "new"]),
            ({"sort": "failures"}, ["broken", "held", "busy", "calm", "new"]),
        ],
    )
    def test_query_filters_and_orders_pipelines(self, query, expected):
        assert names(*self.VIEWS, **query) == expected

    def test_page_has_a_hundred_pipelines_and_links_to_its_neighbours(self):
        views = [view(f"p{index:03}") for index in range(250)]
        page = html(*views, page=2, sort="name", q="p")
        assert "101 to 200 of 250" in page.text
        assert {"/?q=p&sort=name#pipelines", "/?q=p&sort=name&page=3#pipelines"} <= set(page.links)
        found = answer(*views, page=3)
        assert (found["page"], found["pages"], found["total"], len(found["pipelines"])) == (3, 3, 250, 50)
        assert answer(*views, page=99)["page"] == 3
        assert answer(page=4)["page"] == 1

    @pytest.mark.parametrize(
        "parameters",
        [
            {"status": "green"},
            {"sort": "x"},
            {"page": "0x1"},
            {"page": "-1"},
            {"page": "٣"},
            {"colour": "red"},
        ],
    )
    def test_unknown_parameters_and_values_are_rejected(self, parameters):
        with pytest.raises(QueryError):
            PipelineQuery.of(parameters)

    def test_overview_keeps_what_did_not_change(self):
        first = Overview([view("a"), view("b")])
        changed = Overview([first.views[0], view("b", status=FAILED)], first)
        assert changed.rows[id(first.views[0])] is first.rows[id(first.views[0])]
        assert changed.red == {"shop": 1}


class TestAnswer:
    """The JSON, which scripts read."""

    def test_answer_has_the_shape_of_the_command_and_more(self):
        found = answer(
            view("broken", status=FAILED),
            view("held", status=WAITING),
            view("slow", status=RUNNING, latest=run(RUNNING, start=NOON - 2 * HOUR)),
            projects=[facts(up=False, problem=problem())],
        )
        assert found["projects"] == [
            {
                "project": "shop",
                "provider": "flow",
                "up": False,
                "down_since": NOON - 2 * HOUR,
                "cause": "ListPipelines answered 401 Forbidden.Token",
                "pipelines": 3,
                "red": 1,
                "running": 1,
                "waiting": 1,
                "error_code": "Forbidden.Token",
                "remedy": "credentials-rejected",
                "last_poll": NOON - 12,
                "next_poll": NOON + 48,
                "requests_per_minute": 7,
                "requests_allowed_per_minute": 600,
                "budget_left": 19,
                "budget": 20,
                "credentials_accepted": True,
                "credentials_expire": None,
                "credentials_renewal": None,
            }
        ]
        assert found["red"] == [
            {
                "project": "shop",
                "pipeline": "broken",
                "pipeline_id": "id-broken",
                "since": NOON - 2 * HOUR,
                "failures": 3,
                "failed_stages": ["Deploy"],
                "branch": "main",
                "url": "https://flow.example.com/7",
            }
        ]
        held = {
            "project": "shop",
            "pipeline": "held",
            "pipeline_id": "id-held",
            "status": "waiting",
            "since": NOON - HOUR / 2,
            "stages": ["Deploy"],
            "branch": "main",
            "url": "https://flow.example.com/7",
            "usual_seconds": None,
        }
        assert found["waiting"] == [held]
        slow = {"pipeline": "slow", "pipeline_id": "id-slow", "status": "running", "since": NOON - 2 * HOUR}
        assert found["long_running"] == [{**held, **slow}]
        assert [(one["pipeline"], one["status"], one["red"]) for one in found["pipelines"]] == [
            ("broken", "failed", True),
            ("held", "waiting", False),
            ("slow", "running", False),
        ]


class TestPipeline:
    """The page of one pipeline."""

    def test_page_has_stages_runs_counters_selector_and_anomalies(self):
        runs = (
            EndedRun("run-7", 7, FAILED, NOON - HOUR + 600, NOON - HOUR),
            EndedRun("run-6", 6, SUCCESS, NOON - 2 * HOUR, None, counted=False),
        )
        found = view(status=FAILED, runs=runs, unresolved=2)
        page = Text(status_page().pipeline([found], FAMILIES, "shop", "id-checkout", NOON) or "")
        assert "Red for 2h 0m , since 20:13 , 3 failures in a row" in page.text
        assert "Deploy failed 21:14 9m" in page.text
        assert "#7 failed 21:13 21:23 10m yes #6 success 20:13 no, from before first sight" in page.text
        assert "runs, success 0" in page.text
        assert "still looks for the end of known runs: 2" in page.text
        matched = f"ci_pipeline_latest_run_status{selector(found)}"
        assert matched in page.text
        assert "ci_pipeline_run_duration_seconds_bucket" in page.text
        assert "ci_pipeline_latest_run_job_status" not in page.text

    def test_unknown_pipeline_has_no_page(self):
        assert status_page().pipeline([view()], FAMILIES, "shop", "other", NOON) is None
        assert status_page().pipeline([view()], FAMILIES, "other", "id-checkout", NOON) is None

    def test_selector_escapes_what_promql_demands(self):
        pipeline = Pipeline("flow", 'a "b" \\ c', "1", "x")
        found = view(pipeline=pipeline)
        assert selector(found) == '{project="a \\"b\\" \\\\ c", pipeline_id="1", provider="flow"}'

    def test_pipeline_of_a_stored_state_has_a_page(self):
        stored = view(latest=None, up=None, has_run=None, active_starts=None, status_change=None)
        assert (
            "Latest run #7, success"
            in Text(status_page().pipeline([stored], FAMILIES, "shop", "id-checkout", NOON) or "").text
        )


class TestChart:
    """Bars of runs."""

    def test_height_is_the_duration_and_without_a_start_the_least(self):
        drawn = chart(
            [
                EndedRun("c", 3, SUCCESS, 100.0, 0.0),
                EndedRun("b", 2, SUCCESS, 50.0, 0.0),
                EndedRun("a", 1, SUCCESS, 9.0),
            ],
            20,
        )
        assert drawn is not None
        [bars] = drawn.bars
        heights = [int(high) for high in re.findall(r"v-(\d+)h", bars.path)]
        assert heights == [HEIGHT, HEIGHT // 2, LOWEST]
        assert re.findall(r"M(\d+) ", bars.path) == ["114", "108", "102"]

    def test_status_and_uncounted_runs_are_styles_and_words(self):
        drawn = chart(
            [EndedRun("b", 2, FAILED, 9.0, 1.0), EndedRun("a", 1, SUCCESS, 9.0, 1.0, counted=False)], 20
        )
        assert drawn is not None
        assert [bars.style for bars in drawn.bars] == ["failed", "success uncounted"]
        assert drawn.text.startswith("last 2 runs: 1 failed, 1 success; 1 from before")

    def test_no_runs_have_no_chart(self):
        assert chart([], 20) is None


NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "x" * 256,
    "مرحبا\u202eevil",
    "🚀" * 256,
    "{{ 7 * 7 }}{% raw %}",
    "a\0b\n\t\x1b[31m",
    "\ud800",
)


class TestUntrusted:
    """Vendors' texts, addresses and secrets."""

    @pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
    def test_texts_of_vendors_add_no_markup(self, text):
        plain, nasty = (
            view(
                name,
                status=FAILED,
                latest=run(FAILED, branch=name),
                finished=msgspec.structs.replace(
                    run(FAILED, branch=name),
                    stages=tuple(msgspec.structs.replace(stage, name=name) for stage in run(FAILED).stages),
                ),
                pipeline=Pipeline("flow", "shop", "1", name),
            )
            for name in ("plain", text)
        )
        for render in (
            lambda one: status_page().page(
                [one], [facts(up=False, problem=problem(message=one.pipeline.name))], PipelineQuery(), NOON
            ),
            lambda one: status_page().pipeline([one], FAMILIES, "shop", "1", NOON) or "",
        ):
            pages = [Text(render(one)) for one in (plain, nasty)]
            assert pages[0].tags == pages[1].tags
            assert pages[0].attributes == pages[1].attributes
            assert len(pages[1].text) < len(pages[0].text) + 8 * 256

    @pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "ftp://x"])
    def test_only_http_addresses_are_links(self, url):
        bad = view(pipeline=Pipeline("flow", "shop", "1", "a", url), latest=run(SUCCESS, url=url))
        assert url not in html(bad).links
        assert url not in Text(status_page().pipeline([bad], FAMILIES, "shop", "1", NOON) or "").links
        assert answer(bad)["pipelines"][0]["url"] is None

    def test_secrets_are_masked(self):
        redaction.register("a-long-secret-value")
        text = "a-long-secret-value"
        found = view(
            status=FAILED,
            latest=run(FAILED, branch=text, url=f"https://x.example/{text}"),
            finished=msgspec.structs.replace(
                run(FAILED, branch=text),
                stages=tuple(msgspec.structs.replace(stage, name=text) for stage in run(FAILED).stages),
            ),
        )
        page = status_page()
        for body in (
            page.page([found], [facts()], PipelineQuery(), NOON),
            page.pipeline([found], FAMILIES, "shop", "id-checkout", NOON),
            page.answer([found], [facts()], PipelineQuery(), NOON).decode(),
        ):
            assert body is not None
            assert text not in body

    def test_times_that_no_calendar_has_are_no_error(self):
        wild = view(status=FAILED, latest=run(FAILED, start=1e300, end=float("inf")), status_change=-1e300)
        assert "unknown" in html(wild).text
        assert status_page().pipeline([wild], FAMILIES, "shop", "id-checkout", NOON)
        assert answer(wild)


def test_every_cause_has_a_remedy_that_the_page_on_troubles_has_too():
    slugs = {*cause._REMEDIES.values(), "provider-fails", "no-response", "implausible-list"}
    assert REMEDIES.keys() == slugs
    page = TROUBLESHOOTING.read_text(encoding="utf-8")
    for slug, remedy in REMEDIES.items():
        section = page.partition(f"\n### {slug}\n")[2].partition("\n### ")[0]
        plain = " ".join(section.replace("`", "").split())
        assert remedy in plain.replace("the host in error", "the host in the error"), slug
