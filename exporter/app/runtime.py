"""Tune the interpreter and the C library, so that large /metrics pages neither cause pauses nor keep memory."""

import contextlib
import ctypes
import gc
import sys

_SWITCH_INTERVAL = 0.0005
"""Seconds that a thread may run while another waits. Python's default of 5 ms would delay each of a scrape's many sends."""

_M_MMAP_THRESHOLD = -3
_MAPPED = 64 * 1024
"""Minimum bytes of a memory block that returns to the system as soon as it is freed."""


def tune() -> None:
    """Apply the settings to this process. Call it once, before any thread starts."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    # httpcore tries to import sniffio several times a request, and the search for a module that is not installed takes a
    # sixth of the request's CPU each time. With this entry the import fails at once.
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
    # glibc starts with this threshold but raises it to the size of freed blocks. Those of /metrics pages would then stay in
    # the process, and a page would take one and a half times its memory. Other C libraries have no such call.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED)


def collect_garbage() -> None:
    """Collect all garbage, then exempt the remaining objects from collection, since they live long.

    Otherwise the collector would scan all of them repeatedly, and scrapes would wait. The next call also collects exempted
    objects that have become garbage since.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
