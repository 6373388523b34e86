"""The exporter as a process, as users run it, and the samples of its metrics page."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

PATIENCE = 30.0
"""Seconds to wait for something that usually happens at once; slow machines need more time."""

Labels = dict[str, str]


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Repeat a condition until its result is true, and return the result; raise AssertionError after a timeout."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"timed out waiting until {what}")


class Samples:
    """The samples of a metrics page."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines(keepends=True)

    def get(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return the values, by labels, of the series that have at least these labels."""
        # Only matching lines are parsed, because a page has a hundred lines a pipeline.
        lines = "".join(line for line in self.lines if line.startswith((f"{name}{{", f"{name} ")))
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(lines)
            for sample in family.samples
            if labels.items() <= sample.labels.items()
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the only series with at least these labels, or None."""
        found = self.get(name, **labels)
        assert len(found) <= 1, f"{len(found)} series of {name} with {labels}"
        return next(iter(found.values()), None)


class Process:
    """A running exporter; `host` replaces the name of the machine, `program` the program that is run."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str] | None = None,
        *,
        host: str | None = None,
        program: Sequence[str] = (sys.executable, "-m", "exporter"),
    ) -> None:
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host] if host else []
        self._process = subprocess.Popen(
            [*named, *program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error", **(environment or {})},
        )
        self.output: list[str] = []
        self.log: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self.output), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stderr, self.log), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self._client = httpx.Client(timeout=PATIENCE, trust_env=False)

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        with stream:
            lines.extend(stream)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def open_files(self) -> int:
        """Return the number of open file descriptors."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def address(self) -> str:
        """Return `HOST:PORT` of the web server, from the log."""

        def find_address() -> str | None:
            assert self._process.poll() is None, "".join(self.log)
            found = re.search(r"listening.*address\W+([0-9.]+:[0-9]+)", "".join(self.log))
            return found[1] if found else None

        return str(eventually(find_address, "the exporter listens"))

    def addresses(self) -> list[str] | None:
        """Return `HOST:PORT` of the main and of the probe listener, from the log; None before both listen."""
        found = re.findall(r"listening.*address\W+([0-9.]+:[0-9]+)", "".join(self.log))
        return found if len(found) == 2 else None

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self._client.request(method, f"http://{self.address()}{path}", **arguments)

    def stream(self, path: str, **arguments: Any) -> AbstractContextManager[httpx.Response]:
        """Send a GET whose response is read piece by piece."""
        return self._client.stream("GET", f"http://{self.address()}{path}", **arguments)

    def samples(self) -> Samples:
        return Samples(self.get("/metrics").text)

    def samples_as(self, user: tuple[str, str]) -> Samples:
        """Return the page that a user with this name and password gets."""
        return Samples(self.get("/metrics", auth=user).text)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until the process ends; return the exit code."""
        code = self._process.wait(PATIENCE)
        for reader in self._readers:
            reader.join()
        self._client.close()
        return code

    def kill(self) -> None:
        self._process.kill()


@contextmanager
def exporter(
    directory: Path, configuration: dict[str, Any], *flags: str, environment: dict[str, str] | None = None
) -> Iterator[Process]:
    """Run the daemon with a configuration while the context lasts."""
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(configuration))
    arguments = ["run", "--config.file", str(file), "--web.listen-address", "127.0.0.1:0", *flags]
    process = Process(arguments, environment)
    try:
        yield process
    finally:
        try:
            process.stop()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def command(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command to its end; return exit code, standard output and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error", **(environment or {})},
    )
    return done.returncode, done.stdout, done.stderr
