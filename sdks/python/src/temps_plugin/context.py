"""What a plugin's handlers are given: the platform, the storage and the settings, a directory to write in, and whether it is
time to end."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Coroutine, Optional, TypeVar

from .channel import Channel
from .config import Configuration, read_config
from .handshake import Launch
from .kv import KeyValue
from .platform import Platform

T = TypeVar("T")


class Context:
    """Handed to every handler and hook. It belongs to the event loop that the plugin lives in."""

    def __init__(self, name: str, launch: Launch, channel: Channel, stopping: asyncio.Event) -> None:
        self._launch = launch
        self._channel = channel
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._work: set[asyncio.Task[Any]] = set()
        #: The plugin's name, as the host knows it.
        self.name = launch.plugin_name or name
        #: Asks the platform for projects, environments and deployments.
        self.platform = Platform(channel)
        #: The plugin's key-value storage at the host.
        self.kv = KeyValue(channel)
        #: A log that carries the plugin's name. Any other logger works as well.
        self.logger = logging.getLogger(self.name)

    @property
    def config(self) -> dict[str, Any]:
        """The settings as they are now, with defaults. Secrets are in them: never log them.

        :raises ConfigError: when the host sent none; a host of temps does so before the start hook runs.
        """
        return dict(self._channel.settings.current.config)

    def config_as(self, form: type[T]) -> T:
        """The settings as a dataclass, whose defaults and simple types count.

        :raises ConfigError: when the host sent none, or they have another form; the text has no values.
        """
        return read_config(form, self._channel.settings.current.config)

    @property
    def configuration(self) -> Configuration:
        """The settings with their revision.

        :raises ConfigError: when the host sent none.
        """
        return self._channel.settings.current

    @property
    def data_dir(self) -> Path:
        """The plugin's own directory; its content outlives restarts and updates."""
        return Path(self._launch.data_dir)

    @property
    def database_url(self) -> Optional[str]:
        """The URL of the plugin's own database, for a manifest with ``requires_db``; drivers take it as it is."""
        return self._launch.database_url

    @property
    def auth_secret(self) -> str:
        """The auth secret of this start, which the host shows with every request. Never log it."""
        return self._launch.auth_secret

    @property
    def api_version(self) -> Optional[str]:
        """The version of the protocol that the host speaks, if it said so."""
        return self._launch.api_version

    def host_has(self, feature: str) -> bool:
        """Whether the host announced an optional ability: ``ack``, ``reconnect``, ``config``, ``kv``."""
        return feature in self._launch.host_features

    @property
    def is_stopping(self) -> bool:
        """Whether the plugin was told to end."""
        return self._stopping.is_set()

    async def stopping(self) -> None:
        """Waits until the plugin is told to end; for work in the background and for long answers."""
        await self._stopping.wait()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Starts work beside the current call, from any thread. A failure of it is logged; the end of the plugin ends it."""
        self._loop.call_soon_threadsafe(self._begin, work)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for something asynchronous inside a handler written with ``def``: ``ctx.run(ctx.kv.get("last"))``.

        :raises RuntimeError: inside ``async def``, where ``await`` does that.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        work.close()
        raise RuntimeError("ctx.run is for handlers written with def; here, write await")

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[Any]) -> None:
        self._work.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.logger.error("work in the background failed", exc_info=task.exception())
