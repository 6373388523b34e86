"""What the process is told at its start: it holds, and costs nothing that is needed."""

import gc
import sys
import weakref

import pytest

from exporter.app import runtime


@pytest.fixture(autouse=True)
def as_before():
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self):
        self.self = self


def test_threads_switch_soon():
    """A scrape waits for the renderer at each of its many sends."""
    runtime.tune()
    assert sys.getswitchinterval() < 0.001


def test_what_is_freed_of_large_memory_goes_back(monkeypatch):
    """From 64 KiB on, as mallopt(3) is told: -3 is M_MMAP_THRESHOLD. It would rise with what is freed."""
    told = []

    class Library:
        def __init__(self, name):
            assert name is None  # what the interpreter itself is linked to

        def mallopt(self, option, value):
            told.append((option, value))

    monkeypatch.setattr("ctypes.CDLL", Library)
    runtime.tune()
    assert told == [(-3, 65536)]


def test_a_c_library_without_the_call_is_left_as_it_is(monkeypatch):
    """Such as musl's, or macOS's."""
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    runtime.tune()


def test_what_lives_long_is_spared_and_garbage_is_not():
    """Also what was spared before it became garbage."""
    knot = Knot()
    gone = weakref.ref(knot)
    runtime.collect_garbage()
    spared = gc.get_freeze_count()
    assert spared > 10_000
    assert len(gc.get_objects()) < 10_000
    del knot
    gc.collect()
    assert gone() is not None
    runtime.collect_garbage()
    assert gone() is None
