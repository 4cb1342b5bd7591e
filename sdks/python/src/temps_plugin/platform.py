"""Platform data that a plugin can ask for, typed, and the client that asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar

from ._rules import Fields, WireError

if TYPE_CHECKING:
    from .channel import Channel

T = TypeVar("T")


@dataclass(frozen=True)
class Project:
    """A project."""

    id: int
    #: Name for people.
    name: str
    #: Name for URLs.
    slug: str
    created_at: datetime
    updated_at: datetime
    #: Source repository; empty if there is none.
    repo_name: str = ""
    repo_owner: str = ""
    #: Branch that production is built from.
    main_branch: str = ""
    #: How it is built, for example ``nextjs``; empty if unknown.
    preset: str = ""
    #: Where the source comes from, for example ``git``; empty if unknown.
    source_type: str = ""
    #: When it was last deployed, if ever.
    last_deployment: Optional[datetime] = None
    #: Whether branches get environments of their own.
    enable_preview_environments: bool = False
    #: The platform's own id, where that is not an integer.
    external_id: Optional[str] = None

    @classmethod
    def from_dict(cls, value: Any) -> Project:
        """Reads a project as it stands on the wire. Further fields are left alone."""
        fields = Fields(value)
        return cls(
            id=fields.integer("id"),
            name=fields.text("name"),
            slug=fields.text("slug"),
            created_at=fields.time("created_at"),
            updated_at=fields.time("updated_at"),
            repo_name=fields.text("repo_name", ""),
            repo_owner=fields.text("repo_owner", ""),
            main_branch=fields.text("main_branch", ""),
            preset=fields.text("preset", ""),
            source_type=fields.text("source_type", ""),
            last_deployment=fields.opt_time("last_deployment"),
            enable_preview_environments=fields.flag("enable_preview_environments", False),
            external_id=fields.opt_text("external_id"),
        )


@dataclass(frozen=True)
class Environment:
    """An environment of a project."""

    id: int
    project_id: int
    #: Name for people, for example ``production``.
    name: str
    #: Name for URLs.
    slug: str
    created_at: datetime
    updated_at: datetime
    #: Branch that is deployed there, if it follows one.
    branch: Optional[str] = None
    #: Whether it was made for a branch or pull request.
    is_preview: bool = False
    #: The deployment that serves there now, if any.
    current_deployment_id: Optional[int] = None
    #: The platform's own id, where that is not an integer.
    external_id: Optional[str] = None

    @classmethod
    def from_dict(cls, value: Any) -> Environment:
        """Reads an environment as it stands on the wire. Further fields are left alone."""
        fields = Fields(value)
        return cls(
            id=fields.integer("id"),
            project_id=fields.integer("project_id"),
            name=fields.text("name"),
            slug=fields.text("slug"),
            created_at=fields.time("created_at"),
            updated_at=fields.time("updated_at"),
            branch=fields.opt_text("branch"),
            is_preview=fields.flag("is_preview", False),
            current_deployment_id=fields.opt_integer("current_deployment_id"),
            external_id=fields.opt_text("external_id"),
        )


@dataclass(frozen=True)
class Deployment:
    """A deployment."""

    id: int
    project_id: int
    environment_id: int
    #: ``pending``, ``building``, ``deploying``, ``ready``, ``succeeded``, ``failed``, ``cancelled``, or a later word.
    state: str
    created_at: datetime
    #: The URL that it serves, once known.
    url: Optional[str] = None
    branch: Optional[str] = None
    tag: Optional[str] = None
    commit_sha: Optional[str] = None
    #: First line of the commit's message.
    commit_message: Optional[str] = None
    commit_author: Optional[str] = None
    #: When work on it began, if it did.
    started_at: Optional[datetime] = None
    #: When it ended, if it has.
    finished_at: Optional[datetime] = None
    #: The platform's own id, where that is not an integer.
    external_id: Optional[str] = None

    @classmethod
    def from_dict(cls, value: Any) -> Deployment:
        """Reads a deployment as it stands on the wire. Further fields are left alone."""
        fields = Fields(value)
        return cls(
            id=fields.integer("id"),
            project_id=fields.integer("project_id"),
            environment_id=fields.integer("environment_id"),
            state=fields.text("state"),
            created_at=fields.time("created_at"),
            url=fields.opt_text("url"),
            branch=fields.opt_text("branch"),
            tag=fields.opt_text("tag"),
            commit_sha=fields.opt_text("commit_sha"),
            commit_message=fields.opt_text("commit_message"),
            commit_author=fields.opt_text("commit_author"),
            started_at=fields.opt_time("started_at"),
            finished_at=fields.opt_time("finished_at"),
            external_id=fields.opt_text("external_id"),
        )


class Platform:
    """Asks the platform. Each call waits for its answer, ten seconds at most.

    All calls raise :class:`~temps_plugin.channel.ChannelError` when the host refuses, with a ``code`` to act on.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def get_project(self, project_id: int) -> Project:
        """One project."""
        return Project.from_dict(await self._ask("get_project", project_id=project_id))

    async def list_projects(self) -> list[Project]:
        """All projects that the plugin may see."""
        return _all(Project.from_dict, await self._ask("list_projects"))

    async def get_environment(self, environment_id: int) -> Environment:
        """One environment."""
        return Environment.from_dict(await self._ask("get_environment", environment_id=environment_id))

    async def list_environments(self, project_id: int) -> list[Environment]:
        """The environments of a project."""
        return _all(Environment.from_dict, await self._ask("list_environments", project_id=project_id))

    async def get_deployment(self, deployment_id: int) -> Deployment:
        """One deployment."""
        return Deployment.from_dict(await self._ask("get_deployment", deployment_id=deployment_id))

    async def get_last_deployment(self, project_id: int, environment_id: Optional[int] = None) -> Deployment:
        """The newest deployment of a project, in one environment if given."""
        result = await self._ask("get_last_deployment", project_id=project_id, environment_id=environment_id)
        return Deployment.from_dict(result)

    async def list_deployments(
        self, project_id: int, environment_id: Optional[int] = None, limit: Optional[int] = None
    ) -> list[Deployment]:
        """Deployments of a project, newest first, in one environment if given; ``limit`` is 1 to 100, by default 20."""
        result = await self._ask(
            "list_deployments", project_id=project_id, environment_id=environment_id, limit=limit
        )
        return _all(Deployment.from_dict, result)

    async def _ask(self, method: str, **params: Any) -> Any:
        given = {name: value for name, value in params.items() if value is not None}
        return await self._channel.request(method, given)


def _all(read: Callable[[Any], T], result: Any) -> list[T]:
    if not isinstance(result, list):
        raise WireError("the host answered with something else than a list")
    return [read(entry) for entry in result]
