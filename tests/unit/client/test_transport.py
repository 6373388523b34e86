"""Which way requests take, against real sockets: proxies of the configuration and of the environment, or none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from exporter.client.transport import ConnectionPools, TransportOptions, tls_context
from exporter.config.secret import Secret
from exporter.core.failures import RequestFailure
from tests.unit.client.test_api_client import Door, http, opened, saying

TLS = tls_context()
ELSEWHERE = "http://cloud.invalid/v5/pipelines?page=1"
"""A host that no name server knows: an answer is one of the proxy."""


pytestmark = pytest.mark.usefixtures("no_proxy")


@contextlib.asynccontextmanager
async def connections(**settings: Any) -> AsyncIterator[ConnectionPools]:
    """ConnectionPools, closed at the end."""
    opened_ones = ConnectionPools(5.0, 2, TransportOptions(tls=TLS, **settings))
    try:
        yield opened_ones
    finally:
        await opened_ones.close()


def asked_for(door: Door) -> list[str]:
    """The first lines of the requests that a proxy saw."""
    return [request.split(b"\r\n")[0].decode() for request in door.requests]


def through(
    door_environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    url: str = ELSEWHERE,
    **settings: Any,
) -> tuple[list[str], Any]:
    """What a proxy saw of a request, and what came of it; `PROXY` in a value stands for its address."""

    async def main() -> tuple[list[str], Any]:
        async with opened(saying(http(204))) as door:
            address = door.url.removeprefix("http://")
            for name, value in door_environment.items():
                monkeypatch.setenv(name, value.replace("PROXY", address))
            own = {name: Secret(value.replace("PROXY", address)) for name, value in settings.items()}
            async with connections(**own) as ways:
                came = await ways.exchange(httpx.Request("GET", url))
            return asked_for(door), came

    return asyncio.run(main())


@pytest.mark.parametrize(
    "environment",
    [
        {"http_proxy": "http://PROXY"},
        {"HTTP_PROXY": "http://PROXY"},
        {"http_proxy": "PROXY"},
        {"all_proxy": "http://PROXY"},
        {"http_proxy": "http://PROXY", "all_proxy": "http://127.0.0.1:1"},
        {"http_proxy": "http://PROXY", "no_proxy": "example.com,127.0.0.1"},
    ],
)
def test_a_proxy_of_the_environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen, came = through(environment, monkeypatch)
    assert seen == [f"GET {ELSEWHERE} HTTP/1.1"]
    assert came[0] == 204


@pytest.mark.parametrize(
    "excepted", ["cloud.invalid", ".invalid", "invalid", "example.com, cloud.invalid", "*"]
)
def test_a_host_that_the_environment_excepts(excepted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, came = through({"http_proxy": "http://PROXY", "no_proxy": excepted}, monkeypatch)
    assert not seen
    assert isinstance(came, RequestFailure)
    assert came.code == "connect"


def test_each_scheme_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is encrypted goes through the proxy unseen."""
    secure = ELSEWHERE.replace("http:", "https:")
    assert through({"https_proxy": "http://PROXY"}, monkeypatch, secure)[0] == [
        "CONNECT cloud.invalid:443 HTTP/1.1"
    ]
    assert through({"https_proxy": "http://PROXY"}, monkeypatch)[0] == []


def test_a_proxy_of_the_configuration_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "*"}
    seen, came = through(environment, monkeypatch, proxy="http://user:pass%23word@PROXY")
    assert seen == [f"GET {ELSEWHERE} HTTP/1.1"]
    assert came[0] == 204


def test_who_is_near_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async def main() -> None:
        async with opened(saying(http(204))) as door, connections(bypass_proxy=True) as ways:
            came = await ways.exchange(httpx.Request("GET", f"{door.url}/x"))
            assert isinstance(came, tuple)
            assert asked_for(door) == ["GET /x HTTP/1.1"]

    asyncio.run(main())


def test_a_proxy_that_cannot_be_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told without its password."""
    came = through({"http_proxy": "nonsense://user:opensesame@PROXY"}, monkeypatch)[1]
    assert isinstance(came, RequestFailure)
    assert "proxy" in came.message
    assert "opensesame" not in came.message


def test_redirects_are_not_followed_and_cookies_not_kept() -> None:
    async def main() -> None:
        answer = http(302, location="/elsewhere", set_cookie="session=1; Path=/")
        async with opened(saying(answer)) as door, connections(bypass_proxy=True) as ways:
            for _ in range(2):
                came = await ways.exchange(httpx.Request("GET", f"{door.url}/x"))
                assert isinstance(came, tuple)
                assert came[0] == 302
            assert asked_for(door) == ["GET /x HTTP/1.1"] * 2
            assert not any(b"cookie" in request.lower() for request in door.requests)
            assert door.connections == 1

    asyncio.run(main())
