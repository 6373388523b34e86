"""The entry point: `pipeline-exporter` and `python -m exporter`.

It handles SIGTERM before it imports anything else. Process 1 of a container ignores SIGTERM until it has a handler, so
without it only SIGKILL would stop the exporter while it starts, half a minute later.
"""

import signal
import sys
from types import FrameType


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the signature of signal handlers
    sys.exit(0)


def main() -> int:
    """Run a command and return its exit code."""
    signal.signal(signal.SIGTERM, _stop)
    from exporter.cli import main as command  # noqa: PLC0415  # the imports take a second

    return command()


if __name__ == "__main__":
    raise SystemExit(main())
