"""The plugin's key-value storage: small JSON values that the host keeps, each plugin its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, AsyncIterator, Optional, Union

from ._rules import Fields, Message, Revision
from .channel import REQUEST_TIMEOUT, Channel, ChannelError
from .platform import read_answer

#: Entries that one question of :meth:`KeyValue.list` asks for.
PAGE = 100


@dataclass(frozen=True)
class Entry(Message):
    """One entry."""

    key: str
    #: Grows with each write; give it to :meth:`KeyValue.put`.
    revision: Revision
    #: Its value: anything that JSON knows.
    value: Any = None
    #: When it ends, if it does.
    expires_at: Optional[datetime] = None


Keys = list[str]
Entries = list[Entry]


class KeyValue:
    """The storage. A value has 64 KiB of JSON at most, a key 256 bytes, all together 10 MiB in 10,000 entries.

    A write is durable when its call returns. All calls raise :class:`~temps_plugin.ChannelError`: with the code
    ``conflict`` (and the present ``revision``) when the entry has another revision than expected, with
    ``quota_exceeded`` when it would be more than the plugin may keep.
    """

    def __init__(self, channel: Channel, timeout: float = REQUEST_TIMEOUT) -> None:
        self._channel = channel
        self._timeout = timeout

    def with_timeout(self, seconds: float) -> KeyValue:
        """The same storage with another time-out per call, in seconds."""
        return KeyValue(self._channel, seconds)

    async def entry(self, key: str) -> Optional[Entry]:
        """One entry with its revision; ``None`` when there is none, or when it has ended."""
        try:
            return read_answer("kv_get", Entry.from_dict, await self._ask("kv_get", key=key))
        except ChannelError as error:
            if error.code != "not_found":
                raise
            return None

    async def get(self, key: str, default: Any = None) -> Any:
        """The value of one entry; ``default`` when there is none, or when it has ended."""
        entry = await self.entry(key)
        return default if entry is None else entry.value

    async def put(
        self,
        key: str,
        value: Any,
        *,
        ttl: Union[float, timedelta, None] = None,
        revision: Optional[int] = None,
    ) -> int:
        """Writes an entry and returns its new revision.

        With ``ttl`` (seconds, rounded up to whole ones) it ends after that time. With ``revision`` it is written only if
        the entry still has that one (0: if it does not exist); of several that try at the same time, one succeeds.
        """
        params: dict[str, Any] = {"key": key, "value": value}
        if ttl is not None:
            params["ttl"] = math.ceil(ttl.total_seconds() if isinstance(ttl, timedelta) else ttl)
        if revision is not None:
            params["revision"] = revision
        return read_answer("kv_put", _revision, await self._ask("kv_put", **params))

    async def delete(self, key: str, *, revision: Optional[int] = None) -> bool:
        """Deletes an entry, with ``revision`` only if it still has that one. Returns whether it was there."""
        params: dict[str, Any] = {"key": key}
        if revision is not None:
            params["revision"] = revision
        return read_answer("kv_delete", _deleted, await self._ask("kv_delete", **params))

    async def keys(self, prefix: str = "") -> Keys:
        """Keys that begin with ``prefix``, in the order of their bytes."""
        return [entry.key async for entry in self._all(prefix, values=False)]

    async def list(self, prefix: str = "") -> Entries:
        """Entries whose keys begin with ``prefix``, with their values, in the order of the bytes of their keys."""
        return [entry async for entry in self._all(prefix, values=True)]

    async def _all(self, prefix: str, values: bool) -> AsyncIterator[Entry]:
        """All pages. The quota bounds them."""
        params: dict[str, Any] = {"prefix": prefix, "values": values, "limit": PAGE}
        while True:
            entries, cursor = read_answer("kv_list", read_page, await self._ask("kv_list", **params))
            for entry in entries:
                yield entry
            if cursor is None:
                return
            params["cursor"] = cursor

    async def _ask(self, method: str, **params: Any) -> Any:
        return await self._channel.request(method, params, self._timeout)


def _revision(result: Any) -> int:
    return Fields(result).revision("revision")


def _deleted(result: Any) -> bool:
    return Fields(result).flag("deleted")


def read_page(result: Any) -> tuple[Entries, Optional[str]]:
    """The entries of a page, and where the next one begins, if there is one."""
    fields = Fields(result)
    return fields.list("entries", Entry.from_dict, optional=False), fields.opt_text("cursor")
