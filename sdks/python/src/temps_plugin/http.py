"""HTTP/1.1 over a Unix socket, as far as a plugin needs it: requests with bounded heads and streamed bodies, answers whole
or streamed, connections that are used again, and upgrades to a WebSocket.

Only a host talks to this server, but what it passes on comes from strangers; so every length is bounded and every head is
read strictly.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Optional, Union
from urllib.parse import parse_qs, unquote

from ._time import within
from .log import logger
from .websocket import WebSocket, accept_key

#: Longest head of a request, in bytes.
MAX_HEAD = 64 * 1024

#: Longest body that :meth:`Request.read` takes unless it is told otherwise, in bytes. A host lets 64 MiB pass.
MAX_BODY = 64 * 1024 * 1024

#: How long a connection may stand idle before it is closed, in seconds.
IDLE_TIMEOUT = 120.0

#: How long the rest of a head, or a stretch of a body, may take to arrive, in seconds.
READ_TIMEOUT = 60.0

_CHUNK = 64 * 1024

Body = Union[bytes, str, AsyncIterable[Union[bytes, str]], None]


class HttpError(Exception):
    """Ends a request with a status and an explanation, as ``application/problem+json``."""

    def __init__(self, status: int, detail: str, headers: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


class Headers:
    """Header fields, in the order in which they came. Names are compared without regard to case."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self.fields = fields

    def get(self, name: str, default: Optional[str] = None) -> Optional[str]:
        """The first value of a field."""
        return next((value for known, value in self.fields if known.lower() == name.lower()), default)

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for known, value in self.fields if known.lower() == name.lower()]

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.fields)


@dataclass(frozen=True)
class User:
    """Who calls, as the host has verified."""

    id: str
    name: str
    #: Address, where the host knows one.
    email: Optional[str]
    #: ``admin`` or ``viewer``.
    role: str


@dataclass
class Request:
    """One request to a plugin's route."""

    method: str
    #: Path with its escapes undone, without the query.
    path: str
    #: Path as it came, for those who care about escapes.
    raw_path: str
    query_string: str
    headers: Headers
    #: Parts of the path that the route's pattern names, for example ``id`` of ``/notes/{id}``.
    params: dict[str, str] = field(default_factory=dict)
    _stream: Optional[AsyncIterator[bytes]] = field(default=None, repr=False)
    _body: Optional[bytes] = field(default=None, repr=False)

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, the last value of each."""
        return {name: values[-1] for name, values in parse_qs(self.query_string, keep_blank_values=True).items()}

    @property
    def user(self) -> Optional[User]:
        """Who calls; ``None`` for a caller that is not signed in. The host has removed what callers claim themselves."""
        values = {
            part: self.headers.get(f"x-temps-user-{part}") for part in ("id", "name", "email", "role")
        }
        if values["id"] is None:
            return None
        read = {part: unquote(value) if value is not None else None for part, value in values.items()}
        return User(read["id"] or "", read["name"] or "", read["email"], read["role"] or "")

    async def stream(self) -> AsyncIterator[bytes]:
        """The body, piece by piece as it arrives. It can be read once."""
        if self._body is not None:
            yield self._body
        elif self._stream is not None:
            async for piece in self._stream:
                yield piece

    async def read(self, most: int = MAX_BODY) -> bytes:
        """The whole body.

        :raises HttpError: 413 when it has more than ``most`` bytes.
        """
        if self._body is None:
            parts: list[bytes] = []
            size = 0
            async for piece in self.stream():
                size += len(piece)
                if size > most:
                    raise HttpError(413, f"the body has more than {most} bytes")
                parts.append(piece)
            self._body = b"".join(parts)
        return self._body

    async def json(self, most: int = MAX_BODY) -> Any:
        """The body as JSON.

        :raises HttpError: 400 when it is none, 413 when it is too long.
        """
        try:
            return json.loads(await self.read(most))
        except ValueError as error:
            raise HttpError(400, f"the body is not JSON: {error}") from None


@dataclass
class Response:
    """An answer. A body that is an asynchronous iterable is streamed."""

    status: int = 200
    body: Body = b""
    headers: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Response:
        """An answer in JSON."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return cls(status, text.encode(), [("Content-Type", "application/json")])

    @classmethod
    def problem(cls, status: int, detail: str, headers: Optional[Mapping[str, str]] = None) -> Response:
        """An explained failure (RFC 9457)."""
        title = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
        text = json.dumps({"title": title, "status": status, "detail": detail}, ensure_ascii=False)
        fields = [("Content-Type", "application/problem+json"), *(headers or {}).items()]
        return cls(status, text.encode(), fields)

    @classmethod
    def events(cls, events: AsyncIterable[str]) -> Response:
        """Server-sent events: each text becomes the data of one."""

        async def lines() -> AsyncIterator[str]:
            async for event in events:
                yield "".join(f"data: {line}\n" for line in event.splitlines() or [""]) + "\n"

        return cls(200, lines(), [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")])


@dataclass
class Upgrade:
    """Instead of an answer: the connection becomes a WebSocket, served by ``serve`` until that returns."""

    serve: Callable[[WebSocket], Awaitable[None]]
    subprotocol: Optional[str] = None
    #: Longest message in bytes.
    max_message: int = 1024 * 1024


Handler = Callable[[Request], Awaitable[Union[Response, Upgrade]]]


class HttpServer:
    """Serves connections with one handler. It ends in order: requests under way are finished."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: dict["asyncio.Task[None]", "_Connection"] = {}
        self._closing = False

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begins to serve a connection. Meant for :func:`asyncio.start_unix_server`.

        Not a coroutine, so that the connection is known, and closed at the end, from the moment that it is there: of one
        accepted in the loop's last turns, a task would never begin, and whoever is at the other end would wait for ever.
        """
        if self._closing:
            writer.close()
            return
        connection = _Connection(reader, writer, self._handler)
        task = asyncio.ensure_future(self._serve(connection))
        self._tasks[task] = connection
        task.add_done_callback(self._served)

    async def _serve(self, connection: _Connection) -> None:
        try:
            while not self._closing and await connection.serve_one():
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            pass

    def _served(self, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(task).close()
        if not task.cancelled() and task.exception() is not None:
            logger.error("a connection ended with an error of the SDK", exc_info=task.exception())

    async def close(self, patience: float) -> None:
        """Takes no further requests, and waits ``patience`` seconds at most for those under way."""
        self._closing = True
        for task, connection in list(self._tasks.items()):
            if connection.idle:
                task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=patience)
            for task in late:
                task.cancel()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self.idle = True

    async def serve_one(self) -> bool:
        """Serves one request; returns whether another may follow."""
        self.idle = True
        try:
            head = await within(IDLE_TIMEOUT, self._reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError:
            await self._write(Response.problem(431, f"the head has more than {MAX_HEAD} bytes"), "GET", False)
            return False
        self.idle = False
        try:
            request, framing, keep = _parse(head)
        except HttpError as error:
            await self._write(Response.problem(error.status, error.detail), "GET", False)
            return False
        body = _BodyReader(self._reader, self._writer, framing, (request.headers.get("expect") or "").lower())
        request._stream = body.pieces()
        answer = await self._answer(request)
        if isinstance(answer, Upgrade):
            await self._upgrade(request, answer)
            return False
        # A body that nobody read stands before the next request; a short one is thrown away, a long one ends the connection.
        keep = keep and await body.discard()
        await self._write(answer, request.method, keep)
        return keep

    def close(self) -> None:
        """Closes the connection."""
        self._writer.close()

    async def _answer(self, request: Request) -> Union[Response, Upgrade]:
        try:
            return await self._handler(request)
        except HttpError as error:
            return Response.problem(error.status, error.detail, error.headers)
        except (OSError, asyncio.IncompleteReadError):
            raise
        except Exception:
            logger.exception("the route %s %s failed", request.method, request.path)
            return Response.problem(500, "the plugin failed to answer; its log has the reason")

    async def _write(self, answer: Response, method: str, keep: bool) -> None:
        whole = _whole(answer.body)
        no_body = method == "HEAD" or answer.status in (204, 304) or answer.status < 200
        names = {name.lower() for name, _ in answer.headers}
        fields = [(name, value) for name, value in answer.headers if name.lower() not in ("connection", "transfer-encoding")]
        chunked = whole is None and "content-length" not in names
        if whole is not None and "content-length" not in names and answer.status not in (204, 304):
            fields.append(("Content-Length", str(len(whole))))
        if chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        if not keep:
            fields.append(("Connection", "close"))
        # Head and body in one piece, so that whoever reads wakes once.
        self._writer.write(_head(answer.status, fields) + (b"" if no_body else whole or b""))
        if whole is None and not no_body:
            await self._write_stream(answer.body, chunked)
        await self._writer.drain()

    async def _write_stream(self, body: Any, chunked: bool) -> None:
        async for piece in body:
            data = piece.encode() if isinstance(piece, str) else piece
            if data:
                self._writer.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
                await self._writer.drain()
        if chunked:
            self._writer.write(b"0\r\n\r\n")

    async def _upgrade(self, request: Request, upgrade: Upgrade) -> None:
        key = request.headers.get("sec-websocket-key")
        if key is None or request.headers.get("sec-websocket-version") != "13" or request.method != "GET":
            refusal = Response.problem(426, "this path is a WebSocket (version 13)", {"Sec-WebSocket-Version": "13"})
            await self._write(refusal, request.method, False)
            return
        fields = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept_key(key)),
        ]
        if upgrade.subprotocol:
            fields.append(("Sec-WebSocket-Protocol", upgrade.subprotocol))
        self._writer.write(_head(101, fields))
        await self._writer.drain()
        await upgrade.serve(WebSocket(self._reader, self._writer, upgrade.max_message))


class _BodyReader:
    """Reads the body of one request, whichever way its length is told."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        framing: Union[int, str],
        expect: str,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._framing = framing
        self._expects = expect == "100-continue"
        self._done = framing == 0

    async def pieces(self) -> AsyncIterator[bytes]:
        if self._done:
            return
        if self._expects:
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expects = False
        if isinstance(self._framing, int):
            left = self._framing
            while left:
                piece = await within(READ_TIMEOUT, self._reader.read(min(left, _CHUNK)))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(piece)
                self._done = not left
                yield piece
        else:
            async for piece in self._chunks():
                yield piece
        self._done = True

    async def discard(self) -> bool:
        """Reads what is left of a short body. Returns whether the connection can be used again."""
        if self._expects:
            return False
        size = 0
        async for piece in self.pieces():
            size += len(piece)
            if size > _CHUNK:
                return False
        return True

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = await within(READ_TIMEOUT, self._reader.readuntil(b"\r\n"))
            digits = line.split(b";")[0].strip()
            if not digits or len(digits) > 8 or not all(c in b"0123456789abcdefABCDEF" for c in digits):
                raise HttpError(400, "a chunk without a length")
            left = int(digits, 16)
            if not left:
                break
            while left:
                piece = await within(READ_TIMEOUT, self._reader.read(min(left, _CHUNK)))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(piece)
                yield piece
            if await self._reader.readexactly(2) != b"\r\n":
                raise HttpError(400, "a chunk longer than it says")
        while await within(READ_TIMEOUT, self._reader.readuntil(b"\r\n")) != b"\r\n":
            pass


def _parse(head: bytes) -> tuple[Request, Union[int, str], bool]:
    """Reads a head: the request, its body's length (or ``chunked``), and whether the connection may stay open."""
    lines = head[:-4].decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise HttpError(400, "the first line is not one of HTTP/1.1")
    fields: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\0" in line:
            raise HttpError(400, "a header field that cannot be read")
        fields.append((name, value.strip(" \t")))
    headers = Headers(fields)
    lengths = set(headers.all("content-length"))
    encodings = ",".join(headers.all("transfer-encoding")).lower().strip()
    framing: Union[int, str] = 0
    if encodings:
        if encodings != "chunked" or lengths:
            raise HttpError(400, "a body whose length is told in two ways, or in an unknown one")
        framing = "chunked"
    elif lengths:
        text = lengths.pop()
        if lengths or not (text.isascii() and text.isdigit()) or len(text) > 15:
            raise HttpError(400, "a content length that is no number")
        framing = int(text)
    target = words[1]
    if not target.startswith("/"):
        raise HttpError(400, "the target must be a path")
    raw_path, _, query = target.partition("?")
    request = Request(
        method=words[0],
        path=unquote(raw_path),
        raw_path=raw_path,
        query_string=query,
        headers=headers,
    )
    connection = {token.strip().lower() for value in headers.all("connection") for token in value.split(",")}
    keep = "close" not in connection and (words[2] == "HTTP/1.1" or "keep-alive" in connection)
    return request, framing, keep


def _head(status: int, fields: list[tuple[str, str]]) -> bytes:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Status"
    lines = [f"HTTP/1.1 {status} {phrase}"]
    for name, value in fields:
        if any(c in value or c in name for c in "\r\n\0"):
            raise ValueError(f"the header {name!r} has a line break")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _whole(body: Body) -> Optional[bytes]:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    return bytes(body) if isinstance(body, (bytes, bytearray, memoryview)) else None
