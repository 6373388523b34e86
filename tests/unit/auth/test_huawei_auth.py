"""Huawei signatures against the vendor's vectors and an independent implementation, and the headers that are sent."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from exporter.auth.huawei import HuaweiAccessKey, HuaweiAkskSection, IamToken, TokenSection, sign
from exporter.auth.protocol import Auth, UnsignedRequest, query_string
from exporter.config.secret import SecretError
from exporter.providers.registry import connect
from exporter.simulator.codearts import gateway
from exporter.simulator.codearts.gateway import Credentials
from tests.drivers.support import config, masked, project

_FILE = json.loads((Path(__file__).parents[2] / "data" / "huawei_sign_vectors.json").read_bytes())
VECTORS = [vector for vector in _FILE["vectors"] if not vector["derived"]]
NOW = 1_705_307_400.0
"""2024-01-15T08:30:00Z."""

CREDENTIALS = Credentials(access_key="AKEXAMPLE0123456789A", secret_key="a-secret-key-of-nowhere")
REQUEST = UnsignedRequest(
    method="POST",
    host="cloud.example.com:8443",
    path="/v5/p/api/pipelines/status",
    query=(("b", "2"), ("a", "1")),
    headers=(("Content-Type", "application/json"),),
    body=b'["x"]',
)


def authentication(**section: Any) -> Auth:
    _, auth, _ = connect(config(project(auth=section)).projects[0], {})
    return auth


def aksk(**changes: Any) -> Auth:
    keys = {"access_key": CREDENTIALS.access_key, "secret_key": CREDENTIALS.secret_key}
    return authentication(method="aksk", **{**keys, **changes})


# -- the vendor's vectors


def texts(value: Any) -> list[str]:
    """Return the texts of a query value: the vendor's SDK writes booleans in lower case, and a list item by item."""
    values = value if isinstance(value, list) else [value]
    return [str(item).lower() if isinstance(item, bool) else str(item) for item in values]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_signature_matches_vendor_vector(vector: dict[str, Any]) -> None:
    """The published example and signatures of the vendor's SDK, and the query as it is sent."""
    query = tuple((key, text) for key, value in vector["query"] for text in texts(value))
    request = UnsignedRequest(
        method=vector["method"],
        host=vector["host"],
        path=vector["path"],
        query=query,
        body=vector["body"].encode(),
    )
    given_keys = vector.get("ak", _FILE["ak"]), vector.get("sk", _FILE["sk"])
    authorization = sign(request, vector["headers"], access_key=given_keys[0], secret_key=given_keys[1])
    assert authorization == vector["authorization"]
    assert query_string(query) == vector["wire_uri"].partition("?")[2]


def test_only_vectors_of_the_derived_scheme_are_skipped() -> None:
    assert {vector["name"] for vector in _FILE["vectors"] if vector["derived"]} == {"derived_v11"}
    assert len(VECTORS) == 17


# -- an independent implementation

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
requests = st.builds(
    lambda method, segments, query, body, host: UnsignedRequest(
        method=method,
        host=host,
        path="/" + "/".join(quote(segment, safe="") for segment in segments),
        query=tuple(query),
        headers=(("Content-Type", "application/json"),),
        body=body,
    ),
    st.sampled_from(["GET", "POST", "PUT"]),
    st.lists(text | st.sampled_from(["%41", "%2F", "a+b", "~x_y-z.1", "%", "流水线"]), max_size=4),
    st.lists(st.tuples(text, text), max_size=4),
    st.binary(max_size=60),
    st.sampled_from(["cloud.example.com", "127.0.0.1:8080", "[::1]:80"]),
)
keys = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=20)


def verdict(
    request: UnsignedRequest, headers: dict[str, str], credentials: Credentials, *, now: float = NOW
) -> gateway.GatewayRefusal | None:
    """Return the simulated gateway's refusal of a request as sent, or None."""
    wire = dict(request.headers) | headers | {"Host": request.host}
    return gateway.refusal(
        credentials,
        method=request.method,
        raw_path=request.path.encode(),
        raw_query=query_string(request.query).encode(),
        headers={name.lower().encode(): value.encode() for name, value in wire.items()},
        body=request.body,
        now=now,
    )


@given(
    requests, keys, printable, st.none() | printable, st.none() | st.just("0605767cb280d5762fd0c0133d3bea3f")
)
def test_independent_check_accepts_any_request(
    request: UnsignedRequest,
    access_key: str,
    secret_key: str,
    security_token: str | None,
    project_id: str | None,
) -> None:
    """Any path, query and body, with any keys."""
    credentials = Credentials(access_key=access_key, secret_key=secret_key, security_token=security_token)
    auth = aksk(
        access_key=access_key, secret_key=secret_key, security_token=security_token, iam_project_id=project_id
    )
    assert verdict(request, auth.headers(request, NOW), credentials) is None


CHANGES: dict[str, Callable[[UnsignedRequest], dict[str, Any]]] = {
    "method": lambda request: {"method": "PUT" if request.method != "PUT" else "GET"},
    "host": lambda request: {"host": f"x{request.host}"},
    "path": lambda request: {"path": f"{request.path}/x"},
    "query": lambda request: {"query": (*request.query, ("x", "y"))},
    "query order of values": lambda request: {"query": (("x", ""), *request.query)},
    "body": lambda request: {"body": request.body + b" "},
    "content type": lambda request: {"headers": (("Content-Type", "text/plain"),)},
}


@given(requests, st.sampled_from(sorted(CHANGES)))
def test_request_with_changed_part_is_refused(request: UnsignedRequest, part: str) -> None:
    headers = aksk().headers(request, NOW)
    parts = {name: getattr(request, name) for name in request.__struct_fields__}
    changed = UnsignedRequest(**{**parts, **CHANGES[part](request)})
    refusal = verdict(changed, headers, CREDENTIALS)
    assert refusal is not None
    assert refusal.status == 401


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Sdk-Date", "20240115T083001Z"),
        ("X-Project-Id", "another"),
        ("X-Security-Token", "another"),
    ],
)
def test_request_with_changed_signed_header_is_refused(name: str, value: str) -> None:
    headers = aksk(security_token="temporary", iam_project_id="mine").headers(REQUEST, NOW)
    assert verdict(REQUEST, headers, CREDENTIALS) is None
    assert name in headers
    assert verdict(REQUEST, headers | {name: value}, CREDENTIALS) is not None


@given(printable)
def test_signature_by_another_key_is_refused(secret_key: str) -> None:
    assume(secret_key != CREDENTIALS.secret_key)
    headers = aksk(secret_key=secret_key).headers(REQUEST, NOW)
    assert verdict(REQUEST, headers, CREDENTIALS) is not None


def test_signature_expires() -> None:
    headers = aksk().headers(REQUEST, NOW)
    assert headers["X-Sdk-Date"] == "20240115T083000Z"
    assert verdict(REQUEST, headers, CREDENTIALS, now=NOW + 14 * 60) is None
    assert verdict(REQUEST, headers, CREDENTIALS, now=NOW + 16 * 60) is not None


def test_trailing_slash_does_not_change_the_signature() -> None:
    keys_ = {"access_key": "a", "secret_key": "b"}
    date = {"X-Sdk-Date": "20240115T083000Z"}
    with_slash, without = (UnsignedRequest(method="GET", host="h", path=path) for path in ("/v3/x/", "/v3/x"))
    assert sign(with_slash, date, **keys_) == sign(without, date, **keys_)


# -- headers and keys


def test_token_is_sent_in_one_header() -> None:
    auth = authentication(method="token", token="the-token")
    assert isinstance(auth, IamToken)
    assert auth.headers(REQUEST, NOW) == {"X-Auth-Token": "the-token"}
    assert masked("the-token")


@pytest.mark.parametrize(
    ("section", "headers"),
    [
        ({}, {}),
        ({"iam_project_id": "0605"}, {"X-Project-Id": "0605"}),
        ({"security_token": "temporary/+=="}, {"X-Security-Token": "temporary/+=="}),
        (
            {"security_token": "temporary", "iam_project_id": "0605"},
            {"X-Security-Token": "temporary", "X-Project-Id": "0605"},
        ),
    ],
)
def test_signature_is_sent_with_configured_headers(section: dict[str, Any], headers: dict[str, str]) -> None:
    """All of them are signed."""
    auth = aksk(**section)
    assert isinstance(auth, HuaweiAccessKey)
    added = auth.headers(REQUEST, NOW)
    authorization = added.pop("Authorization")
    assert added == {"X-Sdk-Date": "20240115T083000Z", **headers}
    signed = ";".join(sorted(["content-type", "host", *(name.lower() for name in added)]))
    assert f"SignedHeaders={signed}," in authorization
    assert CREDENTIALS.secret_key not in authorization


def test_keys_are_masked() -> None:
    auth = aksk(security_token="temporary")
    auth.headers(REQUEST, NOW)
    assert masked(CREDENTIALS.access_key, CREDENTIALS.secret_key, "temporary")


def test_keys_in_files_are_read_for_each_request(tmp_path: Path) -> None:
    """A rotated key takes effect without a restart, for signing and for masking."""
    files = {name: tmp_path / name for name in ("access_key", "secret_key", "security_token")}
    auth = authentication(method="aksk", **{f"{name}_file": str(file) for name, file in files.items()})
    for turn in ("one", "two"):
        for name, file in files.items():
            file.write_text(f"{name}-{turn}\n")
        credentials = Credentials(
            access_key=f"access_key-{turn}",
            secret_key=f"secret_key-{turn}",
            security_token=f"security_token-{turn}",
        )
        assert verdict(REQUEST, auth.headers(REQUEST, NOW), credentials) is None
        assert masked(*(f"{name}-{turn}" for name in files))


def test_token_behind_a_swapped_link_is_read_again(tmp_path: Path) -> None:
    """As Kubernetes rotates a mounted secret."""
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "token"
    link.symlink_to("old")
    auth = authentication(method="token", token_file=str(link))
    assert auth.headers(REQUEST, NOW) == {"X-Auth-Token": "old"}
    (tmp_path / "next").symlink_to("new")
    os.replace(tmp_path / "next", link)  # noqa: PTH105  # the swap itself
    assert auth.headers(REQUEST, NOW) == {"X-Auth-Token": "new"}


@pytest.mark.parametrize("name", ["access_key", "secret_key", "security_token"])
def test_missing_key_file_is_reported_and_other_keys_are_masked(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    section = {"access_key": "an-access-key", "secret_key": "a-secret-key", "security_token": "temporary"}
    del section[name]
    auth = authentication(method="aksk", **section, **{f"{name}_file": str(file)})
    with pytest.raises(SecretError, match=str(file)) as error:
        auth.headers(REQUEST, NOW)
    assert not any(value in str(error.value) for value in section.values())
    assert masked(*section.values())


def test_missing_token_file_is_reported(tmp_path: Path) -> None:
    auth = authentication(method="token", token_file=str(tmp_path / "token"))
    with pytest.raises(SecretError, match="cannot read the secret file"):
        auth.headers(REQUEST, NOW)


def test_sections_do_not_print_keys() -> None:
    token = TokenSection.model_validate({"method": "token", "token": "very-private"})
    pair = HuaweiAkskSection.model_validate(
        {"method": "aksk", "access_key": "very-private", "secret_key": "very-private"}
    )
    for section in (token, pair):
        assert "very-private" not in f"{section!r} {section} {section.model_dump_json()}"
