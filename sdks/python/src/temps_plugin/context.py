"""What a plugin's handlers are given: the platform to ask, a directory to write in, and whether it is time to end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .handshake import Launch
from .platform import Platform


class Context:
    """Handed to every handler and hook."""

    def __init__(self, name: str, launch: Launch, platform: Platform, stopping: asyncio.Event) -> None:
        self._launch = launch
        self._stopping = stopping
        #: The plugin's name.
        self.name = name
        #: Asks the platform for projects, environments and deployments.
        self.platform = platform

    @property
    def data_dir(self) -> Path:
        """The plugin's own directory; its content outlives restarts and updates."""
        return Path(self._launch.data_dir)

    @property
    def is_stopping(self) -> bool:
        """Whether the plugin was told to end."""
        return self._stopping.is_set()

    async def stopping(self) -> None:
        """Waits until the plugin is told to end; for work in the background."""
        await self._stopping.wait()
