"""Tuning of the process: it takes effect, and removes nothing that is needed."""

import gc
import importlib
import sys
import weakref

import pytest

from exporter.app import runtime


@pytest.fixture(autouse=True)
def restored():
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self):
        self.self = self


def test_thread_switch_interval_is_short():
    """A scrape waits for the renderer at each of its many sends."""
    runtime.tune()
    assert sys.getswitchinterval() < 0.001


def test_large_blocks_return_to_the_system(monkeypatch):
    """mallopt(3): -3 is M_MMAP_THRESHOLD, here 64 KiB."""
    calls = []

    class Library:
        def __init__(self, name):
            assert name is None  # the library that the interpreter is linked to

        def mallopt(self, option, value):
            calls.append((option, value))

    monkeypatch.setattr("ctypes.CDLL", Library)
    runtime.tune()
    assert calls == [(-3, 65536)]


def test_import_of_sniffio_fails_at_once(monkeypatch):
    """A request of httpcore imports it several times, and the search for a missing module takes long."""
    monkeypatch.delitem(sys.modules, "sniffio", raising=False)
    runtime.tune()
    with pytest.raises(ImportError):
        importlib.import_module("sniffio")


def test_c_library_without_mallopt_is_ignored(monkeypatch):
    """Such as musl's, or macOS's."""
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    runtime.tune()


def test_long_lived_objects_are_exempt_and_garbage_is_collected():
    """Even an object that was exempt before it became garbage is collected."""
    knot = Knot()
    gone = weakref.ref(knot)
    runtime.collect_garbage()
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < 10_000
    del knot
    gc.collect()
    assert gone() is not None
    runtime.collect_garbage()
    assert gone() is None
