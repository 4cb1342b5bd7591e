"""The start of a plugin: its arguments, its two lines on standard output, and the guard that keeps both lines alone there."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, Mapping, NoReturn, Optional, Sequence, TextIO

from ._rules import Fields, WireError, parse_object, text_entry
from .manifest import PluginManifest

#: Longest ready line in bytes, newline included.
MAX_READY_BYTES = 1024 * 1024

#: Optional abilities of the protocol that this version knows.
FEATURES = ("ack", "reconnect", "config", "kv")

#: What older hosts give to every plugin: the platform's own database, which no plugin needs. It is passed over.
OLDER_HOSTS = "--database-url"

#: Longest socket path in bytes.
MAX_SOCKET_PATH = 107


@dataclass(frozen=True)
class Launch:
    """What the host told the plugin when it started it."""

    #: Where the plugin listens.
    socket_path: str
    #: Proves that a request comes from the host. Never shown.
    auth_secret: str = field(repr=False)
    #: The plugin's own directory; its content outlives restarts and updates.
    data_dir: str
    #: Optional abilities that the host announced.
    host_features: tuple[str, ...] = ()
    #: The plugin's name as the host has it; ``None`` during inspection.
    plugin_name: Optional[str] = None
    #: Version of the protocol that the host speaks, if it said so.
    api_version: Optional[str] = None
    #: Where the plugin's own database is, for a manifest with ``requires_db``.
    database_url: Optional[str] = field(default=None, repr=False)

    @classmethod
    def from_args(
        cls, args: Optional[Sequence[str]] = None, environ: Optional[Mapping[str, str]] = None
    ) -> Launch:
        """Reads the command line and the environment.

        :raises UsageError: when an argument is missing or not known.
        """
        args = sys.argv[1:] if args is None else args
        environ = os.environ if environ is None else environ
        known = {"--socket-path": "", "--auth-secret": "", "--data-dir": ""}
        rest = list(args)
        while rest:
            name, equals, value = rest.pop(0).partition("=")
            if name not in known and name != OLDER_HOSTS:
                raise UsageError(f"unknown argument {name!r}")
            if not equals:
                if not rest:
                    raise UsageError(f"{name} needs a value")
                value = rest.pop(0)
            if name in known:
                known[name] = value
        for name, value in known.items():
            if not value:
                raise UsageError(f"{name} is missing")
        if len(os.fsencode(known["--socket-path"])) > MAX_SOCKET_PATH:
            raise UsageError(f"--socket-path has more than {MAX_SOCKET_PATH} bytes")
        return cls(
            socket_path=known["--socket-path"],
            auth_secret=known["--auth-secret"],
            data_dir=known["--data-dir"],
            host_features=tuple(parse_features(environ.get("TEMPS_FEATURES", ""))),
            plugin_name=environ.get("TEMPS_PLUGIN_NAME") or None,
            api_version=environ.get("TEMPS_API_VERSION") or None,
            database_url=environ.get("TEMPS_DATABASE_URL") or None,
        )

    @classmethod
    def from_args_or_exit(cls) -> Launch:
        """:meth:`from_args`, or an explanation on standard error and exit status 2."""
        try:
            return cls.from_args()
        except UsageError as error:
            _explain_usage(error)


class UsageError(ValueError):
    """The command line is not one that a host gives."""


@dataclass(frozen=True)
class Ready:
    """The second line: the plugin serves its socket."""

    #: Whether the plugin has pages below ``/ui/``.
    has_ui: bool = False
    #: An OpenAPI document of the plugin's routes, which the host merges into its own.
    openapi: Optional[dict[str, Any]] = None
    #: Optional abilities that the plugin has.
    features: Sequence[str] = ()

    def to_line(self) -> str:
        """The line, without its newline.

        :raises WireError: when it would be longer than a host reads.
        """
        wire: dict[str, Any] = {"type": "ready", "ready": True, "has_ui": self.has_ui}
        if self.openapi is not None:
            wire["openapi"] = self.openapi
        if self.features:
            wire["features"] = list(self.features)
        line = json.dumps(wire, ensure_ascii=False, separators=(",", ":"))
        if len(line.encode()) >= MAX_READY_BYTES:
            raise WireError(f"the ready line has more than {MAX_READY_BYTES} bytes; shorten the OpenAPI document")
        return line

    @classmethod
    def from_line(cls, line: str) -> Ready:
        """Reads a ready line, as a host does.

        :raises WireError: says which field is wrong, and why.
        """
        value = parse_object(line, "ready line")
        if value.get("type") != "ready":
            raise WireError(f'must be "ready", found {value.get("type")!r:.40}', "type")
        fields = Fields(value)
        if not fields.flag("ready"):
            raise WireError("the plugin said that it cannot start", "ready")
        return cls(
            has_ui=fields.flag("has_ui", False),
            openapi=fields.opt_object("openapi"),
            features=fields.list("features", text_entry),
        )


def parse_features(text: str) -> list[str]:
    """Reads a list of features; words of other versions are left out."""
    return [word for word in (part.strip() for part in text.split(",")) if word in FEATURES]


_lines = threading.Lock()
_protocol: Optional[TextIO] = None
_manifest: Optional[PluginManifest] = None
_features: tuple[str, ...] = ()


def guard_stdout() -> TextIO:
    """Keeps standard output for the two lines: whatever else is printed, also by libraries, goes to standard error.

    Returns the stream of the two lines. Calling it again changes nothing.
    """
    global _protocol
    with _lines:
        if _protocol is None:
            sys.stdout.flush()
            _protocol = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
            os.dup2(2, 1)
            sys.stdout = sys.stderr
        return _protocol


def emit_manifest(manifest: PluginManifest) -> None:
    """Writes the first line. Called before anything that can fail, because a host reads it at inspection, too.

    :raises ManifestError: when the manifest breaks a rule.
    """
    global _manifest
    _emit(manifest.to_line())
    _manifest = manifest


def emitted_manifest() -> Optional[PluginManifest]:
    """The manifest that was written, if one was."""
    return _manifest


def remember_features(features: Sequence[str]) -> None:
    """Has the ready line announce what the server can do."""
    global _features
    _features = tuple(features)


def emit_ready(
    has_ui: bool = False, openapi: Optional[dict[str, Any]] = None, features: Sequence[str] = ()
) -> None:
    """Writes the second line. The server must accept connections before this.

    Features that were announced by :func:`temps_plugin.run_server` need not be named again.
    """
    words = list(dict.fromkeys([*_features, *features]))
    _emit(Ready(has_ui=has_ui, openapi=openapi, features=words).to_line())


def _emit(line: str) -> None:
    stream = guard_stdout()
    stream.write(line + "\n")
    stream.flush()


def _explain_usage(error: UsageError) -> NoReturn:
    program = os.path.basename(sys.argv[0]) or "plugin"
    print(
        f"{program}: {error}\n\n"
        "This program is a plugin: a host starts it, with\n"
        f"  {program} --socket-path PATH --auth-secret SECRET --data-dir DIRECTORY\n"
        "`temps plugin dev` runs it on your desk.",
        file=sys.stderr,
    )
    raise SystemExit(2)
