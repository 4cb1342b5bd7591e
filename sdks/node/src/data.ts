/** Platform data as it stands on the wire, and its readers. Times are RFC 3339 in UTC; `new Date(text)` reads them. */

import { Fields } from "./rules.js";

/** A project. */
export interface ProjectInfo {
  id: number;
  /** Name for people. */
  name: string;
  /** Name for URLs. */
  slug: string;
  /** Source repository; empty if there is none. */
  repo_name: string;
  repo_owner: string;
  /** Branch that production is built from; empty if unknown. */
  main_branch: string;
  /** How it is built, for example `nextjs`; empty if unknown. */
  preset: string;
  /** Where the source comes from, for example `git`; empty if unknown. */
  source_type: string;
  created_at: string;
  updated_at: string;
  /** When it was last deployed, if ever. */
  last_deployment: string | null;
  /** Whether branches get environments of their own. */
  enable_preview_environments: boolean;
  /** The platform's own id, where that is not an integer. */
  external_id?: string;
}

/** An environment of a project. */
export interface EnvironmentInfo {
  id: number;
  project_id: number;
  /** Name for people, for example `production`. */
  name: string;
  /** Name for URLs. */
  slug: string;
  /** Branch that is deployed there, if it follows one. */
  branch: string | null;
  /** Whether it was made for a branch or pull request. */
  is_preview: boolean;
  /** The deployment that serves there now, if any. */
  current_deployment_id: number | null;
  created_at: string;
  updated_at: string;
  /** The platform's own id, where that is not an integer. */
  external_id?: string;
}

/** States of a deployment in version 1. */
export type DeploymentState = "pending" | "building" | "deploying" | "ready" | "succeeded" | "failed" | "cancelled";

/** A deployment. */
export interface DeploymentInfo {
  id: number;
  project_id: number;
  environment_id: number;
  /** One of the words of version 1, or a later one. */
  state: DeploymentState | (string & {});
  /** The URL that it serves, once known. */
  url: string | null;
  branch: string | null;
  tag: string | null;
  commit_sha: string | null;
  /** First line of the commit's message. */
  commit_message: string | null;
  commit_author: string | null;
  created_at: string;
  /** When work on it began, if it did. */
  started_at: string | null;
  /** When it ended, if it has. */
  finished_at: string | null;
  /** The platform's own id, where that is not an integer. */
  external_id?: string;
}

/** Reads a project. @throws {WireError} names the field that is wrong. */
export function readProject(value: unknown): ProjectInfo {
  const fields = new Fields(value);
  return {
    id: fields.integer("id"),
    name: fields.text("name"),
    slug: fields.text("slug"),
    repo_name: fields.text("repo_name", ""),
    repo_owner: fields.text("repo_owner", ""),
    main_branch: fields.text("main_branch", ""),
    preset: fields.text("preset", ""),
    source_type: fields.text("source_type", ""),
    created_at: fields.time("created_at"),
    updated_at: fields.time("updated_at"),
    last_deployment: fields.optional("last_deployment", fields.time) ?? null,
    enable_preview_environments: fields.flag("enable_preview_environments", false),
    ...externalId(fields),
  };
}

/** Reads an environment. @throws {WireError} names the field that is wrong. */
export function readEnvironment(value: unknown): EnvironmentInfo {
  const fields = new Fields(value);
  return {
    id: fields.integer("id"),
    project_id: fields.integer("project_id"),
    name: fields.text("name"),
    slug: fields.text("slug"),
    branch: optionalText(fields, "branch"),
    is_preview: fields.flag("is_preview", false),
    current_deployment_id: fields.optional("current_deployment_id", fields.integer) ?? null,
    created_at: fields.time("created_at"),
    updated_at: fields.time("updated_at"),
    ...externalId(fields),
  };
}

/** Reads a deployment. @throws {WireError} names the field that is wrong. */
export function readDeployment(value: unknown): DeploymentInfo {
  const fields = new Fields(value);
  return {
    id: fields.integer("id"),
    project_id: fields.integer("project_id"),
    environment_id: fields.integer("environment_id"),
    state: fields.text("state"),
    url: optionalText(fields, "url"),
    branch: optionalText(fields, "branch"),
    tag: optionalText(fields, "tag"),
    commit_sha: optionalText(fields, "commit_sha"),
    commit_message: optionalText(fields, "commit_message"),
    commit_author: optionalText(fields, "commit_author"),
    created_at: fields.time("created_at"),
    started_at: fields.optional("started_at", fields.time) ?? null,
    finished_at: fields.optional("finished_at", fields.time) ?? null,
    ...externalId(fields),
  };
}

function optionalText(fields: Fields, field: string): string | null {
  return fields.optional(field, (name) => fields.text(name)) ?? null;
}

function externalId(fields: Fields): { external_id?: string } {
  const id = optionalText(fields, "external_id");
  return id === null ? {} : { external_id: id };
}
