"""Events on their way to the plugin's handler: a bounded line that one task works off, in order, one at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Awaitable, Callable, Optional

from ._time import within
from .events import Event
from .log import logger

#: Most events that wait at once. A host stops at this number of unsettled events itself.
MAX_WAITING = 10_000

#: Most bytes of waiting events, as they stood on the wire. A host stops there itself.
MAX_WAITING_BYTES = 8 * 1024 * 1024

#: How long one event may be worked on, in seconds. It is below the 30 s after which a host counts the event as failed.
HANDLING_TIMEOUT = 25.0

#: Longest reason that a host is told, in characters.
MAX_REASON = 1_000


@dataclass
class _Waiting:
    event: Event
    size: int
    done: "asyncio.Future[Optional[str]]"


class EventQueue:
    """The line. ``handle`` works on one event; it ends the event's work by returning or raising."""

    def __init__(self, handle: Callable[[Event], Awaitable[None]]) -> None:
        self._handle = handle
        self._line: asyncio.Queue[Optional[_Waiting]] = asyncio.Queue(MAX_WAITING)
        self._bytes = 0
        self._room = asyncio.Condition()
        self._closed = False

    async def push(self, event: Event, size: int) -> "asyncio.Future[Optional[str]]":
        """Puts an event at the end of the line, waiting for room if need be.

        The future's result says how the handling ended: ``None`` when it was handled, otherwise why it was not.
        """
        async with self._room:
            await self._room.wait_for(lambda: self._bytes == 0 or self._bytes + size <= MAX_WAITING_BYTES)
            self._bytes += size
        done: asyncio.Future[Optional[str]] = asyncio.get_running_loop().create_future()
        if self._closed:
            done.set_result("the plugin is ending")
        else:
            await self._line.put(_Waiting(event, size, done))
        return done

    async def work(self, started: asyncio.Event) -> None:
        """Works the line off once ``started``; returns after :meth:`close`, when everything in it was handled."""
        await started.wait()
        while True:
            waiting = await self._line.get()
            if waiting is None:
                return
            reason = await self._one(waiting.event)
            async with self._room:
                self._bytes -= waiting.size
                self._room.notify_all()
            if not waiting.done.done():
                waiting.done.set_result(reason)

    async def close(self) -> None:
        """Takes in nothing more; what is in the line is still handled."""
        if not self._closed:
            self._closed = True
            await self._line.put(None)

    async def _one(self, event: Event) -> Optional[str]:
        try:
            await within(HANDLING_TIMEOUT, self._handle(event))
            return None
        except asyncio.TimeoutError:
            reason = f"the handler took longer than {HANDLING_TIMEOUT:.0f} s"
        except Exception as error:
            logger.exception("the event %s (%s) was not handled", event.id, event.event_type)
            return f"{type(error).__name__}: {error}"[:MAX_REASON]
        logger.error("the event %s (%s) was not handled: %s", event.id, event.event_type, reason)
        return reason
