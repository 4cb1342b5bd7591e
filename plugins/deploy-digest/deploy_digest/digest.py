"""What a digest is: which day a deployment belongs to, what is kept of it, and how a day is summed up.

Nothing here asks or writes anything.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import Any, Iterable, Optional

from temps_plugin import DeploymentSubject, Event

#: Outcomes that count, by the last word of their event type.
OUTCOMES = ("succeeded", "failed", "cancelled")

#: Longest text that is kept of a deployment, in characters.
MAX_TEXT = 300

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def day_of(moment: datetime, utc_offset: str) -> str:
    """The day of a moment, for people at this offset from UTC (``+02:00``)."""
    sign = -1 if utc_offset.startswith("-") else 1
    hours, minutes = utc_offset.lstrip("+-").split(":")
    offset = sign * timedelta(hours=int(hours), minutes=int(minutes))
    return moment.astimezone(timezone(offset)).date().isoformat()


def read_day(text: str) -> Optional[str]:
    """A day as somebody has written it; ``None`` when it is none."""
    if not _DAY.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return None


def key(day: str, deployment_id: int) -> str:
    """Where a deployment of a day is kept."""
    return f"day/{day}/{deployment_id}"


def day_of_key(text: str) -> str:
    """The day in a key."""
    return text.split("/")[1]


def entry(event: Event, payload: DeploymentSubject, project: str) -> dict[str, Any]:
    """What is kept of a deployment that has ended."""
    kept = {
        "outcome": event.event_type.rsplit(".", 1)[-1],
        "at": event.timestamp.isoformat(),
        "project": project,
        "environment": payload.environment_name,
        "url": getattr(payload, "url", None),
        "error": getattr(payload, "error_message", None),
    }
    return {name: value[:MAX_TEXT] for name, value in kept.items() if value is not None}


def summary(day: str, entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """A day, summed up: counts in all and for each project, and what failed, newest first."""
    entries = sorted(entries, key=lambda kept: str(kept["at"]), reverse=True)
    projects: dict[str, dict[str, Any]] = {}
    for kept in entries:
        project = projects.setdefault(kept["project"], {"project": kept["project"], **_count([])})
        project[kept["outcome"]] += 1
        if kept["outcome"] == "succeeded":
            project.setdefault("url", kept.get("url"))
    failures = [kept for kept in entries if kept["outcome"] == "failed"]
    return {
        "day": day,
        **_count(entries),
        "projects": sorted(projects.values(), key=lambda project: str(project["project"])),
        "failures": failures,
    }


def as_text(digest: dict[str, Any]) -> str:
    """A digest for a terminal or a message."""
    total = sum(digest[outcome] for outcome in OUTCOMES)
    if not total:
        return f"{digest['day']}: no deployments\n"
    lines = [f"{digest['day']}: {_words(digest)}"]
    lines += [f"  {project['project']}: {_words(project)}" for project in digest["projects"]]
    for failure in digest["failures"]:
        where = f"{failure['project']}/{failure['environment']}" if "environment" in failure else failure["project"]
        lines.append(f"  ! {where}: {failure.get('error', 'failed, without a reason')}")
    return "\n".join(lines) + "\n"


def _count(entries: list[dict[str, Any]]) -> dict[str, int]:
    return {outcome: sum(kept["outcome"] == outcome for kept in entries) for outcome in OUTCOMES}


def _words(counts: dict[str, Any]) -> str:
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])
