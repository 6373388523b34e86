"""What answers and records of the last polls meant: most pipelines idle, and what is told of them comes again byte by byte."""

from exporter.model import Run
from exporter.providers.base import Batch

_KEPT = 200_000
_KEPT_ANSWERS = 20_000


class Memo:
    """The batches of answers that were read before, by their requests; the runs of records, the newest of each pipeline."""

    def __init__(self) -> None:
        self._answers: dict[bytes, tuple[bytes, Batch]] = {}
        self._runs: dict[bytes, tuple[str, Run]] = {}
        self._records: dict[str, bytes] = {}

    def recall(self, record: bytes) -> tuple[str, Run] | None:
        """The pipeline and the run that a record tells; None if it was not read before."""
        return self._runs.get(record)

    def keep(self, record: bytes, pipeline: str, run: Run) -> None:
        """Remember what a record tells, in the place of what the pipeline's last one told."""
        if len(self._records) >= _KEPT:
            # Of pipelines that come and go; those that are asked about are read once more.
            self._runs.clear()
            self._records.clear()
        self._runs.pop(self._records.get(pipeline, b""), None)
        self._records[pipeline] = record
        self._runs[record] = (pipeline, run)

    def recall_answer(self, request: bytes, answer: bytes) -> Batch | None:
        """What an answer to a request says; None if its last one was another."""
        known = self._answers.get(request)
        return known[1] if known is not None and known[0] == answer else None

    def keep_answer(self, request: bytes, answer: bytes, batch: Batch) -> None:
        """Remember what an answer says, in the place of the last one to the same request."""
        if len(self._answers) >= _KEPT_ANSWERS:
            self._answers.clear()
        self._answers[request] = (answer, batch)
