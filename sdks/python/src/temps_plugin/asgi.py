"""Mounts an ASGI application (FastAPI, Starlette, Django, ...) unchanged: HTTP, WebSockets and lifespan."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, AsyncIterator, Awaitable, Callable, MutableMapping, Optional, Union

from .http import HttpError, Request, Response, Upgrade
from .log import logger
from .websocket import WebSocket, WebSocketClosed

if TYPE_CHECKING:
    from .context import Context

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

#: How long an application may take to start or to end, in seconds.
LIFESPAN_TIMEOUT = 30.0

#: Pieces of an answer that may wait to be written.
_QUEUE = 8


class AsgiApp:
    """One application, with its lifespan.

    It finds the plugin's :class:`~temps_plugin.Context` in the state of each scope: ``request.state.ctx`` in Starlette and
    FastAPI, and who calls in ``request.state.user``.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        self._lifespan: Optional["asyncio.Task[None]"] = None
        self._events: asyncio.Queue[Message]
        self._told: asyncio.Queue[Message]

    async def start(self, ctx: Context) -> None:
        """Starts the application's lifespan. One that has none is started all the same.

        :raises RuntimeError: when the application says that it cannot start.
        """
        # Here, because older versions of Python bind a queue to the loop in which it is made.
        self._events, self._told = asyncio.Queue(), asyncio.Queue()
        self._state["ctx"] = ctx
        self._lifespan = asyncio.ensure_future(self._live())
        await self._ask("lifespan.startup")

    async def stop(self) -> None:
        """Ends the lifespan."""
        if self._lifespan is not None and not self._lifespan.done():
            await self._ask("lifespan.shutdown")

    async def answer(self, request: Request) -> Union[Response, Upgrade]:
        """Answers one request, or upgrades it when it asks for a WebSocket."""
        if (request.headers.get("upgrade") or "").lower() == "websocket":
            return await self._websocket(request)
        return await self._http(request)

    async def _live(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._app(scope, self._events.get, self._told.put)
        except Exception as error:
            # The specification's way of an application to say that it has no lifespan.
            logger.debug("the application has no lifespan: %s", error)

    async def _ask(self, what: str) -> None:
        assert self._lifespan is not None
        await self._events.put({"type": what})
        told = asyncio.ensure_future(self._told.get())
        await asyncio.wait({told, self._lifespan}, timeout=LIFESPAN_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            message = told.result()
            if message["type"].endswith(".failed"):
                raise RuntimeError(f"the application failed at {what}: {message.get('message', '')}")
            return
        told.cancel()
        if not self._lifespan.done():
            raise RuntimeError(f"the application did not answer to {what} in {LIFESPAN_TIMEOUT:.0f} s")

    def _scope(self, kind: str, request: Request) -> dict[str, Any]:
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "path": request.path,
            "raw_path": request.raw_path.encode("latin-1"),
            "query_string": request.query_string.encode("latin-1"),
            "root_path": "",
            "headers": [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in request.headers],
            "client": None,
            "server": None,
            "state": {"user": request.user, **self._state},
        }

    async def _http(self, request: Request) -> Response:
        scope = {**self._scope("http", request), "method": request.method, "scheme": "http"}
        body = request.stream()
        ended = asyncio.Event()
        messages: asyncio.Queue[Optional[Message]] = asyncio.Queue(_QUEUE)
        body_is_read = False

        async def receive() -> Message:
            nonlocal body_is_read
            if not body_is_read:
                piece = await _next(body)
                if piece is not None:
                    return {"type": "http.request", "body": piece, "more_body": True}
                body_is_read = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await ended.wait()
            return {"type": "http.disconnect"}

        async def run() -> None:
            try:
                await self._app(scope, receive, messages.put)
            finally:
                await messages.put(None)

        task = asyncio.ensure_future(run())
        start = await messages.get()
        if start is None:
            await task
            raise HttpError(500, "the application gave no answer")
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in start.get("headers", [])]

        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    message = await messages.get()
                    if message is None:
                        await task
                        return
                    yield bytes(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
            finally:
                ended.set()
                if not task.done():
                    # Background work of the answer goes on; whoever left early is told by `http.disconnect`.
                    task.add_done_callback(_log_failure)

        return Response(start["status"], pieces(), headers)

    async def _websocket(self, request: Request) -> Union[Response, Upgrade]:
        offered = [p.strip() for v in request.headers.all("sec-websocket-protocol") for p in v.split(",") if p.strip()]
        scope = {**self._scope("websocket", request), "scheme": "ws", "subprotocols": offered}
        incoming: asyncio.Queue[Message] = asyncio.Queue(_QUEUE)
        first: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        socket: Optional[WebSocket] = None

        async def send(message: Message) -> None:
            if not first.done():
                first.set_result(message)
            elif socket is not None and message["type"] == "websocket.send":
                text = message.get("text")
                try:
                    await socket.send(text if text is not None else bytes(message.get("bytes") or b""))
                except WebSocketClosed as closed:
                    raise OSError(str(closed)) from None
            elif socket is not None and message["type"] == "websocket.close":
                await socket.close(message.get("code", 1000), message.get("reason") or "")

        await incoming.put({"type": "websocket.connect"})
        task = asyncio.ensure_future(self._app(scope, incoming.get, send))
        await asyncio.wait({first, task}, return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
        if not first.done() or first.result()["type"] != "websocket.accept":
            task.cancel()
            return Response.problem(403, "the application refused the WebSocket")

        async def serve(open_socket: WebSocket) -> None:
            nonlocal socket
            socket = open_socket
            reading = asyncio.ensure_future(_read_all(open_socket, incoming))
            try:
                await task
            finally:
                await open_socket.close()
                reading.cancel()

        return Upgrade(serve, first.result().get("subprotocol"), max_message=16 * 1024 * 1024)


async def _read_all(socket: WebSocket, incoming: "asyncio.Queue[Message]") -> None:
    try:
        while True:
            message = await socket.receive()
            kind = "text" if isinstance(message, str) else "bytes"
            await incoming.put({"type": "websocket.receive", kind: message})
    except WebSocketClosed as closed:
        await incoming.put({"type": "websocket.disconnect", "code": closed.code, "reason": closed.reason})


async def _next(stream: AsyncIterator[bytes]) -> Optional[bytes]:
    try:
        return await stream.__anext__()
    except StopAsyncIteration:
        return None


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("the application failed after its answer", exc_info=task.exception())
