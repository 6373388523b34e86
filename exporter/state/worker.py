"""A thread for calls that block, and that may never return."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """Runs calls one after the other in a daemon thread.

    A `ThreadPoolExecutor` is not used, because the interpreter waits for its threads when it ends. A call that hangs in the
    kernel, such as fsync on a disk that does not respond, would keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run a call after those submitted before it, and return a future of its result."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001  # the caller that waits for the result handles it
                future.set_exception(error)
            else:
                future.set_result(result)

        self._calls.put(run)
        return future

    def stop(self) -> None:
        """End the thread after the calls submitted so far, without waiting for it."""
        self._calls.put(None)

    def _run(self) -> None:
        for run in iter(self._calls.get, None):
            run()
            # A result may be large: do not keep it until the next call.
            del run
