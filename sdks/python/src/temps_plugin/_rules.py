"""Reading what came over the wire: every field is checked by name, and a refusal says which one and why.

Nothing here knows what a manifest or an event is.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone
from typing import Any, Callable, Mapping, Optional, TypeVar

T = TypeVar("T")
M = TypeVar("M", bound="Message")

#: A revision of an entry or of a configuration: an integer of 64 bits.
Revision = int

MIN_I32, MAX_I32 = -(2**31), 2**31 - 1
MAX_I64 = 2**63 - 1


class WireError(ValueError):
    """A message breaks a rule of the protocol. ``field`` names the part that does, where it has a name."""

    def __init__(self, message: str, field: Optional[str] = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


def parse_object(text: str, what: str) -> dict[str, Any]:
    """Reads a JSON object.

    :raises WireError: when it is something else.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise WireError(f"the {what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise WireError(f"the {what} must be a JSON object")
    return value


class Fields:
    """The fields of one object. Null stands for an absent field; unknown fields are left alone."""

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, Mapping):
            raise WireError(f"must be an object, found {_kind(value)}", path or None)
        self._value = value
        self._path = path

    def name(self, field: str) -> str:
        """The field's name in a refusal, for example ``nav[0].label``."""
        return f"{self._path}.{field}" if self._path else field

    def text(self, field: str, default: Optional[str] = None) -> str:
        """A text; without a default it must be there."""
        return self._get(field, str, default, "a text")

    def opt_text(self, field: str) -> Optional[str]:
        """A text, or ``None``."""
        return None if self._value.get(field) is None else self.text(field)

    def flag(self, field: str, default: Optional[bool] = None) -> bool:
        """``true`` or ``false``."""
        return self._get(field, bool, default, "true or false")

    def integer(
        self, field: str, default: Optional[int] = None, least: int = MIN_I32, most: int = MAX_I32
    ) -> int:
        """An integer from ``least`` to ``most``, by default any of 32 bits."""
        value: object = self._value.get(field)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise WireError(f"must be an integer, found {_kind(value)}", self.name(field))
        if not least <= value <= most:
            raise WireError(f"must be from {least} to {most}, found {value}", self.name(field))
        return value

    def opt_integer(self, field: str, least: int = MIN_I32) -> Optional[int]:
        """An integer of 32 bits, or ``None``."""
        return None if self._value.get(field) is None else self.integer(field, least=least)

    def revision(self, field: str) -> int:
        """An integer of 64 bits."""
        return self.integer(field, least=-MAX_I64 - 1, most=MAX_I64)

    def time(self, field: str) -> datetime:
        """A moment in RFC 3339, in UTC."""
        text = self.text(field)
        moment = parse_time(text)
        if moment is None:
            raise WireError(f"{text!r:.60} is not a time in RFC 3339", self.name(field))
        return moment

    def opt_time(self, field: str) -> Optional[datetime]:
        """A moment in RFC 3339, or ``None``."""
        return None if self._value.get(field) is None else self.time(field)

    def object(self, field: str, default: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        """An object as it is; null is none. Without a default it must be there."""
        return self._get(field, dict, default, "an object")

    def opt_object(self, field: str) -> Optional[dict[str, Any]]:
        """An object as it is, or ``None``."""
        return None if self._value.get(field) is None else self.object(field)

    def list(self, field: str, read: Callable[[Any, str], T], optional: bool = True) -> list[T]:
        """A list, each entry read by ``read(entry, name)``; empty when absent."""
        value = self._value.get(field)
        if value is None and optional:
            return []
        if not isinstance(value, list):
            raise WireError(f"must be a list, found {_kind(value)}", self.name(field))
        return [read(entry, f"{self.name(field)}[{index}]") for index, entry in enumerate(value)]

    def has(self, field: str) -> bool:
        """Whether the field stands there, null or not."""
        return field in self._value

    def raw(self, field: str) -> Any:
        """Whatever stands there."""
        return self._value.get(field)

    def _get(self, field: str, kind: type[T], default: Optional[T], words: str) -> T:
        value = self._value.get(field)
        if value is None and default is not None:
            return default
        if not isinstance(value, kind):
            missing = " (it is missing)" if field not in self._value else ""
            raise WireError(f"must be {words}, found {_kind(value)}{missing}", self.name(field))
        return value


class Message:
    """A dataclass whose fields stand on the wire under their own names. Further ones there are left alone."""

    @classmethod
    def from_dict(cls: type[M], value: Any, path: str = "") -> M:
        """Reads it as it stands on the wire.

        :raises WireError: says which field is wrong, and why.
        """
        fields = Fields(value, path)
        given: dict[str, Any] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            # What is absent or null has its default; without a default, the reader says that it is missing.
            if fields.raw(field.name) is not None or field.default is dataclasses.MISSING:
                given[field.name] = _READERS[str(field.type)](fields, field.name)
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Itself as it stands on the wire, without what is ``None``."""
        wire = {name: value for name, value in vars(self).items() if value is not None}
        return {name: format_time(it) if isinstance(it, datetime) else it for name, it in wire.items()}


#: How a field of a message is read, by its annotation.
_READERS: dict[str, Callable[[Fields, str], Any]] = {
    "int": Fields.integer,
    "Optional[int]": Fields.integer,
    "Revision": Fields.revision,
    "str": Fields.text,
    "Optional[str]": Fields.text,
    "bool": Fields.flag,
    "datetime": Fields.time,
    "Optional[datetime]": Fields.time,
    "dict[str, Any]": Fields.object,
    "Any": Fields.raw,
}


def text_entry(value: Any, name: str) -> str:
    """An entry of a list that must be a text."""
    if not isinstance(value, str):
        raise WireError(f"must be a text, found {_kind(value)}", name)
    return value


def integer_entry(value: Any, name: str) -> int:
    """An entry of a list that must be an integer of 32 bits."""
    found: object = value
    if isinstance(found, bool) or not isinstance(found, int) or not MIN_I32 <= found <= MAX_I32:
        raise WireError(f"must be an integer of 32 bits, found {_kind(value)}", name)
    return found


def parse_time(text: str) -> Optional[datetime]:
    """Reads RFC 3339 with an offset; ``None`` for anything else."""
    if len(text) < 20 or text[10] not in "Tt ":
        return None
    date_and_time, zone = text[:19], text[19:]
    fraction = ""
    if zone.startswith("."):
        end = 1
        while end < len(zone) and zone[end].isdigit():
            end += 1
        fraction, zone = zone[1:end], zone[end:]
        if not fraction:
            return None
    zone = "+00:00" if zone in ("Z", "z") else zone
    if len(zone) != 6 or zone[3] != ":":
        return None
    # Python keeps microseconds, so further digits are cut off.
    text = f"{date_and_time.replace('t', 'T').replace(' ', 'T')}.{(fraction + '000000')[:6]}{zone}"
    try:
        return datetime.fromisoformat(text).astimezone(timezone.utc)
    except ValueError:
        return None


def format_time(moment: datetime) -> str:
    """Writes RFC 3339 in UTC. A moment without a zone is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    moment = moment.astimezone(timezone.utc)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if moment.microsecond:
        digits = f"{moment.microsecond:06}"
        text += "." + (digits[:3] if digits.endswith("000") else digits)
    return text + "Z"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    names: dict[type, str] = {str: "a text", int: "an integer", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
