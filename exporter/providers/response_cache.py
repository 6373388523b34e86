"""What answers and records of the last polls meant: most pipelines idle, and what is told of them comes again byte by byte."""

import msgspec

from exporter.core.model import Run
from exporter.providers.protocol import LatestRuns

_KEPT = 200_000
_KEPT_ANSWERS = 20_000
_KEPT_BYTES = 64 * 1024 * 1024
"""Most bytes of the records that are remembered, and of the answers likewise."""


class Known(msgspec.Struct, frozen=True):
    """What a record says."""

    pipeline: str
    run: Run
    words: tuple[tuple[str, str], ...] = ()
    """Words without translation: the field and the vendor's word."""
    implausible_times: str = ""
    """A stage whose start lies outside its run; empty if there is none."""


class ResponseCache:
    """The batches of answers that were read before, by their requests; the runs of records, the newest of each pipeline."""

    def __init__(self) -> None:
        self._answers: dict[bytes, tuple[bytes, LatestRuns]] = {}
        self._answers_size = 0
        self._runs: dict[bytes, Known] = {}
        self._runs_size = 0
        self._records: dict[str, bytes] = {}

    def recall(self, record: bytes) -> Known | None:
        """What a record says; None if it was not read before."""
        return self._runs.get(record)

    def keep(self, record: bytes, known: Known) -> None:
        """Remember what a record says, in the place of what the pipeline's last one said, while there is room."""
        if len(self._records) >= _KEPT:
            # Of pipelines that come and go; those that are asked about are read once more.
            self._runs.clear()
            self._records.clear()
            self._runs_size = 0
        before = self._records.pop(known.pipeline, b"")
        if self._runs.pop(before, None) is not None:
            self._runs_size -= len(before)
        if self._runs_size + len(record) <= _KEPT_BYTES:
            self._runs_size += len(record)
            self._records[known.pipeline] = record
            self._runs[record] = known

    def recall_answer(self, request: bytes, answer: bytes) -> LatestRuns | None:
        """What an answer to a request says; None if its last one was another."""
        known = self._answers.get(request)
        return known[1] if known is not None and known[0] == answer else None

    def keep_answer(self, request: bytes, answer: bytes, batch: LatestRuns) -> None:
        """Remember what an answer says, in the place of the last one to the same request, while there is room."""
        if len(self._answers) >= _KEPT_ANSWERS:
            self._answers.clear()
            self._answers_size = 0
        before, _ = self._answers.pop(request, (b"", None))
        self._answers_size -= len(before)
        if self._answers_size + len(answer) <= _KEPT_BYTES:
            self._answers_size += len(answer)
            self._answers[request] = (answer, batch)
