"""The platform of a test: answers from a script, a storage in memory, and a record of what was asked."""

from __future__ import annotations

from typing import Any, Callable, Optional

from ..channel import ChannelError

#: Stands for an answer that is never given.
NO_ANSWER = object()

Answer = Callable[[dict[str, Any]], Any]


class TestPlatform:
    """The platform that a plugin talks to in a test. It knows nothing until it is told."""

    __test__ = False

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}
        self._projects: dict[int, dict[str, Any]] = {}
        #: Everything that the plugin asked so far: method and parameters.
        self.asked: list[tuple[str, dict[str, Any]]] = []
        #: What the plugin keeps in its storage: key to value and revision. Time does not pass here, so nothing ends.
        self.entries: dict[str, tuple[Any, int]] = {}
        self._revision = 0

    def knows_project(self, project_id: int, name: str, **fields: Any) -> None:
        """Lets ``get_project`` and ``list_projects`` answer with this project, too."""
        time = "2026-06-06T12:00:00Z"
        known = {"id": project_id, "name": name, "slug": name, "created_at": time, "updated_at": time}
        self._projects[project_id] = {**known, **fields}

    def answer(self, method: str, answer: Answer) -> None:
        """Answers ``method`` with what ``answer(params)`` returns, or with the :class:`ChannelError` that it raises.

        :data:`NO_ANSWER` leaves the question unanswered.
        """
        self._answers[method] = answer

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The answer to a question, which is recorded.

        :raises ChannelError: the error that is answered.
        """
        self.asked.append((method, params))
        answer: Optional[Answer] = self._answers.get(method) or getattr(self, f"_{method}", None)
        if answer is None:
            raise ChannelError("method_not_found", "the test gave no answer for this method")
        return answer(params)

    def _get_project(self, params: dict[str, Any]) -> Any:
        if params.get("project_id") not in self._projects:
            raise ChannelError("not_found", "there is no such project")
        return self._projects[params["project_id"]]

    def _list_projects(self, params: dict[str, Any]) -> Any:
        return list(self._projects.values())

    def _kv_get(self, params: dict[str, Any]) -> Any:
        if params["key"] not in self.entries:
            raise ChannelError("not_found", "there is no such entry")
        value, revision = self.entries[params["key"]]
        return {"key": params["key"], "value": value, "revision": revision}

    def _kv_put(self, params: dict[str, Any]) -> Any:
        self._expect(params)
        self._revision += 1
        self.entries[params["key"]] = (params["value"], self._revision)
        return {"revision": self._revision}

    def _kv_delete(self, params: dict[str, Any]) -> Any:
        self._expect(params)
        return {"deleted": self.entries.pop(params["key"], None) is not None}

    def _kv_list(self, params: dict[str, Any]) -> Any:
        begin = params.get("prefix") or ""
        after = params.get("cursor") or ""
        keys = sorted((key for key in self.entries if key.startswith(begin)), key=str.encode)
        keys = [key for key in keys if key.encode() > after.encode()]
        page, more = keys[: params.get("limit") or 100], keys[params.get("limit") or 100 :]
        entries = [self._kv_get({"key": key}) for key in page]
        if not params.get("values"):
            entries = [{"key": entry["key"], "revision": entry["revision"]} for entry in entries]
        return {"entries": entries, **({"cursor": page[-1]} if more else {})}

    def _expect(self, params: dict[str, Any]) -> None:
        wanted, (_, there) = params.get("revision"), self.entries.get(params["key"], (None, 0))
        if wanted is not None and wanted != there:
            raise ChannelError("conflict", f"the entry {params['key']!r} has revision {there}", there)
