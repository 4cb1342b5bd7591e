/** The plain way to serve: a function between the two lines of the handshake, and the signals that end a server. */

import type { App } from "./app.js";
import { type Launch, announceFeatures, emittedManifest, launchOrExit } from "./handshake.js";
import { logger } from "./log.js";
import type { Assets } from "./pages.js";
import { type EventHandler, type Hook, type Parts, Server, type UpgradeHandler } from "./server.js";

/** What `runServer` serves. */
export interface ServeOptions {
  /** An application for the plugin's own routes: Express, Fastify, or a function of request and response. */
  app?: App;
  /** Takes the plugin's events. */
  onEvent?: EventHandler;
  /** Takes upgrades of connections on the plugin's own routes. */
  onUpgrade?: UpgradeHandler;
  /** Runs before the first route or event; see `Plugin.onStart`. */
  onStart?: Hook;
  /** Runs after each change of the settings. */
  onConfig?: Hook;
  /** Runs before the end; see `Plugin.onShutdown`. */
  onShutdown?: Hook;
  /** A page: a directory with an `index.html`, or its files by path. */
  ui?: Assets;
  /** Path of the health route; by default the manifest's. */
  healthPath?: string;
  /** How the plugin was started; by default its command line. */
  launch?: Launch;
}

/**
 * Serves the plugin's socket and resolves once it accepts connections; the process then lives until it is told to end.
 * Called between {@link emitManifest} and {@link emitReady}.
 *
 * @throws {Error} when the socket cannot be bound.
 */
export async function runServer(options: ServeOptions = {}): Promise<Server> {
  const manifest = emittedManifest();
  const parts: Parts = {
    name: manifest?.name ?? "plugin",
    healthPath: options.healthPath ?? manifest?.health_path ?? "/health",
    onEvent: options.onEvent,
    app: options.app,
    onUpgrade: options.onUpgrade,
    onStart: list(options.onStart),
    onConfig: list(options.onConfig),
    onShutdown: list(options.onShutdown),
    declaresConfig: manifest?.config !== undefined,
    ui: options.ui,
  };
  const server = new Server(parts, options.launch ?? launchOrExit());
  await server.start();
  announceFeatures(server.features);
  endOnSignals(server);
  void server.ended.then((status) => process.exit(status));
  return server;
}

function list(hook: Hook | undefined): readonly Hook[] {
  return hook === undefined ? [] : [hook];
}

/** Ends the server in order at SIGTERM and SIGINT; a second one ends the process at once. */
export function endOnSignals(server: Server): void {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      logger.info(`ending: ${signal}`);
      server.stop();
    });
  }
}
