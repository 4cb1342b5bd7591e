// What the load rig measures the Node SDK with: it asks the platform, counts events, and answers pings.
import { EventEmitter, once } from "node:events";
import { Plugin } from "temps-plugin";

const plugin = new Plugin({ name: "bench-node", version: "1.0.0", events: ["deployment.*"] });

/** Events that were handled since the start, and what is told after each. */
let handled = 0;
const changes = new EventEmitter();

plugin.on("deployment.*", () => {
  handled += 1;
  changes.emit("change");
});

plugin.get("/ping", () => "pong");

// Asks for a project `n` times, one after the other; answers with the nanoseconds of each.
plugin.get("/rtt", async (ctx, request) => {
  const nanos = [];
  for (let left = Number(request.query.get("n")); left > 0; left--) {
    const begin = process.hrtime.bigint();
    await ctx.platform.getProject(1);
    nanos.push(Number(process.hrtime.bigint() - begin));
  }
  return nanos;
});

// Answers once `count` events have been handled.
plugin.get("/wait", async (ctx, request) => {
  const wanted = Number(request.query.get("count"));
  while (handled < wanted) await once(changes, "change");
  return String(handled);
});

plugin.run();
