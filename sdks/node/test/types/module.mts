// What an author's TypeScript sees through `import`: this file is only compiled.
import { type Context, type EventFor, type Payloads, Plugin, type PluginManifest, ChannelError, runServer } from "temps-plugin";

const manifest: PluginManifest = { name: "typed", version: "1.0.0", events: ["deployment.*"] };
const plugin = new Plugin(manifest);

plugin.on("deployment.failed", (_ctx, event) => {
  const reason: string | null | undefined = event.data.error_message;
  // @ts-expect-error: a failed deployment has no URL.
  return [reason, event.data.url];
});
plugin.on("deployment.*", (_ctx, event) => {
  const id: number = event.data.deployment_id;
  if (event.event_type === "deployment.ready") return event.data.url;
  return id;
});
plugin.on("acme.thing_happened", (_ctx, event) => {
  const thing: unknown = event.data["thing"];
  return thing;
});
plugin.on(["project.created", "project.deleted"], (_ctx, event) => event.data.project_name satisfies string);
plugin.get("/notes/{id}", async (ctx: Context, request) => {
  try {
    return (await ctx.platform.getProject(Number(request.params["id"]))).slug satisfies string;
  } catch (error) {
    if (error instanceof ChannelError && error.code === "not_found") return Response.json(null, { status: 404 });
    // @ts-expect-error: there is no such code.
    return error instanceof ChannelError && error.code === "nonsense";
  }
});
plugin.onStart(async (ctx) => {
  const last = await ctx.kv.get<{ at: string }>("last");
  return [last?.at satisfies string | undefined, ctx.configAs<{ channel: string }>().channel];
});

// @ts-expect-error: a manifest has a version.
new Plugin({ name: "typed" });
// @ts-expect-error: sections are known.
new Plugin({ ...manifest, nav: [{ label: "A", icon: "a", section: "nowhere", path: "/", order: 0 }] });

export const known: Payloads["deployment.succeeded"] = { deployment_id: 1, url: null };
export type Any = EventFor<"*">["data"];
export const served = runServer({ onEvent: (_ctx, event) => event.id });
