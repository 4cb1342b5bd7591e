/** Asks the platform for its projects, environments and deployments. */

import { type Channel, ChannelError, REQUEST_TIMEOUT } from "./channel.js";
import { type Configuration, readConfiguration } from "./config.js";
import {
  type DeploymentInfo,
  type EnvironmentInfo,
  type ProjectInfo,
  readDeployment,
  readEnvironment,
  readProject,
} from "./data.js";
import { type JsonObject, kindOf } from "./rules.js";

/**
 * The platform. Each call waits for its answer, ten seconds at most unless {@link withTimeout} says otherwise.
 *
 * All calls throw {@link ChannelError} when there is no result; its `code` says why: `not_found`, `permission_denied`,
 * `timeout`, and others.
 */
export class Platform {
  constructor(
    private readonly channel: Channel,
    private readonly timeout = REQUEST_TIMEOUT,
  ) {}

  /** The same platform with another time-out per call, in milliseconds. */
  withTimeout(milliseconds: number): Platform {
    return new Platform(this.channel, milliseconds);
  }

  /** One project. */
  async getProject(projectId: number): Promise<ProjectInfo> {
    return this.ask("get_project", { project_id: projectId }, readProject);
  }

  /** All projects that the plugin may see. */
  async listProjects(): Promise<ProjectInfo[]> {
    return this.ask("list_projects", {}, all(readProject));
  }

  /** One environment. */
  async getEnvironment(environmentId: number): Promise<EnvironmentInfo> {
    return this.ask("get_environment", { environment_id: environmentId }, readEnvironment);
  }

  /** The environments of a project. */
  async listEnvironments(projectId: number): Promise<EnvironmentInfo[]> {
    return this.ask("list_environments", { project_id: projectId }, all(readEnvironment));
  }

  /** One deployment. */
  async getDeployment(deploymentId: number): Promise<DeploymentInfo> {
    return this.ask("get_deployment", { deployment_id: deploymentId }, readDeployment);
  }

  /** The newest deployment of a project, in one environment if given. Without any it throws `not_found`. */
  async getLastDeployment(projectId: number, environmentId?: number): Promise<DeploymentInfo> {
    const params = { project_id: projectId, environment_id: environmentId };
    return this.ask("get_last_deployment", params, readDeployment);
  }

  /** Deployments of a project, newest first; `limit` is 1 to 100, by default 20. */
  async listDeployments(
    projectId: number,
    options: { environmentId?: number; limit?: number } = {},
  ): Promise<DeploymentInfo[]> {
    const params = { project_id: projectId, environment_id: options.environmentId, limit: options.limit };
    return this.ask("list_deployments", params, all(readDeployment));
  }

  /** The plugin's settings, asked for anew. `ctx.config` has them without asking. */
  async getConfig(): Promise<Configuration> {
    return this.ask("get_config", {}, readConfiguration);
  }

  /** Asks a method by its name, for methods that are not here. The result is what the host says, unread. */
  async call(method: string, params: JsonObject = {}): Promise<unknown> {
    return this.channel.request(method, params, this.timeout);
  }

  private async ask<T>(method: string, params: JsonObject, read: (value: unknown) => T): Promise<T> {
    return readAnswer(method, await this.call(method, params), read);
  }
}

/** Reads a result. @throws {ChannelError} `internal`, when it has another form than the specification says. */
export function readAnswer<T>(method: string, result: unknown, read: (value: unknown) => T): T {
  try {
    return read(result);
  } catch (error) {
    throw new ChannelError("internal", `the host's answer to ${method} cannot be read: ${(error as Error).message}`);
  }
}

function all<T>(read: (value: unknown) => T): (value: unknown) => T[] {
  return (value) => {
    if (!Array.isArray(value)) throw new Error(`it must be a list, found ${kindOf(value)}`);
    return value.map((entry) => read(entry));
  };
}
