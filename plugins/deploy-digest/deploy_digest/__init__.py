"""`deploy-digest`, an official plugin: keeps what was deployed each day, and shows it as a page, as JSON and as text.

Everything that it keeps is in its storage at the host, one entry for each deployment, which ends after the days that the
operator wants. So an event that comes twice counts once, and nothing has to be cleared up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from importlib.resources import files
from typing import Any

from temps_plugin import (
    ChannelError,
    Context,
    DeploymentSubject,
    Event,
    HttpError,
    NavEntry,
    Permissions,
    Plugin,
    PluginManifest,
    Request,
    Response,
)

from . import digest

#: Entries that make room when the storage is full: the oldest ones.
ROOM = 100

#: Names of projects that are remembered, so that each is asked for once.
MAX_NAMES = 1000

SETTINGS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "keep_days": {
            "type": "integer",
            "minimum": 1,
            "maximum": 90,
            "default": 14,
            "description": "How many days are kept",
        },
        "utc_offset": {
            "type": "string",
            "pattern": "^[+-](0[0-9]|1[0-4]):[0-5][0-9]$",
            "default": "+00:00",
            "description": "Where a day begins, as an offset from UTC",
        },
        "environments": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "maxItems": 20,
            "default": [],
            "description": "Names of environments that count; none named: all",
        },
    },
    "additionalProperties": False,
}


@dataclass
class Settings:
    """What the operator may set."""

    keep_days: int = 14
    utc_offset: str = "+00:00"
    environments: list[str] = field(default_factory=list)


plugin = Plugin(
    PluginManifest(
        name="deploy-digest",
        version="0.1.0",
        display_name="Deployment digest",
        description="Keeps what was deployed each day, and what failed",
        events=[f"deployment.{outcome}" for outcome in digest.OUTCOMES],
        nav=[NavEntry("Digest", "calendar-check", "platform", "/", 80)],
        permissions=Permissions(methods=["get_project"]),
        egress=[],
        config=SETTINGS,
    )
)
plugin.ui(files(__name__) / "ui")

_names: dict[int, str] = {}


@plugin.on("deployment.*")
async def keep(ctx: Context, event: Event) -> None:
    """Keeps a deployment that has ended."""
    settings = ctx.config_as(Settings)
    payload = event.payload()
    if not isinstance(payload, DeploymentSubject):
        return
    if settings.environments and payload.environment_name not in settings.environments:
        return
    day = digest.day_of(event.timestamp, settings.utc_offset)
    key = digest.key(day, payload.deployment_id)
    entry = digest.entry(event, payload, await _project_name(ctx, event))
    before = await ctx.kv.get(key)
    if before is not None and before["at"] > entry["at"]:
        return  # A retry of something that was overtaken.
    try:
        await ctx.kv.put(key, entry, ttl=timedelta(days=settings.keep_days))
    except ChannelError as error:
        if error.code != "quota_exceeded":
            raise
        await _make_room(ctx)
        await ctx.kv.put(key, entry, ttl=timedelta(days=settings.keep_days))


@plugin.get("/digest")
async def show(ctx: Context, request: Request) -> dict[str, Any]:
    """The digest of ``?day=2026-06-06``, by default of today."""
    return await _digest(ctx, request)


@plugin.get("/digest.txt")
async def show_text(ctx: Context, request: Request) -> str:
    """The same for people."""
    return digest.as_text(await _digest(ctx, request))


@plugin.get("/days")
async def days(ctx: Context, request: Request) -> Response:
    """The days of which something is kept, newest first."""
    keys = await ctx.kv.keys("day/")
    return Response.json(sorted({digest.day_of_key(key) for key in keys}, reverse=True))


async def _digest(ctx: Context, request: Request) -> dict[str, Any]:
    today = digest.day_of(datetime.now(timezone.utc), ctx.config_as(Settings).utc_offset)
    day = digest.read_day(request.query.get("day", today))
    if day is None:
        raise HttpError(400, "day must be a date like 2026-06-06")
    return digest.summary(day, [entry.value for entry in await ctx.kv.list(f"day/{day}/")])


async def _project_name(ctx: Context, event: Event) -> str:
    """The project's name; where the platform does not tell it, its id does."""
    if event.project_id is None:
        return "(no project)"
    if event.project_id not in _names:
        try:
            project = await ctx.platform.get_project(event.project_id)
        except ChannelError as error:
            if error.code not in ("not_found", "permission_denied"):
                raise
            return f"project {event.project_id}"
        if len(_names) >= MAX_NAMES:
            _names.clear()
        _names[event.project_id] = project.name
    return _names[event.project_id]


async def _make_room(ctx: Context) -> None:
    """Lets the oldest entries go. Keys begin with their day, so they are in the order of days."""
    oldest = (await ctx.kv.keys("day/"))[:ROOM]
    ctx.logger.warning("the storage is full; the oldest %d entries go", len(oldest))
    for key in oldest:
        await ctx.kv.delete(key)
