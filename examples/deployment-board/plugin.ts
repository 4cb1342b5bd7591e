// A board of deployments that changes as they do. It shows what the platform knows at the start, and then what events say.

import { EventEmitter, on } from "node:events";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ChannelError, type Context, Plugin, eventStream } from "temps-plugin";
import { type Row, changed, place, rowOf } from "./board.js";

/** Deployments that are asked for of each project at the start. */
const FIRST_ROWS = 10;

const plugin = new Plugin({
  name: "deployment-board",
  version: "0.1.0",
  display_name: "Deployment board",
  description: "Shows deployments of all projects as they happen",
  events: ["deployment.*"],
  nav: [{ label: "Deployments", icon: "layout-dashboard", section: "platform", path: "/", order: 40 }],
  permissions: { methods: ["get_project", "list_projects", "list_environments", "list_deployments"] },
  egress: [],
});

let rows: Row[] = [];
// One listener for each page that looks at the board; the host lets 64 look at a time.
const changes = new EventEmitter().setMaxListeners(64);

function show(row: Row): void {
  rows = place(rows, row);
  changes.emit("row", row);
}

plugin.onStart(async (ctx) => {
  for (const project of await ctx.platform.listProjects()) {
    const environments = new Map((await ctx.platform.listEnvironments(project.id)).map(({ id, name }) => [id, name]));
    for (const deployment of await ctx.platform.listDeployments(project.id, { limit: FIRST_ROWS })) {
      show(rowOf(deployment, project.name, environments.get(deployment.environment_id) ?? ""));
    }
  }
});

plugin.on("deployment.*", async (ctx, event) => {
  const known = rows.find(({ id }) => id === event.data.deployment_id);
  const project = known?.project ?? (await projectName(ctx, event.project_id));
  show(changed(known, event, project));
});

async function projectName(ctx: Context, id: number | undefined): Promise<string> {
  if (id === undefined) return "";
  try {
    return (await ctx.platform.getProject(id)).name;
  } catch (error) {
    // The project may be gone by the time its event is handled; the board shows its number then.
    if (error instanceof ChannelError && error.code === "not_found") return `#${id}`;
    throw error;
  }
}

plugin.get("/deployments", () => rows);

plugin.get("/deployments/live", (ctx, request) => {
  const ends = AbortSignal.any([ctx.stopping, request.signal]);
  return eventStream(liveRows(ends));
});

async function* liveRows(ends: AbortSignal): AsyncGenerator<string> {
  const coming = on(changes, "row", { signal: ends });
  yield JSON.stringify(rows);
  try {
    for await (const [row] of coming) yield JSON.stringify([row]);
  } catch (error) {
    if (!ends.aborted) throw error;
  }
}

// The page lies beside the plugin's executable, in the directory that was built.
plugin.ui(join(dirname(fileURLToPath(import.meta.url)), "ui"));
plugin.run();
