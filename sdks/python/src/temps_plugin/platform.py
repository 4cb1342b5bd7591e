"""The client that asks the platform for data: one method per data method of the protocol."""

from __future__ import annotations

from typing import Any, Callable, Optional, TypeVar

from ._rules import WireError
from .channel import REQUEST_TIMEOUT, Channel, ChannelError
from .data import Deployment, Environment, Project

T = TypeVar("T")


class Platform:
    """Asks the platform. Each call waits for its answer, ten seconds at most unless :meth:`with_timeout` says otherwise.

    All calls raise :class:`~temps_plugin.ChannelError` when the host refuses, with a ``code`` to act on (``not_found``,
    ``permission_denied``, ...), and :class:`~temps_plugin.ChannelLost` when there is no channel.
    """

    def __init__(self, channel: Channel, timeout: float = REQUEST_TIMEOUT) -> None:
        self._channel = channel
        self._timeout = timeout

    def with_timeout(self, seconds: float) -> Platform:
        """The same client with another time-out per call, in seconds. It covers waiting for a channel, too."""
        return Platform(self._channel, seconds)

    @property
    def is_connected(self) -> bool:
        """Whether there is a channel at this moment."""
        return self._channel.is_open

    async def get_project(self, project_id: int) -> Project:
        """One project."""
        return await self._ask("get_project", Project.from_dict, project_id=project_id)

    async def list_projects(self) -> list[Project]:
        """All projects that the plugin may see."""
        return await self._ask("list_projects", _all(Project.from_dict))

    async def get_environment(self, environment_id: int) -> Environment:
        """One environment."""
        return await self._ask("get_environment", Environment.from_dict, environment_id=environment_id)

    async def list_environments(self, project_id: int) -> list[Environment]:
        """The environments of a project."""
        return await self._ask("list_environments", _all(Environment.from_dict), project_id=project_id)

    async def get_deployment(self, deployment_id: int) -> Deployment:
        """One deployment."""
        return await self._ask("get_deployment", Deployment.from_dict, deployment_id=deployment_id)

    async def get_last_deployment(self, project_id: int, environment_id: Optional[int] = None) -> Deployment:
        """The newest deployment of a project, in one environment if given."""
        params = {"project_id": project_id, "environment_id": environment_id}
        return await self._ask("get_last_deployment", Deployment.from_dict, **params)

    async def list_deployments(
        self, project_id: int, environment_id: Optional[int] = None, limit: Optional[int] = None
    ) -> list[Deployment]:
        """Deployments of a project, newest first, in one environment if given; ``limit`` is 1 to 100, by default 20."""
        params = {"project_id": project_id, "environment_id": environment_id, "limit": limit}
        return await self._ask("list_deployments", _all(Deployment.from_dict), **params)

    async def _ask(self, method: str, read: Callable[[Any], T], **params: Optional[int]) -> T:
        given = {name: value for name, value in params.items() if value is not None}
        return read_answer(method, read, await self._channel.request(method, given, self._timeout))


def read_answer(method: str, read: Callable[[Any], T], result: Any) -> T:
    """What a method returned, read.

    :raises ChannelError: ``internal``, when the host has answered with something else than the method promises.
    """
    try:
        return read(result)
    except WireError as error:
        raise ChannelError("internal", f"the answer to {method} cannot be read: {error}") from None


def _all(read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    def read_all(result: Any) -> list[T]:
        if not isinstance(result, list):
            raise WireError("it is not a list")
        return [read(entry) for entry in result]

    return read_all
