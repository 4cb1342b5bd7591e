"""A plugin that serves: its socket, the routes of the protocol, its own routes behind the auth secret, and its orderly end.

Everything asynchronous runs on one event loop in a thread of its own, so that a script may go on after
:func:`run_server`, and a handler written with ``def`` may block.
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import logging
import os
import signal
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Optional, Sequence, Union

from . import handshake
from ._process import bind, parent_death, remove_socket, run_in_new_loop, stop_accepting
from ._rules import WireError
from ._time import within
from .channel import Channel, ChannelError, ack_frame
from .context import Context
from .events import MAX_EVENT_BYTES, Event
from .handshake import Launch
from .http import HttpError, HttpServer, Request, Response, Upgrade
from .line import EventQueue
from .log import log_to_stderr, logger
from .threads import Threads

if TYPE_CHECKING:
    from .asgi import App, AsgiApp
    from .pages import Directory, Pages

#: How long the start hook may take, in seconds.
START_TIMEOUT = 60.0

#: How long the host may take to send the configuration that the manifest declares, in seconds. It comes with the channel.
CONFIG_TIMEOUT = 30.0

#: How long the whole ending may take, in seconds. Hosts kill after 10 s.
END_TIMEOUT = 8.0

#: The part of the ending that may go into events that still wait, in seconds; the shutdown hook has the rest.
DRAIN_TIMEOUT = 4.0

#: How long ``POST /_events`` waits for the handler before it says that it does not know, in seconds. Hosts give up after 30 s.
POSTED_TIMEOUT = 25.0

#: How long a route waits for the start hook, in seconds.
START_WAIT = 25.0

#: Threads for handlers written with ``def``. Hosts count threads as tasks, and allow 64.
THREADS = 8

RouteHandler = Callable[[Context, Request], Any]
EventHandler = Callable[[Context, Event], Any]
Hook = Callable[[Context], Any]


class Parts:
    """What a plugin is made of, before it serves."""

    def __init__(
        self,
        name: str,
        health_path: str = "/health",
        on_event: Optional[EventHandler] = None,
        route: Optional[RouteHandler] = None,
        app: Optional[App] = None,
        on_start: Sequence[Hook] = (),
        on_shutdown: Sequence[Hook] = (),
        on_config: Sequence[Hook] = (),
        declares_config: bool = False,
        ui: Optional[Directory] = None,
        open_routes: bool = False,
    ) -> None:
        self.name = name
        self.health_path = health_path
        self.on_event = on_event
        self.route = route
        self.app = None if app is None else _asgi_app(app)
        self.on_start = on_start
        self.on_shutdown = on_shutdown
        self.on_config = on_config
        #: Whether the manifest declares settings, so that the start waits for them where the host sends any.
        self.declares_config = declares_config
        self.pages = None if ui is None else _pages(ui)
        #: Every request that reaches the socket reaches the routes. For hosts that do not send the secret.
        self.open_routes = open_routes


class Server:
    """A serving plugin. :meth:`stop` ends it, :meth:`wait` waits for its end."""

    def __init__(self, parts: Parts, launch: Launch) -> None:
        self.parts = parts
        self.launch = launch
        self.features = tuple(word for word in handshake.FEATURES if word in launch.host_features)
        self._bound = threading.Event()
        self._ended = threading.Event()
        self._failure: Optional[BaseException] = None
        self._started_serving = False
        #: Whether the process is there for the plugin alone, and nobody waits for it to ask how it ended.
        self.is_all = False
        #: Done once the start hooks have ended, with what made the start fail.
        self.start_outcome: Future[None] = Future()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._stopping: Optional[asyncio.Event] = None
        self._background: set["asyncio.Future[None]"] = set()
        self._threads = Threads(THREADS, "handler")
        # Events are handled one at a time, so their blocking handlers need one thread, and it is never taken by a route.
        self._event_thread = Threads(1, "events")

    def start(self) -> None:
        """Binds the socket and returns; from then on connections are accepted.

        :raises OSError: when the socket cannot be bound.
        """
        if self.is_all:
            self._threads.make_all()
            self._event_thread.make_all()
        thread = threading.Thread(target=self._run, name="temps-plugin")
        thread.start()
        self._bound.wait()
        if self._failure is not None and not self._started_serving:
            thread.join()
            raise self._failure

    def stop(self) -> None:
        """Begins the orderly end. May be called from any thread and from a signal's handler."""
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stopping.set)

    def wait(self) -> int:
        """Waits for the end and returns the exit status: 0 in order, 1 when the start failed."""
        # Short waits, because a wait without end keeps Python from running the handlers of signals on some systems.
        while not self._ended.wait(1.0):
            pass
        return 0 if self._failure is None else 1

    # ---- in the thread of the event loop

    def _run(self) -> None:
        try:
            run_in_new_loop(self._live())
        except BaseException as error:
            self._failure = self._failure or error
            if self._started_serving:
                logger.error("the plugin ends: %s", error)
        finally:
            self._threads.shutdown()
            self._event_thread.shutdown()
            self._bound.set()
            self._leave()
            if not self.start_outcome.done():
                self.start_outcome.set_exception(self._failure or RuntimeError("the plugin ended before it had started"))
            self._ended.set()

    def _leave(self) -> None:
        if self.is_all and self._failure is not None and self._started_serving:
            # The script has gone on, or has ended already, so nobody else can say that the plugin failed.
            logging.shutdown()
            os._exit(1)

    async def _live(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        # For `asyncio.to_thread` and look-ups of names in handlers, too.
        self._loop.set_default_executor(self._threads)
        self._started = asyncio.Event()
        self._queue = EventQueue(self._handle_event)
        self._channel = Channel(self._event_of_channel)
        self.context = Context(self.parts.name, self.launch, self._channel, self._stopping)
        http = HttpServer(self._answer)
        server = await bind(self.launch.socket_path, http)
        self._started_serving = True
        self._bound.set()
        work = asyncio.ensure_future(self._queue.work(self._started))
        parent = asyncio.ensure_future(parent_death())
        stopping = asyncio.ensure_future(self._stopping.wait())
        starting = asyncio.ensure_future(self._start_hooks())
        try:
            await asyncio.wait({starting, stopping, parent}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and not stopping.done() and not parent.done():
                starting.result()
                self._spawn(self._follow_config())
                await asyncio.wait({stopping, parent}, return_when=asyncio.FIRST_COMPLETED)
            logger.info("ending: %s", "the host has died" if parent.done() else "it was told to")
        except Exception as error:
            self._failure = error
            logger.error("the plugin did not start: %s", error, exc_info=error)
        finally:
            for task in (starting, parent, stopping):
                task.cancel()
            await stop_accepting(server)
            try:
                await within(END_TIMEOUT, self._end(http, work))
            except asyncio.TimeoutError:
                logger.warning("the ending took longer than %.0f s", END_TIMEOUT)
            work.cancel()
            remove_socket(self.launch.socket_path)

    async def _start_hooks(self) -> None:
        async def all_hooks() -> None:
            if self.parts.app is not None:
                await self.parts.app.start(self.context)
            for hook in self.parts.on_start:
                await self._call(self._threads, hook, self.context)
            # In the same step, so that no stop comes between a start that succeeded and the end that belongs to it.
            self._started.set()
            self.start_outcome.set_result(None)

        settings = self._channel.settings
        if self.parts.declares_config and "config" in self.features:
            await _in_time(settings.changed(), CONFIG_TIMEOUT, "the host sent no configuration within")
        settings.mark_unchanged()
        await _in_time(all_hooks(), START_TIMEOUT, "the start hook took longer than")

    async def _follow_config(self) -> None:
        """Runs the hooks after each change of the configuration, until the plugin ends."""
        while not self.context.is_stopping:
            await self._channel.settings.changed()
            for hook in self.parts.on_config:
                try:
                    await self._call(self._threads, hook, self.context)
                except Exception as error:
                    logger.error("the hook for a changed configuration failed: %s", error, exc_info=error)

    async def _end(self, http: HttpServer, work: "asyncio.Task[None]") -> None:
        """No new work, events that wait, the shutdown hooks, the channel, requests that are open, the application."""
        if self._started.is_set():
            await self._queue.close()
            await asyncio.wait({work}, timeout=DRAIN_TIMEOUT)
            for hook in self.parts.on_shutdown:
                try:
                    await self._call(self._threads, hook, self.context)
                except Exception as error:
                    logger.error("the shutdown hook failed: %s", error, exc_info=error)
        await self._channel.close()
        await http.close(DRAIN_TIMEOUT / 2)
        if self.parts.app is not None:
            await self.parts.app.stop()

    async def _call(self, pool: Executor, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a handler: one written with ``async def`` here, one written with ``def`` in a thread."""
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):
            return await function(*args)
        result = await asyncio.get_running_loop().run_in_executor(pool, lambda: function(*args))
        return await result if inspect.isawaitable(result) else result

    # ---- events

    async def _handle_event(self, event: Event) -> None:
        if self.parts.on_event is not None:
            await self._call(self._event_thread, self.parts.on_event, self.context, event)

    async def _event_of_channel(self, event: Event, size: int) -> None:
        done = await self._queue.push(event, size)
        if "ack" in self.features:
            done.add_done_callback(lambda ended: self._spawn(self._ack(event.id, ended.result())))

    async def _ack(self, event_id: str, reason: Optional[str]) -> None:
        try:
            await self._channel.send(ack_frame(event_id, reason))
        except ChannelError as error:
            # The host sends the event again over the next channel.
            logger.debug("the event %s could not be confirmed: %s", event_id, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # ---- routes

    async def _answer(self, request: Request) -> Union[Response, Upgrade]:
        path = request.path
        if path == self.parts.health_path and request.method in ("GET", "HEAD"):
            return Response.json({"status": "ok", "plugin": self.parts.name})
        if path == "/_temps/channel":
            self._refuse_wrong_secret(request)
            return Upgrade(self._channel.serve)
        if path == "/_events":
            self._refuse_wrong_secret(request)
            if request.method != "POST":
                raise HttpError(405, "events are posted", {"Allow": "POST"})
            return await self._event_of_post(request)
        if path == "/_temps" or path.startswith("/_temps/"):
            raise HttpError(404, "there is no such thing below /_temps")
        if self.parts.pages is not None and (path == "/ui" or path.startswith("/ui/")):
            return self.parts.pages.answer(request)
        if not self.parts.open_routes and self._claim(request) is not True:
            raise _unauthorized()
        await self._until_started()
        if self.parts.route is not None:
            answer = await self._call(self._threads, self.parts.route, self.context, request)
            if answer is not NotImplemented:
                return to_response(answer)
        if self.parts.app is not None:
            return await self.parts.app.answer(request)
        return Response.problem(404, f"this plugin has no route {request.method} {path}")

    async def _event_of_post(self, request: Request) -> Response:
        body = await request.json(MAX_EVENT_BYTES)
        try:
            event = Event.from_dict(body)
        except WireError as error:
            raise HttpError(422, f"the body is not an event: {error}") from None
        done = await self._queue.push(event, len(await request.read()))
        try:
            reason = await asyncio.wait_for(asyncio.shield(done), POSTED_TIMEOUT)
        except asyncio.TimeoutError:
            raise HttpError(503, "the event was not handled in time; it may still be", {"Retry-After": "5"}) from None
        if reason is not None:
            raise HttpError(500, f"the event was not handled: {reason}")
        return Response.json({"ok": True})

    async def _until_started(self) -> None:
        if self._started.is_set():
            return
        try:
            await within(START_WAIT, self._started.wait())
        except asyncio.TimeoutError:
            raise HttpError(503, "the plugin is still starting", {"Retry-After": "5"}) from None

    def _claim(self, request: Request) -> Optional[bool]:
        """Whether the request shows the auth secret; ``None`` when it shows nothing. Nobody honest shows two."""
        values = request.headers.all("authorization")
        if not values:
            return None
        scheme, _, token = values[0].partition(" ")
        same = hmac.compare_digest(token.strip().encode("latin-1"), self.launch.auth_secret.encode())
        return len(values) == 1 and scheme.lower() == "bearer" and same

    def _refuse_wrong_secret(self, request: Request) -> None:
        """For what the host itself calls: other hosts send no secret there, and only a wrong one is refused."""
        if self._claim(request) is False:
            raise _unauthorized()


def run_server(
    app: Optional[App] = None,
    *,
    on_event: Optional[EventHandler] = None,
    on_start: Optional[Hook] = None,
    on_config: Optional[Hook] = None,
    on_shutdown: Optional[Hook] = None,
    ui: Optional[Directory] = None,
    health_path: Optional[str] = None,
    launch: Optional[Launch] = None,
) -> Server:
    """Serves the plugin's socket and returns once it accepts connections; the process then lives until it is told to end.

    ``app`` is an ASGI application for the plugin's own routes, ``on_event(context, event)`` takes its events, the other hooks
    are those of :class:`~temps_plugin.Plugin`, ``ui`` is a directory with a page. Called between :func:`emit_manifest` and :func:`emit_ready`:

    >>> emit_manifest(manifest)              # doctest: +SKIP
    >>> run_server(on_event=notify)          # doctest: +SKIP
    >>> emit_ready(has_ui=False)             # doctest: +SKIP

    With Python 3.12 a program whose main thread has ended starts no further threads. An application that starts threads
    by itself then needs a script that stays: ``sys.exit(server.wait())`` as its last line.
    """
    log_to_stderr()
    manifest = handshake.emitted_manifest()
    name = manifest.name if manifest is not None else "plugin"
    path = health_path or (manifest.health_path if manifest is not None else "/health")
    parts = Parts(
        name,
        path,
        on_event=on_event,
        app=app,
        on_start=_hooks(on_start),
        on_config=_hooks(on_config),
        on_shutdown=_hooks(on_shutdown),
        declares_config=manifest is not None and manifest.config is not None,
        ui=ui,
    )
    server = Server(parts, launch or Launch.from_args_or_exit())
    handshake.remember_features(server.features)
    server.is_all = True
    server.start()
    end_on_signals(server)
    return server


# Most plugins have neither of these two, and start quicker without them.


def _asgi_app(app: App) -> AsgiApp:
    from .asgi import AsgiApp

    return AsgiApp(app)


def _pages(ui: Directory) -> Pages:
    from .pages import Pages

    return Pages(ui)


def _hooks(hook: Optional[Hook]) -> Sequence[Hook]:
    return () if hook is None else (hook,)


def end_on_signals(server: Server) -> None:
    """Ends the server in order at SIGTERM and SIGINT; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        return

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        server.stop()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def to_response(answer: Any) -> Union[Response, Upgrade]:
    """What a route returned, as an answer: texts, bytes, or anything that JSON knows; ``None`` is 204."""
    if isinstance(answer, (Response, Upgrade)):
        return answer
    if answer is None:
        return Response(204)
    if isinstance(answer, str):
        return Response(200, answer, [("Content-Type", "text/plain; charset=utf-8")])
    if isinstance(answer, (bytes, bytearray)):
        return Response(200, bytes(answer), [("Content-Type", "application/octet-stream")])
    return Response.json(answer)


def _unauthorized() -> HttpError:
    detail = "the request does not carry the auth secret of this start of the plugin"
    return HttpError(401, detail, {"WWW-Authenticate": "Bearer"})


async def _in_time(work: Coroutine[Any, Any, None], seconds: float, words: str) -> None:
    try:
        await within(seconds, work)
    except asyncio.TimeoutError:
        raise RuntimeError(f"{words} {seconds:.0f} s") from None
