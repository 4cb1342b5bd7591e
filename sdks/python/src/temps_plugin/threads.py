"""Threads for handlers written with ``def``.

Python's own pool takes nothing more once the main thread has ended, which is how a script with
:func:`temps_plugin.run_server` lives, and it keeps a process until the last handler has returned. This one does neither.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Callable, Optional, TypeVar

T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[[], Any]]


class Threads(ThreadPoolExecutor):
    """At most ``most`` threads, made when they are needed. A :class:`ThreadPoolExecutor` in name only, because event loops
    take no other pool for their own."""

    def __init__(self, most: int, name: str) -> None:
        super().__init__(most, name)
        self._most = most
        self._name = name
        self._count = 0
        self._making = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._jobs: SimpleQueue[Optional[_Job]] = SimpleQueue()

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Calls ``function`` in a thread."""
        future: Future[T] = Future()
        self._jobs.put((future, lambda: function(*args, **kwargs)))
        if not self._idle.acquire(blocking=False):
            self._make(1)
        return future

    def make_all(self) -> None:
        """Makes all threads at once: Python 3.12 makes none any more once the main thread has ended."""
        self._make(self._most)

    def _make(self, number: int) -> None:
        with self._making:
            for _ in range(min(number, self._most - self._count)):
                self._count += 1
                # No thread of these keeps the process: a handler that never returns must not outlive its plugin.
                threading.Thread(target=self._work, name=f"{self._name}-{self._count}", daemon=True).start()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets the threads end after what they were given. It never waits for them."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            future, call = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)
            # Nothing of a job is kept while waiting for the next.
            del job, future, call
            self._idle.release()
