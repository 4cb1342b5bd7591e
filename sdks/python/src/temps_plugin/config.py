"""The plugin's configuration, as the operator set it: the manifest declares it, the host checks it and sends it.

It comes over the channel before the start hook runs, and again after each change.
"""

from __future__ import annotations

import asyncio
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Optional, TypeVar, Union

from ._rules import Message, Revision

T = TypeVar("T")


class ConfigError(ValueError):
    """There is no configuration, or it does not have the wanted form. The text names the setting, and no value."""


@dataclass(frozen=True)
class Configuration(Message):
    """All settings, with defaults, and their revision. Secrets are in them, so they are not shown."""

    config: dict[str, Any] = field(repr=False)
    #: Grows with each change; 0 while nothing was ever set.
    revision: Revision


class Settings:
    """The configuration that the host sent last, and a way to wait for the next one."""

    def __init__(self) -> None:
        self._current: Optional[Configuration] = None
        self._changed = asyncio.Event()

    def take(self, configuration: Configuration) -> None:
        """Takes what the host sent."""
        if self._current != configuration:
            self._current = configuration
            self._changed.set()

    @property
    def current(self) -> Configuration:
        """What the host sent last.

        :raises ConfigError: when it sent none.
        """
        if self._current is None:
            raise ConfigError('the host sent no configuration; does the manifest declare "config"?')
        return self._current

    async def changed(self) -> None:
        """Waits for a change that came after the last call of this. Changes that come fast are told once."""
        await self._changed.wait()
        self._changed.clear()

    def mark_unchanged(self) -> None:
        """Counts what is there now as seen."""
        self._changed.clear()


def read_config(form: type[T], config: dict[str, Any]) -> T:
    """Reads settings as a dataclass: names, defaults, and simple types are checked; further settings are passed over.

    :raises ConfigError: names the setting, and no value.
    """
    from typing import get_type_hints

    hints = get_type_hints(form)
    given: dict[str, Any] = {}
    for entry in fields(form):  # type: ignore[arg-type]
        if entry.name in config:
            value = config[entry.name]
            if not _fits(hints[entry.name], value):
                wanted = str(entry.type).replace("typing.", "")
                raise ConfigError(f"the setting {entry.name} is {type(value).__name__}, and {wanted} was expected")
            given[entry.name] = float(value) if hints[entry.name] is float else value
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise ConfigError(f"the setting {entry.name} is missing")
    return form(**given)


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value is of a type, as far as JSON has types: what is inside of lists and objects is not looked at."""
    from typing import get_args, get_origin

    if hint is Any:
        return True
    if get_origin(hint) is Union:
        return any(_fits(part, value) for part in get_args(hint))
    kind = get_origin(hint) or hint
    if kind is float:
        kind = (int, float)
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, kind) if isinstance(kind, (type, tuple)) else True
