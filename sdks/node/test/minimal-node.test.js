// The minimal example with a host that plays the platform.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { after, before, test } from "node:test";
import { EventNotHandled, TestHost } from "temps-plugin/testing";
import { CHECKOUT, bundled } from "./real-host.js";

let built;
let program;
before(() => {
  built = mkdtempSync("/tmp/temps-node-built-");
  program = bundled(`${CHECKOUT}examples/minimal-node/plugin.js`, `${built}/minimal-node`);
});
after(() => rmSync(built, { recursive: true, force: true }));

test("it remembers the project that was deployed last", async () => {
  const host = await TestHost.start([program], { config: { greeting: "last" } });
  host.platform.knowsProject(42, "my-app");
  const data = { deployment_id: 1, url: "https://my-app.example.com" };
  await host.deliver("deployment.succeeded", { projectId: 42, data });
  assert.deepEqual((await host.get("/last")).json(), { text: "last: my-app", url: "https://my-app.example.com" });
  await host.stop();
});

test("an event of an unknown project comes again", async () => {
  const host = await TestHost.start([program], { config: { greeting: "last" } });
  await assert.rejects(host.deliver("deployment.succeeded", { projectId: 7, data: { deployment_id: 1 } }), EventNotHandled);
  assert.equal((await host.get("/last")).json().text, "last: nothing");
  await host.stop();
});
