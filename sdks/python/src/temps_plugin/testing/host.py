"""A host for one plugin in a test, over a real socket: with a channel, acks, settings and storage."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, AsyncIterator, Awaitable, Optional, Sequence, TypeVar, Union
from uuid import uuid4

from .. import handshake
from ..channel import MAX_FRAME_BYTES, ChannelError
from ..events import Event, matches
from ..handshake import Launch, Ready
from ..manifest import API_VERSION, PluginManifest
from ..plugin import Plugin
from ..server import Server
from ..websocket import WebSocket, WebSocketClosed
from .client import Client, TestResponse
from .platform import NO_ANSWER, TestPlatform

T = TypeVar("T")

#: How long a test waits for anything that a plugin is to do, in seconds. Generous, because machines that test are busy.
PATIENCE = 60.0

#: The auth secret of every plugin in a test.
SECRET = "test-secret"


class TestError(Exception):
    """A test could not go on."""

    __test__ = False


class StartFailed(TestError):
    """The plugin did not start; the text says why."""


class EventNotHandled(TestError):
    """The plugin did not handle an event; the text is the handler's error."""


class TestHost:
    """Hosts one plugin. Use it with ``async with``; the plugin's start hook has returned when that begins.

    ``plugin`` is a :class:`~temps_plugin.Plugin`, which lives inside the test, or a program: a path, or a command line as a
    list. ``config`` is what the operator has set; neither schema nor defaults are looked at. ``features`` is what the host
    announces.
    """

    __test__ = False

    def __init__(
        self,
        plugin: Union[Plugin, str, "os.PathLike[str]", Sequence[str]],
        *,
        config: Optional[dict[str, Any]] = None,
        platform: Optional[TestPlatform] = None,
        features: Sequence[str] = handshake.FEATURES,
        channel: bool = True,
        environ: Optional[dict[str, str]] = None,
    ) -> None:
        self._plugin = plugin
        self._config = config or {}
        self._features = features
        self._with_channel = channel
        self._environ = environ or {}
        self._revision = 1 if config else 0
        self._server: Optional[Server] = None
        self._process: Optional[asyncio.subprocess.Process] = None
        self._channel: Optional[WebSocket] = None
        self._sockets: list[WebSocket] = []
        self._tasks: list["asyncio.Task[None]"] = []
        self._acks: dict[str, "asyncio.Future[Optional[str]]"] = {}
        self._log: list[str] = []
        #: The platform that the plugin asks.
        self.platform = platform or TestPlatform()
        #: What the plugin said of itself.
        self.manifest: PluginManifest
        #: What its ready line says.
        self.ready: Ready

    async def __aenter__(self) -> TestHost:
        # In /tmp by name, because a socket's path has at most 107 bytes.
        self._home = Path(tempfile.mkdtemp(prefix="temps-test-", dir="/tmp"))
        self.data_dir.mkdir()
        self._client = Client(str(self._home / "p.sock"), SECRET)
        try:
            if isinstance(self._plugin, Plugin):
                self._start_inside(self._plugin)
            else:
                await self._start_process(self._plugin)
            if self._with_channel:
                await self._first_channel()
            if self._server is not None:
                await self._until_started(self._server)
        except BaseException:
            await self.shutdown()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()

    @property
    def data_dir(self) -> Path:
        """The plugin's data directory. It is removed with the host."""
        return self._home / "data"

    @property
    def log(self) -> str:
        """What a program has written to standard error so far."""
        return "".join(self._log)

    # ---- routes

    async def get(self, path: str) -> TestResponse:
        """``GET path``, with the auth secret. A status like 500 is an answer."""
        return await self.request("GET", path)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json_body: Any = None,
        body: bytes = b"",
        headers: Optional[dict[str, Optional[str]]] = None,
    ) -> TestResponse:
        """Any request. A header that is given counts instead of the usual one; ``None`` leaves it out."""
        sent = dict(headers or {})
        if json_body is not None:
            body = json.dumps(json_body).encode()
            sent.setdefault("Content-Type", "application/json")
        return await _patiently(self._client.send(method, path, sent, body), f"the answer to {method} {path}")

    def stream(self, path: str) -> AsyncIterator[bytes]:
        """The body of an answer to ``GET path``, piece by piece: for server-sent events."""
        return self._client.stream(path)

    async def websocket(self, path: str, headers: Optional[dict[str, Optional[str]]] = None) -> WebSocket:
        """A WebSocket of the plugin's own."""
        opened = self._client.websocket(path, headers or {}, MAX_FRAME_BYTES)
        socket = await _patiently(opened, f"the upgrade of {path}")
        self._sockets.append(socket)
        return socket

    # ---- events and settings

    @staticmethod
    def event(event_type: str, *, project_id: Optional[int] = None, data: Optional[dict[str, Any]] = None) -> Event:
        """An event with an id of its own and the current time."""
        return Event(str(uuid4()), event_type, datetime.now(timezone.utc), project_id, data or {})

    async def deliver(
        self,
        event: Union[Event, str],
        *,
        project_id: Optional[int] = None,
        data: Optional[dict[str, Any]] = None,
    ) -> None:
        """Sends an event (or a new one of this type), and waits until it was handled.

        It goes over the channel, or by ``POST /_events`` when there is none. A host without the feature ``ack`` learns over a
        channel only that it was read.

        :raises EventNotHandled: with the handler's error, or because the manifest does not ask for such events, which a host
            would then never deliver.
        """
        if isinstance(event, str):
            event = self.event(event, project_id=project_id, data=data)
        if not any(matches(pattern, event.event_type) for pattern in self.manifest.events):
            raise EventNotHandled(f"the manifest asks for {list(self.manifest.events)}, not for {event.event_type}")
        if self._channel is None:
            await self._post(event)
            return
        if "ack" not in self._features:
            await self._send({"type": "event", "event": event.to_dict()})
            await _patiently(self._channel.ping(), "the answer to a ping")
            return
        acked: asyncio.Future[Optional[str]] = asyncio.get_running_loop().create_future()
        self._acks[event.id] = acked
        await self._send({"type": "event", "event": event.to_dict()})
        reason = await _patiently(acked, f"the handling of {event.event_type}")
        if reason is not None:
            raise EventNotHandled(reason)

    async def _post(self, event: Event) -> None:
        answer = await self.request("POST", "/_events", json_body=event.to_dict())
        if not 200 <= answer.status < 300:
            raise EventNotHandled(f"POST /_events was answered with {answer.status}: {answer.text}")

    async def configure(self, config: dict[str, Any]) -> None:
        """Sends other settings, as a host does after a change. Returns once the plugin has read them."""
        self._config, self._revision = config, self._revision + 1
        await self._send_config()
        assert self._channel is not None
        await _patiently(self._channel.ping(), "the answer to a ping")

    # ---- life

    async def cut_channel(self) -> None:
        """Cuts the channel, as a host that lost it."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.abort()

    async def connect_channel(self) -> None:
        """Makes a channel, in place of the one that there may be."""
        self._channel = await self.websocket("/_temps/channel")
        self._tasks.append(asyncio.ensure_future(self._serve(self._channel)))
        if "config" in self._features:
            await self._send_config()

    async def shutdown(self) -> int:
        """Ends the plugin as SIGTERM does, and returns its exit status. ``async with`` does that at its end."""
        status = 0
        if self._server is not None:
            self._server.stop()
            status = await asyncio.get_running_loop().run_in_executor(None, self._server.wait)
        if self._process is not None:
            if self._process.returncode is None:
                self._process.send_signal(signal.SIGTERM)
            try:
                status = await asyncio.wait_for(self._process.wait(), PATIENCE)
            except asyncio.TimeoutError:
                self._process.kill()
                await self._process.wait()
                raise TestError(f"the plugin did not end; its log:\n{self.log}") from None
        for socket in self._sockets:
            socket.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server, self._process, self._channel = None, None, None
        self._sockets.clear()
        self._tasks.clear()
        shutil.rmtree(self._home, ignore_errors=True)
        return status

    def _start_inside(self, plugin: Plugin) -> None:
        launch = Launch(
            socket_path=str(self._home / "p.sock"),
            auth_secret=SECRET,
            data_dir=str(self.data_dir),
            host_features=tuple(self._features),
            plugin_name=plugin.manifest.name,
            api_version=API_VERSION,
        )
        # The same way as in a process: over the line, so that what a host would refuse is refused here.
        self.manifest = PluginManifest.from_line(plugin.manifest.to_line())
        self._server = plugin.start(launch)
        self.ready = plugin.ready(self._server)

    async def _start_process(self, program: Union[str, "os.PathLike[str]", Sequence[str]]) -> None:
        command = [os.path.abspath(program)] if isinstance(program, (str, os.PathLike)) else list(program)
        arguments = ["--socket-path", str(self._home / "p.sock"), "--auth-secret", SECRET]
        environ = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.data_dir),
            "LANG": "C.UTF-8",
            "TEMPS_API_VERSION": API_VERSION,
            "TEMPS_FEATURES": ",".join(self._features),
            **self._environ,
        }
        self._process = await asyncio.create_subprocess_exec(
            *command,
            *arguments,
            "--data-dir",
            str(self.data_dir),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.data_dir,
            env=environ,
            limit=handshake.MAX_READY_BYTES,
        )
        assert self._process.stderr is not None
        self._tasks.append(asyncio.ensure_future(self._drain(self._process.stderr)))
        self.manifest = PluginManifest.from_line(await self._line("manifest"))
        self.ready = Ready.from_line(await self._line("ready"))

    async def _line(self, what: str) -> str:
        assert self._process is not None and self._process.stdout is not None
        line = await _patiently(self._process.stdout.readline(), f"the {what} line")
        if not line:
            await self._process.wait()
            await self._tasks[0]
            raise StartFailed(f"it ended with {self._process.returncode} before its {what} line; its log:\n{self.log}")
        return line.decode()

    async def _drain(self, stderr: asyncio.StreamReader) -> None:
        async for line in stderr:
            self._log.append(line.decode(errors="replace"))

    async def _first_channel(self) -> None:
        try:
            await self.connect_channel()
        except (OSError, EOFError):
            # A plugin whose start failed may have ended before it could be reached; then that is what a test wants to know.
            if self._server is not None:
                await self._until_started(self._server)
            raise

    async def _until_started(self, server: Server) -> None:
        try:
            await _patiently(asyncio.wrap_future(server.start_outcome), "the start hook")
        except TestError:
            raise
        except Exception as error:
            raise StartFailed(f"{type(error).__name__}: {error}") from error

    # ---- the channel

    async def _send(self, frame: dict[str, Any]) -> None:
        if self._channel is None:
            raise TestError("there is no channel")
        await self._channel.send(json.dumps(frame))

    async def _send_config(self) -> None:
        await self._send({"type": "config", "config": self._config, "revision": self._revision})

    async def _serve(self, channel: WebSocket) -> None:
        why = "the channel was lost"
        try:
            while True:
                frame = json.loads(await channel.receive())
                if frame["type"] == "ack":
                    reason = None if frame["status"] == "ok" else frame.get("error") or "no reason"
                    self._settle(frame["id"], reason)
                else:
                    await self._answer(frame)
        except WebSocketClosed:
            pass
        except Exception as error:
            why = f"the plugin sent what is not of the protocol: {error!r}"
            await channel.close(1002)
        finally:
            for event_id in list(self._acks):
                self._settle(event_id, why)

    def _settle(self, event_id: str, reason: Optional[str]) -> None:
        acked = self._acks.pop(event_id, None)
        if acked is not None and not acked.done():
            acked.set_result(reason)

    async def _answer(self, frame: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"type": "response", "id": frame["id"]}
        try:
            if frame["method"] == "get_config":
                answer["result"] = {"config": self._config, "revision": self._revision}
            else:
                answer["result"] = self.platform.ask(frame["method"], frame.get("params") or {})
        except ChannelError as error:
            words = {"code": error.code, "message": error.message, "revision": error.revision}
            answer["error"] = {name: value for name, value in words.items() if value is not None}
        if answer.get("result") is not NO_ANSWER:
            await self._send(answer)


async def _patiently(work: Awaitable[T], what: str) -> T:
    try:
        return await asyncio.wait_for(work, PATIENCE)
    except asyncio.TimeoutError:
        raise TestError(f"{what} took longer than {PATIENCE:.0f} s") from None
