"""Alibaba Cloud signatures: the vendor's vectors, an independent implementation, and general properties."""

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter

from exporter.auth.aliyun import AliyunAccessKey, AuthSection, YunxiaoToken, authentication, signature
from exporter.auth.keys import Keys
from exporter.auth.protocol import Auth, UnsignedRequest, query_string

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "aliyun_acs3_vectors.json").read_bytes()
)["vectors"]
SECTIONS: TypeAdapter[AuthSection] = TypeAdapter(Annotated[AuthSection, Field(discriminator="method")])
NOW = 1_705_307_400.0
"""2024-01-15T08:30:00Z."""
NONCE = "3156853299f313e23d1673dc12e1703d"
KEYS = Keys.of("LTAIexample", "a-secret-key-of-nowhere", "CAIS/token+of==")
REQUEST = UnsignedRequest(
    method="GET",
    host="devops.cn-hangzhou.aliyuncs.com",
    path="/organization/5ebbc0228123212b59xxxxx/pipelines/12222/pipelineRuns",
    query=(("maxResults", "30"), ("status", "RUNNING")),
    headers=(("x-acs-action", "ListPipelineRuns"), ("x-acs-version", "2021-06-25")),
)


def aksk(**changes: Any) -> Auth:
    settings = {
        "method": "aksk",
        "access_key": "LTAIexample",
        "secret_key": "a-secret-key-of-nowhere",
        **changes,
    }
    return authentication(SECTIONS.validate_python(settings))


def sign(request: UnsignedRequest, **changes: Any) -> dict[str, str]:
    return signature(request, **{"now": NOW, "keys": KEYS, "nonce": NONCE, **changes})


# -- the vendor's vectors


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_signature_matches_vendor_vector(vector: dict[str, Any]) -> None:
    """The published example and signatures of the vendor's SDK, and the query as it is sent."""
    request = UnsignedRequest(
        method=vector["method"],
        host=vector["host"],
        path=vector["path"],
        query=tuple((name, value) for name, value in vector["query"]),
        headers=tuple(vector["headers"].items()),
        body=vector["body"].encode(),
    )
    keys = Keys.of(vector["access_key"], vector["secret_key"], vector["security_token"])
    now = datetime.fromisoformat(vector["date"]).timestamp()
    token = {"x-acs-security-token": vector["security_token"]} if vector["security_token"] else {}
    assert signature(request, now, keys, vector["nonce"]) == {
        "x-acs-content-sha256": hashlib.sha256(vector["body"].encode()).hexdigest(),
        "x-acs-date": vector["date"],
        "x-acs-signature-nonce": vector["nonce"],
        **token,
        "Authorization": vector["authorization"],
    }
    assert query_string(request.query) == vector["wire_query"]


def test_vectors_are_complete() -> None:
    assert len(VECTORS) == 14
    assert sum(vector["security_token"] is not None for vector in VECTORS) == 3


# -- an independent implementation

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
segment = text | st.sampled_from(["%41", "%2F", "a/b", "a+b", "~x_y-z.1", "%", "流水线", "a b"])
paths = st.lists(segment, max_size=4).map(
    lambda segments: "/" + "/".join(quote(part, safe="") for part in segments)
)
queries = st.dictionaries(text, text, max_size=4).map(lambda query: tuple(query.items()))
headers_ = st.dictionaries(
    st.sampled_from(["x-acs-action", "x-acs-version", "accept", "content-type", "x-acs-x"]), printable
)
requests = st.builds(
    lambda method, host, path, query, headers, body: UnsignedRequest(
        method=method, host=host, path=path, query=query, headers=tuple(headers.items()), body=body
    ),
    st.sampled_from(["GET", "POST", "PUT"]),
    st.sampled_from(["devops.cn-hangzhou.aliyuncs.com", "127.0.0.1:8080", "[::1]:80"]),
    paths,
    queries,
    headers_,
    st.binary(max_size=60),
)
AUTHORIZATION = re.compile(
    r"ACS3-HMAC-SHA256 Credential=(?P<key>.+?),SignedHeaders=(?P<names>[a-z0-9;-]+),Signature=(?P<proof>[0-9a-f]{64})"
)
DEMANDED = {"host", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce"}


def wire(request: UnsignedRequest, added: dict[str, str]) -> dict[str, str]:
    """Return the headers as the server receives them."""
    sent = {**dict(request.headers), **added, "Host": request.host}
    return {name.lower(): value.strip() for name, value in sent.items()}


def accepted(request: UnsignedRequest, added: dict[str, str], secret_key: str) -> bool:
    """Return whether an independent check accepts a request as sent."""
    headers = wire(request, added)
    authorization = AUTHORIZATION.fullmatch(headers.pop("authorization"))
    assert authorization is not None
    names = authorization["names"].split(";")
    assert names == sorted(set(names))
    assert set(headers) == set(names) >= DEMANDED  # all headers are signed
    payload = hashlib.sha256(request.body).hexdigest()
    if headers["x-acs-content-sha256"] != payload:
        return False
    canonical = (
        f"{request.method}\n{request.path}\n{query_string(request.query)}\n"
        + "".join(f"{name}:{headers[name]}\n" for name in names)
        + f"\n{authorization['names']}\n{payload}"
    )
    to_sign = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
    return hmac.digest(secret_key.encode(), to_sign.encode(), "sha256").hex() == authorization["proof"]


@given(requests, printable, printable, st.none() | printable)
def test_independent_check_accepts_any_request(
    request: UnsignedRequest, access_key: str, secret_key: str, security_token: str | None
) -> None:
    """Any path, query, headers and body, with any keys."""
    auth = aksk(access_key=access_key, secret_key=secret_key, security_token=security_token)
    added = auth.headers(request, NOW)
    assert accepted(request, added, secret_key)
    assert added.get("x-acs-security-token") == security_token
    assert f"Credential={access_key}," in added["Authorization"]


def meaning(request: UnsignedRequest) -> tuple[object, ...]:
    """Return the content of a request, independent of its spelling."""
    return (
        request.method,
        request.host,
        [unquote_to_bytes(part) for part in request.path.split("/")],
        sorted(request.query),
        {name.lower(): value.strip() for name, value in request.headers},
        request.body,
    )


@given(requests, requests, st.sampled_from(["method", "host", "path", "query", "headers", "body"]))
def test_different_requests_have_different_signatures(
    request: UnsignedRequest, other: UnsignedRequest, part: str
) -> None:
    """Any change of method, host, path, query, headers or body changes the signature and invalidates the old one."""
    parts = {name: getattr(request, name) for name in request.__struct_fields__}
    changed = UnsignedRequest(**{**parts, part: getattr(other, part)})
    assume(meaning(changed) != meaning(request))
    added = sign(request)
    assert sign(changed)["Authorization"] != added["Authorization"]
    if part != "headers":
        assert not accepted(changed, added, KEYS.secret_key.reveal())


@pytest.mark.parametrize(
    "changes",
    [
        {"now": NOW + 1},
        {"nonce": NONCE[::-1]},
        {"keys": Keys.of("LTAIanother", "a-secret-key-of-nowhere", "CAIS/token+of==")},
        {"keys": Keys.of("LTAIexample", "another", "CAIS/token+of==")},
        {"keys": Keys.of("LTAIexample", "a-secret-key-of-nowhere", "another")},
        {"keys": Keys.of("LTAIexample", "a-secret-key-of-nowhere")},
    ],
)
def test_time_nonce_and_keys_change_the_signature(changes: dict[str, Any]) -> None:
    assert sign(REQUEST, **changes)["Authorization"] != sign(REQUEST)["Authorization"]


@pytest.mark.parametrize("name", ["x-acs-date", "x-acs-signature-nonce", "x-acs-security-token"])
def test_request_with_changed_signed_header_is_refused(name: str) -> None:
    added = sign(REQUEST)
    assert accepted(REQUEST, added, "a-secret-key-of-nowhere")
    assert not accepted(REQUEST, added | {name: "another"}, "a-secret-key-of-nowhere")


@given(requests, st.randoms(use_true_random=False))
def test_spelling_does_not_change_the_signature(request: UnsignedRequest, random: Any) -> None:
    """Order, case and outer blanks of headers, order of the query, and how much of a path is percent-encoded."""

    def spelled(byte: int) -> str:
        character = chr(byte)
        plain = byte < 128 and (character.isalnum() or character in "-_.~*+:@ ")
        if plain and random.random() < 0.5:
            return character
        encoded = f"%{byte:02x}"
        return encoded if random.random() < 0.5 else encoded.upper()

    headers = [
        (random.choice([name, name.upper(), name.title()]), random.choice(["", " ", "\t"]) + value + " ")
        for name, value in request.headers
    ]
    random.shuffle(headers)
    query = list(request.query)
    random.shuffle(query)
    path = "/".join("".join(map(spelled, unquote_to_bytes(segment))) for segment in request.path.split("/"))
    other = UnsignedRequest(
        method=request.method,
        host=request.host,
        path=path,
        query=tuple(query),
        headers=tuple(headers),
        body=request.body,
    )
    assert sign(other) == sign(request)


def test_bytes_outside_utf_8_are_signed_unchanged() -> None:
    odd, replaced = (UnsignedRequest(method="GET", host="h", path=path) for path in ("/%FF", "/%EF%BF%BD"))
    assert accepted(odd, sign(odd), "a-secret-key-of-nowhere")
    assert sign(odd) != sign(replaced)


def test_empty_path_is_signed_as_root() -> None:
    nothing, root = (UnsignedRequest(method="GET", host="h", path=path) for path in ("", "/"))
    assert sign(nothing) == sign(root)


def test_host_header_of_the_request_is_not_signed() -> None:
    """The signed host is the one that receives the request."""
    forged = UnsignedRequest(method="GET", host="h", path="/", headers=(("Host", "elsewhere"),))
    assert sign(forged) == sign(UnsignedRequest(method="GET", host="h", path="/"))


# -- headers and nonces


def test_action_and_version_of_the_request_are_signed() -> None:
    """They are already in the request and are not added."""
    added = aksk().headers(REQUEST, NOW)
    assert set(added) == {"Authorization", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce"}
    names = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
    assert f",SignedHeaders={names},Signature=" in added["Authorization"]
    assert added["x-acs-date"] == "2024-01-15T08:30:00Z"


def test_nonces_are_unique() -> None:
    """Also in repeated requests and between credentials."""
    auths = [aksk(), aksk()]
    nonces = [auth.headers(REQUEST, NOW)["x-acs-signature-nonce"] for auth in auths * 500]
    assert len(set(nonces)) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", nonce) for nonce in nonces)


@pytest.mark.parametrize(
    "settings", [{"method": "aksk", "access_key": "LTAIexample", "secret_key": "s"}, {"method": "default"}]
)
def test_nonce_can_be_injected(settings: dict[str, str]) -> None:
    """Tests need it to know the signature."""
    environment = {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAIexample",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s",
    }
    auth = authentication(
        SECTIONS.validate_python(settings), environment=environment, nonce=iter("ab").__next__
    )
    for nonce in "ab":
        assert auth.headers(REQUEST, NOW) == sign(REQUEST, keys=Keys.of("LTAIexample", "s"), nonce=nonce)


def test_token_is_sent_in_one_header() -> None:
    auth = authentication(SECTIONS.validate_python({"method": "yunxiao_token", "token": "pt-0fh3****0484"}))
    assert isinstance(auth, YunxiaoToken)
    assert auth.headers(REQUEST, NOW) == {"x-yunxiao-token": "pt-0fh3****0484"}


def test_signature_contains_no_secret() -> None:
    auth = aksk(security_token="CAIS/token")
    assert isinstance(auth, AliyunAccessKey)
    added = auth.headers(REQUEST, NOW)
    assert "CAIS/token" not in added["Authorization"]
    assert not any("a-secret-key-of-nowhere" in value for value in added.values())


def test_date_is_in_utc() -> None:
    moment = datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC).timestamp()
    assert sign(REQUEST, now=moment)["x-acs-date"] == "2026-12-31T23:59:59Z"
