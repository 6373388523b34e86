"""List of the CodeArts projects that a user can see, which CodeArts Req serves.

Source: "Querying the Project List" of its API reference (https://support.huaweicloud.com/api-projectman/ListProjectsV4.html).
"""

import re
from collections.abc import Mapping

import msgspec

from exporter.config.types import ID_PATTERN
from exporter.core.failures import RequestFailure
from exporter.core.model import LABEL_LENGTH
from exporter.core.redaction import printable, redact
from exporter.providers.codearts.errors import read_failure, unreadable_page
from exporter.providers.decoding import PIPELINE_ROWS, RecordDecoder, Text, UnusableRecordError, rows, text
from exporter.providers.protocol import ApiRequest, PageCursor, ProjectRows
from exporter.providers.row_repair import readable_rows

LIST_PROJECTS = "ListProjectsV4"

_REGIONS = {
    "cn-north-1",
    "cn-north-4",
    "cn-east-2",
    "cn-east-3",
    "cn-south-1",
    "cn-southwest-2",
    "ap-southeast-3",
    "la-north-2",
    "sa-brazil-1",
}
_ROWS = "projects"
_OBJECTS = 20_000
"""Maximum JSON objects in a page. A hundred projects with their creators have about two hundred."""


def directory_endpoint(region: str) -> str | None:
    """Return the URL of CodeArts Req in a region; None if it is not known to exist there."""
    return f"https://projectman-ext.{region}.myhuaweicloud.com" if region in _REGIONS else None


class _ProjectRecord(msgspec.Struct):
    project_id: Text = None
    project_name: Text = None


class _ProjectEssential(msgspec.Struct):
    project_id: Text = None


class _ProjectPage(msgspec.Struct):
    projects: msgspec.Raw = msgspec.Raw(b"null")


_decode = RecordDecoder(_ProjectEssential, "project_id").decode


class ProjectDirectory:
    """Describes the requests for the list of projects, and decodes the responses."""

    name = "codearts"
    page_size = 100
    """Rows to request. The limit may be 1000, but older documents have at most 100 rows in a response."""
    max_pages = 101
    """Pages that can be requested. The offset is at most 10,000."""

    def projects_request(self, cursor: PageCursor) -> ApiRequest:
        """Return the request for a page of the projects that the user is a member of.

        The offset must be a multiple of the limit, so a page that is shorter than the limit does not shift the next one.
        After `max_pages`, the last page is requested again.
        """
        # `archive` is not sent: by the API reference `true` selects projects in use, by the vendor's SDK archived ones.
        # `sort` is not sent either: by default the newest project is first. One that is created between two requests
        # repeats a row on the next page, and hides none.
        offset = min(cursor.pages, self.max_pages - 1) * self.page_size
        return ApiRequest(
            operation=LIST_PROJECTS,
            method="GET",
            path="/v4/projects",
            query=(("offset", str(offset)), ("limit", str(self.page_size))),
            headers=(("Content-Type", "application/json"),),
            object_limit=_OBJECTS,
        )

    def read_projects(self, body: bytes, _: float, __: Mapping[str, str]) -> ProjectRows:
        """Decode a page of projects. A rejected row does not affect the others.

        The total is not read, since it may be missing or wrong. The list ends with an empty page.
        """
        found = ProjectRows()
        for raw in _page(readable_rows(body)):
            found.rows += 1
            try:
                row = _decode(raw, _ProjectRecord)
                project = _valid_id(text(row.project_id))
            except UnusableRecordError as error:
                found.reject(error.reason, str(error))
                found.incomplete = True
                continue
            # One less, since a name that is cut ends with an ellipsis.
            name = printable(text(row.project_name), LABEL_LENGTH - 1)
            known = found.projects.get(project, "")
            if known and name and name != known:
                found.reject("duplicate", f"project {project} occurs twice in a page, using the first name")
            found.projects[project] = known or name
        return found

    def failure(
        self, request: ApiRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> RequestFailure | None:
        """Classify a response that is an error or has an unexpected shape; return None for a success."""
        body = readable_rows(body)
        failure = read_failure(request, _ROWS, status, headers, body)
        if failure is None:
            try:
                _page(body)
            except UnusableRecordError as error:
                return unreadable_page(request.operation, _ROWS, error, headers)
        return failure


def _page(body: bytes) -> list[msgspec.Raw]:
    return rows(_decode(body, _ProjectPage).projects, PIPELINE_ROWS)


def _valid_id(value: str) -> str:
    """Return a text if it can be the id of a project: it becomes part of a path."""
    if not re.fullmatch(ID_PATTERN, value) or redact(value) != value:
        raise UnusableRecordError("unreadable", "row without a valid project id")
    return value
