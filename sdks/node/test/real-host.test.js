// Plugins of this SDK against the real host: one life with everything in it, and an event that fails first.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { CHECKOUT, MISSING, RealHost, bundled } from "./real-host.js";

let built;
before(() => {
  built = mkdtempSync("/tmp/temps-node-built-");
  if (MISSING && process.env.TEMPS_TEST_SKIPS) appendFileSync(process.env.TEMPS_TEST_SKIPS, `sdks/node real host: ${MISSING}\n`);
});
after(() => rmSync(built, { recursive: true, force: true }));

/** Starts a daemon, runs `body`, and ends it whatever happens. */
function scene(name, body) {
  test(name, { skip: MISSING }, async () => {
    const host = await RealHost.start();
    try {
      await body(host);
    } catch (error) {
      error.message += `\nthe daemon's log:\n${readFileSync(`${host.home}/daemon.log`, "utf8").slice(-5000)}`;
      throw error;
    } finally {
      await host.end();
    }
  });
}

scene("one life of the minimal example as one file", async (host) => {
  const source = `${CHECKOUT}examples/minimal-node/plugin.js`;
  await host.passesTheKit(bundled(source, `${built}/minimal-node`));
  await host.plays(`${built}/minimal-node`, "minimal-node");
  host.drop(`${built}/minimal-node`, "minimal-node");
  const first = await host.untilRunning("minimal-node");
  assert.equal(first.version, "0.1.0");

  // An event comes in, the platform is asked, and its own route answers from its storage.
  const last = async () => (await host.request("/api/x/minimal-node/last")).json;
  const site = "https://shop.example.com";
  await host.temps("deployment", "report", "--project", "shop", "--state", "succeeded", "--site", site);
  await host.until("the deployment is remembered", async () => (await last())?.text === "last deployed: shop");
  assert.equal((await last()).url, site);

  // The operator changes its settings.
  await host.temps("plugin", "config", "set", "minimal-node", "greeting=newest");
  await host.until("the greeting has changed", async () => (await last())?.text === "newest: shop");
  const logs = async () => (await host.request("/api/plugins/minimal-node/logs")).text;
  await host.until("the hook has run", async () => (await logs()).includes("the greeting is now newest"));

  // It is killed, comes back, and still knows.
  process.kill(first.pid, "SIGKILL");
  const second = await host.untilRunning("minimal-node", { notPid: first.pid });
  await host.until("it still knows", async () => (await last())?.text === "newest: shop");

  // It is updated.
  writeFileSync(`${built}/newer.js`, readFileSync(source, "utf8").replace('version: "0.1.0"', 'version: "0.2.0"'));
  host.drop(bundled(`${built}/newer.js`, `${built}/newer`), "minimal-node");
  await host.untilRunning("minimal-node", { version: "0.2.0", notPid: second.pid });
  await host.until("it answers after the update", async () => (await last())?.text === "newest: shop");

  // It is stopped, in order.
  await host.temps("plugin", "stop", "minimal-node");
  await host.until("it has stopped", async () => (await host.info("minimal-node")).state === "stopped");
  assert.equal((await host.request("/api/x/minimal-node/last")).status, 503);
});

scene("an event that a handler fails on comes again, to a plugin that is a directory with its packages", async (host) => {
  const moody = `${built}/moody`;
  const sdk = `${CHECKOUT}sdks/node`;
  for (const part of ["dist", "package.json"]) {
    cpSync(`${sdk}/${part}`, `${moody}/node_modules/temps-plugin/${part}`, { recursive: true });
  }
  cpSync(`${sdk}/node_modules/ws`, `${moody}/node_modules/ws`, { recursive: true });
  writeFileSync(
    `${moody}/plugin`,
    `#!/usr/bin/env node
     const { Plugin } = require("temps-plugin");
     const plugin = new Plugin({ name: "moody", version: "1.0.0", events: ["shop.*"] });
     const tries = [];
     plugin.on("shop.*", (ctx, event) => {
       tries.push(event.id);
       if (tries.length === 1) throw new Error("not now");
     });
     plugin.get("/tries", () => tries);
     plugin.run();`,
    { mode: 0o755 },
  );
  host.drop(moody, "moody");
  await host.untilRunning("moody");
  await host.temps("event", "publish", "shop.sold", "--data", "{}");
  const tries = async () => (await host.request("/api/x/moody/tries")).json;
  await host.until("it came again", async () => (await tries()).length === 2);
  assert.equal(new Set(await tries()).size, 1);
  const settled = ["delivery", "list", "--plugin", "moody", "--state", "settled"];
  await host.until("the host knows that it was handled", async () => (await host.temps(...settled)).items.length > 0);
});

const BOARD = `${CHECKOUT}examples/deployment-board`;
const UNBUILT = existsSync(`${BOARD}/node_modules/vite`) ? undefined : "examples/deployment-board has no packages; run scripts/setup.sh test";

scene("the board of deployments is built, shows what there was and what happens, and has its page", async (host) => {
  if (UNBUILT) throw new Error(UNBUILT);
  execFileSync("npm", ["run", "--silent", "build"], { cwd: BOARD, stdio: "inherit" });
  await host.passesTheKit(`${BOARD}/dist`);
  const report = (state, ...more) => host.temps("deployment", "report", "--project", "shop", "--state", state, ...more);
  await report("succeeded", "--site", "https://shop.example.com");
  host.drop(`${BOARD}/dist`, "deployment-board");
  await host.untilRunning("deployment-board");
  const rows = async () => (await host.request("/api/x/deployment-board/deployments")).json;
  await host.until("it shows what there was", async () => (await rows()).some((row) => row.state === "succeeded"));

  // A page that looks sees the board at once, and then what happens.
  const headers = { authorization: `Bearer ${host.token}` };
  const live = await fetch(`${host.url}/api/x/deployment-board/deployments/live`, { headers });
  assert.equal(live.headers.get("content-type"), "text/event-stream");
  const pieces = live.body.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
  let seen = "";
  const until = async (words) => {
    while (!seen.includes(words)) seen += (await pieces.next()).value;
  };
  await until("https://shop.example.com");
  await report("failed", "--error", "no space left");
  await until("no space left");
  await pieces.return();
  const [newest] = await rows();
  assert.deepEqual([newest.project, newest.state, newest.error], ["shop", "failed", "no space left"]);

  const page = await fetch(`${host.url}/api/x/deployment-board/ui/`, { headers: { ...headers, "sec-fetch-dest": "iframe" } });
  const html = await page.text();
  assert.match(html, /<main id="board">/);
  const [, script] = /src="\.\/(assets\/index-[^"]+\.js)"/.exec(html) ?? [];
  assert.match((await host.request(`/api/x/deployment-board/ui/${script}`)).text, /Deployments/);
});
