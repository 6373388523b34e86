"""Apply the web configuration file to each request: its rate limit, response headers and passwords."""

from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.core.clock import Clock
from exporter.web.basic_auth import PasswordCheck
from exporter.web.poll_now import PATH as POLL_NOW
from exporter.web.web_config import RequestRateLimit, WebConfig


class Guard:
    """ASGI middleware that applies the settings in force to each request."""

    def __init__(
        self, app: ASGIApp, settings: Callable[[], WebConfig], clock: Clock, *, poll_now: bool = False
    ) -> None:
        """`poll_now`: poll now is enabled, and its path requires a token instead of a password."""
        self._without_password = {POLL_NOW} if poll_now else set()
        self._app = app
        self._settings = settings
        self._clock = clock
        self._passwords = PasswordCheck()
        self._bucket = _TokenBucket(RequestRateLimit(), clock.monotonic())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, or reject it with 429 or 401."""
        settings = self._settings()
        headers = settings.http_server_config.headers

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        app = await self._refusal(scope, settings) or self._app
        await app(scope, receive, send_with_headers if headers else send)

    async def _refusal(self, scope: Scope, settings: WebConfig) -> ASGIApp | None:
        now = self._clock.monotonic()
        if self._bucket.limit != settings.rate_limit:
            self._bucket = _TokenBucket(settings.rate_limit, now)
        if not self._bucket.take(now):
            return PlainTextResponse("Too many requests\n", status_code=429)
        users = {} if scope["path"] in self._without_password else settings.basic_auth_users
        if users and not await self._passwords.accepts(Headers(scope=scope).get("authorization", ""), users):
            return PlainTextResponse(
                "Unauthorized\n",
                status_code=401,
                headers={"WWW-Authenticate": 'Basic realm="pipeline-exporter"'},
            )
        return None


class _TokenBucket:
    """Allows a burst of requests, then one request per interval."""

    def __init__(self, limit: RequestRateLimit, now: float) -> None:
        self.limit = limit
        self._tokens = float(limit.burst)
        self._filled = now

    def take(self, now: float) -> bool:
        """Return whether a request at `now` (monotonic seconds) is allowed."""
        if not self.limit.interval:
            return True
        earned = (now - self._filled) / self.limit.interval
        self._tokens = min(self.limit.burst, self._tokens + earned)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
