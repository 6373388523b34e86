"""Read files that the configuration names: only regular files of limited size."""

import errno
import os
import stat
from pathlib import Path


class NotUsableError(Exception):
    """A file exists but must not be read. The message continues a sentence that begins with the file's path."""


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        NotUsableError: the file is a FIFO, a device or a socket, or larger than `limit`.
        OSError: it cannot be read.

    """
    # A FIFO without a writer blocks an ordinary open.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        _check(os.fstat(file.fileno()), limit)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise too_large(limit)
    return content


def check_file(path: Path, limit: int) -> None:
    """Raise the errors that `read_file` would raise, without reading the file.

    Raises:
        NotUsableError: the file is a FIFO, a device or a socket, or larger than `limit` bytes.
        OSError: it cannot be found.

    """
    _check(path.stat(), limit)


def _check(status: os.stat_result, limit: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise NotUsableError("is not a regular file (FIFOs and devices are not read; give a file)")
    if status.st_size > limit:
        raise too_large(limit)


def too_large(limit: int) -> NotUsableError:
    """Return the error for a file of more than `limit` bytes."""
    size = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"
    return NotUsableError(f"is larger than {size} (is it the right file?)")
