"""Plugins for temps, in Python.

The comfortable way is :class:`Plugin`; the few functions below it are the protocol itself, for those who want to see it:

>>> from temps_plugin import PluginManifest, emit_manifest, emit_ready, run_server
"""

import sys

from .channel import ChannelError, ChannelLost
from .context import Context
from .events import Event
from .handshake import Launch, Ready, UsageError, emit_manifest, emit_ready, guard_stdout
from .http import Headers, HttpError, Request, Response, Upgrade, User
from .log import logger
from .manifest import (
    API_VERSION,
    EventFilter,
    ManifestError,
    NavEntry,
    NavSection,
    Permissions,
    PluginManifest,
    Resources,
)
from .platform import Deployment, Environment, Platform, Project
from .plugin import Plugin
from .server import Server, run_server
from .websocket import WebSocket, WebSocketClosed
from ._rules import WireError

__all__ = [
    "API_VERSION",
    "ChannelError",
    "ChannelLost",
    "Context",
    "Deployment",
    "Environment",
    "Event",
    "EventFilter",
    "Headers",
    "HttpError",
    "Launch",
    "ManifestError",
    "NavEntry",
    "NavSection",
    "Permissions",
    "Platform",
    "Plugin",
    "PluginManifest",
    "Project",
    "Ready",
    "Request",
    "Resources",
    "Response",
    "Server",
    "Upgrade",
    "UsageError",
    "User",
    "WebSocket",
    "WebSocketClosed",
    "WireError",
    "emit_manifest",
    "emit_ready",
    "logger",
    "run_server",
]

__version__ = "0.1.0"

# In a process that a host started, what is printed from here on must not stand between the two lines. Anywhere else, an
# import changes nothing.
if "--socket-path" in sys.argv:
    guard_stdout()
