"""Platform data as it stands on the wire: projects, environments, deployments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from ._rules import Message


@dataclass(frozen=True)
class Project(Message):
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


@dataclass(frozen=True)
class Environment(Message):
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


@dataclass(frozen=True)
class Deployment(Message):
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
