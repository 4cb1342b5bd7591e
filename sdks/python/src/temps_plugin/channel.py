"""The plugin's end of the channel: questions to the host, their answers, and events that come in.

The host connects; the plugin accepts. There is one channel at a time: a new one takes the place of the old one, whose
unanswered questions fail. Reading never waits for the handler of an event, so that a handler can ask and be answered.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Optional

from ._rules import Fields, WireError, parse_object
from ._time import within
from .config import Configuration, Settings
from .events import Event
from .log import logger
from .websocket import WebSocket, WebSocketClosed

#: Longest frame in bytes, in either direction.
MAX_FRAME_BYTES = 1024 * 1024

#: Questions that may be unanswered at a time; further ones wait here.
MAX_IN_FLIGHT = 32

#: How long a question may take in all, in seconds: waiting for a channel, for room, and for the answer.
REQUEST_TIMEOUT = 10.0

#: Error codes that this version knows; any other is read as ``internal``.
ERROR_CODES = (
    "method_not_found",
    "invalid_params",
    "permission_denied",
    "not_found",
    "busy",
    "timeout",
    "conflict",
    "quota_exceeded",
    "internal",
)


class ChannelError(Exception):
    """The host did not answer with a result. ``code`` is for programs, ``message`` for people.

    ``revision`` comes with ``conflict``: the revision that the entry has by now.
    """

    def __init__(self, code: str, message: str, revision: Optional[int] = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code if code in ERROR_CODES else "internal"
        self.message = message
        self.revision = revision


class ChannelLost(ChannelError):
    """There is no channel, or it was lost before the answer came. Asking again later may work."""

    def __init__(self, message: str) -> None:
        super().__init__("internal", message)


@dataclass(frozen=True)
class Response:
    """The answer to a question: a result, or an error."""

    id: Any
    result: Any = None
    error: Optional[ChannelError] = None

    @classmethod
    def from_dict(cls, value: Any) -> Response:
        """Reads a response as it stands on the wire.

        :raises WireError: says which field is wrong, and why.
        """
        fields = Fields(value)
        if not fields.has("id"):
            raise WireError("is missing", "id")
        error = fields.opt_object("error")
        if error is None:
            return cls(id=fields.raw("id"), result=fields.raw("result"))
        words = Fields(error, "error")
        revision = error.get("revision")
        known = revision if isinstance(revision, int) and not isinstance(revision, bool) else None
        return cls(id=fields.raw("id"), error=ChannelError(words.text("code"), words.text("message"), known))


def read_frame(text: str) -> object:
    """Reads a frame of the host: a :class:`Response`, an :class:`Event`, a :class:`Configuration`, or ``None`` for a type of
    another version.

    :raises WireError: when a frame of a known type breaks a rule.
    """
    value = parse_object(text, "frame")
    kind = Fields(value).text("type")
    if kind == "response":
        return Response.from_dict(value)
    if kind == "event":
        return Event.from_dict(value.get("event"))
    if kind == "config":
        return Configuration.from_dict(value)
    return None


def request_frame(number: Any, method: str, params: dict[str, Any]) -> str:
    """The frame of a question."""
    return _compact({"type": "request", "id": number, "method": method, "params": params})


def ack_frame(event_id: str, error: Optional[str] = None) -> str:
    """The frame that confirms an event, or says why it was not handled."""
    frame = {"type": "ack", "id": event_id, "status": "ok" if error is None else "error"}
    if error is not None:
        frame["error"] = error
    return _compact(frame)


class Channel:
    """The channel, whichever connection carries it now."""

    def __init__(self, take_event: Callable[[Event, int], Awaitable[None]]) -> None:
        self._take_event = take_event
        #: The configuration that the host sent last.
        self.settings = Settings()
        self._socket: Optional[WebSocket] = None
        self._connected = asyncio.Event()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now."""
        return self._socket is not None and not self._socket.closed

    async def serve(self, socket: WebSocket) -> None:
        """Serves one connection until it ends. It takes the place of the one before."""
        old, self._socket = self._socket, socket
        if old is not None:
            self._give_up("a new channel took the place of this one")
            await old.close(1000, "a new channel took its place")
        self._connected.set()
        try:
            while True:
                message = await socket.receive()
                if isinstance(message, str):
                    await self._take(message)
        except WebSocketClosed as closed:
            logger.debug("the channel ended: %s", closed)
        finally:
            if self._socket is socket:
                self._socket = None
                self._connected.clear()
                self._give_up("the channel was lost before the answer came")

    async def request(self, method: str, params: dict[str, Any], timeout: float = REQUEST_TIMEOUT) -> Any:
        """Asks the host and returns the result; ``timeout`` seconds are for everything.

        :raises ChannelError: when the host refuses, does not answer in time, or there is no channel.
        """
        try:
            return await within(timeout, self._ask(method, params))
        except asyncio.TimeoutError:
            if not self.is_open:
                raise ChannelLost(f"{method} could not be asked: the host made no channel in {timeout:g} s") from None
            raise ChannelError("timeout", f"{method} was not answered in {timeout:g} s; try again later") from None

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        async with self._in_flight:
            await self._connected.wait()
            number = next(self._numbers)
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answer
            try:
                await self.send(request_frame(number, method, params))
                return await answer
            finally:
                self._waiting.pop(number, None)

    async def send(self, frame: str) -> None:
        """Sends a frame over the connection that is there now.

        :raises ChannelLost: when there is none.
        """
        socket = self._socket
        if socket is None:
            raise ChannelLost("there is no channel")
        if len(frame.encode()) > MAX_FRAME_BYTES:
            raise ChannelError("invalid_params", f"a frame has at most {MAX_FRAME_BYTES} bytes")
        try:
            await socket.send(frame)
        except WebSocketClosed as closed:
            raise ChannelLost(str(closed)) from None

    async def close(self) -> None:
        """Ends the connection that is there now."""
        if self._socket is not None:
            await self._socket.close()

    async def _take(self, text: str) -> None:
        try:
            frame = read_frame(text)
        except WireError as error:
            logger.warning("a frame of the host was not understood: %s", error)
            return
        if isinstance(frame, Event):
            await self._take_event(frame, len(text))
        elif isinstance(frame, Configuration):
            self.settings.take(frame)
        elif isinstance(frame, Response):
            answer = self._waiting.get(frame.id) if isinstance(frame.id, int) else None
            if answer is not None and not answer.done():
                if frame.error is None:
                    answer.set_result(frame.result)
                else:
                    answer.set_exception(frame.error)

    def _give_up(self, why: str) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ChannelLost(why))


def _compact(frame: dict[str, Any]) -> str:
    # NaN and infinity are not JSON: better an error here than a frame that the host does not understand.
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
