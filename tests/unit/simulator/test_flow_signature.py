"""Flow's gateway accepts requests signed by the vendor's own signers, each once, and nothing else."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import FlowCredentials
from exporter.simulator.flow import signature
from exporter.simulator.flow.auth_check import SignatureCheck
from tests.marks import examples
from tests.unit.simulator.test_flow import NOW, OWN, SharedPort, Site

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "aliyun_acs3_vectors.json").read_bytes())[
    "vectors"
]
# Vectors of this product's API, and their date.
SIGNED_AT = 1704164645.0
OWN_VECTORS = [vector for vector in VECTORS if vector["headers"]["x-acs-version"] == "2021-06-25"]
TRUE = FlowCredentials()
TEMPORARY = FlowCredentials(security_token="temporary/+==")


@pytest.fixture(scope="module")
def port() -> Iterator[SharedPort]:
    with SharedPort.open() as port:
        yield port


@pytest.fixture
def site(port: SharedPort) -> Site:
    return Site(port)


def _wire(vector: dict[str, Any]) -> dict[str, Any]:
    """Return the bytes on the wire for a vector."""
    body = vector["body"].encode()
    headers = vector["headers"] | {
        "host": vector["host"],
        "authorization": vector["authorization"],
        "x-acs-date": vector["date"],
        "x-acs-signature-nonce": vector["nonce"],
        "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
    }
    if vector["security_token"] is not None:
        headers["x-acs-security-token"] = vector["security_token"]
    return {
        "method": vector["method"],
        "raw_path": vector["path"].encode(),
        # Reversed: the signature sorts the parameters, regardless of the order on the wire.
        "raw_query": "&".join(reversed(vector["wire_query"].split("&"))).encode(),
        "headers": {name.encode(): value.encode() for name, value in headers.items()},
        "body": body,
    }


# -- the vendor's signers


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_signatures_of_the_vendor_match(vector: dict[str, Any]) -> None:
    given = signature.parse(vector["authorization"])
    assert given is not None
    assert given.access_key == vector["access_key"]
    canonical = signature.canonical_request(**_wire(vector), signed_headers=given.signed_headers)
    assert signature.signature(vector["secret_key"], canonical) == given.signature


@pytest.mark.parametrize("vector", OWN_VECTORS, ids=lambda vector: vector["name"])
def test_signed_request_of_the_vendor_is_accepted_once(vector: dict[str, Any]) -> None:
    credentials = FlowCredentials(vector["access_key"], vector["secret_key"], vector["security_token"])
    signature_check = SignatureCheck()

    def code(now: float) -> str | None:
        action = vector["headers"]["x-acs-action"]
        error = signature_check.refusal(credentials, operation=action, now=now, **_wire(vector))
        return None if error is None else error.code

    assert code(SIGNED_AT + 901) == code(SIGNED_AT - 901) == "InvalidTimeStamp.Expired"
    assert code(SIGNED_AT) is None
    assert code(SIGNED_AT + 1) == "SignatureNonceUsed"


@pytest.mark.parametrize(
    "header", ["", "Bearer x", signature.ALGORITHM, f"{signature.ALGORITHM} Credential=a"]
)
def test_authorization_of_another_scheme_is_not_parsed(header: str) -> None:
    assert signature.parse(header) is None


# -- accepted requests


@examples(60)
@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20))
def test_any_query_text_can_be_signed(port: SharedPort, name: str) -> None:
    """Clients send a space as %20 or as a plus, and sign it as %20."""
    site = Site(port)
    for plus in (False, True):
        query = urlencode({"pipelineName": name, "nextToken": ""}, quote_via=quote)
        headers = site.sign(f"{site.pipelines}?{query}", "ListPipelines")
        wire = query.replace("%20", "+") if plus else query
        answer = site.client.get(f"{site.pipelines}?{wire}", headers=headers)
        assert answer.status_code == 200, answer.text


def test_additional_signed_headers_are_accepted(site: Site) -> None:
    headers = site.sign(
        site.pipelines,
        "ListPipelines",
        accept="application/json",
        user_agent="test/1.0",
        x_acs_extra="yes",
    )
    assert site.client.get(site.pipelines, headers=headers).status_code == 200


def test_temporary_key_requires_its_security_token(site: Site) -> None:
    site.cloud.credentials = TEMPORARY

    def code(**changes: Any) -> str:
        headers = site.sign(site.pipelines, "ListPipelines", **changes)
        return str(site.client.get(site.pipelines, headers=headers).json().get("Code"))

    assert code() == "None"
    assert code(x_acs_accesskey_id=TEMPORARY.access_key) == "None"
    assert code(credentials=TRUE) == "MissingSecurityToken"
    assert code(x_acs_security_token="other") == "InvalidSecurityToken.MismatchWithAccessKey"
    assert code(unsigned=frozenset({"x-acs-security-token"})) == "IncompleteSignature"
    site.cloud.expires = NOW
    assert code() == "InvalidSecurityToken.Expired"
    site.cloud.credentials = TRUE
    assert code() == "None"
    assert code(credentials=TEMPORARY) == "InvalidSecurityToken.MismatchWithAccessKey"


def test_rotated_credentials_take_effect_at_once(site: Site) -> None:
    site.cloud.credentials = FlowCredentials("LTAIrotated", "rotated")
    assert site.listed()["success"] is True
    headers = site.sign(site.pipelines, "ListPipelines", credentials=TRUE)
    assert site.client.get(site.pipelines, headers=headers).json()["Code"] == "InvalidAccessKeyId.NotFound"


# -- refused requests

REFUSALS: dict[str, tuple[dict[str, Any], int, str]] = {
    "foreign key": ({"credentials": FlowCredentials(access_key="FOREIGN")}, 404, "InvalidAccessKeyId.NotFound"),
    "wrong secret": ({"credentials": FlowCredentials(secret_key="x")}, 400, "SignatureDoesNotMatch"),
    "slow clock": ({"at": NOW - 902}, 400, "InvalidTimeStamp.Expired"),
    "fast clock": ({"at": NOW + 902}, 400, "InvalidTimeStamp.Expired"),
    "no moment": ({"x_acs_date": "20240102T030405Z"}, 400, "InvalidTimeStamp.Format"),
    "no date": ({"x_acs_date": ""}, 400, "MissingTimestamp"),
    "no nonce": ({"x_acs_signature_nonce": ""}, 400, "MissingSignatureNonce"),
    "no action": ({"x_acs_action": ""}, 400, "MissingAction"),
    "other action": ({"x_acs_action": "GetPipeline"}, 404, "InvalidApi.NotFound"),
    "other version": ({"x_acs_version": "2020-03-03"}, 400, "InvalidVersion"),
    "other body": ({"body": b"{}"}, 400, "SignatureDoesNotMatch"),
    "other hash": ({"x_acs_content_sha256": hashlib.sha256(b"{}").hexdigest(), "body": b"{}"}, 400, "SignatureDoesNotMatch"),
    "host unsigned": ({"unsigned": frozenset({"host"})}, 400, "IncompleteSignature"),
    "nonce unsigned": ({"unsigned": frozenset({"x-acs-signature-nonce"})}, 400, "IncompleteSignature"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_invalid_requests_are_refused_with_status_and_code(site: Site, case: str) -> None:
    changes, status, code = REFUSALS[case]
    headers = site.sign(site.pipelines, "ListPipelines", **changes)
    answer = site.client.get(site.pipelines, headers=headers)
    assert (answer.status_code, answer.json()["Code"]) == (status, code)
    assert answer.json()["HostId"] == site.host
    assert site.cloud.requests[-1].operation == "ListPipelines"


@pytest.mark.parametrize("header", ["", "Bearer x", "acs key:signature"])
def test_request_without_signature_is_refused(site: Site, header: str) -> None:
    headers = site.sign(site.pipelines, "ListPipelines") | {"authorization": header}
    code = site.client.get(site.pipelines, headers=headers).json()["Code"]
    assert code == ("IncompleteSignature" if header else "MissingAccessKeyId")


def test_signature_is_valid_for_one_request_only(site: Site) -> None:
    """Another path, query or header is refused, as is a repetition. A refused request does not use up the nonce."""
    path = f"{site.pipelines}/{site.id(OWN)}/pipelineRuns"
    headers = site.sign(f"{path}?maxResults=1", "ListPipelineRuns")
    for other in (f"{path}?maxResults=2", path, f"{path}?maxResults=1&status=FAIL"):
        assert site.client.get(other, headers=headers).json()["Code"] == "SignatureDoesNotMatch"
    stranger = site.client.get(f"{path}?maxResults=1", headers=headers | {"x-acs-signature-nonce": "1"})
    assert stranger.json()["Code"] == "SignatureDoesNotMatch"
    assert site.client.get(f"{path}?maxResults=1", headers=headers).json()["success"] is True
    assert site.client.get(f"{path}?maxResults=1", headers=headers).json()["Code"] == "SignatureNonceUsed"
    site.now += 899
    assert site.client.get(f"{path}?maxResults=1", headers=headers).json()["Code"] == "SignatureNonceUsed"
    site.now += 2
    assert (
        site.client.get(f"{path}?maxResults=1", headers=headers).json()["Code"] == "InvalidTimeStamp.Expired"
    )


def test_wrong_signature_error_contains_the_canonical_request(site: Site) -> None:
    headers = site.sign(site.pipelines, "ListPipelines", credentials=FlowCredentials(secret_key="x"))
    message = site.client.get(site.pipelines, headers=headers).json()["Message"]
    assert f"server CanonicalRequest is [GET\n{site.pipelines}\n" in message
    assert TRUE.secret_key not in message


def test_expired_nonces_are_dropped() -> None:
    signature_check = SignatureCheck()
    for index in range(100):
        assert signature_check._check_nonce(f"nonce {index}", SIGNED_AT + index * 60) is None
    assert len(signature_check._nonces) < 40
