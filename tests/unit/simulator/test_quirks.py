"""Each switch of the simulated CodeArts takes effect at once, and only when it is set."""

from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from exporter.simulator import Credentials, InjectedFault, RecordedRequest
from exporter.simulator.http.switches import Switches
from tests.unit.simulator.test_codearts import NOW, RUNNING_PIPELINES, WORLD, Desk

IDS = [pipeline.id for pipeline in RUNNING_PIPELINES[:4]]
OPERATIONS = {
    "BatchShowPipelinesLatestStatus": ("POST", "status", IDS),
    "ListPipelines": ("POST", "list", {"project_id": WORLD.project_id}),
    "ShowPipelineRunDetail": ("GET", f"{IDS[0]}/pipeline-runs/detail", None),
    "ListPipelineRuns": ("POST", f"{IDS[0]}/pipeline-runs/list", {}),
}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def _request(desk: Desk, operation: str) -> Any:
    method, path, body = OPERATIONS[operation]
    return desk.request(method, f"{desk.pipelines}/{path}", json=body)


@pytest.mark.parametrize(
    ("form", "code"), [(400, "DEVPIPE.00010002"), (413, "APIGW.0201"), (200, "DEVPIPE.00010002")]
)
def test_batch_above_the_limit_is_refused(desk: Desk, form: Any, code: str) -> None:
    desk.cloud.batch_limit, desk.cloud.batch_refusal = 3, form
    assert len(desk.batch(*IDS[:3]).json()) == 3
    refused = desk.batch(*IDS)
    assert (refused.status_code, refused.json()["error_code"]) == (form, code)
    assert desk.cloud.requests[-1] == RecordedRequest("BatchShowPipelinesLatestStatus", tuple(IDS), form, NOW)


def test_poison_id_fails_the_whole_batch_and_its_own_detail(desk: Desk) -> None:
    desk.cloud.poison = {IDS[2]}
    assert len(desk.batch(*IDS[:2], IDS[3]).json()) == 3
    refused = desk.batch(*IDS)
    assert (refused.status_code, refused.json()["error_code"]) == (200, "DEVPIPE.00011136")
    assert desk.detail(IDS[2])["error_code"] == desk.runs(IDS[2])["error_code"] == "DEVPIPE.00011136"
    assert desk.detail(IDS[1])["pipeline_id"] == IDS[1]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_throttle_uses_a_sliding_window(desk: Desk, operation: str) -> None:
    """Refused requests count as well."""
    desk.cloud.throttle = 3, 10
    statuses = []
    for after in (0, 4, 4, 1, 1.5, 10):
        desk.now += after
        statuses.append(_request(desk, operation).status_code)
    # At 10.5 s the request at 0 s has left the window, but three others are within it.
    assert statuses == [200, 200, 200, 429, 429, 200]


@pytest.mark.parametrize(
    ("seconds", "window"), [(1, "1 second"), (90, "90 second"), (60, "1 minute"), (300, "5 minute")]
)
def test_throttling_error_has_the_documented_text(desk: Desk, seconds: float, window: str) -> None:
    desk.cloud.throttle = 1, seconds
    desk.batch()
    refused = desk.batch()
    assert refused.status_code == 429
    assert refused.json()["error_code"] == "APIGW.0308"
    assert refused.json()["error_msg"] == (
        f"The throttling threshold has been reached: policy user over ratelimit,limit:1,time:{window}"
    )
    assert "retry-after" not in refused.headers


def test_request_after_retry_after_is_accepted(desk: Desk) -> None:
    desk.cloud.throttle, desk.cloud.retry_after = (2, 10), True
    for _ in range(2):
        desk.batch()
        desk.now += 2.5
    wait = desk.batch().headers["retry-after"]
    assert int(wait) == 8  # the second of two passed 2.5 s ago, and this one counts
    desk.now += int(wait)
    assert desk.batch().status_code == 200


def test_requests_without_credentials_are_not_throttled(desk: Desk) -> None:
    desk.cloud.throttle = 1, 10
    for _ in range(3):
        assert desk.request("POST", f"{desk.pipelines}/status", headers={}, json=[]).status_code == 401
    assert desk.batch().status_code == 200


@pytest.mark.parametrize("skew", [-1_200, 1_200])
def test_skew_changes_date_and_signature_check_but_not_runs(desk: Desk, skew: float) -> None:
    desk.cloud.skew = skew
    path = f"{desk.pipelines}/{IDS[0]}/pipeline-runs/detail"
    refused = desk.sign("GET", path, Credentials())
    assert "signature expired" in refused.json()["error_msg"]
    assert parsedate_to_datetime(refused.headers["date"]).timestamp() == int(NOW + skew)
    answer = desk.sign("GET", path, Credentials(), skew=skew)
    assert answer.json() == Desk().detail(IDS[0])
    assert desk.cloud.requests[-1].at == NOW


# These have no end, or end with the connection; other tests try them on a port.
ENDLESS = {InjectedFault.HUGE, InjectedFault.DRIP, InjectedFault.TRUNCATED}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "injected_fault", [m for m in InjectedFault if m not in ENDLESS], ids=lambda m: m.name
)
def test_injected_fault_replaces_the_answer_of_any_operation(
    desk: Desk, operation: str, injected_fault: InjectedFault
) -> None:
    good = _request(desk, operation)
    assert good.status_code == 200
    desk.cloud.injected_fault = injected_fault
    bad = _request(desk, operation)
    assert (bad.status_code, bad.content) != (200, good.content)
    if injected_fault is InjectedFault.GARBLED:
        with pytest.raises(UnicodeDecodeError):
            bad.content.decode()
        assert bad.content.decode("utf-8", "ignore") == good.text
    desk.cloud.injected_fault_operation = operation
    assert _request(desk, operation).status_code == bad.status_code
    desk.cloud.injected_fault_operation = "Another"
    assert _request(desk, operation).content == good.content


def test_injected_fault_does_not_replace_an_error_of_the_service(desk: Desk) -> None:
    desk.cloud.injected_fault = InjectedFault.BAD_GATEWAY
    assert desk.detail("f" * 32)["error_code"] == "DEVPIPE.00011401"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_requires_credentials_and_its_method(desk: Desk, operation: str) -> None:
    method, path, _ = OPERATIONS[operation]
    other = "GET" if method == "POST" else "POST"
    assert desk.request(method, f"{desk.pipelines}/{path}", headers={}).status_code == 401
    assert desk.cloud.requests[-1].operation == operation
    assert desk.request(other, f"{desk.pipelines}/{path}").json()["error_code"] == "APIGW.0101"
    assert desk.request("HEAD", f"{desk.pipelines}/{path}").status_code == 404


def test_every_switch_is_documented(desk: Desk) -> None:
    text = Switches.__doc__ or ""
    for name in vars(Switches()):
        assert f"`{name}`" in text, name
        assert hasattr(desk.cloud, name)
