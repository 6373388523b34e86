"""Decode the rows of a list one by one, and check which pipeline each row belongs to."""

from collections.abc import Callable, Collection, Iterable

import msgspec

from exporter.core.model import LABEL_LENGTH, Run
from exporter.core.redaction import printable, redact
from exporter.providers.decoding import UnusableRecordError
from exporter.providers.protocol import RunRows


def is_pipeline_id(value: str) -> bool:
    """Return whether a text can be the id of a pipeline."""
    # A longer text would be cut in its label, and a secret would be masked: either could equal another pipeline's id.
    return 0 < len(value) <= LABEL_LENGTH and redact(value) == value


def valid_pipeline_id(value: str) -> str:
    """Return a text if it can be the id of a pipeline.

    Raises:
        UnusableRecordError: it cannot be one.

    """
    if not is_pipeline_id(value):
        raise UnusableRecordError("no_pipeline_id", "record without a valid pipeline id")
    return value


def requested_pipeline_id(value: str, requested: Collection[str]) -> str:
    """Return a text if it is one of the requested pipeline ids.

    Raises:
        UnusableRecordError: it is not a pipeline id, or is the id of another pipeline.

    """
    if value not in requested:
        message = f"run of pipeline {printable(valid_pipeline_id(value), 64)}, which was not requested"
        raise UnusableRecordError("not_requested", message)
    return value


def add_runs(
    page: RunRows, rows: Iterable[msgspec.Raw], pipeline: str, decode: Callable[[msgspec.Raw], Run]
) -> RunRows:
    """Decode the rows of a pipeline's run list into a page.

    Of rows with the same run id, the last is used. If their numbers differ, one is wrong and counts as unreadable.
    """
    runs: dict[str, Run] = {}
    for raw in rows:
        page.rows += 1
        try:
            run = decode(raw)
        except UnusableRecordError as error:
            page.reject(error.reason, str(error))
            # A row of another pipeline hides no run of this one.
            page.unreadable += error.reason != "not_requested" and error.pipeline in {"", pipeline}
            continue
        duplicate = runs.get(run.id)
        if duplicate is not None:
            message = (
                f"run {printable(run.id, 64)} of pipeline {pipeline} occurs twice in a page, using the last"
            )
            page.reject("duplicate", message)
            page.unreadable += duplicate.number != run.number
        runs[run.id] = run
    page.runs = list(runs.values())
    return page
