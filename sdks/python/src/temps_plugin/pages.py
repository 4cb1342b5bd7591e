"""A plugin's pages: files below ``/ui/``, with the cache rules of a built single-page application.

They may be in a directory, or inside of the plugin's one file (a zipapp).
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union, cast

from .http import Request, Response

if TYPE_CHECKING:
    # Its place in all versions of Python that are supported.
    from importlib.abc import Traversable

#: A path, or what :func:`importlib.resources.files` gives.
Directory = Union[str, "os.PathLike[str]", "Traversable"]

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

    def __init__(self, directory: Directory) -> None:
        # Anything else than a path is a directory inside of an archive, with the few methods of one that are used here.
        path = Path(directory).resolve() if isinstance(directory, (str, os.PathLike)) else None
        self._inside_of = path
        self._root = cast(Any, path or directory)
        if _read(self._root / "index.html") is None:
            raise FileNotFoundError(f"{directory} has no index.html; build the page first")

    def answer(self, request: Request) -> Response:
        """Answers a request whose path begins with ``/ui``."""
        if request.method not in ("GET", "HEAD"):
            return Response.problem(405, "pages are only read", {"Allow": "GET, HEAD"})
        if request.path == "/ui":
            # Relative, so that it holds behind any prefix.
            return Response(301, b"", [("Location", "ui/")])
        found = self._find(request.path[len("/ui/") :].rstrip("/"))
        if found is None:
            return Response.problem(404, "there is no such file")
        name, data = found
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        cache = _FOR_EVER if _HASHED.fullmatch(name) else _ASK_AGAIN
        headers = [("Cache-Control", cache), ("ETag", tag), ("X-Content-Type-Options", "nosniff")]
        if request.headers.get("if-none-match") == tag:
            return Response(304, b"", headers)
        return Response(200, data, [("Content-Type", _content_type(name)), *headers])

    def _find(self, path: str) -> Optional[tuple[str, bytes]]:
        """Name and content of the file at ``path``; a path without an extension is a page of the application: its index."""
        segments = path.split("/")
        if ".." not in segments and "\0" not in path:
            file = self._root
            for segment in filter(None, segments):
                file = file / segment
            # A link in the directory must not lead out of it.
            stays = self._inside_of is None or self._inside_of in file.resolve().parents
            content = _read(file) if stays else None
            if content is not None:
                return file.name, content
        if "." in segments[-1]:
            return None
        index = _read(self._root / "index.html")
        return None if index is None else ("index.html", index)


def _read(file: Any) -> Optional[bytes]:
    """The content of a file; ``None`` when there is none. Archives say in several ways that something is not in them."""
    try:
        return cast(bytes, file.read_bytes()) if file.is_file() else None
    except (OSError, KeyError):
        return None


def _content_type(name: str) -> str:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or kind in _TEXT else kind
