"""Choice of the proxy over real sockets: configured, from the environment, or none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from exporter.client.transport import ConnectionPools, TransportOptions, tls_context
from exporter.config.secret import Secret
from exporter.core.failures import RequestFailure
from tests.unit.client.test_api_client import RawServer, http, raw_server, replying

TLS = tls_context()
ELSEWHERE = "http://cloud.invalid/v5/pipelines?page=1"
"""An unresolvable host, so that every response is from the proxy."""


pytestmark = [pytest.mark.process, pytest.mark.usefixtures("no_proxy")]


@contextlib.asynccontextmanager
async def connections(**settings: Any) -> AsyncIterator[ConnectionPools]:
    opened_ones = ConnectionPools(5.0, 2, TransportOptions(tls=TLS, **settings))
    try:
        yield opened_ones
    finally:
        await opened_ones.close()


def request_lines(server: RawServer) -> list[str]:
    """Return the request lines that a proxy received."""
    return [request.split(b"\r\n")[0].decode() for request in server.requests]


def through(
    door_environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    url: str = ELSEWHERE,
    **settings: Any,
) -> tuple[list[str], Any]:
    """Send a request; return the request lines that a proxy received, and the result. `PROXY` stands for its address."""

    async def main() -> tuple[list[str], Any]:
        async with raw_server(replying(http(204))) as server:
            address = server.url.removeprefix("http://")
            for name, value in door_environment.items():
                monkeypatch.setenv(name, value.replace("PROXY", address))
            own = {name: Secret(value.replace("PROXY", address)) for name, value in settings.items()}
            async with connections(**own) as ways:
                came = await ways.exchange(httpx.Request("GET", url))
            return request_lines(server), came

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
def test_proxy_of_the_environment_is_used(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, came = through(environment, monkeypatch)
    assert seen == [f"GET {ELSEWHERE} HTTP/1.1"]
    assert came[0] == 204


@pytest.mark.parametrize(
    "excepted", ["cloud.invalid", ".invalid", "invalid", "example.com, cloud.invalid", "*"]
)
def test_no_proxy_host_is_contacted_directly(excepted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, came = through({"http_proxy": "http://PROXY", "no_proxy": excepted}, monkeypatch)
    assert not seen
    assert isinstance(came, RequestFailure)
    assert came.code == "connect"


def test_each_scheme_has_its_own_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS uses a tunnel through the proxy."""
    secure = ELSEWHERE.replace("http:", "https:")
    assert through({"https_proxy": "http://PROXY"}, monkeypatch, secure)[0] == [
        "CONNECT cloud.invalid:443 HTTP/1.1"
    ]
    assert through({"https_proxy": "http://PROXY"}, monkeypatch)[0] == []


def test_configured_proxy_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "*"}
    seen, came = through(environment, monkeypatch, proxy="http://user:pass%23word@PROXY")
    assert seen == [f"GET {ELSEWHERE} HTTP/1.1"]
    assert came[0] == 204


def test_bypass_proxy_connects_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async def main() -> None:
        async with raw_server(replying(http(204))) as server, connections(bypass_proxy=True) as ways:
            came = await ways.exchange(httpx.Request("GET", f"{server.url}/x"))
            assert isinstance(came, tuple)
            assert request_lines(server) == ["GET /x HTTP/1.1"]

    asyncio.run(main())


def test_invalid_proxy_url_is_an_error_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    came = through({"http_proxy": "nonsense://user:opensesame@PROXY"}, monkeypatch)[1]
    assert isinstance(came, RequestFailure)
    assert "proxy" in came.message
    assert "opensesame" not in came.message


def test_redirects_are_not_followed_and_cookies_not_stored() -> None:
    async def main() -> None:
        response = http(302, location="/elsewhere", set_cookie="session=1; Path=/")
        async with raw_server(replying(response)) as server, connections(bypass_proxy=True) as ways:
            for _ in range(2):
                came = await ways.exchange(httpx.Request("GET", f"{server.url}/x"))
                assert isinstance(came, tuple)
                assert came[0] == 302
            assert request_lines(server) == ["GET /x HTTP/1.1"] * 2
            assert not any(b"cookie" in request.lower() for request in server.requests)
            assert server.connections == 1

    asyncio.run(main())
