"""The process itself: what interpreter and C library are told, so that large pages cost neither pauses nor memory twice."""

import contextlib
import ctypes
import gc
import sys

_SWITCH = 0.0005
"""Seconds that a thread may compute while another waits; Python's 5 ms would pass at each of the many sends of a scrape."""
_M_MMAP_THRESHOLD = -3
_MAPPED = 64 * 1024
"""Bytes from which on memory goes back to the system as soon as it is freed."""


def tune() -> None:
    """To be called once, before there are threads."""
    sys.setswitchinterval(_SWITCH)
    # This is where glibc begins too, but it raises it to the size of what it sees freed: the blocks of pages, which
    # would then lie about, and a page be in memory one and a half times. Other libraries have no such call.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED)


def collect_garbage() -> None:
    """Look for garbage everywhere, then spare the collector what is left, for it lives long.

    It would look through all of it again and again, and scrapes would wait. What has become garbage since then is found
    when this is called again.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
