"""The entry point: `pipeline-exporter` and `python -m exporter`.

It takes SIGTERM before anything else is imported: as process 1 of a container, a process that has not is not stopped by
it but only by SIGKILL, half a minute later.
"""

import signal
import sys
from types import FrameType


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # as signal handlers are called
    sys.exit(0)


def main() -> int:
    """Run a command; returns the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    from exporter.cli import main as command  # noqa: PLC0415  # a second's worth of imports

    return command()


if __name__ == "__main__":
    raise SystemExit(main())
