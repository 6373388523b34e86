"""`status`: the summary of a page, its table, and the command."""

import io
import json
import re
import socket

import pytest
import yaml
from rich.cells import cell_len
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from exporter.app.status.page import DETAILS, PROJECTS, STATUSES, read_samples
from exporter.app.status.summary import summarize
from exporter.app.status.table import print_summary
from exporter.cli import main
from exporter.simulator import running
from exporter.status_page.remedies import REMEDIES
from exporter.status_page.times import duration
from tests.conftest import AGE
from tests.drivers.support import project

pytestmark = pytest.mark.process

NOW = 1_700_000_000.0
HOUR = 3600.0


def lines(page):
    """Return the lines of a page: samples by name, as pairs of labels and value."""

    def escaped(text):
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    return [
        name.encode()
        + b"{"
        + ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items()).encode()
        + f"}} {value}".encode()
        for name, samples in page.items()
        for labels, value in samples
    ]


def labels_of(number=1, name="checkout", **more):
    own = {"provider": "flow", "project": "shop", "pipeline": name, "pipeline_id": str(number)}
    return {**own, **more}


def page(**changes):
    """Return a metrics page with a project and these samples, whose names lack the prefix `ci_pipeline_`."""
    own = {"provider": "flow", "project": "shop"}
    found = {
        "pipeline_exporter_project_up": [(own, 1.0)],
        "pipeline_exporter_pipelines": [(own, 3.0)],
        "pipeline_exporter_last_poll_timestamp_seconds": [(own, NOW)],
    }
    for name, samples in changes.items():
        found[name if name.startswith("pipeline_exporter_") else f"ci_pipeline_{name}"] = samples
    return lines(found)


def red(
    number=1, name="checkout", *, since=NOW - 2 * HOUR, failures=3.0, stages=("Test",), branch="main", url=""
):
    """Return the samples of a red pipeline."""
    own = labels_of(number, name)
    return {
        "info": [({**own, "url": f"https://flow.example.com/{number}"}, 1.0)],
        "latest_finished_run_status": [
            ({**own, "status": status}, float(status == "failed")) for status in ("success", "failed")
        ],
        "latest_finished_run_info": [({**own, "branch": branch, "trigger": "push", "url": url}, 1.0)],
        "latest_finished_run_failed_stage": [
            ({**own, "stage_name": stage, "stage_sequence": str(index)}, 1.0)
            for index, stage in enumerate(stages)
        ],
        "consecutive_failures": [(own, failures)],
        "broken_since_timestamp_seconds": [(own, since)],
    }


def active(status, *, number=1, since=NOW - HOUR, stage="Deploy", runs=0, average=0.0):
    """Return the samples of a pipeline whose latest run has a status."""
    own = labels_of(number)
    return {
        "latest_run_status": [({**own, "status": status}, 1.0), ({**own, "status": "success"}, 0.0)],
        "latest_run_status_change_timestamp_seconds": [(own, since)],
        "latest_run_start_timestamp_seconds": [(own, since)],
        "latest_run_info": [({**own, "branch": "main", "trigger": "push"}, 1.0)],
        "latest_run_stage_status": [
            ({**own, "stage_name": "Build", "stage_sequence": "0", "status": "success"}, 1.0),
            ({**own, "stage_name": stage, "stage_sequence": "1", "status": status}, 1.0),
        ],
        "run_duration_seconds_sum": [({**own, "status": "success"}, runs * average)],
        "run_duration_seconds_count": [({**own, "status": "success"}, float(runs))],
    }


def summary_of(**changes):
    return summarize(read_samples(page(**changes)), NOW)


def down_summary():
    """Return the summary of a project that is up, and one that is down."""
    well, shop = ({"provider": "flow", "project": name} for name in ("well", "shop"))
    cause = {**shop, "operation": "ListPipelines", "code": "401", "error_code": "InvalidToken"}
    return summary_of(
        pipeline_exporter_project_up=[(well, 1.0), (shop, 0.0)],
        pipeline_exporter_project_down_since_timestamp_seconds=[(shop, NOW - 90)],
        pipeline_exporter_project_failure_info=[(cause, 1.0)],
    )


def table(summary, width=None, *, colour=False):
    """Return the lines of a table in a pipe, or on a terminal of a width."""

    class Terminal(io.StringIO):
        def isatty(self):
            return width is not None

    file = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width or 80))
        patch.setenv("TERM", "xterm-256color")
        print_summary(summary, NOW, file, colour=colour)
    return file.getvalue().splitlines()


class TestSummary:
    """Summaries of metrics pages."""

    def test_red_pipeline_has_streak_stages_branch_and_link_in_json(self):
        found = json.loads(summary_of(**red(stages=("Test", "Scan"))).json())
        assert found == {
            "projects": [
                {
                    "project": "shop",
                    "provider": "flow",
                    "up": True,
                    "down_since": None,
                    "cause": None,
                    "pipelines": 3,
                    "red": 1,
                    "running": 0,
                    "waiting": 0,
                }
            ],
            "red": [
                {
                    "project": "shop",
                    "pipeline": "checkout",
                    "pipeline_id": "1",
                    "since": NOW - 2 * HOUR,
                    "failures": 3,
                    "failed_stages": ["Test", "Scan"],
                    "branch": "main",
                    "url": "https://flow.example.com/1",
                }
            ],
            "waiting": [],
            "long_running": [],
        }

    def test_page_of_the_run_is_preferred_to_the_page_of_the_pipeline(self):
        assert summary_of(**red(url="https://flow.example.com/1/run/7")).red[0].url.endswith("/run/7")

    def test_address_that_is_not_http_is_left_out(self):
        own = {**red(url="javascript:alert(1)"), "info": [(labels_of(url="file:///etc/passwd"), 1.0)]}
        assert summary_of(**own).red[0].url is None

    def test_values_that_are_unknown_are_null(self):
        own = {"latest_finished_run_status": [(labels_of(status="failed"), 1.0)]}
        [found] = json.loads(summary_of(**own).json())["red"]
        assert [found[name] for name in ("since", "failures", "branch", "url")] == [None] * 4
        assert found["failed_stages"] == []

    def test_down_project_has_since_and_cause(self):
        own = {"provider": "flow", "project": "shop"}
        cause = {**own, "operation": "list_runs", "code": "401", "error_code": "InvalidToken"}
        summary = summary_of(
            pipeline_exporter_project_up=[(own, 0.0)],
            pipeline_exporter_project_down_since_timestamp_seconds=[(own, NOW - 90)],
            pipeline_exporter_project_failure_info=[(cause, 1.0)],
        )
        [found] = summary.projects
        assert summary.down
        assert (found.up, found.down_since) == (False, NOW - 90)
        assert found.cause == "list_runs answered 401 InvalidToken"
        assert re.search(r"down for 1m .* list_runs answered 401 InvalidToken$", table(summary)[1])

    @pytest.mark.parametrize("width", [None, 100, 160])
    def test_remedy_is_below_the_project_that_is_down(self, width):
        summary = down_summary()
        summary.remedies = {"shop": "credentials-rejected", "well": "no-response"}
        lines = table(summary, width)
        expected = f"{REMEDIES['credentials-rejected']} See docs/troubleshooting.md#credentials-rejected"
        index = next(index for index, line in enumerate(lines) if line.startswith("shop"))
        below = lines[index + 1 : lines.index("")]
        if width == 100:
            assert below.pop(0) == "  ListPipelines answered 401 InvalidToken"
        assert " ".join(line.strip() for line in below) == expected
        assert all(line.startswith("  ") for line in below)
        assert len(below) == (2 if width == 100 else 1)
        assert not any(cell_len(line) > width for line in lines if width)

    def test_unknown_remedy_is_named_without_a_sentence(self):
        summary = down_summary()
        summary.remedies = {"shop": "of-a-later-release\x1b[2J"}
        assert table(summary)[3] == "  See docs/troubleshooting.md#of-a-later-release�[2J"

    @pytest.mark.parametrize(
        ("code", "cause"),
        [
            ("connect", "list_runs could not connect"),
            ("timeout", "list_runs was not answered in time"),
            ("503", "list_runs answered 503"),
            ("odd", "list_runs odd"),
        ],
    )
    def test_cause_is_in_words(self, code, cause):
        own = {"provider": "flow", "project": "shop"}
        labels = {**own, "operation": "list_runs", "code": code, "error_code": ""}
        summary = summary_of(pipeline_exporter_project_failure_info=[(labels, 1.0)])
        assert summary.projects[0].cause == cause

    @pytest.mark.parametrize(("polled", "up", "state"), [(0.0, None, "starting"), (NOW, True, "incomplete")])
    def test_project_that_is_neither_up_nor_down(self, polled, up, state):
        own = {"provider": "flow", "project": "shop"}
        summary = summary_of(
            pipeline_exporter_project_up=[(own, 0.0)],
            pipeline_exporter_last_poll_timestamp_seconds=[(own, polled)],
        )
        assert (summary.projects[0].up, summary.down) == (up, False)
        assert state in table(summary)[1]

    @pytest.mark.parametrize("status", ["waiting", "paused", "suspended"])
    def test_waiting_pipeline_has_its_stage_and_since_when(self, status):
        summary = summary_of(**active(status, since=NOW - 4 * HOUR))
        [found] = summary.waiting
        assert (found.status, found.since, found.stages) == (status, NOW - 4 * HOUR, ["Deploy"])
        assert (summary.projects[0].waiting, summary.projects[0].running) == (1, 0)

    @pytest.mark.parametrize(
        ("seconds", "runs", "average", "is_long"),
        [
            (3601, 0, 0, True),
            (3599, 0, 0, False),
            (3599, 4, 60, False),
            (901, 5, 300, True),
            (899, 5, 300, False),
            (299, 5, 10, False),
            (301, 5, 10, True),
            (7200, 5, 3000, False),
        ],
    )
    def test_run_is_long_by_its_history_or_after_an_hour(self, seconds, runs, average, is_long):
        summary = summary_of(**active("running", since=NOW - seconds, runs=runs, average=average))
        assert (len(summary.long_running), summary.projects[0].running) == (int(is_long), 1)

    def test_only_needed_samples_are_read(self):
        own = labels_of(2)
        samples = read_samples(
            [
                *page(**active("running")),
                *lines(
                    {
                        "ci_pipeline_latest_run_status": [({**own, "status": "success"}, 1.0)],
                        "ci_pipeline_latest_run_start_timestamp_seconds": [(own, NOW)],
                        "ci_pipeline_up": [(own, 1.0)],
                    }
                ),
                b"# HELP ci_pipeline_up help",
                b"",
            ]
        )
        assert samples.keys() == PROJECTS | STATUSES | DETAILS
        assert {labels.get("pipeline_id", "1") for own in samples.values() for labels, _ in own} == {"1"}
        assert [labels["status"] for labels, _ in samples["ci_pipeline_latest_run_status"]] == ["running"]


LINK = "https://devcloud.example.com/" + "a" * 120
WIDE = "结算服务发布流水线" * 6


class TestTable:
    """The table that `status` prints."""

    def test_pipe_gets_whole_lines(self):
        found = table(summary_of(**red(name=WIDE, url=LINK)))
        assert found[3] == "Red: 1"
        assert found[4].split() == ["RED", "FOR", "FAILURES", "PIPELINE", "FAILED", "STAGE", "BRANCH", "LINK"]
        assert found[5].split() == ["2h", "0m", "3", WIDE, "Test", "main", LINK]
        assert not any("\x1b" in line for line in found)

    @pytest.mark.parametrize("width", [80, 100, 160])
    def test_lines_fit_a_terminal_except_links(self, width):
        found = table(
            summary_of(
                **red(
                    name=WIDE, url=LINK, stages=("Integration test on real devices", "Scan"), branch="b" * 60
                )
            ),
            width,
        )
        assert f"  {LINK}" in found
        assert all(cell_len(line) <= width for line in found if LINK not in line)
        [row] = [line for line in found if "2h 0m" in line]
        assert "…" in row

    def test_short_link_stays_in_its_line_where_it_fits(self):
        found = table(summary_of(**red()), 100)
        assert found[5].endswith("main    https://flow.example.com/1")

    def test_colours_are_off_unless_wanted(self):
        summary = summary_of(**red())
        assert "\x1b[" in "".join(table(summary, 100, colour=True))
        assert "\x1b" not in "".join(table(summary, 100))

    def test_text_of_a_vendor_does_not_control_the_terminal(self):
        summary = summary_of(
            **red(
                name="\x1b[2J\x9b31m[red]x[/red]\u202e",
                branch="a\nb\tc",
                url="https://x.example.com/\x1b]8;;",
            )
        )
        assert re.search(
            r"2h 0m +3 +�\[2J�31m\[red\]x\[/red\]� +Test +a�b�c +https://x.example.com/�\]8;;",
            "\n".join(table(summary)),
        )
        assert all(one.isprintable() or one == "\n" for one in summary.json())
        assert json.loads(summary.json())["red"][0]["branch"] == "a\nb\tc"

    def test_newest_failure_is_first(self):
        pages = [
            red(1, "old", since=NOW - 9e5),
            red(2, "new", since=NOW - 60),
            red(3, "middle", since=NOW - 600),
        ]
        both = {name: [sample for one in pages for sample in one[name]] for name in pages[0]}
        assert [one.pipeline for one in summary_of(**both).red] == ["new", "middle", "old"]

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h 0m"), (9000, "2h 30m"), (90_000, "1d 1h"), (8_640_000, "100d 0h")],
    )  # fmt: skip
    def test_duration_has_at_most_two_units(self, seconds, text):
        assert duration(seconds) == text


@pytest.fixture
def quiet(monkeypatch):
    """Leave the logging of the test run alone."""
    monkeypatch.setattr("exporter.core.logs.configure", lambda *_: None)


@pytest.fixture
def run(quiet, capsys, tmp_path):
    """Run `status`; return exit code, output and errors."""

    def run(*arguments, projects=()):
        if projects:
            file = tmp_path / "config.yaml"
            file.write_text(yaml.safe_dump({"poll": {"timeout": "1s"}, "projects": list(projects)}))
            arguments = (str(file), *arguments)
        return main(["status", *arguments]), *capsys.readouterr()

    return run


def served(body, status=200, api=None):
    """Return an application with a page under /metrics and /sub/metrics, and the body of the status next to each."""

    async def metrics(_):
        return Response(body, status, media_type="text/plain; version=0.0.4")

    async def answer(_):
        return Response(api, 404 if api is None else 200, media_type="application/json")

    async def elsewhere(_):
        return RedirectResponse("/metrics")

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/sub/metrics", metrics),
            Route("/moved/metrics", elsewhere),
            Route("/api/v1/status", answer),
            Route("/sub/api/v1/status", answer),
        ]
    )


class TestUrl:
    """`status --url` reads the page of a running exporter."""

    @pytest.mark.parametrize("path", ["", "/", "/metrics", "/sub", "/sub/", "/sub/metrics"])
    def test_path_of_the_metrics_may_be_left_out(self, run, path):
        with running(served(b"\n".join(page(**red())) + b"\n")) as url:
            code, output, errors = run("--url", url + path, "--format=json")
        assert (code, errors) == (0, "")
        assert len(json.loads(output)["red"]) == 1

    def test_scheme_may_be_left_out(self, run):
        with running(served(b"\n".join(page()))) as url:
            code, output, _ = run("--url", url.removeprefix("http://"))
        assert code == 0
        assert output.startswith("PROJECT ")

    def test_red_pipeline_exits_with_3_on_request(self, run):
        with running(served(b"\n".join(page(**red())))) as url:
            assert run("--url", url)[0] == 0
            assert run("--url", url, "--fail-on=red")[0] == 3
            assert run("--url", url, "--fail-on=red", "--format=json")[0] == 3
        with running(served(b"\n".join(page()))) as url:
            assert run("--url", url, "--fail-on=red")[0] == 0

    def test_project_that_is_down_goes_before_red_pipelines(self, run):
        own = {"provider": "flow", "project": "shop"}
        down = {"pipeline_exporter_project_down_since_timestamp_seconds": [(own, NOW)]}
        with running(served(b"\n".join(page(**red(), **down)))) as url:
            assert run("--url", url, "--fail-on=red")[0] == 1

    @pytest.mark.parametrize("path", ["", "/metrics", "/sub", "/sub/metrics"])
    def test_remedy_comes_from_the_status_of_the_exporter(self, run, path):
        own = {"provider": "flow", "project": "shop"}
        down = {"pipeline_exporter_project_down_since_timestamp_seconds": [(own, NOW)]}
        status = {
            "projects": [{"project": "shop", "remedy": "no-response"}, {"project": "well", "remedy": None}]
        }
        with running(served(b"\n".join(page(**down)), api=json.dumps(status))) as url:
            code, output, errors = run("--url", url + path)
        assert (code, errors) == (1, "")
        assert f"\n  {REMEDIES['no-response']} See docs/troubleshooting.md#no-response\n" in output

    @pytest.mark.parametrize("api", [None, "<html>", "{}", '{"projects": [{"project": 1}]}'])
    def test_status_that_does_not_answer_costs_only_the_remedy(self, run, api):
        own = {"provider": "flow", "project": "shop"}
        down = {"pipeline_exporter_project_down_since_timestamp_seconds": [(own, NOW)]}
        with running(served(b"\n".join(page(**down)), api=api)) as url:
            code, output, errors = run("--url", url)
        assert (code, errors) == (1, "")
        assert "down for" in output
        assert "troubleshooting" not in output

    @pytest.mark.parametrize(
        ("path", "body", "status", "message"),
        [
            ("", b"", 401, "answers 401 Unauthorized"),
            ("/nowhere", b"", 200, "answers 404 Not Found"),
            ("/moved", b"", 200, "answers 307 Temporary Redirect"),
            ("", b"<html>", 200, "is not the page of a pipeline-exporter (check the address and the path)"),
            (
                "",
                b"pipeline_exporter_project_up{a= 1",
                200,
                "is not a page of metrics (is it the address of the exporter?)",
            ),
        ],
    )
    def test_other_answers_are_one_line_and_exit_with_1(self, run, path, body, status, message):
        with running(served(body, status)) as url:
            code, output, errors = run("--url", url + path)
        assert (code, output) == (1, "")
        assert errors == f"pipeline-exporter: {url}{path}/metrics {message}\n"

    def test_address_that_does_not_answer_exits_with_1(self, run):
        code, output, errors = run("--url", "http://reader:opensesame@127.0.0.1:9")
        assert (code, output) == (1, "")
        assert re.fullmatch(r"pipeline-exporter: http://127.0.0.1:9/metrics does not answer: .+\n", errors)

    def test_silent_server_exits_with_1(self, run, monkeypatch):
        monkeypatch.setattr("exporter.app.status.page.TIMEOUT", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            code, _, errors = run("--url", url)
        assert (code, errors) == (1, f"pipeline-exporter: {url}/metrics does not answer within 0.1 s\n")

    def test_page_above_the_limit_exits_with_1(self, run, monkeypatch):
        monkeypatch.setattr("exporter.app.status.page.LIMIT", 1 << 20)
        with running(served(b"# comment\n" * 200_000)) as url:
            code, _, errors = run("--url", url)
        assert (code, errors) == (1, f"pipeline-exporter: {url}/metrics has more than 1 MiB\n")


class TestPoll:
    """`status FILE` polls once."""

    def test_summary_agrees_with_the_cloud(self, run, cloud):
        world = cloud.codearts.world
        now = world.start + AGE
        cloud.codearts.clock = lambda: now
        code, output, errors = run("--format=json", projects=[cloud.project()])
        assert (code, errors) == (0, "")
        found = json.loads(output)
        words = [run.status for one in world.pipelines if (run := world.latest_run(one.id, now))]
        [shown] = found["projects"]
        assert shown["pipelines"] == 30
        assert shown["running"] == words.count("RUNNING") > 0
        assert shown["waiting"] == words.count("PAUSED") + words.count("SUSPEND") > 0
        assert len(found["red"]) == shown["red"] > 0

    def test_refused_credentials_take_one_request(self, run, cloud):
        """A cloud locks a key after some refusals."""
        own = {"auth": {"method": "token", "token": "an-expired-token"}}
        ids = [one.id for one in cloud.codearts.world.pipelines]
        projects = [
            cloud.project(name=name, pipelines=ids[start::2], **own)
            for start, name in enumerate(("one", "two"))
        ]
        code, output, _ = run("--format=json", projects=projects)
        assert len(cloud.codearts.requests) == 1
        assert code == 1
        assert [one["up"] for one in json.loads(output)["projects"]] == [False, False]

    def test_cloud_that_does_not_answer_is_down_with_a_remedy(self, run):
        code, output, _ = run("--fail-on=red", projects=[project(endpoint="http://127.0.0.1:9")])
        assert code == 1
        assert "down for" in output
        assert (
            output.splitlines()[2] == f"  {REMEDIES['no-response']} See docs/troubleshooting.md#no-response"
        )

    def test_file_and_url_exclude_each_other(self, run, capsys):
        with pytest.raises(SystemExit) as ended:
            run("config.yaml", "--url", "http://127.0.0.1:9")
        assert ended.value.code == 2
        assert "FILE and --url are given (use one)" in capsys.readouterr().err

    @pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", "http://h/?a=b", ""])
    def test_wrong_url_is_a_usage_error(self, run, capsys, url):
        with pytest.raises(SystemExit) as ended:
            run("--url", url)
        assert ended.value.code == 2
        assert "argument --url: not an address such as http://127.0.0.1:10047" in capsys.readouterr().err
