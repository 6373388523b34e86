"""Poll now: the last step of a pipeline requests a poll over HTTP, so that /metrics shows the run's end at once."""

import hmac
import logging
from pathlib import Path
from typing import Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from exporter.config.secret import FileSecret, SecretError

PATH = "/-/poll"
_SCHEME = "bearer "

_log = logging.getLogger("exporter.web.poll_now")


class PollRequests(Protocol):
    """Accepts requests to poll a pipeline now."""

    def watches(self, project: str, pipeline_id: str) -> bool:
        """Return True if the exporter polls this pipeline of this project."""

    def request(self, project: str, pipeline_id: str) -> bool:
        """Start a poll of a watched pipeline now; return False if the last such request is too recent."""


class PollToken:
    """The token that clients must send. Its file is read for each request."""

    def __init__(self, file: Path) -> None:
        """Read the token for the first time.

        Raises:
            SecretError: it cannot be read.

        """
        self._secret = FileSecret(file)
        self._secret.reveal()
        self._failure = ""
        """Message of the last failure to read the token, which is not logged again; empty after a success."""

    def accepts(self, authorization: str) -> bool:
        """Return whether an `Authorization` header has the token; False if the token cannot be read."""
        try:
            token = self._secret.reveal()
        except SecretError as error:
            if str(error) != self._failure:
                self._failure = str(error)
                _log.error(
                    "poll token unreadable, rejecting calls of poll now",
                    extra={"id": "poll-token-unreadable", "error": str(error)},
                )
            return False
        self._failure = ""
        given = authorization[len(_SCHEME) :].strip()
        matches = hmac.compare_digest(given.encode(), token.encode())
        return matches and authorization[: len(_SCHEME)].lower() == _SCHEME


def poll_route(token: PollToken, requests: PollRequests) -> Route:
    """Return the route on which a caller with the token requests a poll of one pipeline."""

    async def poll(request: Request) -> Response:
        if not token.accepts(request.headers.get("authorization", "")):
            return PlainTextResponse(
                "Unauthorized: send the header Authorization: Bearer TOKEN, with the token of --web.poll-token-file\n",
                status_code=401,
                headers={"WWW-Authenticate": 'Bearer realm="pipeline-exporter"'},
            )
        project, pipeline_id = (request.query_params.get(name, "") for name in ("project", "pipeline_id"))
        missing = [name for name, value in (("project", project), ("pipeline_id", pipeline_id)) if not value]
        if missing:
            return PlainTextResponse(
                f"Bad request: the query lacks {' and '.join(missing)} (send {PATH}?project=NAME&pipeline_id=ID)\n",
                status_code=400,
            )
        if not requests.watches(project, pipeline_id):
            return PlainTextResponse(
                "Not found: this exporter does not poll such a pipeline (compare the labels project and pipeline_id)\n",
                status_code=404,
            )
        if not requests.request(project, pipeline_id):
            return PlainTextResponse(
                "Too many requests: at most one call a second for each pipeline\n",
                status_code=429,
                headers={"Retry-After": "1"},
            )
        return PlainTextResponse("Accepted: the pipeline is polled now\n", status_code=202)

    return Route(PATH, poll, methods=["POST"])
