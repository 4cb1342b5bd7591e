/**
 * A host for one plugin in a test, over a real socket: with a channel, acks, settings and storage.
 *
 * @packageDocumentation
 */

import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { Agent, request as httpRequest } from "node:http";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { ChannelError } from "./channel.js";
import { FEATURES, type Feature, type Ready, readReady } from "./handshake.js";
import { API_VERSION, type PluginManifest, readManifest } from "./manifest.js";
import type { Plugin } from "./plugin.js";
import type { JsonObject } from "./rules.js";
import type { Server } from "./server.js";

/** How long a test waits for anything that a plugin is to do, in milliseconds. Generous: machines that test are busy. */
const PATIENCE = 60_000;

/** The auth secret of every plugin in a test. */
const SECRET = "test-secret";

/** The plugin did not handle an event; the message is the reason that it gave. */
export class EventNotHandled extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = "EventNotHandled";
  }
}

/** Stands for an answer that is never given. */
export const NO_ANSWER = Symbol("no answer");

/** The platform of a test: it knows nothing until it is told, keeps a storage in memory, and records what was asked. */
export class TestPlatform {
  /** Everything that the plugin asked so far. */
  readonly asked: Array<{ method: string; params: JsonObject }> = [];
  /** What the plugin keeps: key to value and revision. Time does not pass here, so nothing ends. */
  readonly entries = new Map<string, { value: unknown; revision: number }>();
  private readonly answers = new Map<string, (params: JsonObject) => unknown>();
  private readonly projects = new Map<number, JsonObject>();
  private revision = 0;

  /** Lets `get_project` and `list_projects` answer with this project, too. */
  knowsProject(id: number, name: string, fields: JsonObject = {}): void {
    const time = "2026-06-06T12:00:00Z";
    this.projects.set(id, { id, name, slug: name, created_at: time, updated_at: time, ...fields });
  }

  /** Answers `method` with what `answer(params)` returns, or with the {@link ChannelError} that it throws. */
  answer(method: string, answer: (params: JsonObject) => unknown): void {
    this.answers.set(method, answer);
  }

  /** The answer to a question. @throws {ChannelError} the error that is answered. */
  async ask(method: string, params: JsonObject): Promise<unknown> {
    this.asked.push({ method, params });
    const told = this.answers.get(method);
    if (told !== undefined) return told(params);
    switch (method) {
      case "get_project": {
        const project = this.projects.get(params["project_id"] as number);
        if (project === undefined) throw new ChannelError("not_found", "there is no such project");
        return project;
      }
      case "list_projects":
        return [...this.projects.values()];
      case "kv_get":
        return this.get(params["key"] as string);
      case "kv_put":
        this.expect(params);
        this.entries.set(params["key"] as string, { value: params["value"], revision: ++this.revision });
        return { revision: this.revision };
      case "kv_delete":
        this.expect(params);
        return { deleted: this.entries.delete(params["key"] as string) };
      case "kv_list":
        return this.list(params);
      default:
        throw new ChannelError("method_not_found", `the test gave no answer for ${method}`);
    }
  }

  private get(key: string): unknown {
    const entry = this.entries.get(key);
    if (entry === undefined) throw new ChannelError("not_found", "there is no such entry");
    return { key, ...entry };
  }

  private expect(params: JsonObject): void {
    const now = this.entries.get(params["key"] as string)?.revision ?? 0;
    if (params["revision"] === undefined || params["revision"] === now) return;
    throw new ChannelError("conflict", "the entry has another revision than expected", now);
  }

  private list({ prefix = "", values = false, cursor = "", limit = 100 }: JsonObject): unknown {
    const after = (key: string): boolean => key.startsWith(prefix as string) && key > (cursor as string);
    const keys = [...this.entries.keys()].filter(after).sort();
    const page = keys.slice(0, limit as number);
    const entries = page.map((key) => {
      const entry = this.entries.get(key);
      return values ? { key, ...entry } : { key, revision: entry?.revision };
    });
    return keys.length > page.length ? { entries, cursor: page.at(-1) } : { entries };
  }
}

/** How a plugin is hosted. */
export interface TestOptions {
  /** What the operator has set; neither schema nor defaults are looked at. */
  config?: JsonObject;
  /** The platform that it talks to. */
  platform?: TestPlatform;
  /** What the host announces; by default all features. */
  features?: readonly Feature[];
  /** Further variables of a program's environment. */
  env?: Readonly<Record<string, string>>;
}

/** An answer of the plugin. */
export interface TestResponse {
  status: number;
  /** Header fields; names in lower case. */
  headers: Readonly<Record<string, string | string[] | undefined>>;
  text: string;
  /** The body as JSON. @throws {SyntaxError} when it is none. */
  json(): any;
}

/** Hosts one plugin. Call {@link stop} at the end of the test. */
export class TestHost {
  /** What the manifest line said. */
  manifest!: PluginManifest;
  /** What the ready line said. */
  ready!: Ready;
  /** The platform that the plugin talks to. */
  readonly platform: TestPlatform;
  /** The plugin's directory; gone after {@link stop}. */
  readonly dataDir: string;
  /** What a program wrote to standard error so far. */
  log = "";

  private readonly features: readonly Feature[];
  private config: JsonObject;
  private revision: number;
  private server: Server | undefined;
  private child: ChildProcess | undefined;
  private channel: WebSocket | undefined;
  private readonly waiting = new Map<string, (failure: string | undefined) => void>();

  /**
   * Starts a plugin: a {@link Plugin}, which lives inside the test, or a program as a command line. It resolves once the
   * plugin is ready and has the channel; its routes wait for its start hooks.
   *
   * @throws {Error} when the plugin does not start; the message says why.
   */
  static async start(plugin: Plugin | readonly string[], options: TestOptions = {}): Promise<TestHost> {
    // In /tmp by name, because a socket's path has at most 107 bytes.
    const host = new TestHost(await mkdtemp("/tmp/temps-test-"), options);
    try {
      if ("manifest" in plugin) await host.beginInside(plugin);
      else await host.beginProgram(plugin, options.env ?? {});
      await host.connect();
    } catch (error) {
      await host.stop();
      throw error;
    }
    return host;
  }

  private constructor(dataDir: string, options: TestOptions) {
    this.dataDir = dataDir;
    this.platform = options.platform ?? new TestPlatform();
    this.features = options.features ?? FEATURES;
    this.config = options.config ?? {};
    this.revision = options.config === undefined ? 0 : 1;
  }

  /**
   * Sends an event and waits until the plugin has handled it.
   *
   * @throws {EventNotHandled} when it has not.
   */
  async deliver(type: string, event: { projectId?: number; data?: object; id?: string } = {}): Promise<void> {
    const { id = randomUUID(), data = {}, projectId } = event;
    const project = projectId === undefined ? {} : { project_id: projectId };
    const body = { id, event_type: type, timestamp: new Date().toISOString(), ...project, data };
    if (!this.features.includes("ack")) {
      const answer = await this.post("/_events", body);
      if (answer.status >= 300) throw new EventNotHandled(answer.text);
      return;
    }
    const failure = await within(`the plugin confirmed no ${type}`, new Promise<string | undefined>((resolve) => {
      this.waiting.set(id, resolve);
      this.send({ type: "event", event: body });
    }));
    if (failure !== undefined) throw new EventNotHandled(failure);
  }

  /** Changes the settings, as an operator does. The plugin's hook runs soon after. */
  setConfig(config: JsonObject): void {
    this.config = config;
    this.revision += 1;
    this.sendConfig();
  }

  /** Loses the channel and opens a new one. */
  async reconnect(): Promise<void> {
    this.channel?.terminate();
    await this.connect();
  }

  /** A request with the auth secret, from the route's side of the host: `/api/x/NAME` is cut off already. */
  async request(
    method: string,
    path: string,
    options: { body?: unknown; headers?: Record<string, string>; user?: { id: string; name?: string; role?: string } } = {},
  ): Promise<TestResponse> {
    const headers: Record<string, string> = { authorization: `Bearer ${SECRET}`, ...options.headers };
    const { user, body } = options;
    if (user !== undefined) {
      headers["x-temps-user-id"] = encodeURIComponent(user.id);
      headers["x-temps-user-name"] = encodeURIComponent(user.name ?? user.id);
      headers["x-temps-user-role"] = user.role ?? "admin";
    }
    const isRaw = body === undefined || typeof body === "string" || body instanceof Uint8Array;
    if (!isRaw) headers["content-type"] ??= "application/json";
    // Kept open until the answer is there: Node writes an empty piece after a long body, which ends the request with EPIPE
    // where the plugin has answered and closed by then.
    const agent = new Agent({ keepAlive: true });
    try {
      const asked = httpRequest({ socketPath: this.socketPath, method, path, headers, agent });
      asked.end(isRaw ? body : JSON.stringify(body));
      const [response] = (await once(asked, "response")) as [import("node:http").IncomingMessage];
      const pieces: Buffer[] = [];
      for await (const piece of response) pieces.push(piece as Buffer);
      const text = Buffer.concat(pieces).toString("utf8");
      return { status: response.statusCode ?? 0, headers: response.headers, text, json: () => JSON.parse(text) };
    } finally {
      agent.destroy();
    }
  }

  /** {@link request} for GET. */
  async get(path: string): Promise<TestResponse> {
    return this.request("GET", path);
  }

  /** {@link request} for POST; objects go as JSON. */
  async post(path: string, body?: unknown): Promise<TestResponse> {
    return this.request("POST", path, { body });
  }

  /** Ends the plugin in order, removes its directory, and returns its exit status. */
  async stop(): Promise<number> {
    let status = 0;
    if (this.server !== undefined) {
      this.server.stop();
      status = await within("the plugin did not end", this.server.ended);
    }
    if (this.child !== undefined) {
      if (this.child.exitCode === null && this.child.signalCode === null) {
        const exit = once(this.child, "exit");
        this.child.kill("SIGTERM");
        await within("the plugin did not end", exit).catch((error) => (this.child?.kill("SIGKILL"), Promise.reject(error)));
      }
      status = this.child.exitCode ?? 1;
    }
    this.channel?.terminate();
    await rm(this.dataDir, { recursive: true, force: true });
    return status;
  }

  private get socketPath(): string {
    return `${this.dataDir}/p.sock`;
  }

  private async beginInside(plugin: Plugin): Promise<void> {
    this.manifest = plugin.manifest;
    this.server = await plugin.start({
      socketPath: this.socketPath,
      authSecret: SECRET,
      dataDir: this.dataDir,
      hostFeatures: this.features,
      pluginName: plugin.manifest.name,
      apiVersion: API_VERSION,
    });
    this.ready = plugin.ready(this.server);
  }

  private async beginProgram(command: readonly string[], env: Readonly<Record<string, string>>): Promise<void> {
    const [program = "", ...args] = command;
    const given = ["--socket-path", this.socketPath, "--auth-secret", SECRET, "--data-dir", this.dataDir];
    const environment = { PATH: process.env["PATH"], TEMPS_API_VERSION: API_VERSION, TEMPS_FEATURES: this.features.join(","), ...env };
    const child = spawn(program, [...args, ...given], { cwd: this.dataDir, stdio: ["ignore", "pipe", "pipe"], env: environment });
    this.child = child;
    child.on("error", (error) => (this.log += `${error.message}\n`));
    child.stderr.on("data", (piece: Buffer) => (this.log += piece.toString("utf8")));
    const closed = once(child, "close").catch(() => undefined);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const line = async (): Promise<string> => {
      const { value, done } = await within("the plugin said nothing", lines.next());
      if (done) {
        await closed;
        throw new Error(`the plugin ended before it was ready:\n${this.log}`);
      }
      return value;
    };
    this.manifest = readManifest(await line());
    this.ready = readReady(await line());
  }

  private async connect(): Promise<void> {
    const url = `ws+unix://${this.socketPath}:/_temps/channel`;
    const channel = new WebSocket(url, { headers: { authorization: `Bearer ${SECRET}` }, perMessageDeflate: false });
    // First of all, because the plugin may ask in the same breath as it accepts.
    this.channel = channel;
    channel.on("message", (data: Buffer) => void this.take(JSON.parse(data.toString("utf8")) as JsonObject));
    await within("the plugin opened no channel", once(channel, "open"));
    channel.on("error", () => channel.terminate());
    if (this.features.includes("config")) this.sendConfig();
  }

  private async take(frame: JsonObject): Promise<void> {
    if (frame["type"] === "ack") {
      const failure = frame["status"] === "ok" ? undefined : String(frame["error"] ?? "");
      this.waiting.get(frame["id"] as string)?.(failure);
      return;
    }
    const id = frame["id"];
    try {
      const params = (frame["params"] ?? {}) as JsonObject;
      const isConfig = frame["method"] === "get_config";
      const result = isConfig ? this.configuration : await this.platform.ask(frame["method"] as string, params);
      if (result !== NO_ANSWER) this.send({ type: "response", id, result });
    } catch (error) {
      const { code, revision } = error instanceof ChannelError ? error : { code: "internal", revision: undefined };
      this.send({ type: "response", id, error: { code, message: (error as Error).message, revision } });
    }
  }

  private get configuration(): JsonObject {
    return { config: this.config, revision: this.revision };
  }

  private sendConfig(): void {
    this.send({ type: "config", ...this.configuration });
  }

  private send(frame: JsonObject): void {
    if (this.channel?.readyState === WebSocket.OPEN) this.channel.send(JSON.stringify(frame));
  }
}

async function within<T>(what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} within ${PATIENCE / 1000} s`)), PATIENCE);
  });
  return Promise.race([work, over]).finally(() => clearTimeout(timer));
}
