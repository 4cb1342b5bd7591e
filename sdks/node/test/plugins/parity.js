// A plugin with everything that the conformance kit can look at, for `docs/sdk-parity.md`. Each SDK has the same one.
import { ChannelError, Plugin } from "temps-plugin";

const plugin = new Plugin({
  name: "parity",
  version: "1.0.0",
  events: ["*"],
  nav: [{ label: "Parity", icon: "equal", section: "platform", path: "/", order: 90 }],
  config: {
    type: "object",
    properties: { word: { type: "string", default: "same" }, token: { type: "string", writeOnly: true } },
  },
});
const answer = { responses: { 200: { description: "The event that came last" } } };
plugin.openapi({ openapi: "3.1.0", info: { title: "Parity", version: "1.0.0" }, paths: { "/last": { get: answer } } });
plugin.ui({
  "index.html": '<!doctype html><title>Parity</title><script type="module" src="./app.js"></script><main>The same in every language.</main>',
  "app.js": 'document.querySelector("main").title = "It runs.";',
});

plugin.on("*", async (ctx, event) => {
  if (event.project_id !== undefined) await askEverything(ctx, event.project_id);
  await ctx.kv.put("last", event.id);
  ctx.logger.info("kept", { last: await ctx.kv.get("last"), keys: await ctx.kv.keys("") });
  await ctx.kv.delete("none");
});

/** Each data method once. What is not there is no failure. */
async function askEverything({ platform, logger }, project) {
  const questions = [
    () => platform.getProject(project),
    () => platform.listProjects(),
    () => platform.getEnvironment(1),
    () => platform.listEnvironments(project),
    () => platform.getDeployment(1),
    () => platform.getLastDeployment(project),
    () => platform.listDeployments(project, { limit: 5 }),
  ];
  for (const question of questions) {
    await question().catch((error) => {
      if (!(error instanceof ChannelError)) throw error;
      logger.info("no answer", { error });
    });
  }
}

plugin.get("/last", async (ctx) => ({ last: (await ctx.kv.get("last")) ?? null }));
plugin.run();
