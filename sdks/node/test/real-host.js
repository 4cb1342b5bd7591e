// The real daemon for one test, in a home of its own, known as a program only.
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const CHECKOUT = fileURLToPath(new URL("../../../", import.meta.url));

/** The built `temps`; the stage for Node runs after that which builds it. */
export const TEMPS = process.env.TEMPS_BIN ?? `${CHECKOUT}target/debug/temps`;

/** Why the real host cannot be started here; undefined when it can. */
export const MISSING = existsSync(TEMPS) ? undefined : "`temps` is not built; run `cargo build -p temps-cli`, or set TEMPS_BIN";

/** How long anything may take before a test gives up on it, and the time between two looks, in milliseconds. */
const PATIENCE = 60_000;
const LOOK_INTERVAL = 50;

/** One executable file of a source and this SDK, for Node or whatever else `runtime` names. */
export function bundled(source, output, runtime = "node") {
  execFileSync(process.execPath, [`${CHECKOUT}sdks/node/scripts/bundle.js`, source, output, runtime], { stdio: "inherit" });
  return output;
}

export class RealHost {
  /** `settings` is the text of a settings file. */
  static async start(settings = "") {
    // In /tmp by name, because a socket's path has at most 107 bytes.
    const home = mkdtempSync("/tmp/temps-node-");
    mkdirSync(`${home}/plugins`);
    writeFileSync(`${home}/temps.toml`, settings);
    const env = { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: home, TEMPS_HOME: home };
    const args = ["--json", "serve", "--log-format", "json", "--listen", "127.0.0.1:0"];
    const log = openSync(`${home}/daemon.log`, "w");
    const child = spawn(TEMPS, args, { env, stdio: ["ignore", "pipe", log] });
    const { value } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
    if (value === undefined) throw new Error(`the daemon did not start: ${readFileSync(`${home}/daemon.log`, "utf8")}`);
    const { url, login_url: loginUrl } = JSON.parse(value);
    return new RealHost(child, home, url.replace(/\/$/, ""), loginUrl);
  }

  constructor(child, home, url, loginUrl) {
    this.child = child;
    this.loginUrl = loginUrl;
    this.home = home;
    this.url = url;
    this.env = { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: home, TEMPS_HOME: home, TEMPS_URL: url };
    this.token = readFileSync(`${home}/state/admin-token`, "utf8").trim();
  }

  async end() {
    this.child.kill("SIGTERM");
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, "exit");
    rmSync(this.home, { recursive: true, force: true });
  }

  /** Runs a command that must succeed, and returns what it gave as JSON. */
  async temps(...args) {
    const { stdout } = await promisify(execFile)(TEMPS, ["--json", ...args], { env: this.env });
    return stdout.trim() ? JSON.parse(stdout) : undefined;
  }

  /** Puts a plugin through the conformance kit, black box; the report says why when it does not pass. */
  async passesTheKit(plugin) {
    const report = await this.temps("plugin", "test", plugin);
    if (!report.conformant || report.counts.passed < 30) throw new Error(`${plugin} does not pass the kit: ${JSON.stringify(report)}`);
  }

  /** Plays the transcript of the minimal example against a plugin of this name. */
  async plays(plugin, name) {
    const text = readFileSync(`${CHECKOUT}spec/v1/transcripts/minimal-example.jsonl`, "utf8");
    const transcript = `${this.home}/minimal-example.jsonl`;
    writeFileSync(transcript, text.replace('\\"name\\":\\"minimal\\"', `\\"name\\":\\"${name}\\"`));
    const played = await this.temps("plugin", "test", plugin, "--transcript", transcript);
    if (!played.conformant) throw new Error(`${plugin} does something else: ${JSON.stringify(played)}`);
  }

  /** Puts a file or a directory into the plugins directory, whole or not at all. */
  drop(source, name) {
    const hidden = `${this.home}/plugins/.${name}`;
    cpSync(source, hidden, { recursive: true });
    rmSync(`${this.home}/plugins/${name}`, { recursive: true, force: true });
    renameSync(hidden, `${this.home}/plugins/${name}`);
  }

  /** A request of the admin. */
  async request(path, { method = "GET", body } = {}) {
    const headers = { authorization: `Bearer ${this.token}`, "content-type": "application/json" };
    const answer = await fetch(this.url + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    const text = await answer.text();
    const isJson = /json/.test(answer.headers.get("content-type") ?? "");
    return { status: answer.status, text, json: isJson ? JSON.parse(text) : undefined };
  }

  /** Looks until there is something. */
  async until(what, look) {
    for (const end = Date.now() + PATIENCE; Date.now() < end; ) {
      const found = await look();
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL));
    }
    throw new Error(`not seen: ${what}\n${readFileSync(`${this.home}/daemon.log`, "utf8").slice(-5000)}`);
  }

  /** What the daemon says of a plugin; empty while it does not know it. */
  async info(plugin) {
    return (await this.request(`/api/plugins/${plugin}`)).json ?? {};
  }

  /** What was read back of the running plugin shows no layer that is wanted, possible, and not there. */
  async isInItsSandbox(plugin) {
    const { layers } = await this.temps("plugin", "explain", plugin);
    const missing = layers.filter(({ state }) => state === "not_in_force");
    const isHeld = layers.some(({ layer, state }) => layer === "privileges" && state === "in_force");
    if (missing.length > 0 || !isHeld) throw new Error(`${plugin} is not in its sandbox: ${JSON.stringify(layers)}`);
  }

  /** Waits until a plugin runs (in this version, as another process). */
  async untilRunning(plugin, { version, notPid } = {}) {
    return this.until(`${plugin} runs`, async () => {
      const info = await this.info(plugin);
      const isRight = info.state === "running" && (version === undefined || info.version === version);
      return isRight && info.pid !== notPid ? info : undefined;
    });
  }
}
