"""Watch a running exporter from outside: health latency and resident memory."""

import http.client
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.drivers.process import Process

MIB = 1024 * 1024


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


@dataclass
class HealthProbe:
    """Request `/-/healthy` every 50 ms, each time on a new connection, and sample resident memory.

    Enter it after the exporter is ready: the memory baseline is taken then.
    """

    process: Process
    interval: float = 0.05
    """Seconds between two requests."""
    timeout: float = 60.0
    """Seconds after which a request without a response counts as failed."""
    worst: float = 0.0
    """The longest response time so far, in seconds."""
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    """Statuses other than 200, and connection errors."""
    baseline: int = 0
    """Resident bytes on entry."""
    peak: int = 0
    """The highest number of resident bytes since entry."""

    def __enter__(self) -> Self:
        host, port = self.process.address().split(":")
        self._address = (host, int(port))
        self.baseline = self.peak = resident_bytes(self.process.pid)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._probe, self._sample)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def growth(self) -> int:
        """Resident bytes at the peak above the baseline."""
        return self.peak - self.baseline

    def current_growth(self) -> int:
        """Return the resident bytes now above the baseline."""
        return resident_bytes(self.process.pid) - self.baseline

    def _probe(self) -> None:
        while not self._stop.wait(self.interval):
            started = time.monotonic()
            connection = http.client.HTTPConnection(*self._address, timeout=self.timeout)
            try:
                connection.request("GET", "/-/healthy")
                status = connection.getresponse().status
                if status != 200:
                    self.failures.append(f"status {status}")
            except OSError as error:
                self.failures.append(repr(error))
            finally:
                connection.close()
            self.answers += 1
            self.worst = max(self.worst, time.monotonic() - started)

    def _sample(self) -> None:
        while not self._stop.wait(0.01):
            try:
                self.peak = max(self.peak, resident_bytes(self.process.pid))
            except (FileNotFoundError, ProcessLookupError):
                return
