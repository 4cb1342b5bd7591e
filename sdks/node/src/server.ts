/**
 * A plugin that serves: its socket, the routes of the protocol, its own routes behind the auth secret, and its orderly end.
 */

import { chmodSync, lstatSync, mkdirSync, rmSync } from "node:fs";
import { type IncomingMessage, type Server as NodeServer, type ServerResponse, createServer } from "node:http";
import type { Duplex } from "node:stream";
import { type App, type Mounted, mounted } from "./app.js";
import { claimOf } from "./auth.js";
import { Channel } from "./channel.js";
import { Context } from "./context.js";
import { MAX_EVENT_BYTES, type PluginEvent, readEvent } from "./event.js";
import type { Launch } from "./handshake.js";
import { EventLine } from "./line.js";
import { describe, logger } from "./log.js";
import { type Assets, Pages } from "./pages.js";
import { type Answer, HttpError, PluginRequest, problem, writeAnswer } from "./request.js";
import { WireError } from "./rules.js";

/** How long the start hooks may take together, in milliseconds. */
const START_TIMEOUT = 60_000;

/** How long the host may take to send the settings that the manifest declares, in milliseconds. They come with the channel. */
const CONFIG_TIMEOUT = 30_000;

/** How long the whole ending may take, in milliseconds. Hosts kill after 10 s. */
const END_TIMEOUT = 8_000;

/** The part of the ending that may go into events that still wait, in milliseconds; the shutdown hooks have the rest. */
const DRAIN_TIMEOUT = 4_000;

/** How long `POST /_events` waits before it says that it does not know, in milliseconds. Hosts give up after 30 s. */
const POSTED_TIMEOUT = 25_000;

/** How long a route waits for the start hooks, in milliseconds. */
const START_WAIT = 25_000;

/** How often the parent's id is compared, in milliseconds. Node cannot be told of a parent's end. */
const PARENT_POLL = 1_000;

/** Longest head of a request, in bytes. */
const MAX_HEAD_BYTES = 64 * 1024;

/** How long a connection may stand idle, in milliseconds. */
const IDLE_TIMEOUT = 120_000;

/** Remembered as early as possible: afterwards any other parent means that the host died. */
const PARENT = process.ppid;

/** Works on one event. What it returns is awaited; what it throws is told to the host, which sends the event again. */
export type EventHandler = (ctx: Context, event: PluginEvent, signal: AbortSignal) => unknown;

/** Runs at a moment of the plugin's life. What it returns is awaited. */
export type Hook = (ctx: Context) => unknown;

/** Takes upgrades of connections. Returns whether it did. */
export type UpgradeHandler = (ctx: Context, request: IncomingMessage, socket: Duplex, head: Buffer) => boolean;

/** What stands for "no route of mine". */
export const NO_ROUTE = Symbol("no route");

/** What a plugin is made of, before it serves. */
export interface Parts {
  name: string;
  healthPath: string;
  onEvent?: EventHandler | undefined;
  /** Answers a request, or says {@link NO_ROUTE}. */
  route?: ((ctx: Context, request: PluginRequest) => unknown) | undefined;
  app?: App | undefined;
  onUpgrade?: UpgradeHandler | undefined;
  onStart?: readonly Hook[];
  onConfig?: readonly Hook[];
  onShutdown?: readonly Hook[];
  /** Whether the manifest declares settings, so that the start waits for them. */
  declaresConfig?: boolean;
  ui?: Assets | undefined;
  /** Every request that reaches the socket reaches the routes. For hosts that do not send the secret. */
  openRoutes?: boolean;
}

/** A serving plugin. */
export class Server {
  /** Features that both sides have. */
  readonly features: readonly string[];
  /** What the handlers are given. */
  readonly context: Context;
  /** Resolves when the plugin has ended, with the exit status: 0 in order, 1 when the start failed. */
  readonly ended: Promise<number>;

  private readonly stopping = new AbortController();
  private readonly stopped: Promise<void>;
  private readonly started = new Moment();
  private readonly configured = new Moment();
  private readonly channel: Channel;
  private readonly line: EventLine;
  private readonly pages: Pages | undefined;
  private readonly app: Mounted | undefined;
  private readonly http: NodeServer;
  private configChanged = false;
  private followingConfig = false;
  private isBound = false;
  private exit: (status: number) => void = () => undefined;

  constructor(
    private readonly parts: Parts,
    private readonly launch: Launch,
  ) {
    this.features = launch.hostFeatures;
    this.line = new EventLine(async (event, signal) => void (await parts.onEvent?.(this.context, event, signal)));
    this.channel = new Channel(this.line, launch.hostFeatures.includes("ack"), () => this.takeConfig());
    this.context = new Context(parts.name, launch, this.channel, this.stopping.signal);
    this.pages = parts.ui === undefined ? undefined : new Pages(parts.ui);
    this.app = parts.app === undefined ? undefined : mounted(parts.app);
    this.ended = new Promise((resolve) => (this.exit = resolve));
    this.stopped = new Promise((resolve) => {
      this.stopping.signal.addEventListener("abort", () => resolve(), { once: true });
    });
    // A body may take as long as it takes; the host bounds it.
    this.http = createServer({ maxHeaderSize: MAX_HEAD_BYTES, keepAliveTimeout: IDLE_TIMEOUT, requestTimeout: 0 });
    this.http.on("request", (request, response) => void this.serve(request, response));
    this.http.on("upgrade", (request, socket, head) => void this.upgrade(request, socket, head));
  }

  /**
   * Binds the socket and resolves once connections are accepted. The start hooks run after that; routes and events wait
   * for them.
   *
   * @throws {Error} when the socket cannot be bound.
   */
  async start(): Promise<void> {
    const path = this.launch.socketPath;
    makeDataDir(this.launch.dataDir);
    removeSocket(path);
    await new Promise<void>((resolve, reject) => {
      this.http.once("error", reject);
      this.http.listen({ path, backlog: 128 }, () => {
        this.http.off("error", reject);
        resolve();
      });
    });
    this.isBound = true;
    chmodSync(path, 0o600);
    void this.live();
  }

  /** Begins the orderly end. */
  stop(): void {
    if (!this.stopping.signal.aborted) this.stopping.abort();
  }

  private async live(): Promise<void> {
    const parent = watchParent(() => {
      logger.warn("the host has died");
      this.stop();
    });
    let status = 0;
    try {
      await Promise.race([this.begin(), this.stopped]);
      await this.stopped;
    } catch (error) {
      status = 1;
      logger.error(`the plugin cannot start: ${describe(error, true)}`);
      this.stop();
    }
    clearInterval(parent);
    const late = await timed(this.end(), END_TIMEOUT).catch((error: unknown) => {
      logger.error(`the ending failed: ${describe(error, true)}`);
      return false;
    });
    if (late) logger.warn(`the ending took longer than ${END_TIMEOUT / 1000} s`);
    this.http.closeAllConnections();
    removeSocket(this.launch.socketPath);
    this.exit(status);
  }

  private async begin(): Promise<void> {
    if (this.parts.declaresConfig && this.context.hostHas("config")) {
      if (await timed(this.configured.come, CONFIG_TIMEOUT)) {
        throw new Error(`the host sent no settings within ${CONFIG_TIMEOUT / 1000} s`);
      }
    }
    this.configChanged = false;
    const hooks = async (): Promise<void> => {
      await this.app?.start();
      for (const hook of this.parts.onStart ?? []) await hook(this.context);
    };
    if (await timed(hooks(), START_TIMEOUT)) throw new Error(`the start hooks took longer than ${START_TIMEOUT / 1000} s`);
    if (this.stopping.signal.aborted) return;
    this.started.set();
    this.line.start();
    void this.followConfig();
  }

  private async end(): Promise<void> {
    if (await timed(this.line.close(), DRAIN_TIMEOUT)) {
      logger.warn("events were still being handled when the time for them was over");
    }
    const served = new Promise<void>((resolve) => (this.isBound ? this.http.close(() => resolve()) : resolve()));
    this.http.closeIdleConnections();
    if (this.started.has) {
      for (const hook of this.parts.onShutdown ?? []) await hook(this.context);
    }
    await this.channel.close();
    await served;
    if (this.started.has) await this.app?.stop();
  }

  // ---- settings

  private takeConfig(): void {
    this.configChanged = true;
    this.configured.set();
    void this.followConfig();
  }

  /** Runs the hooks after a change. Changes that come while they run are told once. */
  private async followConfig(): Promise<void> {
    if (!this.started.has || this.followingConfig) return;
    this.followingConfig = true;
    while (this.configChanged && !this.stopping.signal.aborted) {
      this.configChanged = false;
      try {
        for (const hook of this.parts.onConfig ?? []) await hook(this.context);
      } catch (error) {
        logger.error(`the hook for changed settings failed: ${describe(error, true)}`);
      }
    }
    this.followingConfig = false;
  }

  // ---- requests

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.on("close", () => {
      gone.abort();
      // A connection that had a request when the end began is idle only now.
      if (this.stopping.signal.aborted) setImmediate(() => this.http.closeIdleConnections());
    });
    const asked = new PluginRequest(request, gone.signal);
    if (this.stopping.signal.aborted) response.setHeader("connection", "close");
    try {
      const answer = await this.answer(asked, response);
      if (answer !== NO_ROUTE) await writeAnswer(answer, request, response);
    } catch (error) {
      if (gone.signal.aborted) return;
      if (response.headersSent) response.destroy();
      else await writeAnswer(this.failure(asked, error), request, response).catch(() => response.destroy());
    }
  }

  /** The answer; {@link NO_ROUTE} when the mounted application gives it. */
  private async answer(request: PluginRequest, response: ServerResponse): Promise<Answer> {
    const { method, path } = request;
    if (path === this.parts.healthPath && (method === "GET" || method === "HEAD")) {
      return { status: "ok", plugin: this.parts.name };
    }
    if (path === "/_temps/channel") {
      this.refuseWrongSecret(request.raw);
      throw new HttpError(426, "this path is a WebSocket (version 13)", { upgrade: "websocket" });
    }
    if (path === "/_events" && method === "POST") {
      this.refuseWrongSecret(request.raw);
      return this.eventOfPost(request);
    }
    if (this.pages !== undefined && (path === "/ui" || path.startsWith("/ui/"))) {
      return this.pages.answer(method, path, request.headers["if-none-match"]);
    }
    if (!this.parts.openRoutes && claimOf(request.raw, this.launch.authSecret) !== "right") throw unauthorized();
    await this.untilStarted();
    const answer = this.parts.route === undefined ? NO_ROUTE : await this.parts.route(this.context, request);
    if (answer !== NO_ROUTE) return answer;
    if (this.app === undefined) throw new HttpError(404, `this plugin has no route ${method} ${path}`);
    this.app.answer(request.raw, response);
    return NO_ROUTE;
  }

  private async eventOfPost(request: PluginRequest): Promise<Answer> {
    const body = await request.bytes(MAX_EVENT_BYTES);
    let event: PluginEvent;
    try {
      event = readEvent(await request.json());
    } catch (error) {
      if (error instanceof WireError) throw new HttpError(422, `the body is not an event: ${error.message}`);
      throw error;
    }
    let failure: string | undefined;
    const done = new Promise<void>((resolve) => {
      this.line.push(event, body.length, (reason) => ((failure = reason), resolve()));
    });
    if (await timed(done, POSTED_TIMEOUT)) {
      throw new HttpError(503, "the event was not handled in time; it may still be", { "retry-after": "5" });
    }
    if (failure !== undefined) throw new HttpError(500, `the event was not handled: ${failure}`);
    return { ok: true };
  }

  private async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on("error", () => socket.destroy());
    try {
      const [path] = (request.url ?? "/").split("?");
      if (path === "/_temps/channel") {
        this.refuseWrongSecret(request);
        return this.channel.serve(request, socket, head);
      }
      if (!this.parts.openRoutes && claimOf(request, this.launch.authSecret) !== "right") throw unauthorized();
      await this.untilStarted();
      if (this.parts.onUpgrade?.(this.context, request, socket, head)) return;
      if (this.app?.upgrade(request, socket, head)) return;
      throw new HttpError(404, "this plugin takes no upgrade here");
    } catch (error) {
      const status = error instanceof HttpError ? error.status : 500;
      if (status === 500) logger.error(`an upgrade failed: ${describe(error, true)}`);
      const words = status === 401 ? "Unauthorized" : status === 404 ? "Not Found" : "Error";
      socket.end(`HTTP/1.1 ${status} ${words}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    }
  }

  private failure(request: PluginRequest, error: unknown): Response {
    if (error instanceof HttpError) return problem(error.status, error.detail, error.headers);
    logger.error(`the route ${request.method} ${request.path} failed: ${describe(error, true)}`);
    return problem(500, "the plugin failed to answer; its log has the reason");
  }

  /** For what the host itself calls: other hosts send no secret there, and only a wrong one is refused. */
  private refuseWrongSecret(request: IncomingMessage): void {
    if (claimOf(request, this.launch.authSecret) === "wrong") throw unauthorized();
  }

  private async untilStarted(): Promise<void> {
    const isLate = await timed(Promise.race([this.started.come, this.stopped]), START_WAIT);
    if (isLate || !this.started.has) {
      throw new HttpError(503, "the plugin is still starting", { "retry-after": "5" });
    }
  }
}

/** Something that comes once. */
class Moment {
  has = false;
  readonly come: Promise<void>;
  private resolve: () => void = () => undefined;

  constructor() {
    this.come = new Promise((resolve) => (this.resolve = resolve));
  }

  set(): void {
    this.has = true;
    this.resolve();
  }
}

/** Waits for `work`, and returns whether its time, in milliseconds, was over first. */
async function timed(work: Promise<unknown>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(true), milliseconds)));
  try {
    return await Promise.race([work.then(() => false), over]);
  } finally {
    clearTimeout(timer);
  }
}

function unauthorized(): HttpError {
  const detail = "the request does not carry the auth secret of this start of the plugin";
  return new HttpError(401, detail, { "www-authenticate": "Bearer" });
}

function watchParent(died: () => void): NodeJS.Timeout | undefined {
  // In a namespace of its own the first process takes everything along when it dies; there is nothing to watch.
  if (PARENT <= 1) return undefined;
  const timer = setInterval(() => {
    if (process.ppid === PARENT) return;
    clearInterval(timer);
    died();
  }, PARENT_POLL);
  return timer;
}

/** Makes the data directory where the host did not. A plugin that needs none runs without. */
function makeDataDir(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    logger.warn(`the data directory cannot be made (${describe(error)}); nothing can be kept`);
  }
}

function removeSocket(path: string): void {
  try {
    if (!lstatSync(path).isDirectory()) rmSync(path, { force: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
