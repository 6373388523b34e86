"""State of a credential: the exporter locks no key, and no request waits longer than requested."""

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from exporter.auth.protocol import Renewal, UnsignedRequest
from exporter.client.api_client import ApiClient
from exporter.client.credential_state import LONGEST_PAUSE, CredentialState
from exporter.client.rate_limiter import RateLimiter
from exporter.client.transport import TransportOptions, tls_context
from exporter.core.failures import FailureKind, RequestFailure
from exporter.simulator import CodeArts, Credentials, World, running
from exporter.telemetry.recorder import Telemetry
from tests.drivers.support import PIPELINE_ID, FakeClock, config, connected, project
from tests.unit.client.test_api_client import (
    Harness,
    RawServer,
    Reply,
    assert_hidden,
    http,
    raw_server,
    replying,
)
from tests.unit.core.test_logs import configured

pytestmark = pytest.mark.process

TLS = tls_context()
WORLD = World(seed=3, pipelines=12)
IDS = [pipeline.id for pipeline in WORLD.pipelines]
NOW = WORLD.start + 86_400.0
INTERVAL = 60.0
IAM = "KeystoneCreateUserTokenByPassword"
KEYS = "MetadataSecurityKey"
BATCH = "BatchShowPipelinesLatestStatus"
HIDDEN = Credentials()
TOKEN = {"method": "token", "token": "a-token-to-keep-secret"}
SERIAL = itertools.count(1)
REFUSED = http(401, b'{"error_code":"APIGW.0301","error_msg":"decrypt token fail"}')


@contextlib.asynccontextmanager
async def clients_sharing(
    url: str,
    *names: str,
    clock: FakeClock | None = None,
    timeout: float = 10.0,
    concurrency: int = 4,
    ids: list[str] | None = None,
    **changes: Any,
) -> AsyncIterator[tuple[Harness, ...]]:
    """Yield clients of projects that share a credential; without names, of one project."""
    clock = clock or FakeClock(NOW)
    telemetry = Telemetry()
    provider, auth, base_url = connected(config(project(endpoint=url, **changes)).projects[0])
    credential = CredentialState(auth, clock, INTERVAL)
    apis = [
        ApiClient(
            name,
            provider,
            credential,
            base_url,
            rate_limiter=RateLimiter(1000.0, 1000, clock),
            concurrency=concurrency,
            timeout=timeout,
            transport=TransportOptions(tls=TLS, bypass_proxy=True),
            telemetry=telemetry,
            clock=clock,
        )
        for name in names or ("payments",)
    ]
    call = provider.batch_request(ids or [PIPELINE_ID])
    try:
        yield tuple(Harness(api, call, clock, telemetry) for api in apis)
    finally:
        for api in apis:
            await api.close()


def valid(harness: Harness, name: str = "payments") -> float | None:
    """Return the exposed validity of a project's credentials, or None."""
    return harness.telemetry.registry.get_sample_value(
        "pipeline_exporter_credentials_valid", {"project": name, "provider": "codearts"}
    )


class Cloud:
    """A simulated cloud with its clock."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.codearts = CodeArts(WORLD, clock=lambda: self.clock.now)
        self.url = ""

    def auth(self, method: str, **changes: Any) -> dict[str, Any]:
        """Return valid credentials, with `changes` applied."""
        known = self.codearts.credentials
        ways: dict[str, dict[str, Any]] = {
            "token": {"token": known.token},
            "aksk": {"access_key": known.access_key, "secret_key": known.secret_key},
            "metadata": {"metadata_endpoint": self.url},
            "password": {
                "domain": known.domain,
                "username": known.username,
                "password": known.password,
                "iam_project": WORLD.region,
                "iam_endpoint": self.url,
            },
        }
        return {"method": method, **ways[method], **changes}

    def projects(
        self, method: str, *names: str, concurrency: int = 4, **changes: Any
    ) -> contextlib.AbstractAsyncContextManager[tuple[Harness, ...]]:
        """Clients of projects that share a credential of this cloud."""
        return clients_sharing(
            self.url,
            *names,
            clock=self.clock,
            concurrency=concurrency,
            ids=IDS,
            project_id=WORLD.project_id,
            auth=self.auth(method, **changes),
        )

    def moments(self, operation: str) -> list[float]:
        """Return when an operation was requested, in seconds since the start."""
        return [call.at - NOW for call in self.codearts.requests if call.operation == operation]

    def statuses(self, operation: str = BATCH) -> list[int]:
        """Return the statuses of the responses of an operation."""
        return [call.status for call in self.codearts.requests if call.operation == operation]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    with running(cloud.codearts.app) as url:
        cloud.url = url
        yield cloud


async def tries(harness: Harness, *, seconds: float, step: float = 10.0) -> list[RequestFailure | None]:
    """Send a request every few seconds; return the failure of each request, None for a success."""
    outcomes: list[RequestFailure | None] = []
    end = harness.clock.now + seconds
    while harness.clock.now < end:
        begun = harness.clock.now
        result = (await asyncio.gather(harness.send(), return_exceptions=True))[0]
        outcomes.append(getattr(result, "failure", None))
        harness.clock.now = max(harness.clock.now, begun + step)
    return outcomes


class CountingReply:
    """A slow reply that records the start (`in`) and end (`out`) of requests, and their maximum concurrency."""

    def __init__(self, response: bytes) -> None:
        self.response = response
        self.events: list[str] = []
        self.most = 0

    async def __call__(self, _: bytes, writer: asyncio.StreamWriter) -> None:
        self.events.append("in")
        self.most = max(self.most, self.events.count("in") - self.events.count("out"))
        # Client and server share the event loop. A single sleep could end before the loop, on a busy machine, has sent
        # the other requests.
        for _turn in range(12):
            await asyncio.sleep(0.01)
        self.events.append("out")
        writer.write(self.response)


async def outcomes(*sent: Any) -> Counter[str]:
    """Send requests at once; return the number of each kind of failure, and of responses."""
    results = await asyncio.gather(*sent, return_exceptions=True)
    return Counter(result.failure.kind if hasattr(result, "failure") else "response" for result in results)


# -- concurrency


def test_credential_is_exclusive_until_accepted() -> None:
    """The first request of all projects is sent alone. The others are limited by concurrency only."""

    async def main() -> None:
        watched = CountingReply(http())
        async with raw_server(watched) as server, clients_sharing(server.url, "one", "other") as (one, other):
            await asyncio.gather(*(harness.send() for harness in (one, other) * 6))
        assert watched.events[:3] == ["in", "out", "in"]
        assert watched.most == 8

    asyncio.run(main())


def test_credential_is_exclusive_again_after_a_rejection() -> None:
    async def main() -> None:
        async with raw_server(replying(http())) as server, clients_sharing(server.url) as (harness,):
            await harness.send()
            server.reply = replying(REFUSED)
            await harness.fails()
            harness.clock.now += INTERVAL
            server.reply = watched = CountingReply(http())
            await asyncio.gather(*(harness.send() for _ in range(8)))
        assert watched.events[:3] == ["in", "out", "in"]
        assert watched.most == 4

    asyncio.run(main())


def test_rotated_secret_is_exclusive_until_accepted(tmp_path: Path) -> None:
    """A wrong one is rejected once, although many requests wait and the old one was accepted."""
    file = tmp_path / "token"
    file.write_text("the-right-one")

    async def main() -> None:
        auth = {"method": "token", "token_file": str(file)}
        async with (
            raw_server(replying(http())) as server,
            clients_sharing(server.url, auth=auth) as (harness,),
        ):
            await asyncio.gather(*(harness.send() for _ in range(4)))
            file.write_text("a-wrong-one")
            server.reply = replying(REFUSED)
            assert await outcomes(*(harness.send() for _ in range(12))) == {FailureKind.CREDENTIALS: 12}
            assert len(server.requests) == 4 + 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "response",
    [http(404), http(500), http(503), http(302, location="/login"), http(200, b"<html>"), http(429)],
)
def test_failure_unrelated_to_the_credential_changes_nothing(response: bytes) -> None:
    """It changes nothing before the credential was accepted, afterwards, and after a rejection."""

    async def main() -> None:
        async with raw_server(replying(response)) as server, clients_sharing(server.url) as (harness,):

            async def spoilt() -> None:
                server.reply = replying(response)
                await harness.fails()
                harness.clock.now += 5

            await spoilt()
            assert valid(harness) is None
            server.reply = watched = CountingReply(http())
            await asyncio.gather(*(harness.send() for _ in range(4)))
            assert watched.events[:2] == ["in", "out"]
            assert valid(harness) == 1
            await spoilt()
            assert valid(harness) == 1
            server.reply = watched = CountingReply(http())
            await asyncio.gather(*(harness.send() for _ in range(4)))
            assert watched.most == 4
            server.reply = replying(REFUSED)
            await harness.fails()
            harness.clock.now += INTERVAL
            await spoilt()
            assert valid(harness) == 0
            server.reply = watched = CountingReply(http())
            await asyncio.gather(*(harness.send() for _ in range(4)))
            assert watched.events[:2] == ["in", "out"]

    asyncio.run(main())


def test_content_error_accepts_the_credential() -> None:
    """A service checks the content only of authenticated requests."""

    async def main() -> None:
        response = http(400, b'{"error_code":"DEVPIPE.00011136","error_msg":"words"}')
        async with raw_server(replying(response)) as server, clients_sharing(server.url) as (harness,):
            await harness.fails()
            assert valid(harness) == 1
            server.reply = watched = CountingReply(http())
            await asyncio.gather(*(harness.send() for _ in range(4)))
            assert watched.most == 4

    asyncio.run(main())


# -- after a rejection


def test_pauses_after_rejections_double() -> None:
    """From the interval up to an hour, however often a poll tries to send."""

    async def main() -> None:
        moments = []

        async def reply(_: bytes, writer: asyncio.StreamWriter) -> None:
            moments.append(harness.clock.now)
            writer.write(REFUSED)

        async with raw_server(reply) as server, clients_sharing(server.url) as (harness,):
            failures = await tries(harness, seconds=3.2 * 3600, step=INTERVAL)
            assert {failure.kind for failure in failures if failure} == {FailureKind.CREDENTIALS}
            assert "next attempt in 60 s" in str(failures[2] and failures[2].message)
            assert harness.retries == 0
        gaps = [(later - earlier) / INTERVAL for earlier, later in itertools.pairwise(moments)]
        assert gaps == [1, 2, 4, 8, 16, 32, 60, 60]

    asyncio.run(main())


def test_concurrent_rejections_count_once() -> None:
    """They were in flight together with the first."""

    async def main() -> None:
        async with raw_server(replying(http())) as server, clients_sharing(server.url) as (harness,):
            await harness.send()
            server.reply = watched = CountingReply(REFUSED)
            await outcomes(*(harness.send() for _ in range(9)))
            assert (watched.most, len(server.requests)) == (4, 1 + 4)
            harness.clock.now += INTERVAL - 1
            await harness.fails()
            assert len(server.requests) == 1 + 4
            harness.clock.now += 1
            await harness.fails()
            assert len(server.requests) == 1 + 4 + 1

    asyncio.run(main())


def test_acceptance_resets_the_pause() -> None:
    async def main() -> None:
        async with raw_server(replying(REFUSED)) as server, clients_sharing(server.url) as (harness,):
            for pause in (1, 2):
                await harness.fails()
                harness.clock.now += pause * INTERVAL
            server.reply = replying(http())
            await harness.send()
            server.reply = replying(REFUSED)
            await harness.fails()
            harness.clock.now += INTERVAL
            server.reply = replying(http())
            await harness.send()

    asyncio.run(main())


def test_rotated_secret_ends_the_lockout_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-wrong-one")

    async def main() -> None:
        auth = {"method": "token", "token_file": str(file)}
        async with (
            raw_server(replying(REFUSED)) as server,
            clients_sharing(server.url, auth=auth) as (harness,),
        ):
            await harness.fails()
            file.write_text("another-wrong-one")
            await harness.fails()
            file.write_text("the-right-one")
            server.reply = replying(http())
            await harness.send()
            assert (len(server.requests), valid(harness)) == (3, 1)

    asyncio.run(main())


def test_late_response_about_a_replaced_secret_is_ignored(tmp_path: Path) -> None:
    """An acceptance or rejection of the old secret does not apply to the new one."""
    file = tmp_path / "token"
    file.write_text("old")

    async def main() -> None:
        late = asyncio.Event()
        responses = {"old": http(), "new": REFUSED}

        async def reply(request: bytes, writer: asyncio.StreamWriter) -> None:
            word = "old" if b"x-auth-token: old" in request.lower() else "new"
            if word == "old" and len(server.requests) > 1:
                await late.wait()
            writer.write(responses[word])

        async def replaced() -> int:
            late.clear()
            file.write_text("old")
            pending = asyncio.create_task(harness.send())
            server.came.clear()
            await server.came.wait()
            file.write_text("new")
            before = len(server.requests)
            new = (await outcomes(harness.send())).popitem()[0]
            late.set()
            await asyncio.gather(pending, return_exceptions=True)
            again = (await outcomes(harness.send())).popitem()[0]
            assert new == again
            return len(server.requests) - before

        auth = {"method": "token", "token_file": str(file)}
        async with raw_server(reply) as server, clients_sharing(server.url, auth=auth) as (harness,):
            await harness.send()
            assert await replaced() == 1
            responses["old"], responses["new"] = REFUSED, http()
            harness.clock.now += INTERVAL
            # The new one twice, and once instead of the old one.
            assert await replaced() == 3

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [{"access_key": "AKNOTTHERE0123456789"}, {"secret_key": "wrong"}])
def test_wrong_key_is_not_locked_in_ten_polls(cloud: Cloud, wrong: dict[str, Any]) -> None:
    """Two projects share it and send several requests every few seconds. Then the right key is accepted."""
    cloud.codearts.lock_after = 5

    async def main() -> None:
        async with cloud.projects("aksk", "one", "other", **wrong) as (one, other):
            while cloud.clock.now < NOW + 10 * INTERVAL:
                sent = [harness.send() for harness in (one, other) * 3]
                assert set(await outcomes(*sent)) == {FailureKind.CREDENTIALS}
                cloud.clock.now += 7
        assert cloud.statuses() == [401] * 4
        async with cloud.projects("aksk") as (harness,):
            await harness.send()

    asyncio.run(main())


# -- sharing


def test_rejection_locks_out_all_projects_with_the_key() -> None:
    async def main() -> None:
        async with (
            raw_server(replying(http())) as server,
            clients_sharing(server.url, "one", "other") as (one, other),
            clients_sharing(server.url, "third", auth={**TOKEN, "token": "another"}) as (third,),
        ):
            await asyncio.gather(one.send(), other.send(), third.send())
            server.reply = replying(REFUSED, http())
            await one.fails()
            assert "next attempt" in str(await other.fails())
            await third.send()
            assert len(server.requests) == 3 + 1 + 1
            assert (valid(one, "one"), valid(one, "other"), valid(third, "third")) == (0, 0, 1)
            one.clock.now += INTERVAL
            await other.send()
            await one.send()
            assert (valid(one, "one"), valid(one, "other")) == (1, 1)

    asyncio.run(main())


def test_throttling_pauses_all_projects_with_the_key() -> None:
    async def main() -> None:
        async with (
            raw_server(replying(http(429, retry_after="30"), http())) as server,
            clients_sharing(server.url, "one", "other") as (one, other),
            clients_sharing(server.url, "third", auth={**TOKEN, "token": "another"}) as (third,),
        ):
            begun = one.clock.now
            assert (await one.fails()).failure.kind is FailureKind.THROTTLED
            assert (await other.fails()).failure.kind is FailureKind.THROTTLED
            await third.send()
            assert len(server.requests) == 2
            one.clock.now += 25
            # The rest of the pause is shorter than the time limit of a request.
            assert (await other.send()).sent_at == begun + 30

    asyncio.run(main())


class StaticAuth:
    """A static credential."""

    credential_id = "a proof"
    expiry_renewal = "manual"

    def __init__(self) -> None:
        self.value = "one"

    def headers(self, request: UnsignedRequest, now: float) -> dict[str, str]:
        return {}

    def secrets(self) -> tuple[str, ...]:
        return ()

    def fingerprint(self) -> str:
        return self.value

    def expires(self) -> float | None:
        return None

    def renewal(self, now: float, *, refused: bool = False) -> Renewal | None:
        return None


def test_pause_never_shortens_another() -> None:
    clock = FakeClock()
    credential = CredentialState(StaticAuth(), clock, INTERVAL)
    assert credential.pause_left <= 0
    credential.pause(30.0)
    credential.pause(1.0)
    assert credential.pause_left == 30
    clock.now += 30
    assert credential.pause_left <= 0


def test_pause_lasts_an_hour_at_most() -> None:
    credential = CredentialState(StaticAuth(), FakeClock(), INTERVAL)
    credential.pause(99_999.0)
    assert credential.pause_left == LONGEST_PAUSE


def test_cancelled_request_releases_its_slot() -> None:
    """The request holds the exclusive slot or waits for it. The others continue, one at a time at first."""

    async def main() -> None:
        async def silent(_: bytes, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(60)

        async with raw_server(silent) as server, clients_sharing(server.url, "one", "other") as (one, other):
            sent = [asyncio.create_task(harness.send()) for harness in (one, other) * 3]
            await server.came.wait()
            for task in sent[:3]:
                task.cancel()
            server.reply = watched = CountingReply(http())
            given_up = await asyncio.gather(*sent[:3], return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in given_up)
            assert all([(await task).body == b"[]" for task in sent[3:]])
            assert watched.events[:2] == ["in", "out"]
            assert len(server.requests) == 1 + 3

    asyncio.run(main())


# -- renewal


@pytest.mark.parametrize("concurrency", [20, 4])
def test_one_renewal_serves_all_rejected_requests(cloud: Cloud, concurrency: int) -> None:
    """Twenty requests with a revoked token all succeed with one new token."""

    async def main() -> None:
        async with cloud.projects("password", concurrency=concurrency) as (harness,):
            await harness.send()
            cloud.codearts.revoke_tokens()
            cloud.codearts.latency = 0.03
            await asyncio.gather(*(harness.send() for _ in range(20)))
            assert cloud.statuses(IAM) == [201, 201]
            assert cloud.statuses().count(401) == concurrency
            assert cloud.statuses().count(200) == 1 + 20
            assert (harness.retries, valid(harness)) == (0, 1)

    asyncio.run(main())


def issuing(gateway: Reply, iam: Reply | None = None) -> Reply:
    """Return the reply of a gateway, and of an IAM that issues new tokens."""

    async def reply(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"/v3/auth/tokens" not in request:
            await gateway(request, writer)
        elif iam is not None:
            await iam(request, writer)
        else:
            writer.write(http(201, b"{}", x_subject_token=f"issued-{next(SERIAL)}"))

    return reply


def password(url: str, **changes: Any) -> dict[str, Any]:
    return {
        "method": "password",
        "domain": "d",
        "username": "u",
        "password": "a-very-private-password",
        "iam_project": "cn-north-4",
        "iam_endpoint": url,
        **changes,
    }


def asked(server: RawServer) -> tuple[int, int]:
    """Return the number of requests to the gateway and to IAM."""
    iam = sum(b"/v3/auth/tokens" in request for request in server.requests)
    return len(server.requests) - iam, iam


def test_rejected_fresh_tokens_double_the_pauses() -> None:
    """Each attempt sends one request with the present token and one with a fresh token."""

    async def main() -> None:
        async with (
            raw_server(issuing(replying(REFUSED))) as server,
            clients_sharing(server.url, auth=password(server.url)) as (harness,),
        ):
            await tries(harness, seconds=16 * INTERVAL)
            # At 0, 1, 3, 7 and 15 intervals.
            assert asked(server) == (5 * 2, 5 + 1)

    asyncio.run(main())


@pytest.mark.parametrize(("iam", "more"), [(None, 1), (replying(http(201, b"{}", x_subject_token="t")), 0)])
def test_fresh_token_is_exclusive_until_accepted(iam: Reply | None, more: int) -> None:
    """If it is rejected, that is one more rejection in total; if it is the same token, none."""

    async def main() -> None:
        async with (
            raw_server(issuing(replying(http()), iam)) as server,
            clients_sharing(server.url, auth=password(server.url)) as (harness,),
        ):
            await harness.send()
            server.reply = issuing(watched := CountingReply(REFUSED), iam)
            assert await outcomes(*(harness.send() for _ in range(10))) == {FailureKind.CREDENTIALS: 10}
            assert watched.most == 4
            assert asked(server) == (1 + 4 + more, 2)

    asyncio.run(main())


def test_present_token_is_used_while_iam_is_down(cloud: Cloud) -> None:
    """IAM is contacted less and less often. Once the token has expired, the failure gives the reason."""
    cloud.codearts.token_lifetime = 1200

    async def main() -> None:
        async with cloud.projects("password") as (harness,):
            await harness.send()
            cloud.codearts.iam_down = True
            cloud.clock.now = NOW + 880
            assert not any(await tries(harness, seconds=310))
            iam = cloud.moments(IAM)[1:]
            gaps = [later - earlier for earlier, later in itertools.pairwise(iam)]
            assert iam[0] == 910  # the first after three quarters of its lifetime
            assert gaps == [10, 10, 20, 40, INTERVAL, INTERVAL, INTERVAL]
            assert valid(harness) == 1

            cloud.clock.now = NOW + 1200
            before = len(cloud.codearts.requests)
            sent = [harness.send() for _ in range(40)]
            assert await outcomes(*sent) == {FailureKind.TRANSIENT: 40}
            error = await harness.fails()
            assert "IAM: The service is unavailable." in str(error)
            assert "next attempt in" in str(error)
            assert error.failure.code == "503"
            assert len(cloud.codearts.requests) - before <= 2

            cloud.codearts.iam_down = False
            cloud.clock.now += INTERVAL
            await harness.send()
            # The next token resets the state of IAM.
            assert valid(harness) == 1

    asyncio.run(main())


def test_short_outage_of_iam_fails_no_request() -> None:
    """The retry waits until IAM may be contacted again."""

    async def main() -> None:
        async with raw_server(replying(b"")) as server:
            server.reply = issuing(
                replying(http()), replying(http(502), http(201, b"{}", x_subject_token="t"))
            )
            async with clients_sharing(server.url, auth=password(server.url)) as (harness,):
                begun = harness.clock.now
                assert (await harness.send()).sent_at == begun + 5
                assert asked(server) == (1, 2)

    asyncio.run(main())


def test_wrong_password_is_tried_rarely(cloud: Cloud) -> None:
    """It is not locked within ten polls. The error has the time of the next attempt; a rotated password is tried at once."""
    cloud.codearts.lock_after = 5

    async def main() -> None:
        async with cloud.projects("password", "one", "other", password="mistyped") as (one, other):
            while cloud.clock.now < NOW + 10 * INTERVAL:
                sent = [harness.send() for harness in (one, other) * 3]
                assert await outcomes(*sent) == {FailureKind.CREDENTIALS: 6}
                cloud.clock.now += 10
            assert cloud.moments(IAM) == [0, 60, 180, 420]
            assert not cloud.statuses()
            error = await one.fails()
            assert "The username or password is wrong." in str(error)
            assert "next attempt in 300 s" in str(error)
            assert (valid(one, "one"), valid(one, "other"), one.retries) == (0, 0, 0)

    asyncio.run(main())


def test_changed_password_is_tried_rarely_while_the_token_is_valid(cloud: Cloud) -> None:
    """The last hour of a token must not cause sixty wrong passwords."""

    async def main() -> None:
        async with cloud.projects("password") as (harness,):
            await harness.send()
            cloud.codearts.credentials = Credentials(password="changed")
            cloud.clock.now = NOW + 23 * 3600 + 1
            assert not any(await tries(harness, seconds=3590, step=30))
            assert [moment - 23 * 3600 - 1 for moment in cloud.moments(IAM)[1:]] == [
                0,
                60,
                180,
                420,
                900,
                1860,
            ]
            assert valid(harness) == 1

    asyncio.run(main())


def test_rotated_password_is_used_at_once(cloud: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong")
    settings = cloud.auth("password", password_file=str(file))
    del settings["password"]

    async def main() -> None:
        async with clients_sharing(
            cloud.url, clock=cloud.clock, ids=IDS, project_id=WORLD.project_id, auth=settings
        ) as (harness,):
            assert (await harness.fails()).failure.kind is FailureKind.CREDENTIALS
            file.unlink()
            assert str(file) in str(await harness.fails())
            file.write_text(HIDDEN.password)
            await harness.send()
            assert cloud.statuses(IAM) == [401, 201]
            cloud.codearts.revoke_tokens()
            cloud.codearts.credentials = Credentials(password="changed")
            assert "The username or password is wrong." in str(await harness.fails())
            file.write_text("changed")
            await harness.send()

    asyncio.run(main())


def test_unreadable_password_is_not_a_rejection(cloud: Cloud, tmp_path: Path) -> None:
    """IAM was not contacted, so there is no lockout and no validity to expose."""
    file = tmp_path / "password"
    settings = cloud.auth("password", password_file=str(file))
    del settings["password"]

    async def main() -> None:
        async with clients_sharing(
            cloud.url, clock=cloud.clock, ids=IDS, project_id=WORLD.project_id, auth=settings
        ) as (harness,):
            error = await harness.fails()
            assert (error.failure.kind, str(file) in str(error)) == (FailureKind.NOT_SENT, True)
            assert not cloud.codearts.requests
            assert valid(harness) is None
            file.write_text(HIDDEN.password)
            await harness.send()

    asyncio.run(main())


def test_metadata_keys_are_renewed_before_they_expire(cloud: Cloud) -> None:
    """In three lifetimes no request is rejected, and requests do not each cause a renewal."""

    async def main() -> None:
        async with cloud.projects("metadata") as (harness,):
            assert not any(await tries(harness, seconds=3 * 3600, step=60))
            assert set(cloud.statuses()) == {200}
            assert len(cloud.statuses()) == 180
            assert len(cloud.moments(KEYS)) <= 5
            assert len(cloud.codearts.requests) <= 180 + 2 * 5
            end = harness.telemetry.registry.get_sample_value(
                "pipeline_exporter_credentials_expiry_timestamp_seconds",
                {"project": "payments", "provider": "codearts", "renewal": "auto"},
            )
            assert end is not None
            assert end > cloud.clock.now

    asyncio.run(main())


def test_cancelled_renewal_can_be_repeated() -> None:
    """The request that ran it was cancelled. The next one contacts IAM."""

    async def main() -> None:
        async def silent(_: bytes, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(60)

        async with (
            raw_server(issuing(replying(http()), silent)) as server,
            clients_sharing(server.url, auth=password(server.url)) as (harness,),
        ):
            sent = [asyncio.create_task(harness.send()) for _ in range(3)]
            await server.came.wait()
            sent[0].cancel()
            server.reply = issuing(replying(http()))
            with pytest.raises(asyncio.CancelledError):
                await sent[0]
            await asyncio.gather(*sent[1:])
            assert asked(server) == (2, 2)

    asyncio.run(main())


def test_present_token_is_used_during_a_renewal() -> None:
    """An IAM that does not respond delays one request only."""

    async def main() -> None:
        renewing = asyncio.Event()
        soon = datetime.fromtimestamp(NOW + 4000, UTC).isoformat()
        body = json.dumps({"token": {"expires_at": soon}}).encode()

        async def iam(_: bytes, writer: asyncio.StreamWriter) -> None:
            if asked(server)[1] > 1:
                renewing.set()
                await asyncio.sleep(60)
            writer.write(http(201, body, x_subject_token="t"))

        async with raw_server(replying(b"")) as server:
            server.reply = issuing(replying(http()), iam)
            async with clients_sharing(server.url, timeout=1.0, auth=password(server.url)) as (harness,):
                await harness.send()
                harness.clock.now = NOW + 3500
                held_up = asyncio.create_task(harness.send())
                await renewing.wait()
                await asyncio.gather(*(harness.send() for _ in range(6)))
                assert not held_up.done()
                await held_up
                assert asked(server) == (1 + 6 + 1, 2)

    asyncio.run(main())


# -- the provider's clock


@pytest.mark.parametrize("skew", [1200.0, -1200.0])
def test_provider_time_is_used_after_one_rejection(cloud: Cloud, skew: float) -> None:
    """The second request and all later ones are signed with it and accepted."""
    cloud.codearts.skew = skew

    async def main() -> None:
        async with cloud.projects("aksk") as (harness,):
            await asyncio.gather(*(harness.send() for _ in range(8)))
            assert not any(await tries(harness, seconds=600))
            assert Counter(cloud.statuses()) == {401: 1, 200: 8 + 60}
            # After a correction of the clock the skew is determined again.
            cloud.codearts.skew = 0.0
            cloud.codearts.latency = 0.03
            await asyncio.gather(*(harness.send() for _ in range(8)))
            assert cloud.statuses().count(401) == 1 + 4
            assert (valid(harness), harness.retries) == (1, 0)

    asyncio.run(main())


def test_revoked_token_is_renewed_although_the_clock_differs(cloud: Cloud) -> None:
    """An unrelated skew does not replace the renewal."""

    async def main() -> None:
        async with cloud.projects("password") as (harness,):
            await harness.send()
            cloud.codearts.skew = 1200.0
            cloud.codearts.revoke_tokens()
            await harness.send()
            assert cloud.statuses() == [200, 401, 200]

    asyncio.run(main())


def signed_at(request: bytes) -> str:
    return request.lower().partition(b"x-sdk-date: ")[2][:16].decode()


def test_skew_that_did_not_help_is_discarded() -> None:
    """A wrong date on a rejection must not invalidate later signatures."""

    async def main() -> None:
        auth = {"method": "aksk", "access_key": "AK", "secret_key": "SK"}
        refused = http(401, b"{}", date=formatdate(NOW + 9000, usegmt=True))
        async with (
            raw_server(replying(refused)) as server,
            clients_sharing(server.url, auth=auth) as (harness,),
        ):
            await harness.fails()
            assert len(server.requests) == 2
            harness.clock.now += INTERVAL
            server.reply = replying(http())
            await harness.send()
            first, second, third = map(signed_at, server.requests)
            assert first < third < second

    asyncio.run(main())


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_rejection_without_a_usable_date_keeps_the_skew(date: str) -> None:
    async def main() -> None:
        auth = {"method": "aksk", "access_key": "AK", "secret_key": "SK"}
        refused = http(401, b"{}", date=date)
        async with (
            raw_server(replying(refused)) as server,
            clients_sharing(server.url, auth=auth) as (harness,),
        ):
            assert (await harness.fails()).failure.kind is FailureKind.CREDENTIALS
            assert len(server.requests) == 1

    asyncio.run(main())


# -- exposed values


def test_expiry_of_a_token_is_exposed(cloud: Cloud) -> None:
    """The gauge follows each renewal; for a static token it has the configured value."""

    def end(harness: Harness, renewal: str) -> float | None:
        return harness.telemetry.registry.get_sample_value(
            "pipeline_exporter_credentials_expiry_timestamp_seconds",
            {"project": "payments", "provider": "codearts", "renewal": renewal},
        )

    async def main() -> None:
        async with cloud.projects("password") as (harness,):
            await harness.send()
            assert end(harness, "auto") == NOW + 86_400
            cloud.clock.now += 86_000
            await harness.send()
            assert end(harness, "auto") == NOW + 86_000 + 86_400
            assert cloud.statuses() == [200, 200]
        async with cloud.projects("token", expires="2031-01-01") as (harness,):
            await harness.send()
            assert end(harness, "manual") == datetime(2031, 1, 1, tzinfo=UTC).timestamp()
        async with cloud.projects("token") as (harness,):
            await harness.send()
            assert end(harness, "manual") is None

    asyncio.run(main())


ISSUED = {
    "access": "AKISSUED0123456789AB",
    "secret": "sk-issued-very-private-0123456789",
    "securitytoken": "st-issued-very-private/+==" + "x" * 300,
}


@pytest.mark.parametrize("iam_status", [200, 401, 500])
@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize("method", ["password", "metadata"])
def test_secrets_of_renewals_are_masked(
    method: str, status: int, iam_status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Servers repeat what they received and issued. It is masked in debug logs and errors."""
    token = "MII-issued-very-private-token" + "y" * 300
    private = [token, "a-very-private-password"] if method == "password" else list(ISSUED.values())

    async def main() -> None:
        async def reply(request: bytes, writer: asyncio.StreamWriter) -> None:
            said = f"{' '.join(private)} {request.decode()}"
            echo = json.dumps({"error_code": "X.1", "error_msg": said, "request_id": private[0]}).encode()
            if request.startswith(b"PUT"):
                writer.write(http(404))
            elif b"/v3/auth/tokens" not in request and b"securitykey" not in request:
                writer.write(http(status, echo))
            elif len(server.requests) > 3 and iam_status != 200:
                writer.write(http(iam_status, echo))
            elif method == "password":
                writer.write(http(201, b"{}", x_subject_token=token))
            else:
                writer.write(http(200, json.dumps({"credential": ISSUED}).encode()))

        async with raw_server(reply) as server:
            auth: dict[str, Any] = {"method": "metadata", "metadata_endpoint": server.url}
            if method == "password":
                auth = password(server.url)
            async with clients_sharing(server.url, auth=auth) as (harness,):
                errors = []
                for _ in range(4):
                    errors.append(await harness.fails())
                    harness.clock.now += 86_300
                assert len(server.requests) > 5
                assert_hidden(harness, errors, capsys.readouterr().err, private)

    with configured("debug", "logfmt"):
        asyncio.run(main())
