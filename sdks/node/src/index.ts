/**
 * Plugins for temps, in TypeScript and JavaScript.
 *
 * The comfortable way is {@link Plugin}; {@link emitManifest}, {@link runServer} and {@link emitReady} are the protocol
 * itself, for those who want to see it.
 *
 * @packageDocumentation
 */

import "./stdout.js";

export { type App, type FastifyLike, type RequestListener } from "./app.js";
export { ChannelError, ChannelLost, type ErrorCode } from "./channel.js";
export { type Configuration, ConfigError } from "./config.js";
export { Context } from "./context.js";
export type { DeploymentInfo, DeploymentState, EnvironmentInfo, ProjectInfo } from "./data.js";
export { type EventFor, type EventOf, type EventType, type PluginEvent, matches, readEvent } from "./event.js";
export {
  type Feature,
  type Launch,
  type Ready,
  UsageError,
  emitManifest,
  emitReady,
  readLaunch,
  readReady,
} from "./handshake.js";
export { type Entry, KeyValue, type Page, type PutOptions } from "./kv.js";
export { type Level, type Logger, logger, loggerFor } from "./log.js";
export {
  API_VERSION,
  type EventFilter,
  ManifestError,
  type ManifestProblem,
  METHODS,
  type Method,
  type NavEntry,
  type NavSection,
  type Permissions,
  type PluginManifest,
  type Resources,
  type UiEntry,
  checkManifest,
  readManifest,
} from "./manifest.js";
export { type Assets } from "./pages.js";
export type * from "./payload.js";
export { Platform } from "./platform.js";
export { Plugin, type RouteHandler } from "./plugin.js";
export { type Answer, HttpError, PluginRequest, type User, eventStream } from "./request.js";
export { type JsonObject, WireError } from "./rules.js";
export { type ServeOptions, runServer } from "./run.js";
export { type EventHandler, type Hook, Server, type UpgradeHandler } from "./server.js";
export { guardStdout } from "./stdout.js";
