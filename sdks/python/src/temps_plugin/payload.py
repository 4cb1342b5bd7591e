"""What stands in an event's ``data``, for every type of the protocol, and typed reading of it.

A reader takes fields that it does not know, and payloads of smaller platforms that say only which deployment it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

from ._rules import Message, WireError


class PayloadError(WireError):
    """The data of an event of a known type does not have that type's form."""


@dataclass(frozen=True)
class DeploymentSubject(Message):
    """The deployment that an event is about: every ``deployment.*`` has these."""

    #: Id of the deployment.
    deployment_id: int
    #: Id of its project; the same as the event's own ``project_id``.
    project_id: Optional[int] = None
    #: Id of its environment. A platform that has environments always says it.
    environment_id: Optional[int] = None
    #: Name of its environment, for example ``production``.
    environment_name: Optional[str] = None
    #: The id that whoever deploys has given it, where there is one.
    external_id: Optional[str] = None


@dataclass(frozen=True)
class DeploymentCreated(DeploymentSubject):
    """``deployment.created``: a deployment was registered."""

    #: The commit that it builds, if known.
    commit_sha: Optional[str] = None
    #: The branch that it builds, if known.
    branch: Optional[str] = None


@dataclass(frozen=True)
class DeploymentReady(DeploymentSubject):
    """``deployment.ready``: it passed its health checks and serves traffic."""

    #: Where it is served, if known.
    url: Optional[str] = None


@dataclass(frozen=True)
class DeploymentSucceeded(DeploymentSubject):
    """``deployment.succeeded``: it is live and healthy."""

    #: Where it is served, if known.
    url: Optional[str] = None
    #: The commit that it was built from, if known.
    commit_sha: Optional[str] = None


@dataclass(frozen=True)
class DeploymentFailed(DeploymentSubject):
    """``deployment.failed``: it ended without success."""

    #: Why, in one line for people, if known.
    error_message: Optional[str] = None


@dataclass(frozen=True)
class DeploymentCancelled(DeploymentSubject):
    """``deployment.cancelled``: it was called off, or its environment or project was removed before it had ended."""


@dataclass(frozen=True)
class ProjectSubject(Message):
    """The project that an event is about: ``project.created``, ``project.deleted``."""

    #: Id of the project.
    project_id: int
    #: Its name.
    project_name: str
    #: The platform's own id, where that is not an integer.
    external_id: Optional[str] = None


@dataclass(frozen=True)
class EnvironmentSubject(Message):
    """The environment that an event is about: ``environment.created``, ``environment.deleted``."""

    #: Id of the environment.
    environment_id: int
    #: Id of its project.
    project_id: int
    #: Its name, for example ``production``.
    environment_name: str
    #: The platform's own id, where that is not an integer.
    external_id: Optional[str] = None


Payload = Union[
    DeploymentCreated,
    DeploymentReady,
    DeploymentSucceeded,
    DeploymentFailed,
    DeploymentCancelled,
    ProjectSubject,
    EnvironmentSubject,
]

#: The form of each event type of the protocol.
PAYLOADS: dict[str, type[Payload]] = {
    "deployment.created": DeploymentCreated,
    "deployment.ready": DeploymentReady,
    "deployment.succeeded": DeploymentSucceeded,
    "deployment.failed": DeploymentFailed,
    "deployment.cancelled": DeploymentCancelled,
    "project.created": ProjectSubject,
    "project.deleted": ProjectSubject,
    "environment.created": EnvironmentSubject,
    "environment.deleted": EnvironmentSubject,
}


def read_payload(event_type: str, data: Any) -> Optional[Payload]:
    """Reads the ``data`` of an event; ``None`` when the protocol does not know the type.

    :raises PayloadError: when the type is known and the data is not of its form.
    """
    form = PAYLOADS.get(event_type)
    try:
        return None if form is None else form.from_dict(data)
    except WireError as error:
        raise PayloadError(f"the data of {event_type} does not have its form: {error}") from None
