"""What a serving plugin needs of its process: an event loop, the socket's file, and word of the parent's death."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import Any, Coroutine

from .http import MAX_HEAD, HttpServer

#: How often the parent's id is compared where the kernel cannot report its end, in seconds.
PARENT_POLL = 1.0


def run_in_new_loop(work: Coroutine[Any, Any, None]) -> None:
    """As :func:`asyncio.run`, but for its end, which starts a thread: Python 3.12 cannot once the main thread has ended."""
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()


async def bind(path: str, http: HttpServer) -> asyncio.AbstractServer:
    remove_socket(path)
    server = await asyncio.start_unix_server(http.connected, path, limit=MAX_HEAD, backlog=128)
    os.chmod(path, 0o600)
    return server


async def stop_accepting(server: asyncio.AbstractServer) -> None:
    """Closes the server's socket; connections that it has accepted by now are known to their :class:`HttpServer`.

    A server that is closed between the two drops a connection without closing it (CPython issue 109564), and whoever is at
    its other end waits for ever.
    """
    loop = asyncio.get_running_loop()
    for listening in getattr(server, "sockets", ()):
        loop.remove_reader(listening.fileno())
    # The turn in which the loop gives what it has accepted to the server.
    await asyncio.sleep(0)
    server.close()


def remove_socket(path: str) -> None:
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode) or not os.path.isdir(path):
            os.unlink(path)
    except FileNotFoundError:
        pass


async def parent_death() -> None:
    """Returns once the process that started this one has died."""
    parent = os.getppid()
    if parent <= 1:
        # In a pid namespace the first process takes everything along when it dies; there is nothing to watch.
        await asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    died = asyncio.Event()
    try:
        descriptor = os.pidfd_open(parent)
    except (AttributeError, OSError):
        while os.getppid() == parent:
            await asyncio.sleep(PARENT_POLL)
        return
    loop.add_reader(descriptor, died.set)
    try:
        # The parent may have died, and its id may name another process by now, before it could be watched.
        if os.getppid() == parent:
            await died.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
