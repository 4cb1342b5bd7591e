"""Events: what happened on the platform, as a plugin sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Optional

from ._rules import Fields, WireError, format_time

if TYPE_CHECKING:
    from .payload import Payload

_WORD = r"[a-z][a-z0-9_]*"
_TYPE = re.compile(rf"{_WORD}(?:\.{_WORD})+")
_PATTERN = re.compile(rf"\*|{_WORD}(?:\.{_WORD})*\.\*|{_WORD}(?:\.{_WORD})+")
_ID = re.compile(r"[\x21-\x7e]{1,64}")

#: Longest event type or pattern.
MAX_TYPE = 128

#: Longest event on the wire, in bytes.
MAX_EVENT_BYTES = 256 * 1024


@dataclass(frozen=True)
class Event:
    """One thing that happened. An event may come twice; whoever must not act twice remembers its ``id``."""

    #: Identity of the event, a UUID.
    id: str
    #: What happened, for example ``deployment.succeeded``.
    event_type: str
    #: When it happened, in UTC.
    timestamp: datetime
    #: The project that it concerns, if any.
    project_id: Optional[int] = None
    #: The payload as it came; :meth:`payload` has it typed.
    data: dict[str, Any] = field(default_factory=dict)

    def payload(self) -> Optional[Payload]:
        """The payload by its type, for example a :class:`~temps_plugin.DeploymentSucceeded`.

        ``None`` when the type is not one of this version of the protocol: a later one's, or the platform's own.

        :raises PayloadError: when the type is known and the data is not of its form.
        """
        # Only who asks for it pays for it.
        from .payload import read_payload

        return read_payload(self.event_type, self.data)

    @classmethod
    def from_dict(cls, value: Any) -> Event:
        """Reads an event as it stands on the wire.

        :raises WireError: says which field is wrong, and why.
        """
        fields = Fields(value)
        event = cls(
            id=fields.text("id"),
            event_type=fields.text("event_type"),
            timestamp=fields.time("timestamp"),
            project_id=fields.opt_integer("project_id"),
            data=fields.object("data") if fields.has("data") else {},
        )
        if not _ID.fullmatch(event.id):
            raise WireError("must be 1 to 64 printable characters, best a UUID", "id")
        if not is_event_type(event.event_type):
            raise WireError(f"{event.event_type!r:.80} is not a type like \"deployment.succeeded\"", "event_type")
        return event

    def to_dict(self) -> dict[str, Any]:
        """The event as it stands on the wire."""
        wire: dict[str, Any] = {
            "id": self.id,
            "event_type": self.event_type,
            "timestamp": format_time(self.timestamp),
        }
        if self.project_id is not None:
            wire["project_id"] = self.project_id
        wire["data"] = self.data
        return wire


def is_event_type(text: str) -> bool:
    """Whether ``text`` is an event type: at least two dotted words of lower-case letters, digits and underscores."""
    return len(text) <= MAX_TYPE and _TYPE.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Whether ``text`` is a subscription: an event type, ``prefix.*``, or ``*``."""
    return len(text) <= MAX_TYPE and _PATTERN.fullmatch(text) is not None


def matches(pattern: str, event_type: str) -> bool:
    """Whether a subscription takes in an event type."""
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return event_type.startswith(pattern[:-1]) and len(event_type) > len(pattern) - 1
    return pattern == event_type
