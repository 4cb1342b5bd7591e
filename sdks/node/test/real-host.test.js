// Plugins of this SDK against the real host: one life with everything in it, in each form, and an event that fails first.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { constants, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { CHECKOUT, MISSING, RealHost, bundled } from "./real-host.js";
import { BUN, NO_BUN, skipLoudly } from "./support.js";

let built;
before(() => {
  built = mkdtempSync("/tmp/temps-node-built-");
  if (MISSING) skipLoudly("sdks/node real host", MISSING);
  else if (NO_BUN) skipLoudly("sdks/node real host on Bun", NO_BUN);
});
after(() => rmSync(built, { recursive: true, force: true }));

/** Starts a daemon, runs `body`, and ends it whatever happens. */
function scene(name, body, { skip = MISSING, settings = () => "" } = {}) {
  test(name, { skip }, async () => {
    const host = await RealHost.start(settings());
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

const MINIMAL = `${CHECKOUT}examples/minimal-node/plugin.js`;

/** One life of the minimal example, step by step as in `sdks/README.md`. `make` makes an executable of a source. */
async function life(host, make) {
  // Step: It passes the conformance kit.
  const program = make(MINIMAL, `${built}/minimal-node`);
  await host.passesTheKit(program.forKit ?? program.file);
  await host.plays(program.forKit ?? program.file, "minimal-node");

  // Step: It is dropped into the plugins directory, and runs in its sandbox.
  host.drop(program.file, "minimal-node");
  const first = await host.untilRunning("minimal-node");
  assert.equal(first.version, "0.1.0");
  await host.isInItsSandbox("minimal-node");

  // Step: An event comes in, the platform is asked, and its own route answers from its storage.
  const last = async () => (await host.request("/api/x/minimal-node/last")).json;
  const site = "https://shop.example.com";
  await host.temps("deployment", "report", "--project", "shop", "--state", "succeeded", "--site", site);
  await host.until("the deployment is remembered", async () => (await last())?.text === "last deployed: shop");
  assert.equal((await last()).url, site);
  const settled = ["delivery", "list", "--plugin", "minimal-node", "--state", "settled"];
  await host.until("the event is confirmed", async () => (await host.temps(...settled)).items.length > 0);

  // Step: The operator changes its settings, and it is told.
  await host.temps("plugin", "config", "set", "minimal-node", "greeting=newest");
  await host.until("the greeting has changed", async () => (await last())?.text === "newest: shop");
  const logs = async () => (await host.request("/api/plugins/minimal-node/logs")).text;
  await host.until("the hook has run", async () => (await logs()).includes("the greeting is now newest"));

  // Step: It is killed, comes back, and still knows.
  process.kill(first.pid, "SIGKILL");
  const second = await host.untilRunning("minimal-node", { notPid: first.pid });
  await host.until("it still knows", async () => (await last())?.text === "newest: shop");

  // Step: It is updated, and still knows.
  writeFileSync(`${built}/newer.js`, readFileSync(MINIMAL, "utf8").replace('version: "0.1.0"', 'version: "0.2.0"'));
  host.drop(make(`${built}/newer.js`, `${built}/newer`).file, "minimal-node");
  await host.untilRunning("minimal-node", { version: "0.2.0", notPid: second.pid });
  await host.until("it answers after the update", async () => (await last())?.text === "newest: shop");

  // Step: It is stopped in order, and answers no more.
  await host.temps("plugin", "stop", "minimal-node");
  await host.until("it has stopped", async () => (await host.info("minimal-node")).state === "stopped");
  assert.match(await logs(), /ending: SIGTERM/);
  assert.equal((await host.request("/api/x/minimal-node/last")).status, 503);

  // Step: It is started again, its host is killed, and nothing of it is left.
  await host.temps("plugin", "start", "minimal-node");
  const { pid } = await host.untilRunning("minimal-node", { notPid: second.pid });
  host.child.kill("SIGKILL");
  await host.until("it has ended with its host", () => !existsSync(`/proc/${pid}`));
}

scene("one life of the minimal example as one file", (host) =>
  life(host, (source, output) => ({ file: bundled(source, output) })),
);

/** A directory with Bun in its `bin`, as its installer makes one. */
function bunHome() {
  const bin = `${built}/bun/bin`;
  if (!existsSync(bin)) {
    mkdirSync(bin, { recursive: true });
    copyFileSync(BUN, `${bin}/bun`, constants.COPYFILE_FICLONE);
  }
  return `${built}/bun`;
}

scene(
  "one life of the minimal example as one file on Bun",
  (host) =>
    life(host, (source, output) => ({
      file: bundled(source, output, "bun"),
      // The kit looks for interpreters where a host does that was told of no further places.
      forKit: bundled(source, `${output}-for-kit`, `${bunHome()}/bin/bun`),
    })),
  { skip: MISSING ?? NO_BUN, settings: () => `[sandbox]\nread_only_paths = ["${bunHome()}"]\n` },
);

scene(
  "one life of the minimal example as a single executable, made by Bun",
  (host) =>
    life(host, (source, output) => {
      const bundle = bundled(source, `${output}.cjs`);
      execFileSync(BUN, ["build", "--compile", bundle, "--outfile", output], { stdio: ["ignore", "ignore", "inherit"] });
      return { file: output };
    }),
  { skip: MISSING ?? NO_BUN },
);

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
