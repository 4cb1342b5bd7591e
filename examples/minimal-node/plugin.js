// A plugin to start from: a route, an event, a question to the platform, a setting, and something that is kept.
import { Plugin } from "temps-plugin";

const plugin = new Plugin({
  name: "minimal-node",
  version: "0.1.0",
  events: ["deployment.succeeded"],
  config: { type: "object", properties: { greeting: { type: "string", default: "last deployed" } } },
});

plugin.on("deployment.succeeded", async (ctx, event) => {
  if (event.project_id === undefined) return; // It concerns no project.
  const project = await ctx.platform.getProject(event.project_id);
  await ctx.kv.put("last", { name: project.name, url: event.data.url });
  ctx.logger.info("deployed", { project: project.name });
});

plugin.get("/last", async (ctx) => {
  const kept = (await ctx.kv.get("last")) ?? { name: "nothing", url: null };
  return { text: `${ctx.config.greeting}: ${kept.name}`, url: kept.url };
});

plugin.onConfig((ctx) => {
  ctx.logger.info(`the greeting is now ${ctx.config.greeting}`);
});

plugin.run();
