"""What the page shows of projects, as frozen values."""

import msgspec

from exporter.core.usage import Usage
from exporter.status_page.answer import describe


class ProjectProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a project is down. Secrets are masked."""

    since: float
    """Epoch seconds."""
    operation: str
    code: str
    """The HTTP status, or a word of the exporter."""
    error_code: str
    """The vendor's; empty without one."""
    message: str
    request_id: str
    remedy: str
    """Heading of docs/troubleshooting.md."""
    held_back: bool = False
    """Whether no request was sent because of an earlier failure, which the message names."""

    @property
    def why(self) -> str:
        """The cause in words, with the message."""
        if self.held_back and self.message:
            # The message says that the request was not sent, and why.
            return self.message
        cause = describe(self.operation, self.code, self.error_code)
        return f"{cause}: {self.message}" if self.message else cause


class ProjectFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A project at one moment; times are epoch seconds."""

    project: str
    provider: str
    pipelines: int
    up: bool | None
    """False while the project is down; None before its first refresh has ended."""
    incomplete: bool
    """True if it is up although part of the last refresh failed."""
    problem: ProjectProblem | None
    """None unless the project is down."""
    last_poll: float | None
    next_poll: float
    usage: Usage
