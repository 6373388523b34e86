"""What an operation gives back: a good answer, or the service's own no.

Operations return or raise these and know nothing of HTTP libraries; the cloud turns them into responses, and
spoils the good ones when told to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from starlette.responses import Response

from exporter.simulator.mischief import encoded
from exporter.simulator.runs import Run


@dataclass(frozen=True, slots=True)
class Good:
    """A good answer: `value` is sent as JSON, unless it is `plain` text; `runs` are those it tells, in its order."""

    value: object
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False
    runs: Sequence[Run] = ()

    def response(self) -> Response:
        """Put it on the wire."""
        if self.plain:
            return Response(str(self.value), self.status, dict(self.headers), media_type="text/plain")
        return Response(encoded(self.value), self.status, dict(self.headers), media_type="application/json")


class DeclinedError(Exception):
    """A no of what stands behind the gateway: a status, and an object that is sent as JSON or a plain text."""

    def __init__(self, status: int, body: dict[str, object] | str) -> None:
        super().__init__(status, body)
        self.answer = Good(body, status, plain=isinstance(body, str))


def service_error(code: str, text: str, status: int = 200) -> DeclinedError:
    """Make an error of the Pipeline service, which comes with status 200 more often than not."""
    return DeclinedError(status, {"error_code": code, "error_msg": text})


def unparsed(expected: str) -> DeclinedError:
    """Make the error for a body that is not what the operation expects."""
    text = f"Failed to parse the request data: {expected} is expected"
    return service_error("PARSE_REQUEST_DATA_EXCEPTION", text, 400)


def no_project() -> DeclinedError:
    """Make the error for a project that does not exist, or that the user is no member of."""
    return service_error("DEVPIPE.00011412", "The project does not exist")


def no_pipeline() -> DeclinedError:
    """Make the error for a pipeline that does not exist."""
    return service_error("DEVPIPE.00011401", "The pipeline does not exist")


def no_run() -> DeclinedError:
    """Make the error for a run that does not exist; the code is invented, the vendor's being unknown."""
    return service_error("DEVPIPE.00011402", "The pipeline run does not exist")


def mismatch() -> DeclinedError:
    """Make the error for a pipeline that is not of the project."""
    return service_error("DEVPIPE.00011136", "项目ID和流水线不匹配")
