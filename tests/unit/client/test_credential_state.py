"""A credential's standing: nobody's key is locked by us, and nobody waits for more than was ordered."""

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
from tests.unit.client.test_api_client import Door, IssuerReply, Speaker, hidden, http, opened, saying
from tests.unit.core.test_logs import configured

TLS = tls_context()
WORLD = World(seed=3, pipelines=12)
IDS = [pipeline.id for pipeline in WORLD.pipelines]
NOW = WORLD.start + 86_400.0
INTERVAL = 60.0
IAM = "KeystoneCreateUserTokenByPassword"
KEYS = "MetadataSecurityKey"
BATCH = "BatchShowPipelinesLatestStatus"
HIDDEN = Credentials()
TOKEN = {"method": "token", "token": "a-token-that-nobody-may-see"}
SERIAL = itertools.count(1)
REFUSED = http(401, b'{"error_code":"APIGW.0301","error_msg":"decrypt token fail"}')


@contextlib.asynccontextmanager
async def sharing(
    url: str,
    *names: str,
    clock: FakeClock | None = None,
    timeout: float = 10.0,
    concurrency: int = 4,
    ids: list[str] | None = None,
    **changes: Any,
) -> AsyncIterator[tuple[Speaker, ...]]:
    """Projects that share a credential, under these names (one if there are none), closed at the end."""
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
        yield tuple(Speaker(api, call, clock, telemetry) for api in apis)
    finally:
        for api in apis:
            await api.close()


def valid(speaker: Speaker, name: str = "payments") -> float | None:
    """What is exposed of a project's credentials; None if nothing is."""
    return speaker.telemetry.registry.get_sample_value(
        "pipeline_exporter_credentials_valid", {"project": name}
    )


class Cloud:
    """A simulated cloud, and the clock that it goes by."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.codearts = CodeArts(WORLD, clock=lambda: self.clock.now)
        self.url = ""

    def auth(self, method: str, **changes: Any) -> dict[str, Any]:
        """Settings that prove the identity, unless `changes` spoil them."""
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
    ) -> contextlib.AbstractAsyncContextManager[tuple[Speaker, ...]]:
        """Projects that share a credential of this cloud."""
        return sharing(
            self.url,
            *names,
            clock=self.clock,
            concurrency=concurrency,
            ids=IDS,
            project_id=WORLD.project_id,
            auth=self.auth(method, **changes),
        )

    def moments(self, operation: str) -> list[float]:
        """When it was asked for this, in seconds from the beginning."""
        return [call.at - NOW for call in self.codearts.requests if call.operation == operation]

    def statuses(self, operation: str = BATCH) -> list[int]:
        """What it answered to this."""
        return [call.status for call in self.codearts.requests if call.operation == operation]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    with running(cloud.codearts.app) as url:
        cloud.url = url
        yield cloud


async def tries(speaker: Speaker, *, seconds: float, step: float = 10.0) -> list[RequestFailure | None]:
    """What comes of a request every few seconds: its fault, or None."""
    outcomes: list[RequestFailure | None] = []
    end = speaker.clock.now + seconds
    while speaker.clock.now < end:
        begun = speaker.clock.now
        result = (await asyncio.gather(speaker.send(), return_exceptions=True))[0]
        outcomes.append(getattr(result, "failure", None))
        speaker.clock.now = max(speaker.clock.now, begun + step)
    return outcomes


class Watched:
    """A reply that takes a moment, and what it saw: `in` and `out`, and the most that were under way at once."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.events: list[str] = []
        self.most = 0

    async def __call__(self, _: bytes, writer: asyncio.StreamWriter) -> None:
        self.events.append("in")
        self.most = max(self.most, self.events.count("in") - self.events.count("out"))
        await asyncio.sleep(0.12)
        self.events.append("out")
        writer.write(self.answer)


async def outcomes(*sent: Any) -> Counter[str]:
    """How many requests sent at once ended in which kind of fault, or in an answer."""
    results = await asyncio.gather(*sent, return_exceptions=True)
    return Counter(result.failure.kind if hasattr(result, "failure") else "answer" for result in results)


# -- how many at once


def test_alone_until_accepted() -> None:
    """The first request has no company, those after it have as much as is allowed, whichever project's they are."""

    async def main() -> None:
        watched = Watched(http())
        async with opened(watched) as door, sharing(door.url, "one", "other") as (one, other):
            await asyncio.gather(*(speaker.send() for speaker in (one, other) * 6))
        assert watched.events[:3] == ["in", "out", "in"]
        assert watched.most == 8

    asyncio.run(main())


def test_alone_again_after_a_refusal() -> None:
    async def main() -> None:
        async with opened(saying(http())) as door, sharing(door.url) as (speaker,):
            await speaker.send()
            door.reply = saying(REFUSED)
            await speaker.fails()
            speaker.clock.now += INTERVAL
            door.reply = watched = Watched(http())
            await asyncio.gather(*(speaker.send() for _ in range(8)))
        assert watched.events[:3] == ["in", "out", "in"]
        assert watched.most == 4

    asyncio.run(main())


def test_a_rotated_secret_goes_alone_first(tmp_path: Path) -> None:
    """A wrong one costs one refusal, however many requests were waiting, and though the one before was accepted."""
    file = tmp_path / "token"
    file.write_text("the-right-one")

    async def main() -> None:
        auth = {"method": "token", "token_file": str(file)}
        async with opened(saying(http())) as door, sharing(door.url, auth=auth) as (speaker,):
            await asyncio.gather(*(speaker.send() for _ in range(4)))
            file.write_text("a-wrong-one")
            door.reply = saying(REFUSED)
            assert await outcomes(*(speaker.send() for _ in range(12))) == {FailureKind.CREDENTIALS: 12}
            assert len(door.requests) == 4 + 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer", [http(404), http(500), http(503), http(302, location="/login"), http(200, b"<html>"), http(429)]
)
def test_what_says_nothing_of_the_credential(answer: bytes) -> None:
    """Neither before it was accepted, nor after, nor after a refusal."""

    async def main() -> None:
        async with opened(saying(answer)) as door, sharing(door.url) as (speaker,):

            async def spoilt() -> None:
                door.reply = saying(answer)
                await speaker.fails()
                speaker.clock.now += 5

            await spoilt()
            assert valid(speaker) is None
            door.reply = watched = Watched(http())
            await asyncio.gather(*(speaker.send() for _ in range(4)))
            assert watched.events[:2] == ["in", "out"]
            assert valid(speaker) == 1
            await spoilt()
            assert valid(speaker) == 1
            door.reply = watched = Watched(http())
            await asyncio.gather(*(speaker.send() for _ in range(4)))
            assert watched.most == 4
            door.reply = saying(REFUSED)
            await speaker.fails()
            speaker.clock.now += INTERVAL
            await spoilt()
            assert valid(speaker) == 0
            door.reply = watched = Watched(http())
            await asyncio.gather(*(speaker.send() for _ in range(4)))
            assert watched.events[:2] == ["in", "out"]

    asyncio.run(main())


def test_the_service_judges_the_content_only_of_whom_it_knows() -> None:
    """So a request that is refused for its content has had its credential accepted."""

    async def main() -> None:
        answer = http(400, b'{"error_code":"DEVPIPE.00011136","error_msg":"words"}')
        async with opened(saying(answer)) as door, sharing(door.url) as (speaker,):
            await speaker.fails()
            assert valid(speaker) == 1
            door.reply = watched = Watched(http())
            await asyncio.gather(*(speaker.send() for _ in range(4)))
            assert watched.most == 4

    asyncio.run(main())


# -- after a refusal


def test_pauses_after_refusals_grow() -> None:
    """The interval, twice that, and so on up to an hour, however often a poll wants to send."""

    async def main() -> None:
        moments = []

        async def reply(_: bytes, writer: asyncio.StreamWriter) -> None:
            moments.append(speaker.clock.now)
            writer.write(REFUSED)

        async with opened(reply) as door, sharing(door.url) as (speaker,):
            failures = await tries(speaker, seconds=3.2 * 3600, step=INTERVAL)
            assert {failure.kind for failure in failures if failure} == {FailureKind.CREDENTIALS}
            assert "next attempt in 60 s" in str(failures[2] and failures[2].message)
            assert speaker.retries == 0
        gaps = [(later - earlier) / INTERVAL for earlier, later in itertools.pairwise(moments)]
        assert gaps == [1, 2, 4, 8, 16, 32, 60, 60]

    asyncio.run(main())


def test_refusals_of_one_round_count_once() -> None:
    """Those that were under way beside the first."""

    async def main() -> None:
        async with opened(saying(http())) as door, sharing(door.url) as (speaker,):
            await speaker.send()
            door.reply = watched = Watched(REFUSED)
            await outcomes(*(speaker.send() for _ in range(9)))
            assert (watched.most, len(door.requests)) == (4, 1 + 4)
            speaker.clock.now += INTERVAL - 1
            await speaker.fails()
            assert len(door.requests) == 1 + 4
            speaker.clock.now += 1
            await speaker.fails()
            assert len(door.requests) == 1 + 4 + 1

    asyncio.run(main())


def test_an_acceptance_ends_the_growth() -> None:
    async def main() -> None:
        async with opened(saying(REFUSED)) as door, sharing(door.url) as (speaker,):
            for pause in (1, 2):
                await speaker.fails()
                speaker.clock.now += pause * INTERVAL
            door.reply = saying(http())
            await speaker.send()
            door.reply = saying(REFUSED)
            await speaker.fails()
            speaker.clock.now += INTERVAL
            door.reply = saying(http())
            await speaker.send()

    asyncio.run(main())


def test_a_rotated_secret_lifts_the_bar_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-wrong-one")

    async def main() -> None:
        auth = {"method": "token", "token_file": str(file)}
        async with opened(saying(REFUSED)) as door, sharing(door.url, auth=auth) as (speaker,):
            await speaker.fails()
            file.write_text("another-wrong-one")
            await speaker.fails()
            file.write_text("the-right-one")
            door.reply = saying(http())
            await speaker.send()
            assert (len(door.requests), valid(speaker)) == (3, 1)

    asyncio.run(main())


def test_a_late_word_on_a_secret_that_was_replaced_changes_nothing(tmp_path: Path) -> None:
    """Neither an acceptance nor a refusal of the old one says anything of the new one."""
    file = tmp_path / "token"
    file.write_text("old")

    async def main() -> None:
        late = asyncio.Event()
        answers = {"old": http(), "new": REFUSED}

        async def reply(request: bytes, writer: asyncio.StreamWriter) -> None:
            word = "old" if b"x-auth-token: old" in request.lower() else "new"
            if word == "old" and len(door.requests) > 1:
                await late.wait()
            writer.write(answers[word])

        async def replaced() -> int:
            late.clear()
            file.write_text("old")
            under_way = asyncio.create_task(speaker.send())
            door.came.clear()
            await door.came.wait()
            file.write_text("new")
            before = len(door.requests)
            new = (await outcomes(speaker.send())).popitem()[0]
            late.set()
            await asyncio.gather(under_way, return_exceptions=True)
            again = (await outcomes(speaker.send())).popitem()[0]
            assert new == again
            return len(door.requests) - before

        auth = {"method": "token", "token_file": str(file)}
        async with opened(reply) as door, sharing(door.url, auth=auth) as (speaker,):
            await speaker.send()
            assert await replaced() == 1
            answers["old"], answers["new"] = REFUSED, http()
            speaker.clock.now += INTERVAL
            # Twice the new one as such, and once in the place of the old one.
            assert await replaced() == 3

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [{"access_key": "AKNOTTHERE0123456789"}, {"secret_key": "wrong"}])
def test_a_wrong_key_is_not_locked_in_ten_polls(cloud: Cloud, wrong: dict[str, Any]) -> None:
    """By two projects that share it, each with several requests every few seconds; then the right one is let in."""
    cloud.codearts.lock_after = 5

    async def main() -> None:
        async with cloud.projects("aksk", "one", "other", **wrong) as (one, other):
            while cloud.clock.now < NOW + 10 * INTERVAL:
                sent = [speaker.send() for speaker in (one, other) * 3]
                assert set(await outcomes(*sent)) == {FailureKind.CREDENTIALS}
                cloud.clock.now += 7
        assert cloud.statuses() == [401] * 4
        async with cloud.projects("aksk") as (speaker,):
            await speaker.send()

    asyncio.run(main())


# -- shared and not shared


def test_a_refusal_of_one_bars_all_that_share_the_key() -> None:
    async def main() -> None:
        async with (
            opened(saying(http())) as door,
            sharing(door.url, "one", "other") as (one, other),
            sharing(door.url, "third", auth={**TOKEN, "token": "another"}) as (third,),
        ):
            await asyncio.gather(one.send(), other.send(), third.send())
            door.reply = saying(REFUSED, http())
            await one.fails()
            assert "next attempt" in str(await other.fails())
            await third.send()
            assert len(door.requests) == 3 + 1 + 1
            assert (valid(one, "one"), valid(one, "other"), valid(third, "third")) == (0, 0, 1)
            one.clock.now += INTERVAL
            await other.send()
            await one.send()
            assert (valid(one, "one"), valid(one, "other")) == (1, 1)

    asyncio.run(main())


def test_throttling_of_one_pauses_all_that_share_the_key() -> None:
    async def main() -> None:
        async with (
            opened(saying(http(429, retry_after="30"), http())) as door,
            sharing(door.url, "one", "other") as (one, other),
            sharing(door.url, "third", auth={**TOKEN, "token": "another"}) as (third,),
        ):
            begun = one.clock.now
            assert (await one.fails()).failure.kind is FailureKind.THROTTLED
            assert (await other.fails()).failure.kind is FailureKind.THROTTLED
            await third.send()
            assert len(door.requests) == 2
            one.clock.now += 25
            # What is left is no longer than a request may take.
            assert (await other.send()).sent_at == begun + 30

    asyncio.run(main())


class Proof:
    """A credential that is given."""

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


def test_a_pause_never_shortens_another() -> None:
    clock = FakeClock()
    credential = CredentialState(Proof(), clock, INTERVAL)
    assert credential.pause_left <= 0
    credential.pause(30.0)
    credential.pause(1.0)
    assert credential.pause_left == 30
    clock.now += 30
    assert credential.pause_left <= 0


def test_no_pause_is_longer_than_an_hour() -> None:
    credential = CredentialState(Proof(), FakeClock(), INTERVAL)
    credential.pause(99_999.0)
    assert credential.pause_left == LONGEST_PAUSE


def test_waiting_in_line_can_be_given_up() -> None:
    """By whoever is alone, and by those who wait to be: the others go on, one at first."""

    async def main() -> None:
        async def silent(_: bytes, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(60)

        async with opened(silent) as door, sharing(door.url, "one", "other") as (one, other):
            sent = [asyncio.create_task(speaker.send()) for speaker in (one, other) * 3]
            await door.came.wait()
            for task in sent[:3]:
                task.cancel()
            door.reply = watched = Watched(http())
            given_up = await asyncio.gather(*sent[:3], return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in given_up)
            assert all([(await task).body == b"[]" for task in sent[3:]])
            assert watched.events[:2] == ["in", "out"]
            assert len(door.requests) == 1 + 3

    asyncio.run(main())


# -- renewal


@pytest.mark.parametrize("concurrency", [20, 4])
def test_one_renewal_serves_all_that_were_refused(cloud: Cloud, concurrency: int) -> None:
    """Twenty requests with a token that was revoked: all are answered, and one token was issued."""

    async def main() -> None:
        async with cloud.projects("password", concurrency=concurrency) as (speaker,):
            await speaker.send()
            cloud.codearts.revoke_tokens()
            cloud.codearts.latency = 0.03
            await asyncio.gather(*(speaker.send() for _ in range(20)))
            assert cloud.statuses(IAM) == [201, 201]
            assert cloud.statuses().count(401) == concurrency
            assert cloud.statuses().count(200) == 1 + 20
            assert (speaker.retries, valid(speaker)) == (0, 1)

    asyncio.run(main())


def issuing(gateway: IssuerReply, iam: IssuerReply | None = None) -> IssuerReply:
    """A gateway, and beside it IAM, which issues ever new tokens."""

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


def asked(door: Door) -> tuple[int, int]:
    """How many requests came to the gateway, and how many to IAM."""
    iam = sum(b"/v3/auth/tokens" in request for request in door.requests)
    return len(door.requests) - iam, iam


def test_fresh_tokens_that_are_refused_too_make_the_pauses_grow() -> None:
    """Each try is one with what there is and one with a fresh token."""

    async def main() -> None:
        async with (
            opened(issuing(saying(REFUSED))) as door,
            sharing(door.url, auth=password(door.url)) as (speaker,),
        ):
            await tries(speaker, seconds=16 * INTERVAL)
            # At 0, 1, 3, 7 and 15 intervals.
            assert asked(door) == (5 * 2, 5 + 1)

    asyncio.run(main())


@pytest.mark.parametrize(("iam", "more"), [(None, 1), (saying(http(201, b"{}", x_subject_token="t")), 0)])
def test_a_fresh_token_goes_alone_first(iam: IssuerReply | None, more: int) -> None:
    """If it is refused as well, that costs one refusal more, not one for each request; if it is the same, none."""

    async def main() -> None:
        async with (
            opened(issuing(saying(http()), iam)) as door,
            sharing(door.url, auth=password(door.url)) as (speaker,),
        ):
            await speaker.send()
            door.reply = issuing(watched := Watched(REFUSED), iam)
            assert await outcomes(*(speaker.send() for _ in range(10))) == {FailureKind.CREDENTIALS: 10}
            assert watched.most == 4
            assert asked(door) == (1 + 4 + more, 2)

    asyncio.run(main())


def test_the_present_token_serves_while_iam_is_down(cloud: Cloud) -> None:
    """IAM is asked ever more rarely; once the token has ended, the fault says why, until IAM is back."""
    cloud.codearts.token_lifetime = 1200

    async def main() -> None:
        async with cloud.projects("password") as (speaker,):
            await speaker.send()
            cloud.codearts.iam_down = True
            cloud.clock.now = NOW + 880
            assert not any(await tries(speaker, seconds=310))
            iam = cloud.moments(IAM)[1:]
            gaps = [later - earlier for earlier, later in itertools.pairwise(iam)]
            assert iam[0] == 910  # the first after three quarters of its life
            assert gaps == [10, 10, 20, 40, INTERVAL, INTERVAL, INTERVAL]
            assert valid(speaker) == 1

            cloud.clock.now = NOW + 1200
            before = len(cloud.codearts.requests)
            sent = [speaker.send() for _ in range(40)]
            assert await outcomes(*sent) == {FailureKind.TRANSIENT: 40}
            error = await speaker.fails()
            assert "IAM: The service is unavailable." in str(error)
            assert "next attempt in" in str(error)
            assert error.failure.code == "503"
            assert len(cloud.codearts.requests) - before <= 2

            cloud.codearts.iam_down = False
            cloud.clock.now += INTERVAL
            await speaker.send()
            # The state of IAM is forgotten with the next token.
            assert valid(speaker) == 1

    asyncio.run(main())


def test_iam_that_was_away_for_a_moment_costs_no_poll() -> None:
    """The request is tried again when IAM may be asked again, and asks it."""

    async def main() -> None:
        async with opened(saying(b"")) as door:
            door.reply = issuing(saying(http()), saying(http(502), http(201, b"{}", x_subject_token="t")))
            async with sharing(door.url, auth=password(door.url)) as (speaker,):
                begun = speaker.clock.now
                assert (await speaker.send()).sent_at == begun + 5
                assert asked(door) == (1, 2)

    asyncio.run(main())


def test_a_wrong_password_is_tried_rarely(cloud: Cloud) -> None:
    """It is not locked within ten polls; the next try is told, and a rotated password needs no wait."""
    cloud.codearts.lock_after = 5

    async def main() -> None:
        async with cloud.projects("password", "one", "other", password="mistyped") as (one, other):
            while cloud.clock.now < NOW + 10 * INTERVAL:
                sent = [speaker.send() for speaker in (one, other) * 3]
                assert await outcomes(*sent) == {FailureKind.CREDENTIALS: 6}
                cloud.clock.now += 10
            assert cloud.moments(IAM) == [0, 60, 180, 420]
            assert not cloud.statuses()
            error = await one.fails()
            assert "The username or password is wrong." in str(error)
            assert "next attempt in 300 s" in str(error)
            assert (valid(one, "one"), valid(one, "other"), one.retries) == (0, 0, 0)

    asyncio.run(main())


def test_a_password_that_was_changed_is_tried_rarely_while_the_token_serves(cloud: Cloud) -> None:
    """A token's last hour is no reason for sixty wrong passwords."""

    async def main() -> None:
        async with cloud.projects("password") as (speaker,):
            await speaker.send()
            cloud.codearts.credentials = Credentials(password="changed")
            cloud.clock.now = NOW + 23 * 3600 + 1
            assert not any(await tries(speaker, seconds=3590, step=30))
            assert [moment - 23 * 3600 - 1 for moment in cloud.moments(IAM)[1:]] == [
                0,
                60,
                180,
                420,
                900,
                1860,
            ]
            assert valid(speaker) == 1

    asyncio.run(main())


def test_a_rotated_password_is_taken_up_at_once(cloud: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong")
    settings = cloud.auth("password", password_file=str(file))
    del settings["password"]

    async def main() -> None:
        async with sharing(
            cloud.url, clock=cloud.clock, ids=IDS, project_id=WORLD.project_id, auth=settings
        ) as (speaker,):
            assert (await speaker.fails()).failure.kind is FailureKind.CREDENTIALS
            file.unlink()
            assert str(file) in str(await speaker.fails())
            file.write_text(HIDDEN.password)
            await speaker.send()
            assert cloud.statuses(IAM) == [401, 201]
            cloud.codearts.revoke_tokens()
            cloud.codearts.credentials = Credentials(password="changed")
            assert "The username or password is wrong." in str(await speaker.fails())
            file.write_text("changed")
            await speaker.send()

    asyncio.run(main())


def test_a_password_that_cannot_be_read_is_no_refusal(cloud: Cloud, tmp_path: Path) -> None:
    """Nobody was asked, so there is nothing to wait for, and nothing to tell of the credential."""
    file = tmp_path / "password"
    settings = cloud.auth("password", password_file=str(file))
    del settings["password"]

    async def main() -> None:
        async with sharing(
            cloud.url, clock=cloud.clock, ids=IDS, project_id=WORLD.project_id, auth=settings
        ) as (speaker,):
            error = await speaker.fails()
            assert (error.failure.kind, str(file) in str(error)) == (FailureKind.CREDENTIALS, True)
            assert not cloud.codearts.requests
            assert valid(speaker) is None
            file.write_text(HIDDEN.password)
            await speaker.send()

    asyncio.run(main())


def test_metadata_keys_are_renewed_before_they_end(cloud: Cloud) -> None:
    """Through three lives of keys without a refusal, and without asking for keys before every request."""

    async def main() -> None:
        async with cloud.projects("metadata") as (speaker,):
            assert not any(await tries(speaker, seconds=3 * 3600, step=20))
            assert set(cloud.statuses()) == {200}
            assert len(cloud.statuses()) == 540
            assert len(cloud.moments(KEYS)) <= 5
            assert len(cloud.codearts.requests) <= 540 + 2 * 5
            end = speaker.telemetry.registry.get_sample_value(
                "pipeline_exporter_credentials_expiry_timestamp_seconds",
                {"project": "payments", "renewal": "auto"},
            )
            assert end is not None
            assert end > cloud.clock.now

    asyncio.run(main())


def test_a_renewal_that_is_given_up_leaves_nothing_behind() -> None:
    """Whoever drove it is gone; the next request asks IAM anew."""

    async def main() -> None:
        async def silent(_: bytes, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(60)

        async with (
            opened(issuing(saying(http()), silent)) as door,
            sharing(door.url, auth=password(door.url)) as (speaker,),
        ):
            sent = [asyncio.create_task(speaker.send()) for _ in range(3)]
            await door.came.wait()
            sent[0].cancel()
            door.reply = issuing(saying(http()))
            with pytest.raises(asyncio.CancelledError):
                await sent[0]
            await asyncio.gather(*sent[1:])
            assert asked(door) == (2, 2)

    asyncio.run(main())


def test_what_there_is_serves_while_somebody_renews_it() -> None:
    """An IAM that does not answer holds up one request, not all."""

    async def main() -> None:
        renewing = asyncio.Event()
        soon = datetime.fromtimestamp(NOW + 4000, UTC).isoformat()
        body = json.dumps({"token": {"expires_at": soon}}).encode()

        async def iam(_: bytes, writer: asyncio.StreamWriter) -> None:
            if asked(door)[1] > 1:
                renewing.set()
                await asyncio.sleep(60)
            writer.write(http(201, body, x_subject_token="t"))

        async with opened(saying(b"")) as door:
            door.reply = issuing(saying(http()), iam)
            async with sharing(door.url, timeout=1.0, auth=password(door.url)) as (speaker,):
                await speaker.send()
                speaker.clock.now = NOW + 3500
                held_up = asyncio.create_task(speaker.send())
                await renewing.wait()
                await asyncio.gather(*(speaker.send() for _ in range(6)))
                assert not held_up.done()
                await held_up
                assert asked(door) == (1 + 6 + 1, 2)

    asyncio.run(main())


# -- the provider's clock


@pytest.mark.parametrize("skew", [1200.0, -1200.0])
def test_the_providers_clock_is_learnt_from_one_refusal(cloud: Cloud, skew: float) -> None:
    """The second request is signed by it and accepted, and so are all that follow."""
    cloud.codearts.skew = skew

    async def main() -> None:
        async with cloud.projects("aksk") as (speaker,):
            await asyncio.gather(*(speaker.send() for _ in range(8)))
            assert not any(await tries(speaker, seconds=600))
            assert Counter(cloud.statuses()) == {401: 1, 200: 8 + 60}
            # Set right, it is learnt again.
            cloud.codearts.skew = 0.0
            cloud.codearts.latency = 0.03
            await asyncio.gather(*(speaker.send() for _ in range(8)))
            assert cloud.statuses().count(401) == 1 + 4
            assert (valid(speaker), speaker.retries) == (1, 0)

    asyncio.run(main())


def test_a_token_that_was_revoked_is_renewed_whatever_the_clock(cloud: Cloud) -> None:
    """A difference of the clocks that has nothing to do with it does not take the renewal's place."""

    async def main() -> None:
        async with cloud.projects("password") as (speaker,):
            await speaker.send()
            cloud.codearts.skew = 1200.0
            cloud.codearts.revoke_tokens()
            await speaker.send()
            assert cloud.statuses() == [200, 401, 200]

    asyncio.run(main())


def signed_at(request: bytes) -> str:
    return request.lower().partition(b"x-sdk-date: ")[2][:16].decode()


def test_a_clock_that_does_not_help_is_not_kept() -> None:
    """A wrong date on a refusal must not spoil the signatures of a key that is right again."""

    async def main() -> None:
        auth = {"method": "aksk", "access_key": "AK", "secret_key": "SK"}
        refused = http(401, b"{}", date=formatdate(NOW + 9000, usegmt=True))
        async with opened(saying(refused)) as door, sharing(door.url, auth=auth) as (speaker,):
            await speaker.fails()
            assert len(door.requests) == 2
            speaker.clock.now += INTERVAL
            door.reply = saying(http())
            await speaker.send()
            first, second, third = map(signed_at, door.requests)
            assert first < third < second

    asyncio.run(main())


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_refusal_without_a_usable_date_says_nothing_of_the_clock(date: str) -> None:
    async def main() -> None:
        auth = {"method": "aksk", "access_key": "AK", "secret_key": "SK"}
        refused = http(401, b"{}", date=date)
        async with opened(saying(refused)) as door, sharing(door.url, auth=auth) as (speaker,):
            assert (await speaker.fails()).failure.kind is FailureKind.CREDENTIALS
            assert len(door.requests) == 1

    asyncio.run(main())


# -- what can be seen


def test_the_end_of_a_token_is_exposed(cloud: Cloud) -> None:
    """Anew with each renewal; of a given token what the configuration says."""

    def end(speaker: Speaker, renewal: str) -> float | None:
        return speaker.telemetry.registry.get_sample_value(
            "pipeline_exporter_credentials_expiry_timestamp_seconds",
            {"project": "payments", "renewal": renewal},
        )

    async def main() -> None:
        async with cloud.projects("password") as (speaker,):
            await speaker.send()
            assert end(speaker, "auto") == NOW + 86_400
            cloud.clock.now += 86_000
            await speaker.send()
            assert end(speaker, "auto") == NOW + 86_000 + 86_400
            assert cloud.statuses() == [200, 200]
        async with cloud.projects("token", expires="2031-01-01") as (speaker,):
            await speaker.send()
            assert end(speaker, "manual") == datetime(2031, 1, 1, tzinfo=UTC).timestamp()
        async with cloud.projects("token") as (speaker,):
            await speaker.send()
            assert end(speaker, "manual") is None

    asyncio.run(main())


ISSUED = {
    "access": "AKISSUED0123456789AB",
    "secret": "sk-issued-very-private-0123456789",
    "securitytoken": "st-issued-very-private/+==" + "x" * 300,
}


@pytest.mark.parametrize("iam_status", [200, 401, 500])
@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize("method", ["password", "metadata"])
def test_what_renewals_send_and_bring_is_never_seen(
    method: str, status: int, iam_status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """By servers that repeat all they were sent, and all they gave out before: in logs at debug level, in faults."""
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
            elif len(door.requests) > 3 and iam_status != 200:
                writer.write(http(iam_status, echo))
            elif method == "password":
                writer.write(http(201, b"{}", x_subject_token=token))
            else:
                writer.write(http(200, json.dumps({"credential": ISSUED}).encode()))

        async with opened(reply) as door:
            auth: dict[str, Any] = {"method": "metadata", "metadata_endpoint": door.url}
            if method == "password":
                auth = password(door.url)
            async with sharing(door.url, auth=auth) as (speaker,):
                errors = []
                for _ in range(4):
                    errors.append(await speaker.fails())
                    speaker.clock.now += 86_300
                assert len(door.requests) > 5
                hidden(speaker, errors, capsys.readouterr().err, private)

    with configured("debug", "logfmt"):
        asyncio.run(main())
