// The host for authors' tests, with a plugin inside the test and with a program.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ChannelError, Plugin } from "temps-plugin";
import { EventNotHandled, NO_ANSWER, TestHost, TestPlatform } from "temps-plugin/testing";
import { PLUGINS } from "./support.js";

function notes() {
  const plugin = new Plugin({ name: "notes", version: "1.0.0", events: ["deployment.*"], config: { type: "object" } });
  const told = [];
  plugin.on("deployment.succeeded", async (ctx, event) => {
    const project = await ctx.platform.getProject(event.project_id);
    await ctx.kv.put(`last/${project.id}`, project.name);
  });
  plugin.onConfig((ctx) => void told.push(ctx.config.word));
  plugin.get("/last", async (ctx, request) => ({ word: ctx.config.word, entries: await ctx.kv.list("last/"), user: request.user }));
  plugin.get("/told", () => told);
  return plugin;
}

test("a plugin inside the test has a channel, settings and storage", async () => {
  const host = await TestHost.start(notes(), { config: { word: "hi" } });
  try {
    host.platform.knowsProject(42, "shop");
    await host.deliver("deployment.succeeded", { projectId: 42, data: { deployment_id: 1 } });
    const entry = { key: "last/42", value: "shop", revision: 1 };
    const user = { id: "7", name: "Ada", role: "viewer" };
    assert.deepEqual((await host.request("GET", "/last", { user })).json(), { word: "hi", entries: [entry], user });
    assert.deepEqual(host.platform.asked.map(({ method }) => method), ["get_project", "kv_put", "kv_list"]);
    await assert.rejects(host.deliver("deployment.succeeded", { projectId: 7, data: {} }), (error) => {
      return error instanceof EventNotHandled && /not_found.*no such project/.test(error.message);
    });
    host.setConfig({ word: "ho" });
    await host.deliver("deployment.created");
    assert.deepEqual((await host.get("/told")).json(), ["ho"]);
    await host.reconnect();
    host.platform.answer("get_project", () => {
      throw new ChannelError("permission_denied", "not for you");
    });
    await assert.rejects(host.deliver("deployment.succeeded", { projectId: 42, data: {} }), /not for you/);
  } finally {
    assert.equal(await host.stop(), 0);
  }
});

test("a program is started as a host does, and ended in order", async () => {
  const host = await TestHost.start([process.execPath, `${PLUGINS}everything.js`], { config: { channel: "#x" } });
  assert.equal(host.manifest.name, "everything");
  assert.equal(host.ready.has_ui, true);
  await host.deliver("test.ordinary");
  assert.equal((await host.get("/config")).json().config.channel, "#x");
  assert.equal(await host.stop(), 0);
});

test("a program that does not start says why", async () => {
  await assert.rejects(TestHost.start(["/bin/sh", "-c", "echo no luck >&2; exit 3"]), /no luck/);
});

test("a question that is not answered ends when its time is over, and leaves nothing behind", async () => {
  const plugin = new Plugin({ name: "asks", version: "1.0.0" });
  plugin.get("/ask", async (ctx, request) => {
    const asked = ctx.platform.withTimeout(Number(request.query.get("timeout") ?? 30_000)).listProjects();
    return asked.then(() => "answered", (error) => error.code);
  });
  const host = await TestHost.start(plugin);
  try {
    host.platform.answer("list_projects", () => NO_ANSWER);
    assert.equal((await host.get("/ask?timeout=30")).text, "timeout");
    host.platform.answer("list_projects", () => [{ id: "not a number" }]);
    assert.equal((await host.get("/ask")).text, "internal");
    host.platform.answer("list_projects", () => []);
    assert.equal((await host.get("/ask")).text, "answered");
  } finally {
    await host.stop();
  }
});

test("a start hook that fails ends the plugin with status 1, and no event or route gets in", async () => {
  const plugin = new Plugin({ name: "fails", version: "1.0.0" });
  let isReached = false;
  plugin.onStart(async (ctx) => {
    await ctx.platform.listProjects();
  });
  plugin.onShutdown(() => void (isReached = true));
  plugin.get("/", () => void (isReached = true));
  const platform = new TestPlatform();
  platform.answer("list_projects", () => {
    throw new ChannelError("permission_denied", "no");
  });
  const host = await TestHost.start(plugin, { platform });
  await host.get("/").catch(() => undefined);
  assert.equal(await host.stop(), 1);
  assert.equal(isReached, false);
});
