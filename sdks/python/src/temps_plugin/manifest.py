"""The manifest: what a plugin says of itself, with the rules that it must keep.

Everything that a host would refuse is refused here first, all at once and by field, so that an author sees it at the desk.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Iterator, Optional, Sequence, TypeVar, Union

from ._rules import Fields, WireError, integer_entry, parse_object, text_entry
from .events import is_pattern

#: Version of the protocol that this package speaks.
API_VERSION = "1.0.0"

#: Longest manifest line in bytes, newline included.
MAX_MANIFEST_BYTES = 64 * 1024

#: Longest list in a manifest.
MAX_ENTRIES = 100

#: Longest text in a manifest, in bytes.
MAX_TEXT = 2 * 1024

#: Data methods that a plugin can ask for, in the order of the specification.
METHODS = (
    "get_project",
    "list_projects",
    "get_environment",
    "list_environments",
    "get_deployment",
    "get_last_deployment",
    "list_deployments",
)

#: Names that belong to the host.
RESERVED_NAMES = frozenset(
    "api admin auth console events health host login logout metrics platform plugin plugins system temps ui".split()
)

T = TypeVar("T")

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"[\x21-\x7e]{1,64}")
_API_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+){0,2}")
_PATH = re.compile(r"/[\x21-\x7e]{0,255}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class ManifestError(WireError):
    """The manifest breaks rules. ``problems`` has all of them, each as (field, what is wrong)."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{name}: {what}" for name, what in problems))
        self.problems = list(problems)
        self.field = self.problems[0][0] if self.problems else None


class NavSection(str, Enum):
    """Where an entry stands in the console's navigation."""

    #: The main sidebar.
    PLATFORM = "platform"
    #: Administration.
    SETTINGS = "settings"
    #: Inside a project.
    PROJECT = "project"


@dataclass(frozen=True)
class NavEntry:
    """An entry in the console's navigation."""

    #: What people read.
    label: str
    #: Name of a Lucide icon, for example ``message-square``.
    icon: str
    #: Where it stands.
    section: Union[NavSection, str]
    #: Path inside the plugin's pages, beginning with ``/``.
    path: str
    #: Place among other entries; lower comes first.
    order: int = 0


@dataclass(frozen=True)
class Permissions:
    """What a plugin asks to be allowed."""

    #: Data methods that it wants to call, by name.
    methods: Sequence[str] = ()
    #: Ids of the projects that it wants to see; ``None`` asks for all.
    projects: Optional[Sequence[int]] = None


@dataclass(frozen=True)
class Resources:
    """Limits that a plugin asks for. Whatever is ``None`` stays at the host's default."""

    #: Memory, for example ``"256M"``.
    memory_max: Optional[str] = None
    #: Share of one CPU, for example ``"25%"``.
    cpu_quota: Optional[str] = None
    #: Processes and threads.
    tasks_max: Optional[int] = None
    #: Open files in each process.
    nofile: Optional[int] = None
    #: Disk for the data directory, for example ``"1G"``.
    disk_max: Optional[str] = None


@dataclass(frozen=True)
class EventFilter:
    """A condition on an event: the value at ``path`` must be one of ``any_of``."""

    #: ``project_id``, ``environment_id``, or ``data.`` and dotted names.
    path: str
    #: Values that let the event pass.
    any_of: Sequence[Any]


@dataclass(frozen=True)
class PluginManifest:
    """What a plugin says of itself.

    >>> PluginManifest(name="slack-notifier", version="1.0.0", events=["deployment.succeeded"]).check()
    """

    #: 1 to 63 lower-case letters, digits and inner hyphens, beginning with a letter.
    name: str
    #: The plugin's version, best a semantic version.
    version: str
    #: Name for people.
    display_name: Optional[str] = None
    #: What it does, for people.
    description: Optional[str] = None
    #: Event types that it wants: exact, ``deployment.*``, or ``*``.
    events: Sequence[str] = ()
    #: Path that answers 200 while the plugin is well.
    health_path: str = "/health"
    #: Entries in the console's navigation.
    nav: Sequence[NavEntry] = ()
    #: Whether it needs a database of its own.
    requires_db: bool = False
    #: Version of the protocol that it was written for; ``None`` means 1.0.
    api_version: Optional[str] = None
    #: What it asks to be allowed; ``None`` asks for its events, all methods and all projects.
    permissions: Optional[Permissions] = None
    #: Hosts to reach, as ``name``, ``name:port``, ``*.name``; ``None`` asks for HTTPS to any public name.
    egress: Optional[Sequence[str]] = None
    #: JSON Schema of its configuration.
    config: Optional[dict[str, Any]] = None
    #: Limits beyond the host's defaults.
    resources: Optional[Resources] = None
    #: ``relaxed``, or ``strict``: a failed event holds back later ones of its project.
    ordering: Optional[str] = None
    #: Conditions on events, all of which must hold.
    filters: Sequence[EventFilter] = ()
    #: Paths that it wants to serve to callers that are not signed in.
    public_paths: Sequence[str] = ()
    #: Read for the sake of existing plugins; a page needs none of it.
    ui: Optional[dict[str, Any]] = field(default=None, repr=False)

    def check(self) -> None:
        """Checks every rule.

        :raises ManifestError: lists all broken rules at once.
        """
        problems = _problems(self)
        if problems:
            raise ManifestError(problems)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as it stands on the wire, with its ``type``."""
        wire: dict[str, Any] = {"type": "manifest", "name": self.name, "version": self.version}
        optional = {
            "display_name": self.display_name,
            "description": self.description,
            "nav": [_nav_dict(entry) for entry in self.nav] or None,
            "ui": self.ui,
            "requires_db": self.requires_db,
            "health_path": self.health_path,
            "events": list(self.events),
            "api_version": self.api_version,
            "permissions": self.permissions and _permissions_dict(self.permissions),
            "egress": None if self.egress is None else list(self.egress),
            "config": self.config,
            "resources": self.resources
            and {name: value for name, value in vars(self.resources).items() if value is not None},
            "ordering": self.ordering,
            "filters": [{"path": f.path, "any_of": list(f.any_of)} for f in self.filters] or None,
            "public_paths": list(self.public_paths) or None,
        }
        wire.update({name: value for name, value in optional.items() if value is not None})
        return wire

    def to_line(self) -> str:
        """The handshake's first line, without its newline.

        :raises ManifestError: when the manifest breaks a rule, or the line would be too long.
        """
        self.check()
        line = json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))
        if len(line.encode()) >= MAX_MANIFEST_BYTES:
            raise ManifestError([("manifest", f"has more than {MAX_MANIFEST_BYTES} bytes")])
        return line

    @classmethod
    def from_line(cls, line: str) -> PluginManifest:
        """Reads and checks a manifest line, as a host does.

        :raises WireError: says which field is wrong, and why.
        """
        value = parse_object(line, "manifest")
        if value.get("type") != "manifest":
            raise WireError(f"must be \"manifest\", found {value.get('type')!r:.40}", "type")
        manifest = _read(Fields(value))
        manifest.check()
        return manifest


def check_name(name: str) -> None:
    """Checks a plugin's name.

    :raises WireError: says what is wrong with it.
    """
    if not _NAME.fullmatch(name):
        raise WireError(
            f"{name!r:.80} is not a plugin name; use 1 to 63 lower-case letters, digits and inner hyphens, letter first"
        )
    if name in RESERVED_NAMES:
        raise WireError(f"{name!r} is kept for the host; choose another name")


class _Problems:
    """Collects broken rules, each with the field that breaks it."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, name: str, what: Optional[str]) -> None:
        """Notes a broken rule; ``None`` is none."""
        if what is not None:
            self.found.append((name, what))

    def text(self, name: str, value: Optional[str]) -> None:
        """Checks a text for people."""
        if value is None:
            return
        if len(value.encode()) > MAX_TEXT:
            self.add(name, f"has more than {MAX_TEXT} bytes")
        if any((ord(c) < 32 or 127 <= ord(c) < 160) and c not in "\n\t" for c in value):
            self.add(name, "has control characters")

    def each(self, name: str, entries: Optional[Sequence[T]]) -> Iterator[tuple[str, T]]:
        """The entries of a list with their names, as far as a list may go."""
        entries = entries or ()
        if len(entries) > MAX_ENTRIES:
            self.add(name, f"has {len(entries)} entries; at most {MAX_ENTRIES} are allowed")
        for index, entry in enumerate(entries[:MAX_ENTRIES]):
            yield f"{name}[{index}]", entry


def _problems(manifest: PluginManifest) -> list[tuple[str, str]]:
    problems = _Problems()
    _check_identity(manifest, problems)
    _check_paths(manifest, problems)
    _check_wishes(manifest, problems)
    return problems.found


def _check_identity(manifest: PluginManifest, problems: _Problems) -> None:
    try:
        check_name(manifest.name)
    except WireError as error:
        problems.add("name", str(error))
    if not _VERSION.fullmatch(manifest.version):
        problems.add("version", f'{manifest.version!r:.80} is not a version; use a semantic version like "1.0.0"')
    problems.text("display_name", manifest.display_name)
    problems.text("description", manifest.description)
    if manifest.api_version is not None:
        if not _API_VERSION.fullmatch(manifest.api_version):
            problems.add("api_version", f'{manifest.api_version!r:.40} is not a version like "1.0"')


def _check_paths(manifest: PluginManifest, problems: _Problems) -> None:
    problems.add("health_path", _path_problem(manifest.health_path))
    for name, entry in problems.each("nav", manifest.nav):
        if not entry.label.strip():
            problems.add(f"{name}.label", "must not be empty")
        for part in ("label", "icon", "path"):
            problems.text(f"{name}.{part}", getattr(entry, part))
        if entry.section not in {section.value for section in NavSection}:
            problems.add(f"{name}.section", f"{entry.section!r} is not one of platform, settings, project")
        if not entry.path.startswith("/") or ".." in entry.path or "\\" in entry.path:
            problems.add(f"{name}.path", 'must begin with "/" and stay inside the plugin')
        if not 0 <= entry.order < 2**32:
            problems.add(f"{name}.order", "must be an integer from 0 to 4294967295")
    for name, path in problems.each("public_paths", manifest.public_paths):
        problems.add(name, _path_problem(path))


def _check_wishes(manifest: PluginManifest, problems: _Problems) -> None:
    for name, pattern in problems.each("events", manifest.events):
        if not is_pattern(pattern):
            what = f'{pattern!r:.80} is neither a type like "deployment.succeeded" nor a pattern like "deployment.*"'
            problems.add(name, what)
    if manifest.permissions is not None:
        for name, method in problems.each("permissions.methods", manifest.permissions.methods):
            if method not in METHODS:
                problems.add(name, f"{method!r:.40} is not a method; known are {', '.join(METHODS)}")
    for name, target in problems.each("egress", manifest.egress):
        if not _is_egress_target(target):
            problems.add(name, f"{target!r:.80} is not a public host name, with an optional port")
    if manifest.ordering not in (None, "relaxed", "strict"):
        problems.add("ordering", f"{manifest.ordering!r:.40} is not one of relaxed, strict")
    for name, condition in problems.each("filters", manifest.filters):
        if condition.path not in ("project_id", "environment_id") and not condition.path.startswith("data."):
            problems.add(f"{name}.path", 'must be project_id, environment_id, or begin with "data."')


def _path_problem(path: str) -> Optional[str]:
    if not path.startswith("/"):
        return 'must begin with "/"'
    if not _PATH.fullmatch(path) or any(c in path for c in "%?#\\"):
        return "must be at most 256 plain characters, without % ? # \\ and spaces"
    segments = path.split("/")
    if "." in segments or ".." in segments:
        return 'must not have "." or ".." segments'
    if segments[1] in ("_temps", "_events"):
        return "/_temps and /_events belong to the host"
    return None


def _is_egress_target(target: str) -> bool:
    name, colon, port = target.rpartition(":")
    if not colon:
        name = target
    elif not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        return False
    if name.startswith("*."):
        name = name[2:]
    if name == "*":
        return True
    try:
        ipaddress.ip_address(name)
        return False
    except ValueError:
        pass
    return len(name) <= 253 and "." in name and all(_LABEL.fullmatch(label) for label in name.split("."))


def _nav_dict(entry: NavEntry) -> dict[str, Any]:
    section = entry.section.value if isinstance(entry.section, NavSection) else entry.section
    return {
        "label": entry.label,
        "icon": entry.icon,
        "section": section,
        "path": entry.path,
        "order": entry.order,
    }


def _permissions_dict(permissions: Permissions) -> dict[str, Any]:
    wire: dict[str, Any] = {"methods": list(permissions.methods)}
    if permissions.projects is not None:
        wire["projects"] = list(permissions.projects)
    return wire


def _read(fields: Fields) -> PluginManifest:
    config = fields.raw("config")
    if config is not None and not isinstance(config, dict):
        raise WireError("must be a JSON Schema, that is an object", "config")
    permissions = fields.opt_object("permissions")
    resources = fields.opt_object("resources")
    ui = fields.opt_object("ui")
    return PluginManifest(
        name=fields.text("name"),
        version=fields.text("version"),
        display_name=fields.opt_text("display_name"),
        description=fields.opt_text("description"),
        events=fields.list("events", text_entry),
        health_path=fields.text("health_path", "/health"),
        nav=fields.list("nav", _read_nav),
        requires_db=fields.flag("requires_db", False),
        api_version=fields.opt_text("api_version"),
        permissions=None if permissions is None else _read_permissions(Fields(permissions, "permissions")),
        egress=None if fields.raw("egress") is None else fields.list("egress", text_entry),
        config=config,
        resources=None if resources is None else _read_resources(Fields(resources, "resources")),
        ordering=fields.opt_text("ordering"),
        filters=fields.list("filters", _read_filter),
        public_paths=fields.list("public_paths", text_entry),
        ui=None if ui is None else _read_ui(Fields(ui, "ui")),
    )


def _read_nav(value: Any, name: str) -> NavEntry:
    fields = Fields(value, name)
    order = fields.raw("order")
    if isinstance(order, bool) or not isinstance(order, int):
        raise WireError("must be an integer", fields.name("order"))
    section = fields.text("section")
    if section not in {known.value for known in NavSection}:
        raise WireError(f"{section!r:.40} is not one of platform, settings, project", fields.name("section"))
    return NavEntry(fields.text("label"), fields.text("icon"), NavSection(section), fields.text("path"), order)


def _read_permissions(fields: Fields) -> Permissions:
    projects = None if fields.raw("projects") is None else fields.list("projects", integer_entry)
    return Permissions(methods=fields.list("methods", text_entry), projects=projects)


def _read_resources(fields: Fields) -> Resources:
    return Resources(
        memory_max=fields.opt_text("memory_max"),
        cpu_quota=fields.opt_text("cpu_quota"),
        tasks_max=fields.opt_integer("tasks_max", least=0),
        nofile=fields.opt_integer("nofile", least=0),
        disk_max=fields.opt_text("disk_max"),
    )


def _read_filter(value: Any, name: str) -> EventFilter:
    fields = Fields(value, name)
    return EventFilter(fields.text("path"), fields.list("any_of", lambda entry, _: entry, optional=False))


def _read_ui(fields: Fields) -> dict[str, Any]:
    def route(value: Any, name: str) -> dict[str, str]:
        entry = Fields(value, name)
        return {"path": entry.text("path"), "title": entry.text("title")}

    return {
        "entry_js": fields.text("entry_js"),
        "css": fields.list("css", text_entry),
        "routes": fields.list("routes", route),
    }
