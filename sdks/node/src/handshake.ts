/** The start of a plugin: its arguments, and its two lines on standard output. */

import { basename } from "node:path";
import { type PluginManifest, manifestLine } from "./manifest.js";
import { Fields, type JsonObject, WireError, byteLength, parseObject, textEntry } from "./rules.js";
import { writeLine } from "./stdout.js";

/** Longest ready line in bytes, newline included. */
export const MAX_READY_BYTES = 1024 * 1024;

/** What a host gives. */
const ARGUMENTS = ["--socket-path", "--auth-secret", "--data-dir"];

/** What older hosts give to every plugin: the platform's own database, which no plugin needs. It is passed over. */
const OLDER_HOSTS = "--database-url";

/** Longest path of a socket, in bytes. */
const MAX_SOCKET_PATH = 107;

/** Optional features of the protocol that this version knows. */
export const FEATURES = ["ack", "reconnect", "config", "kv"] as const;

/** An optional feature of the protocol. */
export type Feature = (typeof FEATURES)[number];

/** The command line is not one that a host gives. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "UsageError";
  }
}

/** What the host told the plugin when it started it. */
export interface Launch {
  /** Where the plugin listens. */
  socketPath: string;
  /** Proves that a request comes from the host. Never log it. */
  authSecret: string;
  /** The plugin's own directory; its content outlives restarts and updates. */
  dataDir: string;
  /** Optional features that the host announced. */
  hostFeatures: readonly Feature[];
  /** The plugin's name as the host has it; absent during inspection. */
  pluginName?: string;
  /** Version of the protocol that the host speaks, if it said so. */
  apiVersion?: string;
  /** Where the plugin's own database is, if its manifest has `requires_db`. */
  databaseUrl?: string;
}

/**
 * Reads the command line and the environment.
 *
 * @throws {UsageError} when an argument is missing or not known.
 */
export function readLaunch(
  args: readonly string[] = process.argv.slice(2),
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Launch {
  const given = new Map<string, string>();
  const rest = [...args];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const equals = word.indexOf("=");
    const name = equals < 0 ? word : word.slice(0, equals);
    if (name !== OLDER_HOSTS && !ARGUMENTS.includes(name)) throw new UsageError(`unknown argument ${name}`);
    const value = equals < 0 ? rest.shift() : word.slice(equals + 1);
    if (!value) throw new UsageError(`${name} needs a value`);
    given.set(name, value);
  }
  const needed = (name: string): string => {
    const value = given.get(name);
    if (value === undefined) throw new UsageError(`${name} is missing`);
    return value;
  };
  const launch: Launch = {
    socketPath: needed("--socket-path"),
    authSecret: needed("--auth-secret"),
    dataDir: needed("--data-dir"),
    hostFeatures: parseFeatures(environment["TEMPS_FEATURES"] ?? ""),
  };
  if (byteLength(launch.socketPath) > MAX_SOCKET_PATH) {
    throw new UsageError(`--socket-path has more than ${MAX_SOCKET_PATH} bytes`);
  }
  const { TEMPS_PLUGIN_NAME: name, TEMPS_API_VERSION: version, TEMPS_DATABASE_URL: database } = environment;
  if (name) launch.pluginName = name;
  if (version) launch.apiVersion = version;
  if (database) launch.databaseUrl = database;
  return launch;
}

/** {@link readLaunch}, or an explanation on standard error and exit status 2. */
export function launchOrExit(): Launch {
  try {
    return readLaunch();
  } catch (error) {
    const program = basename(process.argv[1] ?? "plugin");
    process.stderr.write(
      `${program}: ${(error as Error).message}\n\n` +
        "This program is a plugin: a host starts it, with\n" +
        `  ${program} --socket-path PATH --auth-secret SECRET --data-dir DIRECTORY\n` +
        "`temps plugin dev` runs it on your desk.\n",
    );
    process.exit(2);
  }
}

/** What the second line says: the plugin serves its socket. */
export interface Ready {
  /** Whether the plugin has pages below `/ui/`; by default it has none. */
  has_ui?: boolean;
  /** An OpenAPI document of the plugin's routes, which the host merges into its own. */
  openapi?: JsonObject;
  /** Optional features that the plugin has. */
  features?: readonly string[];
}

/**
 * The ready line, without its newline.
 *
 * @throws {WireError} when it would be longer than a host reads.
 */
export function readyLine(ready: Ready = {}): string {
  const wire: JsonObject = { type: "ready", ready: true, has_ui: ready.has_ui ?? false };
  if (ready.openapi !== undefined) wire["openapi"] = ready.openapi;
  if (ready.features && ready.features.length > 0) wire["features"] = ready.features;
  const line = JSON.stringify(wire);
  if (byteLength(line) >= MAX_READY_BYTES) {
    throw new WireError(`the ready line has more than ${MAX_READY_BYTES} bytes; shorten the OpenAPI document`);
  }
  return line;
}

/**
 * Reads a ready line, as a host does.
 *
 * @throws {WireError} says which field is wrong, and why.
 */
export function readReady(line: string): Ready {
  const value = parseObject(line, "ready line");
  if (value["type"] !== "ready") throw new WireError('must be "ready"', "type");
  const fields = new Fields(value);
  if (!fields.flag("ready")) throw new WireError("the plugin said that it cannot start", "ready");
  const openapi = fields.optional("openapi", (field) => fields.raw(field) as JsonObject);
  return {
    has_ui: fields.flag("has_ui", false),
    ...(openapi === undefined ? {} : { openapi }),
    features: fields.list("features", textEntry),
  };
}

/** Reads a list of features; words of other versions are left out. */
export function parseFeatures(text: string): Feature[] {
  const words = text.split(",").map((word) => word.trim());
  return words.filter((word): word is Feature => (FEATURES as readonly string[]).includes(word));
}

let emitted: PluginManifest | undefined;
let announced: readonly string[] = [];

/**
 * Writes the first line. Called before anything that can fail, because a host reads it at inspection, too.
 *
 * @throws {ManifestError} when the manifest breaks a rule.
 */
export function emitManifest(manifest: PluginManifest): void {
  writeLine(manifestLine(manifest));
  emitted = manifest;
}

/** The manifest that was written, if one was. */
export function emittedManifest(): PluginManifest | undefined {
  return emitted;
}

/** Has the ready line announce what the server can do. */
export function announceFeatures(features: readonly string[]): void {
  announced = features;
}

/**
 * Writes the second line. The server must accept connections before this. Features that `runServer` has need not be named
 * again.
 */
export function emitReady(ready: Ready = {}): void {
  writeLine(readyLine({ ...ready, features: [...new Set([...announced, ...(ready.features ?? [])])] }));
}
