#!/usr/bin/env node
// A plugin with one of everything, for the tests.
import { appendFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { Plugin, eventStream, HttpError, ChannelError } from "../../dist/esm/index.js";

console.log("printed before the manifest");

const plugin = new Plugin({
  name: "everything",
  version: "1.0.0",
  events: ["deployment.*", "test.*"],
  config: { type: "object", properties: { channel: { type: "string" }, token: { type: "string", writeOnly: true } } },
});
const seen = [];
const told = [];
const note = (ctx, line) => appendFileSync(`${ctx.dataDir}/life.txt`, `${line}\n`);

plugin.on(["deployment.succeeded", "deployment.failed"], async (ctx, event) => {
  seen.push(event.id);
  if (event.event_type === "deployment.failed") throw new Error(event.data.error_message);
  if (event.project_id) seen.push((await ctx.platform.getProject(event.project_id)).name);
});
plugin.on("test.*", async (ctx, event, signal) => {
  if (event.event_type === "test.never") await new Promise((resolve) => signal.addEventListener("abort", resolve));
});

plugin.get("/seen", () => seen);
plugin.get("/notes/{id}", (ctx, request) => ({ id: request.params.id, all: request.query.get("all"), user: request.user }));
plugin.get("/files/{rest:path}", (ctx, request) => request.params.rest);
plugin.post("/echo", async (ctx, request) => new Response(await request.bytes(), { headers: { "x-own": "1" } }));
plugin.get("/nothing", () => undefined);
plugin.get("/teapot", () => {
  throw new HttpError(418, "short and stout");
});
plugin.get("/broken", () => {
  throw new Error("a secret reason");
});
plugin.get("/stream", (ctx) =>
  eventStream(
    (async function* () {
      yield "one";
      yield "two\nlines";
    })(),
  ),
);
plugin.get("/ask/{method}", async (ctx, request) => {
  try {
    return { result: await ctx.platform.call(request.params.method, JSON.parse(request.query.get("params") ?? "{}")) };
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    return { code: error.code, message: error.message, revision: error.revision, name: error.name };
  }
});
plugin.get("/kv", async (ctx) => {
  const first = await ctx.kv.put("a", { n: 1 }, { ttl: 0.5 });
  const entry = await ctx.kv.entry("a");
  const missing = await ctx.kv.get("none");
  const conflict = await ctx.kv.put("a", 2, { revision: first + 7 }).catch((error) => [error.code, error.revision]);
  const keys = await ctx.kv.keys("");
  return { first, entry, missing: missing ?? null, conflict, keys, deleted: await ctx.kv.delete("a") };
});
plugin.get("/config", (ctx) => ({ ...ctx.configuration, told }));
plugin.onUpgrade((ctx, request, socket, head) => {
  if (request.url !== "/raw") return false;
  const accept = createHash("sha1").update("x").digest("base64");
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\nX-Accept: ${accept}\r\n\r\nhello`);
  socket.end();
  return true;
});
plugin.openapi({ openapi: "3.1.0", info: { title: "Everything", version: "1.0.0" }, paths: {} });
plugin.ui(new URL("page", import.meta.url).pathname);
plugin.onStart((ctx) => note(ctx, `start ${ctx.config.channel ?? ""}`));
plugin.onConfig((ctx) => void told.push(ctx.config.channel));
plugin.onShutdown((ctx) => note(ctx, "shutdown"));
plugin.run();
