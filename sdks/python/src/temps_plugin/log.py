"""The plugin's log: one JSON object a line on standard error, which the host keeps with its level and fields."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

#: The package's own logger, and a good one for a plugin.
logger = logging.getLogger("temps_plugin")

_LEVELS = {"CRITICAL": "error", "ERROR": "error", "WARNING": "warn", "INFO": "info", "DEBUG": "debug"}
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Writes a record with ``level``, ``message``, ``target``, and whatever was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        entry: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
        entry.update(level=_LEVELS.get(record.levelname, "info"), message=message, target=record.name)
        return json.dumps(entry, ensure_ascii=False, default=str)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Sends all logging to standard error in the form that the host reads, unless logging was set up already."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        root.addHandler(handler)
        root.setLevel(level)
