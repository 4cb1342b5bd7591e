"""HTTP to a plugin, as a host sends it: one request on one connection to its socket."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, AsyncIterator, Optional

from ..http import MAX_HEAD, Headers
from ..websocket import WebSocket, accept_key

_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@dataclass
class TestResponse:
    """An answer of the plugin."""

    __test__ = False

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header; empty when there is none."""
        return self.headers.get(name) or ""

    @property
    def text(self) -> str:
        """The body as text; what is not UTF-8 is replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """Sends requests to the socket of one plugin, with its auth secret."""

    def __init__(self, socket_path: str, secret: str) -> None:
        self._path = socket_path
        self._secret = secret

    async def send(self, method: str, path: str, headers: dict[str, Optional[str]], body: bytes) -> TestResponse:
        """One request and its whole answer. A header that is ``None`` is not sent."""
        reader, writer, status, fields = await self._begin(method, path, {"Connection": "close", **headers}, body)
        try:
            pieces = [piece async for piece in _body(reader, fields)]
            return TestResponse(status, fields, b"".join(pieces))
        finally:
            writer.close()

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """The body of an answer to ``GET``, piece by piece as it comes."""
        reader, writer, _, fields = await self._begin("GET", path, {"Connection": "close"}, b"")
        try:
            async for piece in _body(reader, fields):
                yield piece
        finally:
            writer.close()

    async def websocket(self, path: str, headers: dict[str, Optional[str]], max_message: int) -> WebSocket:
        """A WebSocket at ``path``.

        :raises ConnectionRefusedError: when the plugin answers with another status than 101.
        """
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": _KEY,
        }
        reader, writer, status, fields = await self._begin("GET", path, {**upgrade, **headers}, b"")
        if status != 101 or fields.get("sec-websocket-accept") != accept_key(_KEY):
            writer.close()
            raise ConnectionRefusedError(f"{path} was answered with {status}")
        return WebSocket(reader, writer, max_message, is_client=True)

    async def _begin(
        self, method: str, path: str, headers: dict[str, Optional[str]], body: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int, Headers]:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_HEAD)
        try:
            sent: dict[str, Optional[str]] = {"Host": "localhost", "Authorization": f"Bearer {self._secret}"}
            if body or method not in ("GET", "HEAD"):
                sent["Content-Length"] = str(len(body))
            sent.update(headers)
            lines = [f"{name}: {value}" for name, value in sent.items() if value is not None]
            writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
            fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:])]
            return reader, writer, int(head[0].split(" ")[1]), Headers(fields)
        except BaseException:
            writer.close()
            raise


async def _body(reader: asyncio.StreamReader, headers: Headers) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        return
    while piece := await reader.read(MAX_HEAD):
        yield piece
