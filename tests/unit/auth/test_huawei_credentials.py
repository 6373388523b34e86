"""Credentials of Huawei Cloud: requests of each renewal, fallbacks, failures, and when the next renewal is due.

There are no sockets: the tests drive the renewals as the API client does.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from exporter.auth.huawei import AuthSection, HuaweiDefaultChain, PasswordToken, TemporaryKeys, authentication
from exporter.auth.protocol import (
    Auth,
    IssuerReply,
    IssuerRequest,
    NoReplyError,
    Renewal,
    RenewalError,
    UnsignedRequest,
)
from exporter.config.secret import SecretError
from exporter.core.failures import FailureKind, RequestFailure
from exporter.core.redaction import MASK
from exporter.simulator.codearts import gateway
from exporter.simulator.codearts.gateway import Credentials
from tests.drivers.support import masked

NOW = 1_705_307_400.0
"""2024-01-15T08:30:00Z."""
HOUR = 3600.0
DAY = 24 * HOUR
REQUEST = UnsignedRequest(
    method="POST", host="cloud.example.com", path="/v5/p/api/pipelines/status", body=b'["x"]'
)
SECTIONS: TypeAdapter[AuthSection] = TypeAdapter(Annotated[AuthSection, Field(discriminator="method")])
SILENCE = NoReplyError(
    RequestFailure(
        kind=FailureKind.TRANSIENT, code="connect", message="no answer from 169.254.169.254: no route to host"
    )
)

Answer = IssuerReply | NoReplyError


def auth_of(
    region: str | None = "cn-north-4", environment: dict[str, str] | None = None, **settings: Any
) -> Auth:
    return authentication(SECTIONS.validate_python(settings), region=region, environment=environment or {})


def drive(renewal: Renewal | None, *answers: Answer) -> list[IssuerRequest]:
    """Return the requests of a renewal that ends after exactly these responses."""
    assert renewal is not None
    sent = [next(renewal)]
    for index, answer in enumerate(answers):
        try:
            if isinstance(answer, NoReplyError):
                sent.append(renewal.throw(answer))
            else:
                sent.append(renewal.send(answer))
        except StopIteration:
            assert index == len(answers) - 1, "ended early"
            return sent
    raise AssertionError(f"wants another answer, to {sent[-1]}")


def failure(renewal: Renewal | None, *answers: Answer) -> RequestFailure:
    """Return the failure of a renewal after these responses."""
    with pytest.raises(RenewalError) as error:
        drive(renewal, *answers)
    assert str(error.value) == error.value.failure.message
    return error.value.failure


def reply(status: int = 200, body: Any = b"", **headers: str) -> IssuerReply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return IssuerReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def when(seconds: float) -> str:
    """Return a time as the vendor writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def sha256(*values: str) -> str:
    return hashlib.sha256("\0".join(values).encode()).hexdigest()


# -- IAM tokens for a password

PASSWORD = "correct horse battery staple"
USER: dict[str, Any] = {
    "method": "password",
    "domain": "hwc-example",
    "username": "exporter",
    "password": PASSWORD,
}


def password(**changes: Any) -> Auth:
    return auth_of(**{**USER, **changes})


def token(text: str = "MIItoken", ends: float | None = NOW + DAY, **body: Any) -> IssuerReply:
    end = {"expires_at": when(ends)} if ends is not None else {}
    return reply(201, {"token": {**end, **body}}, x_subject_token=text)


def test_token_request_follows_the_documentation() -> None:
    """One request, scoped to the region's project, without the catalogue."""
    auth = password()
    [request] = drive(auth.renewal(NOW), token())
    assert request.operation == "KeystoneCreateUserTokenByPassword"
    assert request.method == "POST"
    assert request.url == "https://iam.cn-north-4.myhuaweicloud.com/v3/auth/tokens?nocatalog=true"
    assert request.headers == (("Content-Type", "application/json;charset=utf8"),)
    assert json.loads(request.body) == {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {
                    "user": {"domain": {"name": "hwc-example"}, "name": "exporter", "password": PASSWORD}
                },
            },
            "scope": {"project": {"name": "cn-north-4"}},
        }
    }
    assert not request.bypass_proxy
    assert auth.headers(REQUEST, NOW) == {"X-Auth-Token": "MIItoken"}
    assert auth.expires() == NOW + DAY
    assert auth.expiry_renewal == "auto"


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("cn-north-4", "https://iam.cn-north-4.myhuaweicloud.com"),
        ("tr-west-1", "https://iam.tr-west-1.myhuaweicloud.com"),
        ("af-north-1", "https://iam.myhuaweicloud.com"),
        ("cn-northeast-1", "https://iam.myhuaweicloud.com"),
        ("eu-west-101", "https://iam.eu-west-101.myhuaweicloud.eu"),
    ],
)
def test_region_selects_the_iam_endpoint(region: str, host: str) -> None:
    [request] = drive(password(region=region).renewal(NOW), token())
    assert request.url.startswith(f"{host}/v3/")


def test_endpoint_and_project_can_be_configured() -> None:
    auth = password(region=None, iam_endpoint="http://127.0.0.1:8080/iam/", iam_project="cn-north-4_team")
    [request] = drive(auth.renewal(NOW), token())
    assert request.url == "http://127.0.0.1:8080/iam/v3/auth/tokens?nocatalog=true"
    assert json.loads(request.body)["auth"]["scope"] == {"project": {"name": "cn-north-4_team"}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iam_endpoint": "https://iam.example.com"}, "iam_project is missing (give it, or"),
        ({"iam_project": "cn-north-4"}, "iam_endpoint is missing (give it, or"),
    ],
)
def test_endpoint_and_project_are_required_without_region(settings: dict[str, Any], message: str) -> None:
    """Otherwise the password of a private cloud would be sent to the public one."""
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        password(region=None, **settings)


@pytest.mark.parametrize(
    ("life", "margin"), [(DAY, HOUR), (4 * HOUR, HOUR), (2 * HOUR, HOUR / 2), (20.0, 5.0)]
)
def test_token_is_renewed_before_its_end(life: float, margin: float) -> None:
    """An hour before, or in the last quarter of a shorter life."""
    auth = password()
    drive(auth.renewal(NOW), token(ends=NOW + life))
    assert auth.renewal(NOW + life - margin) is None
    assert auth.renewal(NOW + life - margin + 1) is not None


def test_before_the_first_token_sentsay_so() -> None:
    auth = password()
    with pytest.raises(SecretError, match="no IAM token has been obtained yet"):
        auth.headers(REQUEST, NOW)
    assert auth.expires() is None
    assert masked(PASSWORD)


def test_token_is_used_until_its_end_after_failed_renewal() -> None:
    auth = password()
    drive(auth.renewal(NOW), token())
    late = NOW + DAY - 60
    fault = failure(auth.renewal(late), reply(503))
    assert (fault.kind, fault.code) == (FailureKind.TRANSIENT, "503")
    assert auth.headers(REQUEST, late) == {"X-Auth-Token": "MIItoken"}
    assert auth.renewal(late) is not None
    with pytest.raises(SecretError, match="has ended"):
        auth.headers(REQUEST, NOW + DAY)


def test_closed_renewal_keeps_the_token() -> None:
    """A shutdown closes a renewal."""
    auth = password()
    drive(auth.renewal(NOW), token())
    renewal = auth.renewal(NOW, refused=True)
    assert renewal is not None
    next(renewal)
    renewal.close()
    assert auth.headers(REQUEST, NOW) == {"X-Auth-Token": "MIItoken"}


def test_refused_token_is_renewed_and_both_are_masked() -> None:
    auth = password()
    drive(auth.renewal(NOW), token("first"))
    assert auth.renewal(NOW) is None
    before = auth.fingerprint()
    drive(auth.renewal(NOW, refused=True), token("second"))
    assert auth.headers(REQUEST, NOW) == {"X-Auth-Token": "second"}
    assert masked(PASSWORD, "first", "second")
    assert auth.fingerprint() != before


IAM_ERRORS = [
    (401, {"error": {"code": 401, "message": "The username or password is wrong.", "title": "Unauthorized"}},
     FailureKind.CREDENTIALS, "401", "IAM: The username or password is wrong."),
    (400, {"error": {"code": 400, "message": "The request body is invalid", "title": "Bad Request"}},
     FailureKind.CREDENTIALS, "400", "IAM: The request body is invalid"),
    (403, {"error_code": "IAM.0002", "error_msg": "You are not authorized"},
     FailureKind.CREDENTIALS, "IAM.0002", "IAM: You are not authorized"),
    (404, {"error": {"code": 404, "message": "Could not find project"}},
     FailureKind.CREDENTIALS, "404", "IAM: Could not find project"),
    (401, b"", FailureKind.CREDENTIALS, "", "IAM: HTTP 401 with no message"),
    (404, b"<html>", FailureKind.UNREADABLE, "", "IAM: HTTP 404 with no message"),
    (500, {"error": {"code": 500, "message": "Oops"}}, FailureKind.TRANSIENT, "500", "IAM: Oops"),
    (502, b"<html>", FailureKind.TRANSIENT, "", "IAM: HTTP 502 with no message"),
    (302, b"", FailureKind.UNREADABLE, "", "IAM: redirected to nowhere; redirects are not followed"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "code", "message"), IAM_ERRORS)
def test_iam_error_is_classified_with_its_message(
    status: int, body: Any, kind: FailureKind, code: str, message: str
) -> None:
    answer = reply(status, body, x_request_id="r-1")
    expected = RequestFailure(kind=kind, code=str(status), error_code=code, message=message, request_id="r-1")
    assert failure(password().renewal(NOW), answer) == expected


@pytest.mark.parametrize(
    ("status", "body", "headers", "wait"),
    [
        (429, {"error_code": "IAM.0012",
               "error_msg": "The throttling threshold has been reached. Threshold: 5 times per 60 seconds"}, {}, 60.0),
        (429, {"error_code": "APIGW.0308", "error_msg": "policy user over ratelimit,limit:200,time:5 minute"},
         {}, 300.0),
        (429, b"", {"retry_after": "7"}, 7.0),
        (429, b"", {"retry_after": "Mon, 15 Jan 2024 08:30:00 GMT"}, None),
        (429, b"", {"retry_after": "Mon, 15 Jan 2024 08:30:45 GMT", "date": "Mon, 15 Jan 2024 08:30:00 GMT"}, 45.0),
        (400, {"error_code": "IAM.0012"}, {}, None),
    ],
)  # fmt: skip
def test_throttling_has_the_requested_wait(
    status: int, body: Any, headers: dict[str, str], wait: float | None
) -> None:
    fault = failure(password().renewal(NOW), reply(status, body, **headers))
    assert (fault.kind, fault.wait) == (FailureKind.THROTTLED, wait)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry_after": "45"},
        {"retry_after": "Mon, 15 Jan 2024 08:30:45 GMT", "date": "Mon, 15 Jan 2024 08:30:00 GMT"},
    ],
)
def test_unavailable_issuer_has_the_requested_wait(headers: dict[str, str]) -> None:
    fault = failure(password().renewal(NOW), reply(503, b"", **headers))
    assert (fault.kind, fault.code, fault.wait) == (FailureKind.TRANSIENT, "503", 45.0)


def test_missing_reply_of_iam_is_the_network_failure() -> None:
    fault = failure(password().renewal(NOW), SILENCE)
    assert fault == SILENCE.failure


@pytest.mark.parametrize(
    ("body", "reported_end"),
    [
        ({"token": {"expires_at": "2024-01-16T08:30:00.123456Z"}}, NOW + DAY + 0.123456),
        ({"token": {"expires_at": "2024-01-16T08:30:00.7Z"}}, NOW + DAY + 0.7),
        ({"token": {"expires_at": "2024-01-16T08:30:00Z"}}, NOW + DAY),
        ({"token": {"expires_at": "2024-01-16T08:30:00"}}, NOW + DAY),
        ({"token": {"expires_at": "2024-01-16T16:30:00+08:00"}}, NOW + DAY),
        ({"token": {"expires_at": "tomorrow"}}, None),
        ({"token": {"expires_at": 1_705_393_800}}, None),
        ({"token": {}}, None),
        ({"token": []}, None),
        ([], None),
        (b"", None),
        (b"{", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b'{"token": {"expires_at": "2024-01-16T08:30:00Z"}, "x": "' + b"x" * (1 << 20) + b'"}', None),
    ],
)
def test_end_of_token_is_read_leniently(body: Any, reported_end: float | None) -> None:
    """The token is used with any body. Without a readable end, it is used for a day."""
    auth = password()
    drive(auth.renewal(NOW), reply(201, body, x_subject_token=" MIItoken "))
    assert auth.expires() == reported_end
    end = NOW + DAY if reported_end is None else reported_end
    assert auth.headers(REQUEST, end - 1) == {"X-Auth-Token": "MIItoken"}
    assert auth.renewal(end - HOUR - 1) is None
    assert auth.renewal(end - HOUR + 1) is not None
    with pytest.raises(SecretError):
        auth.headers(REQUEST, end)


def test_token_with_end_in_the_past_is_used_without_renewal_at_every_request() -> None:
    """The clocks differ. The provider refuses the token if it really has ended."""
    auth = password()
    drive(auth.renewal(NOW), token(ends=NOW - 60))
    assert auth.expires() == NOW - 60
    assert auth.headers(REQUEST, NOW + 60) == {"X-Auth-Token": "MIItoken"}
    assert auth.renewal(NOW + 60) is None


@pytest.mark.parametrize(
    "headers", [{}, {"x_subject_token": " "}, {"x_subject_token": "a\nb"}, {"x_subject_token": "ü"}]
)
def test_response_without_usable_token_is_unreadable(headers: dict[str, str]) -> None:
    auth = password()
    fault = failure(auth.renewal(NOW), reply(201, {"token": {"expires_at": when(NOW + DAY)}}, **headers))
    assert (fault.kind, fault.code) == (FailureKind.UNREADABLE, "invalid")
    with pytest.raises(SecretError):
        auth.headers(REQUEST, NOW)


def test_rotated_password_takes_effect(tmp_path: Path) -> None:
    """It changes the fingerprint and is sent with the next renewal."""
    file = tmp_path / "password"
    file.write_text("old-password\n")
    settings = {name: value for name, value in USER.items() if name != "password"}
    auth = auth_of(**settings, password_file=str(file))
    before = auth.fingerprint()
    failure(auth.renewal(NOW), reply(401))
    assert auth.fingerprint() == before
    file.write_text("new-password\n")
    assert auth.fingerprint() != before
    [request] = drive(auth.renewal(NOW), token())
    assert b"new-password" in request.body
    file.unlink()
    assert auth.fingerprint() == ""
    fault = failure_before_any_request(auth.renewal(NOW, refused=True))
    assert (fault.kind, fault.code) == (FailureKind.NOT_SENT, "secret")
    assert str(file) in fault.message
    assert auth.headers(REQUEST, NOW) == {"X-Auth-Token": "MIItoken"}


def failure_before_any_request(renewal: Renewal | None) -> RequestFailure:
    assert renewal is not None
    with pytest.raises(RenewalError) as error:
        next(renewal)
    return error.value.failure


def test_echoed_password_is_masked() -> None:
    """It is masked even with line ends in place of spaces, and where a long message is cut."""
    for echo in (PASSWORD, PASSWORD.replace(" ", "\n"), f"{'x' * 290}{PASSWORD}"):
        answer = reply(401, {"error_code": echo, "error_msg": f"no such password: {echo}"}, x_request_id=echo)
        fault = failure(password().renewal(NOW), answer)
        assert PASSWORD not in repr(fault)
        assert "correct" not in repr(fault)
        assert MASK in fault.message or "…" in fault.message


# -- temporary keys of a server (ECS)

AGENCY_MISSING = reply(401, b"Please configure Cloud Service Agency first")
METADATA_TOKEN = reply(200, b"metadata-token\n")


def key(name: str = "one", ends: float | None = NOW + HOUR) -> dict[str, Any]:
    end = {"expires_at": when(ends)} if ends is not None else {}
    return {"access": f"AK{name}", "secret": f"SK-{name}", "securitytoken": f"ST-{name}", **end}


def keys(name: str = "one", ends: float | None = NOW + HOUR) -> IssuerReply:
    return reply(200, {"credential": key(name, ends)})


def signs(auth: Auth, name: str, now: float = NOW) -> bool:
    """Return whether an independent check finds requests signed with the key of that name."""
    headers = auth.headers(REQUEST, now)
    wire = headers | {"Host": REQUEST.host}
    refused = gateway.refusal(
        Credentials(access_key=f"AK{name}", secret_key=f"SK-{name}", security_token=f"ST-{name}"),
        method=REQUEST.method,
        raw_path=REQUEST.path.encode(),
        raw_query=b"",
        headers={header.lower().encode(): value.encode() for header, value in wire.items()},
        body=REQUEST.body,
        now=now,
    )
    return refused is None and headers["X-Security-Token"] == f"ST-{name}"


def metadata(**changes: Any) -> Auth:
    return auth_of(method="metadata", **changes)


def test_keys_are_requested_with_a_token() -> None:
    auth = metadata()
    put, get = drive(auth.renewal(NOW), METADATA_TOKEN, keys())
    assert (put.operation, put.method) == ("MetadataToken", "PUT")
    assert put.url == "http://169.254.169.254/meta-data/latest/api/token"
    assert put.headers == (("X-Metadata-Token-Ttl-Seconds", "21600"),)
    assert (get.operation, get.method) == ("MetadataSecurityKey", "GET")
    assert get.url == "http://169.254.169.254/openstack/latest/securitykey"
    assert get.headers == (("X-Metadata-Token", "metadata-token"),)
    assert put.bypass_proxy
    assert get.bypass_proxy
    assert signs(auth, "one")
    assert auth.expires() == NOW + HOUR
    assert auth.expiry_renewal == "auto"
    assert masked("AKone", "SK-one", "ST-one", "metadata-token")


@pytest.mark.parametrize(
    "answer",
    [reply(404), reply(405), reply(503), SILENCE, reply(200, b""), reply(200, b"<p>\n</p>"), reply(200, b"x" * 5000)],
)  # fmt: skip
def test_keys_are_requested_without_token_if_unsupported(answer: Answer) -> None:
    auth = metadata(metadata_endpoint="http://127.0.0.1:8080")
    _, get = drive(auth.renewal(NOW), answer, keys())
    assert get.url == "http://127.0.0.1:8080/openstack/latest/securitykey"
    assert get.headers == ()
    assert signs(auth, "one")


@pytest.mark.parametrize("first", [METADATA_TOKEN, reply(503), SILENCE])
def test_refused_metadata_token_is_renewed_once(first: Answer) -> None:
    auth = metadata()
    fresh = reply(200, b"fresh-token")
    sent = drive(auth.renewal(NOW), first, reply(401), fresh, keys())
    assert [request.method for request in sent] == ["PUT", "GET", "PUT", "GET"]
    assert sent[-1].headers == (("X-Metadata-Token", "fresh-token"),)
    fault = failure(auth.renewal(NOW, refused=True), first, reply(401), fresh, reply(401))
    assert (fault.kind, fault.code) == (FailureKind.CREDENTIALS, "401")


@pytest.mark.parametrize(
    ("answers", "kind", "code"),
    [
        ([METADATA_TOKEN, SILENCE], FailureKind.TRANSIENT, "connect"),
        ([METADATA_TOKEN, reply(500)], FailureKind.TRANSIENT, "500"),
        ([METADATA_TOKEN, reply(429)], FailureKind.THROTTLED, "429"),
        ([METADATA_TOKEN, reply(404)], FailureKind.UNREADABLE, "404"),
        ([METADATA_TOKEN, reply(403)], FailureKind.CREDENTIALS, "403"),
        ([METADATA_TOKEN, reply(302, location="http://elsewhere/")], FailureKind.UNREADABLE, "302"),
        ([reply(500)], FailureKind.TRANSIENT, "500"),
        ([reply(403)], FailureKind.CREDENTIALS, "403"),
        ([reply(404), reply(401), SILENCE], FailureKind.TRANSIENT, "connect"),
        ([reply(404), reply(401), reply(503)], FailureKind.TRANSIENT, "503"),
        ([METADATA_TOKEN, AGENCY_MISSING], FailureKind.CREDENTIALS, "401"),
        ([reply(404), AGENCY_MISSING], FailureKind.CREDENTIALS, "401"),
        ([METADATA_TOKEN, reply(200)], FailureKind.UNREADABLE, "invalid"),
    ],
)
def test_metadata_failure_is_classified_and_keys_remain(
    answers: list[Answer], kind: FailureKind, code: str
) -> None:
    """The message names the service."""
    auth = metadata()
    drive(auth.renewal(NOW), METADATA_TOKEN, keys())
    fault = failure(auth.renewal(NOW, refused=True), *answers)
    assert (fault.kind, fault.code) == (kind, code)
    assert "169.254.169.254" in fault.message
    assert signs(auth, "one")


def test_metadata_failure_has_a_remedy() -> None:
    """The message has a remedy for the two failures that occur at a first set-up."""
    fault = failure(metadata().renewal(NOW), METADATA_TOKEN, AGENCY_MISSING)
    assert fault.message.startswith("the metadata service http://169.254.169.254: the server has no agency (")
    fault = failure(metadata().renewal(NOW), SILENCE, SILENCE)
    assert fault.message.endswith("no route to host (does the exporter run on an ECS?)")


SPELLINGS = [
    ("credential", "access", "secret", "securitytoken", "expires_at"),
    ("credentials", "accessKeyId", "secretAccessKey", "securityToken", "expiration"),
    ("credential", "access_key_id", "secret_access_key", "security_token", "expiration"),
    ("", "access", "secret", "securitytoken", "expires_at"),
]


@pytest.mark.parametrize("names", SPELLINGS, ids="-".join)
def test_all_spellings_of_keys_are_read(names: tuple[str, ...]) -> None:
    wrapper, *fields = names
    inner = dict(zip(fields, key().values(), strict=True))
    auth = metadata()
    drive(auth.renewal(NOW), METADATA_TOKEN, reply(200, {wrapper: inner} if wrapper else inner))
    assert signs(auth, "one")
    assert auth.expires() == NOW + HOUR


@pytest.mark.parametrize("missing", ["access", "secret", "securitytoken"])
@pytest.mark.parametrize("value", [None, "", 7, "two\nlines"])
def test_incomplete_keys_are_unreadable(missing: str, value: object) -> None:
    """The vendor would refuse a temporary key without its token, and count the refusal."""
    fault = failure(
        metadata().renewal(NOW), METADATA_TOKEN, reply(200, {"credential": key() | {missing: value}})
    )
    assert (fault.kind, fault.code) == (FailureKind.UNREADABLE, "invalid")


def test_keys_are_renewed_about_ten_minutes_before_they_end() -> None:
    """The renewal waits until the next keys exist, and its time differs between instances."""
    due = []
    for name in map(str, range(50)):
        auth = metadata()
        drive(auth.renewal(NOW), METADATA_TOKEN, keys(name))
        assert auth.renewal(NOW + HOUR - 600) is None
        assert auth.renewal(NOW + HOUR - 539) is not None
        due.append(next(second for second in range(62) if auth.renewal(NOW + HOUR - 600 + second)))
    assert len(set(due)) > 10


@pytest.mark.parametrize("ends", [NOW + 300, NOW + 10, NOW - 5, None])
def test_keys_about_to_end_are_not_renewed_at_every_request(ends: float | None) -> None:
    """With old keys or without an end, the renewal is due after three quarters of the remaining time."""
    auth = metadata()
    drive(auth.renewal(NOW), METADATA_TOKEN, keys(ends=ends))
    left = ends - NOW if ends and ends > NOW else 600
    assert auth.expires() == ends
    assert auth.renewal(NOW + left * 0.74) is None
    assert auth.renewal(NOW + left * 0.76) is not None


def test_keys_are_used_until_their_end() -> None:
    auth = metadata()
    with pytest.raises(
        SecretError,
        match=r"no keys have been obtained from the metadata service http://169\.254\.169\.254 yet",
    ):
        auth.headers(REQUEST, NOW)
    assert auth.fingerprint() == ""
    drive(auth.renewal(NOW), METADATA_TOKEN, keys())
    late = NOW + HOUR - 1
    failure(auth.renewal(late), SILENCE, SILENCE)
    assert signs(auth, "one", late)
    with pytest.raises(SecretError, match="have ended"):
        auth.headers(REQUEST, NOW + HOUR)


def test_current_and_previous_keys_are_masked() -> None:
    """Also after the service sent the current keys again."""
    auth = metadata()
    drive(auth.renewal(NOW), METADATA_TOKEN, keys("one"))
    first = auth.fingerprint()
    drive(auth.renewal(NOW, refused=True), reply(200, b"other-token"), keys("two"))
    second = auth.fingerprint()
    drive(auth.renewal(NOW, refused=True), reply(404), keys("two", NOW + 2 * HOUR))
    assert auth.fingerprint() == second != first
    assert auth.expires() == NOW + 2 * HOUR
    assert masked("AKone", "SK-one", "ST-one", "AKtwo", "SK-two", "ST-two", "other-token")


# -- default credentials

VARIABLES = {
    "HUAWEICLOUD_SDK_AK": "AKenv",
    "HUAWEICLOUD_SDK_SK": "SK-env",
    "HUAWEICLOUD_SDK_SECURITY_TOKEN": "ST-env",
}
POD = "http://169.254.170.2/v1/credentials?x=1"


def default(environment: dict[str, str], **changes: Any) -> HuaweiDefaultChain:
    auth = auth_of(environment=environment, method="default", **changes)
    assert isinstance(auth, HuaweiDefaultChain)
    return auth


@pytest.fixture
def all_sources(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which every source has keys."""
    file = tmp_path / ".huaweicloud" / "credentials"
    file.parent.mkdir()
    file.write_text("[basic]\nak = AKfile\nsk = SK-file\nsecurity_token = ST-file\n")
    pod = tmp_path / "mounted"
    pod.write_text("pod-token\n")
    return VARIABLES | {
        "HOME": str(tmp_path),
        "HC_CONTAINER_CREDENTIALS_FULL_URI": POD,
        "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(pod),
    }


def test_first_source_with_keys_is_used(all_sources: dict[str, str]) -> None:
    """Variables, file, pod identity, metadata. Each has a name and an identity of its own."""
    sources, identities = [], []

    def look() -> HuaweiDefaultChain:
        auth = default(all_sources)
        sources.append(auth.source)
        identities.append(auth.credential_id)
        return auth

    auth = look()
    assert signs(auth, "env")
    assert auth.renewal(NOW, refused=True) is None
    assert auth.expiry_renewal == "manual"

    del all_sources["HUAWEICLOUD_SDK_SK"]
    auth = look()
    assert signs(auth, "file")
    assert auth.renewal(NOW, refused=True) is None
    assert auth.expiry_renewal == "manual"

    file = Path(all_sources["HOME"]) / ".huaweicloud" / "credentials"
    file.unlink()
    auth = look()
    [request] = drive(auth.renewal(NOW), keys("pod"))
    assert (request.operation, request.method, request.url) == ("PodIdentity", "POST", POD)
    assert request.headers == (("Content-Type", "application/json"), ("Authorization", "pod-token"))
    assert request.body == b"{}"
    assert request.bypass_proxy
    assert signs(auth, "pod")
    assert auth.expiry_renewal == "auto"
    assert masked("AKpod", "SK-pod", "ST-pod", "pod-token")

    del all_sources["HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
    auth = look()
    drive(auth.renewal(NOW), METADATA_TOKEN, keys())
    assert signs(auth, "one")
    assert auth.expires() == NOW + HOUR

    assert sources == [
        "the environment variables HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK",
        f"the credentials file {file}",
        "the pod identity service of HC_CONTAINER_CREDENTIALS_FULL_URI",
        "the metadata service http://169.254.169.254",
    ]
    assert len(set(identities)) == 4
    assert not any(secret in " ".join(identities) for secret in ("AKenv", "AKfile", "pod-token"))


def test_file_that_appears_or_changes_takes_effect(tmp_path: Path) -> None:
    auth = default({"HOME": str(tmp_path)})
    drive(auth.renewal(NOW), METADATA_TOKEN, keys())
    file = tmp_path / ".huaweicloud" / "credentials"
    file.parent.mkdir()
    prints, identities = {auth.fingerprint()}, {auth.credential_id}
    for name in ("first", "second"):
        file.write_text(f"[basic]\nak={name}\nsk = 100%SK\nproject_id = 0605\n[global]\nak = no\n")
        headers = auth.headers(REQUEST, NOW)
        assert f"Access={name}," in headers["Authorization"]
        assert headers["X-Project-Id"] == "0605"
        assert "X-Security-Token" not in headers
        assert masked(name, "100%SK", "AKone")
        prints.add(auth.fingerprint())
        identities.add(auth.credential_id)
    assert len(prints) == 3
    assert len(identities) == 2
    file.unlink()
    assert signs(auth, "one")


@pytest.mark.parametrize("content", ["", "[global]\nak = AKglobal\nsk = SK-global\n"])
def test_file_without_basic_section_is_skipped(tmp_path: Path, content: str) -> None:
    file = tmp_path / "credentials"
    file.write_text(content)
    auth = default({"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(file)})
    assert auth.source == "the metadata service http://169.254.169.254"


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda file: None, "there is no credentials file"),
    "folder": (lambda file: file.mkdir(), "Is a directory"),
    "not INI": (lambda file: file.write_text("very-private\n"), "is not in INI format"),
    "twice": (lambda file: file.write_text("[basic]\nsk = very-private\nsk = very-private\n"), "is not in INI format"),
    "half": (lambda file: file.write_text("[basic]\nsk = very-private\n"), "has no ak and sk under"),
    "not UTF-8": (lambda file: file.write_bytes(b"[basic]\nsk = very-private\xff\n"), "is not UTF-8 text"),
    "too large": (lambda file: file.write_text("[basic]\n" + "x = y\n" * 200_000), "is larger than 1 MiB"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_unusable_file_is_reported(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    """Using another identity would hide the problem. The content of the file is not shown."""
    file = tmp_path / "credentials"
    make(file)
    auth = default({"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(file), "HOME": str(tmp_path)})
    with pytest.raises(SecretError, match=message) as error:
        auth.headers(REQUEST, NOW)
    assert str(file) in str(error.value)
    assert "very-private" not in str(error.value)
    assert auth.source == f"nowhere: {error.value}"
    assert (auth.renewal(NOW, refused=True), auth.fingerprint(), auth.expires()) == (None, "", None)
    assert str(file) in auth.credential_id


def test_broken_file_keeps_its_credential_id(all_sources: dict[str, str]) -> None:
    del all_sources["HUAWEICLOUD_SDK_AK"]
    auth = default(all_sources)
    before = auth.credential_id
    (Path(all_sources["HOME"]) / ".huaweicloud" / "credentials").write_text("[basic]\n")
    assert auth.credential_id == before


def test_metadata_service_is_queried_without_other_sources() -> None:
    auth = default({}, metadata_endpoint="http://127.0.0.1:9")
    fault = failure(auth.renewal(NOW), SILENCE, SILENCE)
    assert "queried last, since neither HUAWEICLOUD_SDK_AK" in fault.message


def test_variables_with_bytes_outside_utf_8_are_used() -> None:
    """Python decodes such bytes as surrogates. The client refuses the header before it sends it."""
    auth = default({name: f"x\udcff{value}" for name, value in VARIABLES.items()})
    assert auth.headers(REQUEST, NOW)["X-Security-Token"] == "x\udcffST-env"
    assert auth.fingerprint()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://169.254.170.2/", "HC_CONTAINER_CREDENTIALS_FULL_URI must be a URL such as http"),
        ("http://me:pod-private@pod/", "HC_CONTAINER_CREDENTIALS_FULL_URI must not hold a user or password"),
    ],
)
def test_pod_identity_with_invalid_url_sends_no_request(
    all_sources: dict[str, str], uri: str, message: str
) -> None:
    all_sources |= {"HUAWEICLOUD_SDK_AK": "", "HOME": "", "HC_CONTAINER_CREDENTIALS_FULL_URI": uri}
    fault = failure_before_any_request(default(all_sources).renewal(NOW))
    assert fault.kind is FailureKind.NOT_SENT
    assert fault.message.startswith(message)
    assert "pod-private" not in fault.message


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", "tök".encode()])
def test_pod_identity_with_invalid_token_sends_no_request(
    all_sources: dict[str, str], content: bytes | None
) -> None:
    all_sources |= {"HUAWEICLOUD_SDK_AK": "", "HOME": ""}
    file = Path(all_sources["HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    fault = failure_before_any_request(default(all_sources).renewal(NOW))
    assert (fault.kind, fault.code) == (FailureKind.NOT_SENT, "secret")
    assert str(file) in fault.message


def test_rotated_pod_token_is_sent_and_changes_the_fingerprint(all_sources: dict[str, str]) -> None:
    all_sources |= {"HUAWEICLOUD_SDK_AK": "", "HOME": ""}
    auth = default(all_sources)
    before = auth.fingerprint()
    fault = failure(auth.renewal(NOW), reply(401, {"message": "no pod-token", "code": "Denied"}))
    assert fault.message.endswith(f": no {MASK}")
    assert (fault.kind, fault.error_code) == (FailureKind.CREDENTIALS, "Denied")
    Path(all_sources["HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).write_text("next-pod-token")
    assert auth.fingerprint() != before
    [request] = drive(auth.renewal(NOW), keys("pod"))
    assert ("Authorization", "next-pod-token") in request.headers
    assert failure(auth.renewal(NOW, refused=True), SILENCE).kind is FailureKind.TRANSIENT


# -- static credentials

AKSK: dict[str, Any] = {
    "method": "aksk",
    "access_key": "AKone",
    "secret_key": "SK-one",
    "security_token": "ST-one",
}
TOKEN: dict[str, Any] = {"method": "token", "token": "MIItoken"}


@pytest.mark.parametrize("settings", [AKSK, TOKEN])
@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2024-01-16", "2024-01-16T00:00:00+00:00"),
        ("2024-01-16T08:30:00Z", "2024-01-16T08:30:00+00:00"),
        ("2024-01-16t08:30:00.5z", "2024-01-16T08:30:00.500000+00:00"),
        ("2024-01-16 16:30:00+08:00", "2024-01-16T08:30:00+00:00"),
    ],
)
def test_static_credential_ends_at_the_configured_time(settings: dict[str, Any], text: str, end: str) -> None:
    auth = auth_of(**settings, expires=text)
    assert auth.expires() == datetime.fromisoformat(end).timestamp()
    assert auth.expiry_renewal == "manual"
    assert auth.renewal(NOW + DAY) is None
    assert auth.renewal(NOW, refused=True) is None
    shown = SECTIONS.validate_python({**settings, "expires": text}).model_dump(mode="json")["expires"]
    assert auth_of(**settings, expires=shown).expires() == auth.expires()


def test_end_is_unknown_without_the_setting() -> None:
    assert auth_of(**AKSK).expires() is None
    assert auth_of(**TOKEN).expires() is None


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2024-02-30", "2024-01-16T08:30:00", "2024-01-16T08:30Z", "2024-01-16T25:00:00Z", "1705393800",
     "20240116", "2024-01-16T08:30:00+99:00", "0001-01-01T00:00:00+01:00", "٢٠٢٤-01-16", 7, ["2024-01-16"]],
)  # fmt: skip
def test_invalid_date_is_refused_with_a_remedy(text: object) -> None:
    with pytest.raises(ValidationError, match=r"is not a date \(write 2027-01-31, or with time and zone"):
        auth_of(**TOKEN, expires=text)


def test_rotated_file_changes_the_fingerprint_but_not_the_credential_id(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("access_key", "secret_key")}
    for file in files.values():
        file.write_text("old")
    paths: dict[str, Any] = {f"{name}_file": str(file) for name, file in files.items()}
    auth = auth_of(method="aksk", **paths)
    twin = auth_of(method="aksk", **paths)
    before, identity = auth.fingerprint(), auth.credential_id
    assert (before, twin.credential_id) == (sha256("old", "old"), identity)
    files["secret_key"].write_text("new")
    assert auth.fingerprint() == sha256("old", "new")
    files["secret_key"].unlink()
    assert auth.fingerprint() == ""
    assert auth.credential_id == identity


def test_credential_ids_are_equal_only_for_equal_credentials() -> None:
    """Projects share the state of a credential and the object, so key, secret, scope and issuer must be equal."""
    variables = {"HUAWEICLOUD_SDK_AK": "AKone", "HUAWEICLOUD_SDK_SK": "SK-one"}
    variables["HUAWEICLOUD_SDK_SECURITY_TOKEN"] = "ST-one"
    assert auth_of(**AKSK).credential_id == auth_of(**AKSK).credential_id == default(variables).credential_id
    assert auth_of(**TOKEN).credential_id == auth_of(**TOKEN).credential_id
    assert password().credential_id == password(iam_project="cn-north-4").credential_id
    assert metadata().credential_id == metadata().credential_id == default({}).credential_id
    different = [
        *(auth_of(**{**AKSK, name: "x"}) for name in ("access_key", "secret_key", "security_token", "iam_project_id")),
        *(password(**{name: "x"}) for name in ("domain", "username", "password", "iam_project")),
        auth_of(**AKSK), auth_of(**TOKEN), auth_of(method="token", token="x"), password(), password(region="cn-south-1"),
        metadata(), metadata(metadata_endpoint="http://127.0.0.1:9"),
    ]  # fmt: skip
    assert len({auth.credential_id for auth in different}) == len(different)
    shown = " ".join(auth.credential_id for auth in different)
    assert not any(secret in shown for secret in ("AKone", "SK-one", "ST-one", "MIItoken", PASSWORD))


# -- invalid settings


@pytest.mark.parametrize(
    ("method", "name"),
    [("password", "iam_endpoint"), ("metadata", "metadata_endpoint"), ("default", "metadata_endpoint")],
)
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("iam.example.com", "must be a URL such as http"),
        ("ftp://iam.example.com", "must be a URL such as http"),
        ("https://", "must be a URL such as http"),
        ("https://[very-private", "must be a URL such as http"),
        ("https://h:0", "must be a URL such as http"),
        ("https://h:99999", "must be a URL such as http"),
        ("https://h /", "must be a URL such as http"),
        ("https://me:very-private@h", r"must not hold a user or password \(give them under auth\)"),
        ("https://h/?very-private", r"must end with the host or a path \(no \? or #\)"),
        ("https://h/#very-private", r"must end with the host or a path \(no \? or #\)"),
        ("https://h?", r"must end with the host or a path \(no \? or #\)"),
    ],
)
def test_invalid_urls_are_refused(method: str, name: str, url: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as error:
        auth_of(**{**(USER if method == "password" else {}), "method": method, name: url})
    assert "very-private" not in error.value.errors()[0]["msg"]


@pytest.mark.parametrize("name", ["domain", "username", "password", "iam_project"])
@pytest.mark.parametrize("value", ["", "two\nlines", "half\ud800", 7])
def test_invalid_names_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        password(**{name: value})


@pytest.mark.parametrize("name", ["domain", "username", "password"])
def test_incomplete_user_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        auth_of(**{key: value for key, value in USER.items() if key != name})


# -- arbitrary responses

SECRET = "k3y-m4t3r14l"
texts = st.one_of(
    st.text(max_size=30), st.just(SECRET), st.text(max_size=5).map(lambda text: f"{text}{SECRET}")
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(
        ["error", "error_code", "error_msg", "code", "message", "token", "expires_at", "credential", "access", "secret",
         "securitytoken", "expiration"]), inner, max_size=5),
    max_leaves=10,
)  # fmt: skip
replies = st.builds(
    IssuerReply,
    st.sampled_from([200, 201, 204, 301, 400, 401, 403, 404, 405, 429, 500, 503]) | st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(["x-subject-token", "retry-after", "location", "x-request-id"]),
        texts | st.just(f"https://{SECRET}/") | st.just(f"https://[{SECRET}"),
        max_size=4,
    ),
    st.binary(max_size=60)
    | st.just(b"please configure cloud service agency first")
    | texts.map(lambda text: text.encode(errors="replace"))
    | values.map(lambda value: json.dumps(value).encode()),
)
faults = st.builds(
    lambda kind, message: NoReplyError(RequestFailure(kind=kind, code="connect", message=message)),
    st.sampled_from([FailureKind.TRANSIENT, FailureKind.UNREADABLE]),
    texts,
)


@pytest.fixture(scope="module")
def pod_token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pod") / "token"
    file.write_text(SECRET)
    return file


@pytest.mark.parametrize("method", ["password", "metadata", "pod"])
@given(answers=st.lists(replies | faults, min_size=4, max_size=4))
@settings(deadline=None)
def test_any_response_renews_the_credential_or_ends_in_a_renewal_error(
    method: str, answers: list[Answer], pod_token: Path
) -> None:
    """At most four requests, and no secret in a message or `repr`."""
    auth = {
        "password": lambda: password(password=SECRET),
        "metadata": metadata,
        "pod": lambda: default(
            {
                "HC_CONTAINER_CREDENTIALS_FULL_URI": POD,
                "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(pod_token),
            }
        ),
    }[method]()
    if method == "metadata":
        drive(
            auth.renewal(NOW),
            reply(200, SECRET.encode()),
            reply(200, {"credential": key() | {"secret": SECRET}}),
        )
    renewal = auth.renewal(NOW, refused=True)
    assert renewal is not None
    shown = []
    try:
        shown.append(repr(next(renewal)))
        for answer in answers:
            request = renewal.throw(answer) if isinstance(answer, NoReplyError) else renewal.send(answer)
            shown.append(repr(request))
        raise AssertionError("too many requests")
    except StopIteration:
        headers = auth.headers(REQUEST, NOW)
        assert all(value.isascii() and value.isprintable() for value in headers.values())
    except RenewalError as error:
        fault = error.failure
        assert "\n" not in fault.message
        assert fault.message.isprintable()
        assert len(fault.message) <= 301
        shown += [repr(error), str(error), repr(fault)]
        if method != "metadata":
            with pytest.raises(SecretError):
                auth.headers(REQUEST, NOW)
    shown += [repr(auth), str(vars(auth)), auth.credential_id]
    assert SECRET not in " ".join(shown)


def test_requests_and_replies_do_not_print_secrets() -> None:
    """They contain passwords and tokens, and occur in tracebacks and logs."""
    [request] = drive(password().renewal(NOW), token())
    assert repr(request) == (
        "IssuerRequest(KeystoneCreateUserTokenByPassword: POST "
        "https://iam.cn-north-4.myhuaweicloud.com/v3/auth/tokens)"
    )
    assert repr(token()) == f"IssuerReply(201, {len(token().body)} bytes)"
    assert msgspec.structs.replace(request, body=b"") != request


def test_objects_do_not_print_secrets(all_sources: dict[str, str]) -> None:
    """Both configured and obtained ones."""
    obtained: list[tuple[Auth, list[Answer]]] = [
        (password(), [token("obtained")]),
        (metadata(), [METADATA_TOKEN, keys()]),
    ]
    for auth, answers in obtained:
        assert isinstance(auth, PasswordToken | TemporaryKeys)
        drive(auth.renewal(NOW), *answers)
    for auth in (*(auth for auth, _ in obtained), auth_of(**AKSK), auth_of(**TOKEN), default(all_sources)):
        shown = f"{auth!r} {auth} {vars(auth)}"
        assert not any(
            secret in shown for secret in (PASSWORD, "obtained", "metadata-token", "SK-", "ST-", "MIItoken")
        )
