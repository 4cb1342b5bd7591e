/**
 * The payloads of events, by event type: what `event.data` holds. They stand as the specification's schemas have them,
 * which a test compares.
 */

/** What every payload about a deployment holds. */
export interface DeploymentSubject {
  /** Id of the deployment. */
  deployment_id: number;
  /** Id of its project. */
  project_id?: number | null;
  /** Id of its environment. */
  environment_id?: number | null;
  /** Name of its environment, for example `production`. */
  environment_name?: string | null;
  /** The deployment's id where whoever deployed has given one that is not an integer. */
  external_id?: string | null;
}

/** `deployment.created`: a deployment was registered. */
export interface DeploymentCreated extends DeploymentSubject {
  /** The commit that is deployed. */
  commit_sha?: string | null;
  /** The branch that it comes from. */
  branch?: string | null;
}

/** `deployment.ready`: it passed its health checks and serves traffic. */
export interface DeploymentReady extends DeploymentSubject {
  /** The URL that it serves. */
  url?: string | null;
}

/** `deployment.succeeded`: it is live and healthy. */
export interface DeploymentSucceeded extends DeploymentSubject {
  /** The URL that it serves. */
  url?: string | null;
  /** The commit that is live. */
  commit_sha?: string | null;
}

/** `deployment.failed`: it ended without success. */
export interface DeploymentFailed extends DeploymentSubject {
  /** Why, for people. */
  error_message?: string | null;
}

/** `deployment.cancelled`: it was called off. */
export interface DeploymentCancelled extends DeploymentSubject {}

/** `project.created` and `project.deleted`. */
export interface ProjectSubject {
  /** Id of the project. */
  project_id: number;
  /** Its name. */
  project_name: string;
  /** The platform's own id, where that is not an integer. */
  external_id?: string | null;
}

/** `environment.created` and `environment.deleted`. */
export interface EnvironmentSubject {
  /** Id of the environment. */
  environment_id: number;
  /** Id of its project. */
  project_id: number;
  /** Its name, for example `production`. */
  environment_name: string;
  /** The platform's own id, where that is not an integer. */
  external_id?: string | null;
}

/** The event types of the specification, each with its payload. */
export interface Payloads {
  "deployment.created": DeploymentCreated;
  "deployment.ready": DeploymentReady;
  "deployment.succeeded": DeploymentSucceeded;
  "deployment.failed": DeploymentFailed;
  "deployment.cancelled": DeploymentCancelled;
  "project.created": ProjectSubject;
  "project.deleted": ProjectSubject;
  "environment.created": EnvironmentSubject;
  "environment.deleted": EnvironmentSubject;
}
