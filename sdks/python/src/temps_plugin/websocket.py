"""A WebSocket (RFC 6455) over a pair of asyncio streams: the server's side, and the client's for tests.

Text and binary messages, fragments, pings and the closing handshake; no extensions, because a Unix socket needs none.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import struct
from typing import Optional, Union

from ._time import within

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10

#: How long the other side may take to read what was written, in seconds, before the connection counts as lost.
WRITE_TIMEOUT = 10.0


class WebSocketClosed(ConnectionError):
    """The connection is closed; ``code`` and ``reason`` say why where the other side did."""

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"the connection was closed (code {code}{': ' + reason if reason else ''})")
        self.code = code
        self.reason = reason


def accept_key(key: str) -> str:
    """The answer to a client's ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1(key.encode("latin-1") + _GUID).digest()).decode()


class WebSocket:
    """One open connection. One task reads; any may write."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        max_message: int = 1024 * 1024,
        is_client: bool = False,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._max = max_message
        # A client masks what it sends, a server must not.
        self._is_client = is_client
        self._pongs: list[asyncio.Future[None]] = []
        self._write_lock = asyncio.Lock()
        self._closed: Optional[WebSocketClosed] = None

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._closed is not None

    async def receive(self) -> Union[str, bytes]:
        """The next message. Pings are answered on the way.

        :raises WebSocketClosed: when there will be none.
        """
        parts: list[bytes] = []
        kind = 0
        size = 0
        while True:
            opcode, final, payload = await self._frame(self._max - size)
            if opcode == _PING:
                await self._write(_PONG, payload)
            elif opcode == _CLOSE:
                code, reason = _close_words(payload)
                await self._answer_close(payload)
                self._closed = self._closed or WebSocketClosed(code, reason)
                raise self._closed
            elif opcode in (_TEXT, _BINARY, _CONTINUATION):
                if (opcode == _CONTINUATION) != bool(kind):
                    await self._fail(1002, "a fragment out of order")
                kind = kind or opcode
                parts.append(payload)
                size += len(payload)
                if final:
                    return await self._message(kind, b"".join(parts))
            elif opcode == _PONG:
                if self._pongs:
                    self._pongs.pop(0).set_result(None)
            else:
                await self._fail(1002, f"unknown opcode {opcode}")

    async def send(self, message: Union[str, bytes]) -> None:
        """Sends one message and waits until there is room for the next.

        :raises WebSocketClosed: when the connection has ended.
        """
        if isinstance(message, str):
            await self._write(_TEXT, message.encode())
        else:
            await self._write(_BINARY, message)

    async def ping(self) -> None:
        """Waits until the other side has read everything that was sent before. Somebody must be reading meanwhile.

        :raises WebSocketClosed: when the connection has ended.
        """
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        await self._write(_PING, b"")
        await pong

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Says goodbye. The other side's goodbye is read by whoever reads."""
        if self._closed is None:
            try:
                await self._write(_CLOSE, struct.pack("!H", code) + reason.encode()[:123])
            except WebSocketClosed:
                pass
            self._closed = self._closed or WebSocketClosed(code, reason)

    def abort(self) -> None:
        """Drops the connection without a goodbye."""
        self._writer.transport.abort()
        self._lost()

    async def _message(self, kind: int, data: bytes) -> Union[str, bytes]:
        if kind == _BINARY:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError:
            await self._fail(1007, "text that is not UTF-8")
            raise

    async def _frame(self, room: int) -> tuple[int, bool, bytes]:
        try:
            head = await self._reader.readexactly(2)
            opcode, final = head[0] & 0x0F, bool(head[0] & 0x80)
            masked, size = bool(head[1] & 0x80), head[1] & 0x7F
            if head[0] & 0x70 or masked == self._is_client or (opcode >= 8 and (size > 125 or not final)):
                await self._fail(1002, "a frame that breaks the rules")
            if size == 126:
                (size,) = struct.unpack("!H", await self._reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
            if opcode < 8 and size > room:
                await self._fail(1009, f"a message has at most {self._max} bytes")
            if not masked:
                return opcode, final, await self._reader.readexactly(size)
            mask = await self._reader.readexactly(4)
            return opcode, final, _mask(await self._reader.readexactly(size), mask)
        except (asyncio.IncompleteReadError, OSError):
            raise self._lost() from None

    async def _write(self, opcode: int, payload: bytes) -> None:
        if self._closed is not None:
            raise self._closed
        size, masked = len(payload), 0x80 if self._is_client else 0
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, masked | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, masked | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, masked | 127, size)
        if masked:
            mask = os.urandom(4)
            head, payload = head + mask, _mask(payload, mask)
        try:
            async with self._write_lock:
                self._writer.write(head + payload)
                await within(WRITE_TIMEOUT, self._writer.drain())
        except (OSError, asyncio.TimeoutError):
            self._writer.transport.abort()
            raise self._lost() from None

    def _lost(self) -> WebSocketClosed:
        self._closed = self._closed or WebSocketClosed()
        for pong in self._pongs:
            if not pong.done():
                pong.set_exception(self._closed)
        self._pongs.clear()
        return self._closed

    async def _answer_close(self, payload: bytes) -> None:
        if self._closed is None:
            try:
                await self._write(_CLOSE, payload[:2])
            except WebSocketClosed:
                pass

    async def _fail(self, code: int, reason: str) -> None:
        await self.close(code, reason)
        raise self._closed or WebSocketClosed(code, reason)


def _mask(data: bytes, mask: bytes) -> bytes:
    # One operation on two large numbers is two orders of magnitude quicker than a loop over bytes.
    size = len(data)
    if not size:
        return data
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


def _close_words(payload: bytes) -> tuple[int, str]:
    if len(payload) < 2:
        return 1005, ""
    return struct.unpack("!H", payload[:2])[0], payload[2:].decode(errors="replace")
