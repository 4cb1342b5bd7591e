"""Plugins for temps, in Python.

The comfortable way is :class:`Plugin`; the few functions below it are the protocol itself, for those who want to see it:

>>> from temps_plugin import PluginManifest, emit_manifest, emit_ready, run_server
"""

import sys
from typing import TYPE_CHECKING, Any

from .channel import ChannelError, ChannelLost
from .config import ConfigError, Configuration
from .context import Context
from .data import Deployment, Environment, Project
from .events import Event
from .handshake import Launch, Ready, UsageError, emit_manifest, emit_ready, guard_stdout
from .http import Headers, HttpError, Request, Response, Upgrade, User
from .kv import Entry, KeyValue
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
from .platform import Platform
from .plugin import Plugin
from .server import Server, run_server
from .websocket import WebSocket, WebSocketClosed
from ._rules import WireError

if TYPE_CHECKING:
    from .payload import (
        DeploymentCancelled,
        DeploymentCreated,
        DeploymentFailed,
        DeploymentReady,
        DeploymentSubject,
        DeploymentSucceeded,
        EnvironmentSubject,
        Payload,
        PayloadError,
        ProjectSubject,
    )

__all__ = [
    "API_VERSION",
    "ChannelError",
    "ChannelLost",
    "ConfigError",
    "Configuration",
    "Context",
    "Deployment",
    "DeploymentCancelled",
    "DeploymentCreated",
    "DeploymentFailed",
    "DeploymentReady",
    "DeploymentSubject",
    "DeploymentSucceeded",
    "Entry",
    "Environment",
    "EnvironmentSubject",
    "Event",
    "EventFilter",
    "Headers",
    "HttpError",
    "KeyValue",
    "Launch",
    "ManifestError",
    "NavEntry",
    "NavSection",
    "Payload",
    "PayloadError",
    "Permissions",
    "Platform",
    "Plugin",
    "PluginManifest",
    "Project",
    "ProjectSubject",
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

_PAYLOAD = frozenset(
    """
    DeploymentCancelled DeploymentCreated DeploymentFailed DeploymentReady DeploymentSubject DeploymentSucceeded
    EnvironmentSubject Payload PayloadError ProjectSubject
    """.split()
)


def __getattr__(name: str) -> Any:
    # A plugin that does not look at payloads starts without them.
    if name in _PAYLOAD:
        from . import payload

        return getattr(payload, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# In a process that a host started, what is printed from here on must not stand between the two lines. Anywhere else, an
# import changes nothing.
if "--socket-path" in sys.argv:
    guard_stdout()
