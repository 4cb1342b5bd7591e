/** The manifest: what a plugin says of itself, as an object with the specification's own field names. */

import { problemsOf } from "./manifest-rules.js";
import { Fields, type JsonObject, WireError, byteLength, integerEntry, kindOf, parseObject, textEntry } from "./rules.js";

/** Version of the protocol that this package speaks. */
export const API_VERSION = "1.0.0";

/** Longest manifest line in bytes, newline included. */
export const MAX_MANIFEST_BYTES = 64 * 1024;

/** Data methods that a plugin can ask for. */
export const METHODS = [
  "get_project",
  "list_projects",
  "get_environment",
  "list_environments",
  "get_deployment",
  "get_last_deployment",
  "list_deployments",
] as const;

/** A data method of version 1. */
export type Method = (typeof METHODS)[number];

/** Where an entry stands: the main sidebar, administration, or inside a project. */
export type NavSection = "platform" | "settings" | "project";

/** An entry in the console's navigation. */
export interface NavEntry {
  /** What people read. */
  label: string;
  /** Name of a Lucide icon, for example `message-square`. */
  icon: string;
  /** Where it stands. */
  section: NavSection;
  /** Path inside the plugin's pages, beginning with `/`. */
  path: string;
  /** Place among other entries, 0 to 4294967295; lower comes first. */
  order: number;
}

/** What a plugin asks to be allowed. */
export interface Permissions {
  /** Data methods that it wants to call. */
  methods?: readonly Method[];
  /** Ids of the projects that it wants to see; absent asks for all. */
  projects?: readonly number[];
}

/** Limits that a plugin asks for. Whatever is absent stays at the host's default. */
export interface Resources {
  /** Memory, for example `"256M"`. */
  memory_max?: string;
  /** Share of one CPU, for example `"25%"`. */
  cpu_quota?: string;
  /** Processes and threads. */
  tasks_max?: number;
  /** Open files in each process. */
  nofile?: number;
  /** Disk for the data directory, for example `"1G"`. */
  disk_max?: string;
}

/** A condition on an event: the value at `path` must be one of `any_of`. */
export interface EventFilter {
  /** `project_id`, `environment_id`, or `data.` and dotted names. */
  path: string;
  /** Values that let the event pass. */
  any_of: readonly unknown[];
}

/** Read for the sake of existing plugins; a page needs none of it. */
export interface UiEntry {
  entry_js: string;
  css?: readonly string[];
  routes?: ReadonlyArray<{ path: string; title: string }>;
}

/** What a plugin says of itself. Only `name` and `version` must be there. A list has at most 100 entries, a text 2 KiB. */
export interface PluginManifest {
  /** 1 to 63 lower-case letters, digits and inner hyphens, beginning with a letter. */
  name: string;
  /** The plugin's version, best a semantic version; at most 64 printable characters. */
  version: string;
  /** Name for people. */
  display_name?: string;
  /** What it does, for people. */
  description?: string;
  /** Event types that it wants: exact, `deployment.*`, or `*`. */
  events?: readonly string[];
  /** Path that answers 200 while the plugin is well; by default `/health`. The package answers it. */
  health_path?: string;
  /** Entries in the console's navigation. */
  nav?: readonly NavEntry[];
  /** Whether it needs a database of its own. */
  requires_db?: boolean;
  /** Version of the protocol that it was written for; absent means 1.0. */
  api_version?: string;
  /** What it asks to be allowed; absent asks for its events, all methods and all projects. */
  permissions?: Permissions;
  /** Hosts to reach, as `name`, `name:port`, `*.name`; absent asks for HTTPS to any public name. */
  egress?: readonly string[];
  /** JSON Schema of its settings. */
  config?: JsonObject;
  /** Limits beyond the host's defaults. */
  resources?: Resources;
  /** `strict`: a failed event holds back later ones of its project. */
  ordering?: "relaxed" | "strict";
  /** Conditions on events, all of which must hold. */
  filters?: readonly EventFilter[];
  /** Paths that it wants to serve to callers that are not signed in. */
  public_paths?: readonly string[];
  ui?: UiEntry;
}

/** One broken rule of a manifest. */
export interface ManifestProblem {
  /** The field that breaks it, for example `nav[0].label`. */
  field: string;
  /** What is wrong, and what would be right. */
  message: string;
}

/** The manifest breaks rules. */
export class ManifestError extends WireError {
  /** All broken rules. */
  readonly problems: readonly ManifestProblem[];

  constructor(problems: readonly ManifestProblem[]) {
    super(problems.map(({ field, message }) => `${field}: ${message}`).join("; "));
    this.name = "ManifestError";
    this.problems = problems;
  }
}

/**
 * Checks every rule of a manifest, also that its fields have the right types, so that it helps in plain JavaScript.
 *
 * @throws {ManifestError} lists all broken rules at once. @throws {WireError} for a field of a wrong type.
 */
export function checkManifest(manifest: PluginManifest): void {
  const problems = problemsOf(readFields(new Fields(manifest)));
  if (problems.length > 0) throw new ManifestError(problems);
}

/**
 * The handshake's first line, without its newline.
 *
 * @throws {ManifestError} when the manifest breaks a rule, or the line would be longer than 64 KiB.
 */
export function manifestLine(manifest: PluginManifest): string {
  checkManifest(manifest);
  const given = Object.entries(manifest).filter(([, value]) => value !== undefined && value !== null);
  const { name, version, ...rest } = Object.fromEntries(given) as unknown as PluginManifest;
  const line = JSON.stringify({ type: "manifest", name, version, ...rest });
  if (byteLength(line) >= MAX_MANIFEST_BYTES) {
    throw new ManifestError([{ field: "manifest", message: `has more than ${MAX_MANIFEST_BYTES} bytes` }]);
  }
  return line;
}

/**
 * Reads and checks a manifest line, as a host does; defaults are filled in.
 *
 * @throws {WireError} says which field is wrong, and why.
 */
export function readManifest(line: string): PluginManifest {
  const value = parseObject(line, "manifest");
  if (value["type"] !== "manifest") throw new WireError(`must be "manifest"`, "type");
  const manifest = readFields(new Fields(value));
  const problems = problemsOf(manifest);
  if (problems.length > 0) throw new ManifestError(problems);
  return manifest;
}

function readFields(fields: Fields): PluginManifest {
  const text = (field: string): string => fields.text(field);
  const config = fields.optional("config", (field) => fields.object(field));
  return withoutAbsent<PluginManifest>({
    name: fields.text("name"),
    version: fields.text("version"),
    display_name: fields.optional("display_name", text),
    description: fields.optional("description", text),
    events: fields.list("events", textEntry),
    health_path: fields.text("health_path", "/health"),
    nav: fields.list("nav", readNav),
    requires_db: fields.flag("requires_db", false),
    api_version: fields.optional("api_version", text),
    permissions: fields.optional("permissions", (field) => readPermissions(new Fields(fields.raw(field), field))),
    egress: fields.optional("egress", (field) => fields.list(field, textEntry)),
    config,
    resources: fields.optional("resources", (field) => readResources(new Fields(fields.raw(field), field))),
    ordering: fields.optional("ordering", text) as "relaxed" | "strict" | undefined,
    filters: fields.list("filters", readFilter),
    public_paths: fields.list("public_paths", textEntry),
    ui: fields.optional("ui", (field) => readUi(new Fields(fields.raw(field), field))),
  });
}

function readNav(value: unknown, name: string): NavEntry {
  const fields = new Fields(value, name);
  const order = fields.raw("order");
  if (typeof order !== "number" || !Number.isInteger(order)) {
    throw new WireError(`must be an integer, found ${kindOf(order)}`, fields.name("order"));
  }
  const section = fields.text("section") as NavSection;
  return { label: fields.text("label"), icon: fields.text("icon"), section, path: fields.text("path"), order };
}

function readPermissions(fields: Fields): Permissions {
  const methods = fields.list("methods", textEntry) as Method[];
  return withoutAbsent<Permissions>({
    methods,
    projects: fields.optional("projects", (field) => fields.list(field, (entry, name) => integerEntry(entry, name))),
  });
}

function readResources(fields: Fields): Resources {
  const text = (field: string): string => fields.text(field);
  const count = (field: string): number => fields.integer(field, 0);
  return withoutAbsent<Resources>({
    memory_max: fields.optional("memory_max", text),
    cpu_quota: fields.optional("cpu_quota", text),
    tasks_max: fields.optional("tasks_max", count),
    nofile: fields.optional("nofile", count),
    disk_max: fields.optional("disk_max", text),
  });
}

function readFilter(value: unknown, name: string): EventFilter {
  const fields = new Fields(value, name);
  return { path: fields.text("path"), any_of: fields.list("any_of", (entry) => entry, true) };
}

function readUi(fields: Fields): UiEntry {
  const route = (value: unknown, name: string) => {
    const entry = new Fields(value, name);
    return { path: entry.text("path"), title: entry.text("title") };
  };
  return { entry_js: fields.text("entry_js"), css: fields.list("css", textEntry), routes: fields.list("routes", route) };
}

function withoutAbsent<T extends object>(value: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as T;
}
