"""What a process has in memory, as Linux tells it, how fast the machine is just now, and a process for each size."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


def apart(module: str, size: int, figures: type[T], *flags: str) -> T:
    """What a benchmark finds of one size in a process of its own, since memory that another has left would not be counted."""
    command = (sys.executable, "-m", module, "--alone", str(size), *flags)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603  # this program itself
    return msgspec.json.decode(done.stdout, type=figures)


def resident(process: int | str = "self") -> int:
    """Bytes that a process has in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most bytes that this process had since it started, or since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_peak() -> None:
    """Count the peak from what there is now."""
    Path("/proc/self/clear_refs").write_text("5")


def unit() -> float:
    """CPU seconds of a piece of work that is always the same, and of the kind that rendering is."""

    def once() -> float:
        epoch_start = time.process_time()
        "".join(
            [f'ci_pipeline_up{{pipeline="{number}"}} {number / 7!r}\n' for number in range(20_000)]
        ).encode()
        return time.process_time() - epoch_start

    return min(once() for _ in range(3))
