/** The comfortable way to write a plugin: one object with handlers for events and routes, and `run()`. */

import type { App } from "./app.js";
import type { Context } from "./context.js";
import { type EventFor, type PluginEvent, isPattern, matches } from "./event.js";
import { type Launch, MAX_READY_BYTES, type Ready, emitManifest, emitReady, launchOrExit, readyLine } from "./handshake.js";
import { describe, logger } from "./log.js";
import { type PluginManifest, checkManifest } from "./manifest.js";
import type { Assets } from "./pages.js";
import { type Answer, HttpError, type PluginRequest } from "./request.js";
import type { JsonObject } from "./rules.js";
import { endOnSignals } from "./run.js";
import { type EventHandler, type Hook, NO_ROUTE, Server, type UpgradeHandler } from "./server.js";

/** Answers a request. What it returns, or resolves to, becomes the answer. */
export type RouteHandler = (ctx: Context, request: PluginRequest) => Answer | Promise<Answer>;

interface Route {
  method: string;
  pattern: RegExp;
  handler: RouteHandler;
}

/**
 * A plugin.
 *
 * ```js
 * const plugin = new Plugin({ name: "hello", version: "1.0.0", events: ["deployment.*"] });
 * plugin.on("deployment.succeeded", async (ctx, event) => {
 *   const project = event.project_id && (await ctx.platform.getProject(event.project_id)).name;
 *   ctx.logger.info(`${project ?? "something"} is live at ${event.data.url}`);
 * });
 * plugin.get("/greeting", () => ({ greeting: "hello" }));
 * plugin.run();
 * ```
 */
export class Plugin {
  private readonly handlers: Array<{ pattern: string; handler: EventHandler }> = [];
  private readonly routes: Route[] = [];
  private readonly startHooks: Hook[] = [];
  private readonly configHooks: Hook[] = [];
  private readonly shutdownHooks: Hook[] = [];
  private app: App | undefined;
  private upgradeHandler: UpgradeHandler | undefined;
  private assets: Assets | undefined;
  private document: JsonObject | undefined;
  private readonly openRoutes: boolean;

  /**
   * @param manifest what the plugin says of itself; it must not depend on files or time.
   * @param options `openRoutes` lets requests without the auth secret reach the routes, for hosts that do not send it.
   * @throws {ManifestError} when the manifest breaks a rule.
   */
  constructor(
    readonly manifest: PluginManifest,
    options: { openRoutes?: boolean } = {},
  ) {
    checkManifest(manifest);
    this.openRoutes = options.openRoutes ?? false;
  }

  // ---- events

  /**
   * Takes events of a type, of `deployment.*`, or of `*`; the manifest must ask for them, too.
   *
   * A handler that returns has handled its event, and the host is told so. One that throws has not: the event comes again
   * later. It has 25 s, then `signal` is aborted, the event counts as failed, and the next one begins. An event may come
   * twice.
   */
  on<Pattern extends string>(
    pattern: Pattern | readonly Pattern[],
    handler: (ctx: Context, event: EventFor<Pattern>, signal: AbortSignal) => unknown,
  ): this {
    for (const one of typeof pattern === "string" ? [pattern] : pattern) {
      if (!isPattern(one)) throw new TypeError(`${JSON.stringify(one)} is neither an event type nor a pattern like "deployment.*"`);
      this.handlers.push({ pattern: one, handler: handler as EventHandler });
    }
    return this;
  }

  /** Takes one event. By default it calls each handler whose pattern takes the event in, one after the other. */
  async handleEvent(ctx: Context, event: PluginEvent, signal: AbortSignal): Promise<void> {
    const called = new Set<EventHandler>();
    for (const { pattern, handler } of this.handlers) {
      if (called.has(handler) || !matches(pattern, event.event_type)) continue;
      called.add(handler);
      await handler(ctx, event, signal);
    }
  }

  // ---- routes

  /**
   * Answers requests to one path; `{name}` stands for one segment, `{name:path}` for the rest. The first route that fits
   * answers. Requests without the auth secret are answered 401 before any route.
   */
  route(method: string, path: string, handler: RouteHandler): this {
    this.routes.push({ method: method.toUpperCase(), pattern: compile(path), handler });
    return this;
  }

  /** {@link route} for GET (and HEAD). */
  get(path: string, handler: RouteHandler): this {
    return this.route("GET", path, handler);
  }

  /** {@link route} for POST. */
  post(path: string, handler: RouteHandler): this {
    return this.route("POST", path, handler);
  }

  /** {@link route} for PUT. */
  put(path: string, handler: RouteHandler): this {
    return this.route("PUT", path, handler);
  }

  /** {@link route} for PATCH. */
  patch(path: string, handler: RouteHandler): this {
    return this.route("PATCH", path, handler);
  }

  /** {@link route} for DELETE. */
  delete(path: string, handler: RouteHandler): this {
    return this.route("DELETE", path, handler);
  }

  /**
   * Hands everything that no route answers to an application: Express, Fastify, a function of request and response, or an
   * `http.Server` that does not listen. Upgrades reach Fastify and an `http.Server`.
   */
  mount(app: App): this {
    this.app = app;
    return this;
  }

  /** Takes upgrades of connections, WebSockets for example; it returns whether it took this one. */
  onUpgrade(handler: UpgradeHandler): this {
    this.upgradeHandler = handler;
    return this;
  }

  /** Serves a built page below `/ui/`: a directory with an `index.html`, or its files by path. */
  ui(assets: Assets): this {
    this.assets = assets;
    return this;
  }

  /** Announces the OpenAPI document of the plugin's routes; the host merges it into its own. */
  openapi(document: JsonObject): this {
    this.document = document;
    return this;
  }

  // ---- life

  /**
   * Runs before the first route or event, right after ready; all such hooks together have 60 s. When one throws, the
   * plugin ends with exit status 1 and is tried again later.
   */
  onStart(hook: Hook): this {
    this.startHooks.push(hook);
    return this;
  }

  /**
   * Runs after the operator changed the settings; `ctx.config` has the new ones. Changes that come fast are told once. It
   * does not run for the settings that the start hooks find.
   */
  onConfig(hook: Hook): this {
    this.configHooks.push(hook);
    return this;
  }

  /** Runs before the plugin ends, after the events that it still had were handled. Together they have 8 s. */
  onShutdown(hook: Hook): this {
    this.shutdownHooks.push(hook);
    return this;
  }

  /** Runs the plugin until it is told to end, and ends the process: 0 in order, 1 when it could not start, 2 for bad usage. */
  run(): void {
    const launch = launchOrExit();
    void this.live(launch).then(
      (status) => process.exit(status),
      (error: unknown) => {
        logger.error(`the plugin cannot start: ${describe(error, true)}`);
        process.exit(1);
      },
    );
  }

  /** Serves the socket; for tests, and for those who do the handshake themselves. No signal ends it. */
  async start(launch: Launch): Promise<Server> {
    const server = new Server(
      {
        name: this.manifest.name,
        healthPath: this.manifest.health_path ?? "/health",
        onEvent: (ctx, event, signal) => this.handleEvent(ctx, event, signal),
        route: (ctx, request) => this.answer(ctx, request),
        app: this.app,
        onUpgrade: this.upgradeHandler,
        onStart: this.startHooks,
        onConfig: this.configHooks,
        onShutdown: this.shutdownHooks,
        declaresConfig: this.manifest.config !== undefined,
        ui: this.assets,
        openRoutes: this.openRoutes,
      },
      launch,
    );
    await server.start();
    return server;
  }

  /** What the ready line says. A document that would make it longer than 1 MiB is left out. */
  ready(server: Server): Ready {
    const ready: Ready = { has_ui: this.assets !== undefined, features: server.features };
    if (this.document === undefined) return ready;
    const whole = { ...ready, openapi: this.document };
    try {
      readyLine(whole);
      return whole;
    } catch {
      logger.warn(`the OpenAPI document is left out: with it the ready line is longer than ${MAX_READY_BYTES} bytes`);
      return ready;
    }
  }

  private async live(launch: Launch): Promise<number> {
    // First of all, because a host that only looks at the manifest needs nothing more.
    emitManifest(this.manifest);
    const server = await this.start(launch);
    endOnSignals(server);
    emitReady(this.ready(server));
    return server.ended;
  }

  private answer(ctx: Context, request: PluginRequest): Answer {
    const allowed = new Set<string>();
    for (const { method, pattern, handler } of this.routes) {
      const found = pattern.exec(request.path);
      if (found === null) continue;
      if (method === request.method || (method === "GET" && request.method === "HEAD")) {
        request.params = { ...found.groups };
        return handler(ctx, request);
      }
      allowed.add(method);
    }
    if (allowed.size === 0 || this.app !== undefined) return NO_ROUTE;
    const allow = [...allowed].sort().join(", ");
    throw new HttpError(405, `${request.path} takes ${allow}`, { allow });
  }
}

function compile(path: string): RegExp {
  if (!path.startsWith("/")) throw new TypeError(`the path ${JSON.stringify(path)} must begin with "/"`);
  const parts = path.split(/\{(\w+(?::path)?)\}/);
  const pattern = parts.map((part, index) => {
    if (index % 2 === 0) return part.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
    return part.endsWith(":path") ? `(?<${part.slice(0, -5)}>.*)` : `(?<${part}>[^/]+)`;
  });
  return new RegExp(`^${pattern.join("")}$`);
}
