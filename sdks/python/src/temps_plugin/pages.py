"""A plugin's pages: files below ``/ui/``, with the cache rules of a built single-page application."""

from __future__ import annotations

import hashlib
import mimetypes
import re
from pathlib import Path
from typing import Optional

from .http import Request, Response

_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_HASHED = re.compile(r".+[-.](?=[A-Za-z0-9_]*[0-9A-Z])[A-Za-z0-9_]{8,}\.[^.]+")
_TEXT = frozenset({"application/javascript", "application/json", "application/manifest+json", "image/svg+xml"})

# The system's own table may lack these, or differ; a page must not depend on the machine.
for _type, _ending in (
    ("text/javascript", ".js"),
    ("text/javascript", ".mjs"),
    ("application/json", ".map"),
    ("application/manifest+json", ".webmanifest"),
    ("image/svg+xml", ".svg"),
    ("image/webp", ".webp"),
    ("font/woff2", ".woff2"),
    ("application/wasm", ".wasm"),
):
    mimetypes.add_type(_type, _ending)


class Pages:
    """The files of one directory. They ask for no secret: they are the same for everybody and hold no data."""

    def __init__(self, directory: Path) -> None:
        self._root = directory.resolve()
        if not (self._root / "index.html").is_file():
            raise FileNotFoundError(f"{directory} has no index.html; build the page first")

    def answer(self, request: Request) -> Response:
        """Answers a request whose path begins with ``/ui``."""
        if request.method not in ("GET", "HEAD"):
            return Response.problem(405, "pages are only read", {"Allow": "GET, HEAD"})
        if request.path == "/ui":
            # Relative, so that it holds behind any prefix.
            return Response(301, b"", [("Location", "ui/")])
        file = self._find(request.path[len("/ui/") :].rstrip("/"))
        if file is None:
            return Response.problem(404, "there is no such file")
        data = file.read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        cache = _FOR_EVER if _HASHED.fullmatch(file.name) else _ASK_AGAIN
        headers = [("Cache-Control", cache), ("ETag", tag), ("X-Content-Type-Options", "nosniff")]
        if request.headers.get("if-none-match") == tag:
            return Response(304, b"", headers)
        return Response(200, data, [("Content-Type", _content_type(file)), *headers])

    def _find(self, path: str) -> Optional[Path]:
        """The file at ``path``; for a path without an extension, which is a page of the application, its index."""
        file = (self._root / path).resolve()
        if self._root in file.parents and file.is_file():
            return file
        return None if "." in path.rsplit("/", 1)[-1] else self._root / "index.html"


def _content_type(file: Path) -> str:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or kind in _TEXT else kind
