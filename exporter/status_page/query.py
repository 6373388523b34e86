"""Which pipelines a client asks for: the parameters of the page and of `/api/v1/status`."""

from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec

SORTS = ("attention", "name", "since", "started", "duration", "failures")
"""What pipelines can be sorted by. `attention`: red first, then waiting, then running."""
FILTERS = (
    "red",
    "success",
    "failed",
    "canceled",
    "ignored",
    "running",
    "pending",
    "waiting",
    "paused",
    "suspended",
    "unknown",
    "none",
)
"""Statuses to filter by. `red`: the latest finished run failed. `waiting` includes paused and suspended."""
_LONGEST = 256


class QueryError(ValueError):
    """A parameter that does not exist, or a value that it cannot have."""


class PipelineQuery(msgspec.Struct, frozen=True):
    """The pipelines to show."""

    text: str = ""
    """Part of the name or of the id, in any case."""
    project: str = ""
    """Empty for all."""
    status: str = ""
    """One of `FILTERS`; empty for all."""
    sort: str = "attention"
    page: int = 1

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> "PipelineQuery":
        """Return the query of a URL's parameters; empty ones count as left out.

        Raises:
            QueryError: a parameter is unknown, or its value.

        """
        given = {name: value for name, value in parameters.items() if value}
        unknown = given.keys() - {"q", "project", "status", "sort", "page"}
        if unknown:
            raise QueryError("unknown parameter (there are q, project, status, sort and page)")
        status, sort, page = given.get("status", ""), given.get("sort", "attention"), given.get("page", "1")
        if status and status not in FILTERS:
            raise QueryError(f"status must be one of {', '.join(FILTERS)}")
        if sort not in SORTS:
            raise QueryError(f"sort must be one of {', '.join(SORTS)}")
        if not (page.isascii() and page.isdigit() and len(page) <= 6 and int(page)):
            raise QueryError("page must be a number from 1 on")
        return cls(given.get("q", "")[:_LONGEST], given.get("project", ""), status, sort, int(page))

    @property
    def filtered(self) -> bool:
        """Whether some pipelines may be left out."""
        return bool(self.text or self.project or self.status)

    def link(self, **changes: str | int) -> str:
        """Return the address of the page with some parameters changed. It begins with the first page."""
        values = {
            "q": self.text,
            "project": self.project,
            "status": self.status,
            "sort": self.sort if self.sort != "attention" else "",
            "page": "",
            **changes,
        }
        found = urlencode(
            {name: value for name, value in values.items() if value not in {"", "attention", 1}}
        )
        return f"/?{found}" if found else "/"


def pipeline_link(project: str, pipeline_id: str) -> str:
    """Return the address of a pipeline's page."""
    return f"/pipeline?{urlencode({'project': project, 'pipeline_id': pipeline_id})}"
