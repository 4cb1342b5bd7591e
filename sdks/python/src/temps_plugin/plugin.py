"""The comfortable way to write a plugin: one object, decorators for events and routes, and ``run()``."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional, TypeVar

from . import handshake
from ._rules import WireError
from .context import Context
from .events import Event, is_pattern, matches
from .handshake import Launch, Ready
from .http import HttpError, Request
from .log import log_to_stderr, logger
from .manifest import PluginManifest
from .server import EventHandler, Hook, Parts, RouteHandler, Server, end_on_signals

if TYPE_CHECKING:
    from .asgi import App
    from .pages import Directory

F = TypeVar("F", bound=Callable[..., Any])


class Plugin:
    """A plugin. Handlers may be written with ``async def``, or with ``def``; the latter run in threads.

    >>> plugin = Plugin(PluginManifest(name="hello", version="1.0.0", events=["deployment.*"]))
    >>> @plugin.on("deployment.succeeded")
    ... async def greet(ctx, event):
    ...     print("it is live:", event.data.get("url"))
    >>> @plugin.get("/greeting")
    ... def greeting(ctx, request):
    ...     return {"greeting": "hello"}

    ``plugin.run()`` at the end of the file does the rest. A subclass may write :meth:`handle_event` instead.
    """

    def __init__(self, manifest: PluginManifest, *, open_routes: bool = False) -> None:
        manifest.check()
        self.manifest = manifest
        #: Lets requests without the auth secret reach the routes, for hosts that do not send it.
        self.open_routes = open_routes
        self._events: list[tuple[str, EventHandler]] = []
        self._routes: list[tuple[str, re.Pattern[str], RouteHandler]] = []
        self._on_start: list[Hook] = []
        self._on_config: list[Hook] = []
        self._on_shutdown: list[Hook] = []
        self._ui: Optional[Directory] = None
        self._app: Optional[App] = None
        self._openapi: Optional[dict[str, Any]] = None

    # ---- events

    def on(self, *patterns: str) -> Callable[[F], F]:
        """Takes events of these types (exact, ``deployment.*``, or ``*``); the manifest must ask for them, too.

        A handler that returns has handled its event. One that raises has not: the host sends the event again later.
        """
        for pattern in patterns:
            if not is_pattern(pattern):
                raise ValueError(f"{pattern!r} is neither an event type nor a pattern like \"deployment.*\"")

        def decorate(handler: F) -> F:
            self._events.extend((pattern, handler) for pattern in patterns)
            return handler

        return decorate

    async def handle_event(self, ctx: Context, event: Event) -> None:
        """Takes one event. The default calls every handler whose pattern takes the event in, in their order."""
        called: list[EventHandler] = []
        for pattern, handler in self._events:
            if handler not in called and matches(pattern, event.event_type):
                called.append(handler)
                await self._server._call(self._server._event_thread, handler, ctx, event)

    # ---- routes

    def route(self, method: str, path: str) -> Callable[[F], F]:
        """Answers requests to one path; ``{name}`` stands for one segment, ``{name:path}`` for the rest.

        What the handler returns becomes the answer: a :class:`Response`, text, bytes, anything that JSON knows, or ``None``.
        """
        pattern = _compile(path)

        def decorate(handler: F) -> F:
            self._routes.append((method.upper(), pattern, handler))
            return handler

        return decorate

    def get(self, path: str) -> Callable[[F], F]:
        """:meth:`route` for GET (and HEAD)."""
        return self.route("GET", path)

    def post(self, path: str) -> Callable[[F], F]:
        """:meth:`route` for POST."""
        return self.route("POST", path)

    def put(self, path: str) -> Callable[[F], F]:
        """:meth:`route` for PUT."""
        return self.route("PUT", path)

    def patch(self, path: str) -> Callable[[F], F]:
        """:meth:`route` for PATCH."""
        return self.route("PATCH", path)

    def delete(self, path: str) -> Callable[[F], F]:
        """:meth:`route` for DELETE."""
        return self.route("DELETE", path)

    def mount(self, app: App) -> None:
        """Hands everything that no route of :meth:`route` answers to an ASGI application, unchanged."""
        self._app = app

    def ui(self, directory: Directory) -> None:
        """Serves a built page from a directory below ``/ui/``.

        For one that is inside of the plugin's one file, :func:`importlib.resources.files` gives the directory.
        """
        self._ui = directory

    def openapi(self, document: dict[str, Any]) -> None:
        """Announces the OpenAPI document of the plugin's routes; the host merges it into its own."""
        self._openapi = document

    # ---- life

    def on_start(self, hook: F) -> F:
        """Runs ``hook(ctx)`` before the first route or event; when it raises, the plugin ends and is tried again later."""
        self._on_start.append(hook)
        return hook

    def on_config(self, hook: F) -> F:
        """Runs ``hook(ctx)`` after the operator changed the settings; ``ctx.config`` has the new ones.

        Changes that come fast are told once. It does not run for the configuration that the start hook finds.
        """
        self._on_config.append(hook)
        return hook

    def on_shutdown(self, hook: F) -> F:
        """Runs ``hook(ctx)`` before the plugin ends, after the events that it still had were handled."""
        self._on_shutdown.append(hook)
        return hook

    def run(self) -> NoReturn:
        """Runs the plugin until it is told to end; never returns."""
        launch = Launch.from_args_or_exit()
        log_to_stderr()
        try:
            # First of all, because a host that only looks at the manifest needs nothing more.
            handshake.emit_manifest(self.manifest)
            server = self.start(launch)
        except Exception as error:
            logger.error("the plugin cannot start: %s", error, exc_info=error)
            sys.exit(1)
        end_on_signals(server)
        ready = self.ready(server)
        handshake.emit_ready(ready.has_ui, ready.openapi, ready.features)
        sys.exit(server.wait())

    def start(self, launch: Launch) -> Server:
        """Serves the socket and returns; for tests, and for those who do the handshake themselves. No signal ends it."""
        parts = Parts(
            self.manifest.name,
            self.manifest.health_path,
            on_event=self.handle_event,
            route=self._route,
            app=self._app,
            on_start=self._on_start,
            on_config=self._on_config,
            on_shutdown=self._on_shutdown,
            declares_config=self.manifest.config is not None,
            ui=self._ui,
            open_routes=self.open_routes,
        )
        self._server = Server(parts, launch)
        self._server.start()
        return self._server

    def ready(self, server: Server) -> Ready:
        """What the ready line says. An OpenAPI document with which it would be too long is left out, and that is logged."""
        ready = Ready(has_ui=self._ui is not None, openapi=self._openapi, features=server.features)
        try:
            ready.to_line()
        except WireError as error:
            logger.warning("the OpenAPI document is left out: %s", error)
            ready = replace(ready, openapi=None)
        return ready

    async def _route(self, ctx: Context, request: Request) -> Any:
        allowed: set[str] = set()
        for method, pattern, handler in self._routes:
            found = pattern.fullmatch(request.path)
            if found is None:
                continue
            if method == request.method or (method == "GET" and request.method == "HEAD"):
                request.params = found.groupdict()
                return await self._server._call(self._server._threads, handler, ctx, request)
            allowed.add(method)
        if allowed and self._app is None:
            allow = ", ".join(sorted(allowed))
            raise HttpError(405, f"{request.path} takes {allow}", {"Allow": allow})
        return NotImplemented


def _compile(path: str) -> "re.Pattern[str]":
    if not path.startswith("/"):
        raise ValueError(f"the path {path!r} must begin with \"/\"")
    parts = re.split(r"\{(\w+)(:path)?\}", path)
    pattern = re.escape(parts[0])
    for name, rest, plain in zip(parts[1::3], parts[2::3], parts[3::3]):
        pattern += f"(?P<{name}>{'.*' if rest else '[^/]+'})" + re.escape(plain)
    return re.compile(pattern)
