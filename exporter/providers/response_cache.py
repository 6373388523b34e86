"""Cache of decoded responses. Most pipelines are idle, so most records of a poll repeat the last poll byte by byte."""

import msgspec

from exporter.core.model import Run
from exporter.providers.protocol import LatestRuns

_RECORDS = 200_000
_RESPONSES = 20_000
_BYTES = 64 * 1024 * 1024
"""Maximum total size in bytes of the cached records, and the same of the cached responses."""


class DecodedRecord(msgspec.Struct, frozen=True):
    """A decoded record with its anomalies, which are reported each time the record is received."""

    pipeline: str
    run: Run
    unknown_values: tuple[tuple[str, str], ...] = ()
    implausible_times: str = ""
    """As in `Decoded`."""


class ResponseCache:
    """Caches the last response to each request, and the last record of each pipeline, in decoded form.

    A response is looked up by its request and its bytes, a record by its bytes.
    """

    def __init__(self) -> None:
        self._responses: dict[bytes, tuple[bytes, LatestRuns]] = {}
        self._responses_size = 0
        self._decoded: dict[bytes, DecodedRecord] = {}
        self._records_size = 0
        self._records: dict[str, bytes] = {}
        """The last record by pipeline id."""

    def get_record(self, record: bytes) -> DecodedRecord | None:
        """Return a decoded record, or None if it is not cached."""
        return self._decoded.get(record)

    def put_record(self, record: bytes, decoded: DecodedRecord) -> None:
        """Replace the cached record of a pipeline; if the cache is full, only remove it."""
        if len(self._records) >= _RECORDS:
            # Removes deleted pipelines. Records of others are decoded once more.
            self._decoded.clear()
            self._records.clear()
            self._records_size = 0
        before = self._records.pop(decoded.pipeline, b"")
        if self._decoded.pop(before, None) is not None:
            self._records_size -= len(before)
        if self._records_size + len(record) <= _BYTES:
            self._records_size += len(record)
            self._records[decoded.pipeline] = record
            self._decoded[record] = decoded

    def get_response(self, request: bytes, response: bytes) -> LatestRuns | None:
        """Return a decoded response, or None if the last response to the request is not cached or had other bytes."""
        known = self._responses.get(request)
        return known[1] if known is not None and known[0] == response else None

    def put_response(self, request: bytes, response: bytes, batch: LatestRuns) -> None:
        """Replace the cached response to a request; if the cache is full, only remove it."""
        if len(self._responses) >= _RESPONSES:
            self._responses.clear()
            self._responses_size = 0
        before, _ = self._responses.pop(request, (b"", None))
        self._responses_size -= len(before)
        if self._responses_size + len(response) <= _BYTES:
            self._responses_size += len(response)
            self._responses[request] = (response, batch)
