"""The daemon as a process: start, scrapes, faulty responses of clouds, and stop."""

import gzip
import itertools
import re
import signal
import socket
import time
from contextlib import ExitStack
from html import unescape

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from exporter.simulator import CodeArts, InjectedFault, World, running
from tests.conftest import small_cloud
from tests.drivers.process import Process, command, eventually, exporter
from tests.drivers.support import PIPELINE_ID, project

QUICK = {"interval": "300ms", "active_interval": "100ms", "timeout": "2s"}


def quick(*projects, **poll):
    return {"poll": {**QUICK, **poll}, "projects": list(projects)}


def seed_cloud(body):
    async def status(_):
        return Response(body, media_type="application/json")

    return Starlette(routes=[Route("/v5/{project}/api/pipelines/status", status, methods=["POST"])])


def test_documented_response_of_the_vendor_gives_the_expected_metrics(tmp_path, seed_response):
    with (
        running(seed_cloud(seed_response)) as url,
        exporter(tmp_path, quick(project(endpoint=url))) as process,
    ):
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        samples = process.samples()
    own = {"pipeline_id": PIPELINE_ID, "pipeline": PIPELINE_ID, "project": "payments", "provider": "codearts"}
    statuses = samples.get("ci_pipeline_latest_run_status", **own)
    assert {dict(labels)["status"]: value for labels, value in statuses.items()} == {
        "failed": 1,
        **dict.fromkeys(
            (
                "success",
                "canceled",
                "ignored",
                "running",
                "pending",
                "waiting",
                "paused",
                "suspended",
                "unknown",
            ),
            0,
        ),
    }
    prefix = "ci_pipeline_latest_run"
    assert samples.value(f"{prefix}_number", **own) == 2
    assert samples.value(f"{prefix}_start_timestamp_seconds", **own) == 1677919688
    assert samples.value(f"{prefix}_end_timestamp_seconds", **own) == 1677919811
    assert samples.value(f"{prefix}_duration_seconds", **own) == 123
    assert samples.value(f"{prefix}_status_change_timestamp_seconds", **own) == 1677919811
    assert samples.value(f"{prefix}_info", **own, trigger="manual", branch="test-lbdsb11") == 1
    stage = {**own, "stage_name": "Phase_1", "stage_sequence": "0"}
    assert samples.value(f"{prefix}_stage_status", **stage, status="failed") == 1
    assert samples.value(f"{prefix}_stage_start_timestamp_seconds", **stage) == 1677919689
    assert samples.value(f"{prefix}_stage_duration_seconds", **stage) == 122
    assert samples.value("ci_pipeline_latest_finished_run_status", **own, status="failed") == 1
    failed = "ci_pipeline_latest_finished_run_failed_stage"
    assert samples.value(failed, **stage) == 1
    # This cloud lists no runs, so the streak before the run is unknown.
    assert samples.value("ci_pipeline_consecutive_failures", **own) is None
    assert samples.value("ci_pipeline_broken_since_timestamp_seconds", **own) is None
    assert samples.value("ci_pipeline_last_success_timestamp_seconds", **own) is None
    assert samples.value("ci_pipeline_runs_active", **own) == 0
    assert samples.value("ci_pipeline_has_run", **own) == 1
    assert samples.value("ci_pipeline_up", **own) == 1
    assert samples.value("ci_pipeline_info", **own) == 1
    for status in ("success", "failed", "canceled", "ignored"):
        assert samples.value("ci_pipeline_runs_total", **own, status=status) == 0
        assert samples.value("ci_pipeline_run_retries_total", **own, status=status) == 0
    for status in ("success", "failed"):
        assert samples.value("ci_pipeline_run_duration_seconds_count", **own, status=status) == 0
    for counter in ("runs_missed_total", "recoveries_total", "recovery_seconds_total"):
        assert samples.value(f"ci_pipeline_{counter}", **own) == 0


def test_run_in_progress_at_first_sight_is_counted_once_when_it_ends(tmp_path, cloud):
    """It counts once, however often it is polled."""
    clock = itertools.count()
    truth = cloud.codearts.world
    start = truth.start + 40 * 86400
    # The simulated time advances half a minute with each request, so that runs start and end.
    cloud.codearts.clock = lambda: start + 30.0 * next(clock)
    with exporter(tmp_path, quick(cloud.project())) as process:

        def counted():
            samples = process.samples()
            runs = sum(samples.get("ci_pipeline_runs_total").values())
            return samples if runs >= 20 else None

        samples = eventually(counted, "twenty runs are counted")
        observed = sum(samples.get("ci_pipeline_run_duration_seconds_count").values())
        assert observed == sum(samples.get("ci_pipeline_runs_total").values())
        for labels, number in samples.get("ci_pipeline_latest_run_number").items():
            own = dict(labels)["pipeline_id"]
            runs = sum(samples.get("ci_pipeline_runs_total", pipeline_id=own).values())
            assert runs <= number


class TestCloudStopsAnswering:
    """Values become stale, then disappear; the metrics page is still served."""

    def test_values_stay_until_max_age_and_return_with_the_cloud(self, tmp_path):
        """`up` falls at once."""
        now = time.time()
        codearts = CodeArts(World(pipelines=30), clock=lambda: now)
        with ExitStack() as stack:
            url = stack.enter_context(running(codearts.app))
            port = int(url.rsplit(":", 1)[1])
            own = project(
                endpoint=url,
                project_id=codearts.world.project_id,
                auth={"method": "token", "token": codearts.credentials.token},
                pipelines=[pipeline.id for pipeline in codearts.world.pipelines],
            )
            with exporter(tmp_path, quick(own, max_age="9s")) as process:
                eventually(
                    lambda: process.samples().value("pipeline_exporter_project_up") == 1, "the first refresh"
                )
                before = process.samples()
                known = before.get("ci_pipeline_latest_run_number")
                assert len(known) > 20
                stack.close()

                # An active poll fails first, and covers only pipelines in progress.
                eventually(lambda: set(process.samples().get("ci_pipeline_up").values()) == {0}, "the fall")
                samples = process.samples()
                assert samples.value("pipeline_exporter_project_up") == 0
                assert samples.get("ci_pipeline_latest_run_number") == known
                assert process.get("/metrics").elapsed.total_seconds() < 1

                eventually(
                    lambda: not process.samples().get("ci_pipeline_latest_run_number"), "the withdrawal"
                )
                samples = process.samples()
                for gone in ("latest_run_status", "latest_finished_run_status", "runs_active", "has_run"):
                    assert not samples.get(f"ci_pipeline_{gone}")
                assert not samples.get("ci_pipeline_consecutive_failures")
                assert set(samples.get("ci_pipeline_up").values()) == {0}
                assert len(samples.get("ci_pipeline_info")) == 30
                assert (
                    samples.get("ci_pipeline_runs_total").keys()
                    == before.get("ci_pipeline_runs_total").keys()
                )
                assert process.get("/-/ready").status_code == 200
                assert process.get("/-/healthy").status_code == 200

                with running(codearts.app, port=port):
                    eventually(
                        lambda: len(process.samples().get("ci_pipeline_latest_run_number")) >= len(known),
                        "the return",
                    )
                    eventually(lambda: set(process.samples().get("ci_pipeline_up").values()) == {1}, "up")
                    eventually(
                        lambda: process.samples().value("pipeline_exporter_project_up") == 1, "project_up"
                    )


FAULTS = {
    # By fault of the cloud: code and error code that are counted, and a part of the error in the log line.
    InjectedFault.HTML: ("invalid", "invalid", "HTML"),
    InjectedFault.BAD_GATEWAY: ("502", "502", "HTML"),
    InjectedFault.EMPTY: ("invalid", "invalid", "empty body"),
    InjectedFault.TRUNCATED: ("invalid", "invalid", "incomplete or damaged"),
    InjectedFault.CUT: ("invalid", "invalid", "invalid JSON"),
    InjectedFault.HUGE: ("invalid", "invalid", "8 MiB"),
    InjectedFault.ERROR_OBJECT: ("200", "DEVPIPE.00011136", "项目ID和流水线不匹配"),
    InjectedFault.NESTED_ERROR: ("200", None, ""),
    InjectedFault.SERVER_ERROR: ("500", "APIGW.0601", ""),
    InjectedFault.DENIED: ("403", "APIGW.0302", ""),
    InjectedFault.REDIRECT: ("302", "302", "redirected"),
    InjectedFault.NULL: ("invalid", "invalid", "unexpected response"),
}


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_faulty_answer_is_logged_and_counted_and_polls_continue(tmp_path, cloud, form):
    """One clear line, a counted error, no crash; and no secret anywhere, even at debug level."""
    credentials = cloud.codearts.credentials
    secrets = (credentials.access_key, credentials.secret_key)
    auth = {"method": "aksk", "access_key": credentials.access_key, "secret_key": credentials.secret_key}
    with exporter(
        tmp_path, quick(cloud.project(auth=auth), timeout="3s"), "--log.level=debug", f"--log.format={form}"
    ) as process:
        eventually(lambda: process.samples().value("pipeline_exporter_project_up") == 1, "the first refresh")
        # Last, because the pause that it orders is longer than this test.
        faults = {**FAULTS, InjectedFault.THROTTLED: ("429", "APIGW.0308", "throttling")}
        for injected_fault, (code, error_code, error) in faults.items():
            mark = len(process.log)
            cloud.codearts.injected_fault = injected_fault

            def logged(mark=mark, code=code, error=error):
                return any(
                    "poll failed" in line and error in line and re.search(rf'"?code"?[=:] ?"?{code}\b', line)
                    for line in process.log[mark:]
                )

            eventually(logged, f"a line about {injected_fault}")

            def counted(code=code, error_code=error_code):
                samples = process.samples()
                requests = samples.get("pipeline_exporter_api_requests_total", code=code)
                errors = samples.get(
                    "pipeline_exporter_api_errors_total", **({"error_code": error_code} if error_code else {})
                )
                return requests and errors and samples.value("pipeline_exporter_project_up") == 0

            eventually(counted, f"{injected_fault} is counted")
            if injected_fault is not InjectedFault.THROTTLED:
                cloud.codearts.injected_fault = None
                eventually(
                    lambda: process.samples().value("pipeline_exporter_project_up") == 1,
                    f"the recovery from {injected_fault}",
                )
        pages = process.get("/config").text + process.get("/metrics").text + process.get("/").text
        assert process.stop() == 0
    assert not any(secret in text for secret in secrets for text in (*process.log, *process.output, pages))
    assert not any("Traceback" in line for line in process.log)


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ({"method": "token", "token": "wrong-token-that-is-secret"}, "decrypt token fail"),
        ({"method": "aksk", "access_key": "WRONGKEYTHATISSECRET", "secret_key": "wrong-secret-key-of-the-test"}, "ak <secret> not exist"),
        ({"method": "aksk", "access_key": "SIMULATED0ACCESS0KEY", "secret_key": "wrong-secret-key-of-the-test"}, "verify aksk signature fail"),
    ],
)  # fmt: skip
def test_wrong_credentials_are_tried_once_a_poll(tmp_path, cloud, auth, message):
    """The log has the vendor's message. More attempts would lock a key."""
    with exporter(
        tmp_path, quick(cloud.project(auth=auth), chunk_size=3, interval="1s"), "--log.level=debug"
    ) as process:

        def refusals():
            return [line for line in process.log if "poll failed" in line]

        line = eventually(refusals, "the refusal is logged")[0]
        assert message in line
        assert "APIGW.0301" in line
        assert "code=401" in line
        assert "request_id=" in line
        name = "pipeline_exporter_api_errors_total"
        eventually(lambda: process.samples().value(name, error_code="APIGW.0301"), "the refusal is counted")
        assert process.samples().value("pipeline_exporter_project_up") == 0
        assert process.stop() == 0
        polls = len(refusals())
        assert len(cloud.codearts.requests) <= polls + 1
    secrets = [value for key, value in auth.items() if key != "method"]
    assert not any(secret in line for secret in secrets for line in process.log)


def test_rotated_secret_file_is_used_by_the_next_poll(tmp_path, cloud):
    token = tmp_path / "token"
    token.write_text("old\n")
    auth = {"method": "token", "token_file": str(token)}
    with exporter(tmp_path, quick(cloud.project(auth=auth)), "--log.level=debug") as process:
        eventually(lambda: any("decrypt token fail" in line for line in process.log), "the refusal")
        token.unlink()
        eventually(
            lambda: any(f"cannot read the secret file {token}" in line for line in process.log), "the gap"
        )
        token.write_text(cloud.codearts.credentials.token + "\n")
        eventually(lambda: process.samples().value("pipeline_exporter_project_up") == 1, "the recovery")


def test_unreadable_record_affects_its_pipeline_only(tmp_path, cloud):
    """It is counted each time and logged once."""
    cloud.codearts.injected_fault = InjectedFault.GARBLED
    with exporter(tmp_path, quick(cloud.project())) as process:
        eventually(
            lambda: (
                (
                    process.samples().value("pipeline_exporter_rejected_records_total", reason="unreadable")
                    or 0
                )
                >= 2
            ),
            "the record is rejected twice",
        )
        samples = process.samples()
        assert samples.value("pipeline_exporter_project_up") == 1
        runs = sum(
            cloud.codearts.world.latest_run(pipeline.id, cloud.codearts.clock()) is not None
            for pipeline in cloud.codearts.world.pipelines
        )
        assert len(samples.get("ci_pipeline_latest_run_number")) == runs - 1
        assert sum("record rejected" in line for line in process.log) == 1


def test_unreachable_project_does_not_affect_another(tmp_path, cloud):
    named = [{"id": PIPELINE_ID, "name": "known-by-name"}]
    dead = project(name="dead", endpoint="http://127.0.0.1:9", pipelines=named)
    with exporter(tmp_path, quick(dead, cloud.project(name="alive"))) as process:
        eventually(lambda: process.get("/-/ready").status_code == 200, "both first refreshes")
        samples = process.samples()
        assert samples.value("pipeline_exporter_project_up", project="alive") == 1
        assert samples.value("pipeline_exporter_project_up", project="dead") == 0
        assert samples.value("ci_pipeline_up", project="dead") == 0
        assert len(samples.get("ci_pipeline_up", project="alive")) == 30
        success = "pipeline_exporter_last_success_timestamp_seconds"
        assert (samples.value(success, project="alive") or 0) > time.time() - 60
        # A project without any response has no last success; the start of the process does not replace it.
        assert samples.value(success, project="dead") is None
        assert samples.value("pipeline_exporter_last_poll_timestamp_seconds", project="dead")
        of_projects = [
            line for line in samples.lines if line.startswith("pipeline_exporter_") and 'project="' in line
        ]
        assert len(of_projects) > 50
        assert [line for line in of_projects if 'provider="codearts"' not in line] == []


@pytest.fixture(scope="module")
def shared_cloud():
    with small_cloud() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def process(tmp_path_factory, shared_cloud):
    """A running exporter for all tests that only read its pages."""
    with exporter(tmp_path_factory.mktemp("http"), quick(shared_cloud.project())) as process:
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        yield process


class TestHttp:
    """The pages of a running exporter."""

    def test_page_is_text_by_default(self, process):
        answer = process.get("/metrics", headers={"Accept": "*/*", "Accept-Encoding": "identity"})
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "content-encoding" not in answer.headers
        assert answer.text.endswith("\n")

    def test_page_is_openmetrics_on_request(self, process):
        answer = process.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert answer.text.endswith("# EOF\n")
        names = {family.name for family in parse_openmetrics(answer.text)}
        assert {"ci_pipeline_runs", "ci_pipeline", "pipeline_exporter_build"} <= names

    def test_gzip_is_one_member(self, process):
        with socket.create_connection(process.address().split(":")) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, body = answer.split(b"\r\n\r\n", 1)
        assert b"content-encoding: gzip" in head.lower()
        assert gzip.decompress(body).startswith(b"# HELP")
        # A second member would begin with the magic number again.
        assert body.count(b"\x1f\x8b\x08\x00") == 1

    @pytest.mark.parametrize("path", ["/metrics", "/", "/config", "/-/healthy", "/-/ready"])
    def test_head_has_the_headers_of_get(self, process, path):
        got, head = process.get(path), process.request("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        names = ["content-type", "content-encoding", "vary"]
        if path not in {
            "/metrics",
            "/",
        }:  # another page may have been published in between, or a second has passed
            names.append("content-length")
        assert {name: head.headers.get(name) for name in names} == {
            name: got.headers.get(name) for name in names
        }
        assert int(head.headers["content-length"]) > 0

    @pytest.mark.parametrize("path", ["/metrics", "/", "/config", "/-/healthy", "/-/ready"])
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_other_methods_are_405(self, process, method, path):
        answer = process.request(method, path)
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]

    @pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/-/", "/favicon.ico"])
    def test_other_paths_are_404(self, process, path):
        assert process.get(path).status_code == 404

    def test_status_page_links_to_existing_pages(self, process):
        page = process.get("/").text
        links = {unescape(link) for link in re.findall(r'(?:href|src|action)="([^"]+)"', page)}
        assert {
            "/metrics",
            "/config",
            "/api/v1/status",
            "/assets/status.css",
            "/?sort=name#pipelines",
        } <= links
        own = {link for link in links if link.startswith("/")}
        assert sum(link.startswith("/pipeline?") for link in own) == 30
        for link in sorted(own):
            assert process.get(link).status_code == 200, link

    def test_status_needs_no_unsafe_inline(self, process):
        for path in (
            "/",
            "/?status=red",
            "/api/v1/status",
            "/pipeline",
            "/assets/status.js",
            "/?status=green",
        ):
            headers = process.get(path).headers
            assert "unsafe" not in headers["content-security-policy"]
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
        page = process.get("/").text
        assert not re.findall(r"<style|<script>|\sstyle=|\son\w+=", page)

    def test_status_as_json_has_the_pipelines_of_the_page(self, process):
        found = process.get("/api/v1/status?sort=name&q=").json()
        [project] = found["projects"]
        assert (project["project"], project["up"], project["pipelines"]) == ("payments", True, 30)
        assert found["total"] == len(found["pipelines"]) == 30

        def agree():
            samples, pipelines = process.samples(), process.get("/api/v1/status").json()["pipelines"]
            labels = [{"pipeline_id": one["pipeline_id"], "status": one["status"]} for one in pipelines]
            return [samples.value("ci_pipeline_latest_run_status", **one) for one in labels] == [1] * 30

        eventually(agree, "both pages show the same statuses")
        assert process.get("/api/v1/status?status=green").status_code == 400
        assert process.get("/pipeline?project=payments&pipeline_id=x").status_code == 404

    def test_config_page_has_defaults_and_masked_secrets(self, process, shared_cloud):
        text = process.get("/config").text
        assert "token: <secret>" in text
        assert "max_age: 15m" in text
        assert shared_cloud.codearts.credentials.token not in text


def test_status_page_shows_a_project_that_is_down(tmp_path, cloud):
    refused = cloud.project(name="refused", auth={"method": "token", "token": "a-token-that-is-wrong"})
    healthy = cloud.project(3, name="healthy")
    refused["pipelines"] = refused["pipelines"][3:]
    with exporter(tmp_path, quick(refused, healthy)) as process:

        def both():
            found = process.get("/api/v1/status").json()["projects"]
            return found if [one["up"] for one in found] == [False, True] else None

        down, up = eventually(both, "one project is down and the other one up")
        assert down["error_code"]
        assert down["error_code"] in down["cause"]
        assert (down["remedy"], down["credentials_accepted"]) == ("credentials-rejected", False)
        # Both are read from the clock when the first poll has failed, one a little later.
        assert down["last_poll"] + 1 > down["down_since"] > time.time() - 60
        assert (up["down_since"], up["remedy"], up["credentials_accepted"]) == (None, None, True)
        assert up["requests_per_minute"] > 0 < up["budget_left"] <= up["budget"]
        page = process.get("/").text
        assert "refused has been down since" in page
        assert down["error_code"] in page
        assert "docs/troubleshooting.md#credentials-rejected" in page
        assert "a-token-that-is-wrong" not in page


def test_not_ready_before_the_first_refresh_has_ended(tmp_path, cloud):
    """The metrics page is served with the exporter's own series."""
    cloud.codearts.latency = 1.0
    with exporter(tmp_path, quick(cloud.project(), chunk_size=10)) as process:
        assert process.get("/-/healthy").status_code == 200
        assert process.get("/-/ready").status_code == 503
        samples = process.samples()
        assert samples.value("pipeline_exporter_project_up") == 0
        assert samples.value("pipeline_exporter_build_info") == 1
        assert samples.value("pipeline_exporter_pipelines") == 30
        assert not samples.get("ci_pipeline_up")
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        assert len(process.samples().get("ci_pipeline_up")) == 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_a_poll_stops_the_exporter_with_0(tmp_path, cloud, number):
    """It stops soon, and without a traceback of the cancelled poll."""
    cloud.codearts.injected_fault = InjectedFault.DRIP
    with exporter(tmp_path, quick(cloud.project(), timeout="1m")) as process:
        eventually(lambda: cloud.codearts.in_flight, "a request is in flight")
        assert process.get("/-/healthy").status_code == 200
        assert process.stop(number) == 0
    assert not any("Traceback" in line or "level=error" in line for line in process.log)


def test_port_in_use_exits_with_1(tmp_path, cloud):
    file = tmp_path / "config.yaml"
    with exporter(tmp_path, quick(cloud.project())) as process:
        code, _, errors = command(
            "run", "--config.file", str(file), "--web.listen-address", process.address()
        )
    assert code == 1
    assert f"cannot listen on {process_address(errors)}" in errors
    assert "Traceback" not in errors


def process_address(text):
    found = re.search(r"cannot listen on (\S+):", text)
    assert found, text
    return found[1]


def test_environment_variable_sets_the_telemetry_path(tmp_path, cloud):
    with exporter(
        tmp_path, quick(cloud.project()), environment={"PIPELINE_EXPORTER_WEB_TELEMETRY_PATH": "/pipelines"}
    ) as process:
        assert process.get("/pipelines").status_code == 200
        assert process.get("/metrics").status_code == 404
        assert 'href="/pipelines"' in process.get("/").text


def test_demo_serves_metrics_of_both_simulated_clouds(tmp_path):
    process = Process(["demo", "--web.listen-address", "127.0.0.1:0", "--simulate.pipelines", "40"])
    try:
        address = process.address()
        eventually(lambda: process.get("/-/ready").status_code == 200, "the first refresh")
        samples = process.samples()
        for provider in ("codearts", "flow"):
            assert len(samples.get("ci_pipeline_up", provider=provider)) == 40
            assert samples.value("pipeline_exporter_project_up", provider=provider) == 1
        assert f"http://{address}/metrics" in "".join(process.output)
    finally:
        assert process.stop() == 0


def test_simulate_prints_a_configuration_for_its_clouds(tmp_path):
    process = Process(["simulate", "--web.listen-address", "127.0.0.1:0", "--simulate.pipelines", "5"])
    try:
        eventually(lambda: "".join(process.output).endswith("\n\n"), "the configuration is printed")
        file = tmp_path / "config.yaml"
        printed = "".join(process.output)
        assert not re.search(r"[&*]\w", printed), "anchors and aliases"
        sections = yaml.safe_load(printed)["projects"]
        assert [section["rate_limit"] for section in sections] == [
            {"requests_per_second": 200, "burst": 100}
        ] * 2
        file.write_text(printed)
        code, output, errors = command("once", "--config.file", str(file))
        assert code == 0
        # As in the real cloud, some triggers of Flow are undocumented.
        assert all("field=trigger_mode" in line for line in errors.splitlines())
        assert output.count("ci_pipeline_up{") == 10
    finally:
        assert process.stop() == 0


def test_failed_polls_leak_no_file_descriptors(tmp_path, cloud):
    """Hardly more files are open after polls with faulty responses."""
    with exporter(tmp_path, quick(cloud.project(), interval="100ms")) as process:
        eventually(lambda: len(cloud.codearts.requests) > 20, "some polls")
        before = process.open_files()
        for injected_fault in (InjectedFault.TRUNCATED, InjectedFault.CUT, InjectedFault.HTML):
            cloud.codearts.injected_fault = injected_fault
            cloud.codearts.requests.clear()
            eventually(lambda: len(cloud.codearts.requests) > 5, f"polls under {injected_fault}")
        cloud.codearts.injected_fault = None
        eventually(lambda: process.samples().value("pipeline_exporter_project_up") == 1, "the recovery")
        assert process.open_files() <= before + 4
