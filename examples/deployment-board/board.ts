// The board's rows: which deployments it shows, and what each event changes. It decides only; it asks and keeps nothing.

import type { DeploymentInfo, EventFor } from "temps-plugin";

/** Rows that are shown; older ones leave the board. */
export const MAX_ROWS = 60;

/** One deployment on the board. */
export interface Row {
  /** Id of the deployment. */
  id: number;
  project: string;
  environment: string;
  state: string;
  url: string | null;
  commit: string | null;
  /** Why it failed. */
  error: string | null;
  /** When this row last changed, RFC 3339 in UTC. */
  at: string;
}

/** An event about a deployment. */
export type DeploymentEvent = EventFor<"deployment.*">;

/** A row of what the platform knows. */
export function rowOf(deployment: DeploymentInfo, project: string, environment: string): Row {
  const { id, state, url, commit_sha: commit } = deployment;
  const at = deployment.finished_at ?? deployment.started_at ?? deployment.created_at;
  return { id, project, environment, state, url, commit, error: null, at };
}

/** The row after an event. What the event does not say stays as it was. */
export function changed(row: Row | undefined, event: DeploymentEvent, project: string): Row {
  const { data } = event;
  const state = event.event_type.slice("deployment.".length);
  return {
    id: data.deployment_id,
    project,
    environment: data.environment_name ?? row?.environment ?? "",
    state: state === "created" ? "pending" : state,
    url: ("url" in data ? data.url : null) ?? row?.url ?? null,
    commit: ("commit_sha" in data ? data.commit_sha : null) ?? row?.commit ?? null,
    error: ("error_message" in data ? data.error_message : null) ?? null,
    at: event.timestamp,
  };
}

/** Puts a row on the board in place of the one of its deployment, unless that is newer; newest first. */
export function place(rows: readonly Row[], row: Row): Row[] {
  const known = rows.find(({ id }) => id === row.id);
  if (known !== undefined && Date.parse(known.at) > Date.parse(row.at)) return [...rows];
  const others = rows.filter(({ id }) => id !== row.id);
  return [row, ...others].sort((a, b) => Date.parse(b.at) - Date.parse(a.at)).slice(0, MAX_ROWS);
}
