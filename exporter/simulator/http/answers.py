"""What an operation gives back: a good answer, or the service's own no.

Operations return or raise these and know nothing of HTTP libraries; the cloud turns them into responses, and
spoils the good ones when told to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from starlette.responses import Response

from exporter.simulator.http.faults import encoded
from exporter.simulator.world.runs import Run


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

    def __init__(self, status: int, body: object) -> None:
        super().__init__(status, body)
        self.answer = Good(body, status, plain=isinstance(body, str))
