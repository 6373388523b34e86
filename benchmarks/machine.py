"""Measure the memory of processes (Linux) and the speed of the machine, run measurements in new processes, write figures."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


def in_process(module: str, size: int, figures: type[T], *flags: str) -> T:
    """Return the figures of a benchmark for one size, measured in a new process so that others do not affect it."""
    command = (sys.executable, "-m", module, "--alone", str(size), *flags)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603  # this program itself
    return msgspec.json.decode(done.stdout, type=figures)


def resident(process: int | str = "self") -> int:
    """Return the resident bytes of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Return the highest number of resident bytes since the process started, or since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_peak() -> None:
    """Reset the peak to the current value."""
    Path("/proc/self/clear_refs").write_text("5")


def unit() -> float:
    """Return the CPU seconds of a fixed piece of work that resembles rendering."""

    def once() -> float:
        started = time.process_time()
        "".join(
            [f'ci_pipeline_up{{pipeline="{number}"}} {number / 7!r}\n' for number in range(20_000)]
        ).encode()
        return time.process_time() - started

    return min(once() for _ in range(3))


def write_json(file: Path | None, figures: object) -> None:
    """Write figures to a file as JSON, if there is a file."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
