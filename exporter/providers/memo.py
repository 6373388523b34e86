"""What records of the last polls meant: most pipelines idle, and their records come again byte by byte."""

from exporter.model import Run

_KEPT = 200_000


class Memo:
    """The runs of records that were read before, by their bytes; the newest record of each pipeline."""

    def __init__(self) -> None:
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
