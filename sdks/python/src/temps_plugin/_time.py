"""Waiting for no longer than some seconds, without a task for each wait.

:func:`asyncio.wait_for` makes a task, and with it a turn of the event loop, for every wait before Python 3.12. Where what is
waited for is done at once, such as a write for which there is room, that is most of the cost.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Awaitable, TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
    """What ``work`` results in.

    :raises asyncio.TimeoutError: when it takes longer; it is cancelled then.
    """
    if sys.version_info >= (3, 11):
        async with asyncio.timeout(seconds):
            return await work
    return await asyncio.wait_for(work, seconds)
