"""Tokens and temporary keys from issue to expiry."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from exporter.simulator import Credentials, InjectedFault, RecordedRequest
from tests.unit.simulator.test_codearts import NOW, RUNNING_PIPELINES, WORLD, Desk

FAKE = Credentials()
TOKENS = "/v3/auth/tokens?nocatalog=true"
KEY = "/openstack/latest/securitykey"
IMDS = "/meta-data/latest/api/token"
TTL = "X-Metadata-Token-Ttl-Seconds"
LATEST = f"/v5/{WORLD.project_id}/api/pipelines/{RUNNING_PIPELINES[0].id}/pipeline-runs/detail"


@pytest.fixture
def desk() -> Desk:
    return Desk()


def _body(credentials: Credentials = FAKE, scope: dict[str, str] | None = None) -> dict[str, Any]:
    user = {
        "domain": {"name": credentials.domain},
        "name": credentials.username,
        "password": credentials.password,
    }
    return {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": scope or {"name": WORLD.region}},
        }
    }


def _issued(desk: Desk) -> str:
    answer = desk.request("POST", TOKENS, headers={}, json=_body(desk.cloud.credentials))
    assert answer.status_code == 201
    return answer.headers["x-subject-token"]


def _status(desk: Desk, token: str) -> int:
    return desk.request("GET", LATEST, headers={"X-Auth-Token": token}).status_code


def _error(desk: Desk, token: str) -> tuple[str, str]:
    body = desk.request("GET", LATEST, headers={"X-Auth-Token": token}).json()
    return body["error_code"], body["error_msg"]


def _moment(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()


# -- IAM


@pytest.mark.parametrize("scope", [{"name": WORLD.region}, {"id": WORLD.iam_project_id}])
def test_password_gets_a_token(desk: Desk, scope: dict[str, str]) -> None:
    answer = desk.request("POST", TOKENS, headers={}, json=_body(scope=scope))
    assert answer.status_code == 201
    token = answer.json()["token"]
    assert _moment(token["issued_at"]) == pytest.approx(NOW)
    assert _moment(token["expires_at"]) == pytest.approx(NOW + 86_400)
    assert token["project"]["name"] == WORLD.region
    assert token["project"]["id"] == WORLD.iam_project_id != WORLD.project_id
    assert token["user"]["name"] == FAKE.username
    assert token["catalog"] == []
    assert _status(desk, answer.headers["x-subject-token"]) == 200
    assert desk.cloud.requests[0] == RecordedRequest("KeystoneCreateUserTokenByPassword", (), 201, NOW)


def test_token_without_nocatalog_has_a_catalog(desk: Desk) -> None:
    answer = desk.request("POST", "/v3/auth/tokens", headers={}, json=_body())
    assert answer.json()["token"]["catalog"]


@pytest.mark.parametrize(
    "wrong",
    [Credentials(username="another"), Credentials(password="another"), Credentials(domain="another")],
)
def test_wrong_password_has_the_error_of_iam(desk: Desk, wrong: Credentials) -> None:
    answer = desk.request("POST", TOKENS, headers={}, json=_body(wrong))
    assert answer.status_code == 401
    assert answer.json() == {
        "error": {"code": 401, "message": "The username or password is wrong.", "title": "Unauthorized"}
    }


def test_password_for_a_missing_project_is_401(desk: Desk) -> None:
    assert (
        desk.request("POST", TOKENS, headers={}, json=_body(scope={"name": "elsewhere"})).status_code == 401
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"auth": 1}',
        json.dumps({"auth": {"identity": _body()["auth"]["identity"]}}).encode(),
        json.dumps(_body()).replace('["password"]', '["token"]').encode(),
        json.dumps(_body()).replace(f'"{FAKE.password}"', "5").encode(),
    ],
)
def test_malformed_body_is_400(desk: Desk, body: bytes) -> None:
    answer = desk.request("POST", TOKENS, headers={}, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == 400


def test_token_is_refused_after_its_lifetime(desk: Desk) -> None:
    desk.cloud.token_lifetime = 3_600
    token = _issued(desk)
    desk.now += 3_599
    assert _status(desk, token) == 200
    desk.now += 1
    code, text = _error(desk, token)
    assert (code, _status(desk, token)) == ("APIGW.0301", 401)
    reason, _, when = text.rpartition("expires_at: ")
    assert reason.endswith("token expires, ")
    assert _moment(when) == pytest.approx(NOW + 3_600)


def test_new_token_keeps_the_old_one_valid_and_revocation_ends_both(desk: Desk) -> None:
    old, new = _issued(desk), _issued(desk)
    assert old != new
    assert _status(desk, old) == _status(desk, new) == 200
    desk.cloud.revoke_tokens()
    assert _error(desk, old) == _error(desk, new) == ("APIGW.0307", "The token must be updated")
    assert _status(desk, new) == 401
    assert _status(desk, _issued(desk)) == _status(desk, FAKE.token) == 200


def test_replaced_credentials_take_effect_at_once(desk: Desk) -> None:
    assert desk.sign("GET", LATEST, FAKE).status_code == 200
    desk.cloud.credentials = new = Credentials(
        access_key="ROTATED", secret_key="new", token="new", password="new"
    )
    assert desk.sign("GET", LATEST, FAKE).status_code == 401
    assert desk.sign("GET", LATEST, new).status_code == 200
    assert (_status(desk, FAKE.token), _status(desk, "new")) == (401, 200)
    assert desk.request("POST", TOKENS, headers={}, json=_body()).status_code == 401
    assert _issued(desk)


def test_service_works_while_iam_is_down(desk: Desk) -> None:
    token = _issued(desk)
    desk.cloud.iam_down = True
    answer = desk.request("POST", TOKENS, headers={}, json=_body())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, 503)
    assert _status(desk, token) == 200


def test_oldest_token_is_dropped_after_a_thousand(desk: Desk) -> None:
    first = _issued(desk)
    for _ in range(1_000):
        desk.cloud._iam.issue(json.dumps(_body()).encode(), FAKE, NOW, catalog=False)
    assert "decrypt token fail" in _error(desk, first)[1]


# -- the metadata service


def _temporary(answer: Any) -> Credentials:
    credential = answer.json()["credential"]
    assert set(credential) == {"access", "secret", "securitytoken", "expires_at"}
    return Credentials(
        access_key=credential["access"],
        secret_key=credential["secret"],
        security_token=credential["securitytoken"],
    )


def test_key_of_the_metadata_service_is_accepted_by_the_gateway(desk: Desk) -> None:
    answer = desk.request("GET", KEY, headers={})
    key = _temporary(answer)
    assert _moment(answer.json()["credential"]["expires_at"]) == pytest.approx(NOW + 3_600)
    assert desk.sign("GET", LATEST, key).status_code == 200
    without = Credentials(access_key=key.access_key, secret_key=key.secret_key)
    assert desk.sign("GET", LATEST, without).status_code == 401
    forged = Credentials(access_key=key.access_key, secret_key="x", security_token=key.security_token)
    assert desk.sign("GET", LATEST, forged).status_code == 401
    assert [call.operation for call in desk.cloud.requests][:2] == [
        "MetadataSecurityKey",
        "ShowPipelineRunDetail",
    ]


def test_key_is_rotated_ten_minutes_before_it_expires(desk: Desk) -> None:
    old = _temporary(desk.request("GET", KEY, headers={}))
    desk.now += 2_999
    assert _temporary(desk.request("GET", KEY, headers={})) == old
    desk.now += 1
    new = _temporary(desk.request("GET", KEY, headers={}))
    assert new.access_key != old.access_key
    assert new.secret_key != old.secret_key
    desk.now += 599
    assert desk.sign("GET", LATEST, old).status_code == desk.sign("GET", LATEST, new).status_code == 200
    desk.now += 1
    refused = desk.sign("GET", LATEST, old)
    assert (refused.status_code, refused.json()["error_code"]) == (401, "APIGW.0301")
    assert "expires_at" in refused.json()["error_msg"]
    assert desk.sign("GET", LATEST, new).status_code == 200


def test_short_lived_keys_overlap_by_half(desk: Desk) -> None:
    desk.cloud.key_lifetime = 60
    old = desk.cloud.metadata.key(NOW)
    assert desk.cloud.metadata.key(NOW + 29) == old
    assert desk.cloud.metadata.key(NOW + 30).expires == old.expires + 30 == NOW + 90


@pytest.mark.parametrize(
    "name", ["", "SIMULATED0TEMPORARY0", "SIMULATED0TEMPORARY0AX1", "SIMULATED0TEMPORARY0X", "AX" + "9" * 10]
)
def test_unknown_access_key_is_not_found(desk: Desk, name: str) -> None:
    assert desk.cloud.metadata.find(name) is None


def test_enforced_metadata_token_is_required_and_expires(desk: Desk) -> None:
    desk.cloud.imds_enforced = True
    assert desk.request("GET", KEY, headers={}).status_code == 401
    answer = desk.request("PUT", IMDS, headers={TTL: "60"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    header = {"X-Metadata-Token": answer.text}
    assert _temporary(desk.request("GET", KEY, headers=header)).security_token
    desk.now += 60
    assert desk.request("GET", KEY, headers=header).status_code == 401
    assert {call.operation for call in desk.cloud.requests} == {"MetadataToken", "MetadataSecurityKey"}


def test_wrong_metadata_token_is_refused_even_if_none_is_required(desk: Desk) -> None:
    assert desk.request("GET", KEY, headers={"X-Metadata-Token": "forged"}).status_code == 401


@pytest.mark.parametrize("ttl", [{}, {TTL: "0"}, {TTL: "21601"}, {TTL: "x"}])
def test_metadata_token_lifetime_outside_the_bounds_is_400(desk: Desk, ttl: dict[str, str]) -> None:
    assert desk.request("PUT", IMDS, headers=ttl).status_code == 400


@pytest.mark.parametrize("status", [404, 405, 503])
def test_keys_need_no_metadata_token_where_these_are_off(desk: Desk, status: Any) -> None:
    desk.cloud.imds_off = status
    desk.cloud.imds_enforced = True
    assert desk.request("PUT", IMDS, headers={TTL: "60"}).status_code == status
    assert desk.request("GET", KEY, headers={}).status_code == 200


def test_machine_without_agency_gets_no_key(desk: Desk) -> None:
    desk.cloud.agency = False
    answer = desk.request("GET", KEY, headers={})
    assert (answer.status_code, answer.text) == (401, "Please configure Cloud Service Agency first")


def test_pod_identity_issues_the_same_key(desk: Desk) -> None:
    pod = {"Authorization": FAKE.pod_token}
    answer = desk.request("POST", "/pod-identity", headers=pod, json={})
    assert answer.json() == desk.request("GET", KEY, headers={}).json()
    assert desk.sign("GET", LATEST, _temporary(answer)).status_code == 200
    for wrong in ({}, {"Authorization": "forged"}):
        assert desk.request("POST", "/pod-identity", headers=wrong, json={}).status_code == 401
    assert desk.cloud.requests[0] == RecordedRequest("PodIdentity", (), 200, NOW)


@pytest.mark.parametrize(
    ("method", "path", "body"), [("POST", TOKENS, _body()), ("PUT", IMDS, {}), ("GET", KEY, None)]
)
def test_injected_fault_replaces_answers_of_identity_operations(
    desk: Desk, method: str, path: str, body: Any
) -> None:
    desk.cloud.injected_fault = InjectedFault.BAD_GATEWAY
    assert desk.request(method, path, headers={TTL: "60"}, json=body).status_code == 502


# -- locks


def test_wrong_signatures_in_a_row_lock_the_access_key(desk: Desk) -> None:
    """Valid signatures are refused too until the lock ends; other keys and tokens are not affected."""
    desk.cloud.lock_after, desk.cloud.lock_seconds = 3, 60
    forged = Credentials(secret_key="forged")
    statuses = [desk.sign("GET", LATEST, keys).status_code for keys in [forged, forged, FAKE, forged, forged]]
    assert statuses == [401, 401, 200, 401, 401]
    assert desk.sign("GET", LATEST, FAKE).status_code == 200
    for _ in range(3):
        desk.sign("GET", LATEST, forged)
    locked = desk.sign("GET", LATEST, FAKE)
    assert (locked.status_code, locked.json()["error_code"]) == (401, "APIGW.0301")
    assert _status(desk, FAKE.token) == 200
    desk.now += 60
    assert desk.sign("GET", LATEST, FAKE).status_code == 200


def test_wrong_tokens_in_a_row_lock_tokens(desk: Desk) -> None:
    desk.cloud.lock_after = 2
    good = _issued(desk)
    assert [_status(desk, token) for token in ("a", "b", good, FAKE.token)] == [401] * 4
    assert desk.sign("GET", LATEST, FAKE).status_code == 200
    desk.cloud.lock_after = None
    assert _status(desk, good) == 200


def test_wrong_passwords_in_a_row_lock_the_user(desk: Desk) -> None:
    desk.cloud.lock_after = 2
    for _ in range(2):
        desk.request("POST", TOKENS, headers={}, json=_body(Credentials(password="wrong")))
    assert desk.request("POST", TOKENS, headers={}, json=_body()).status_code == 401
    desk.now += 900
    assert _issued(desk)


def test_expired_credentials_do_not_count_for_the_lock(desk: Desk) -> None:
    desk.cloud.lock_after = 1
    token = _issued(desk)
    desk.cloud.revoke_tokens()
    assert _status(desk, token) == 401
    assert desk.sign("GET", LATEST, FAKE, skew=-1_000).status_code == 401
    assert _status(desk, FAKE.token) == desk.sign("GET", LATEST, FAKE).status_code == 200
