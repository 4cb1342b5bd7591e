/** The rules that a manifest must keep. All broken ones are found at once, so that an author mends them in one go. */

import { isIP } from "node:net";
import { isPattern } from "./event.js";
import { METHODS, type ManifestProblem, type PluginManifest } from "./manifest.js";
import { WireError, byteLength, quote } from "./rules.js";

/** Longest list in a manifest, in entries. */
const MAX_ENTRIES = 100;

/** Longest text in a manifest, in bytes. */
const MAX_TEXT = 2 * 1024;

/** Names that belong to the host. */
const RESERVED_NAMES = new Set(
  "api admin auth console events health host login logout metrics platform plugin plugins system temps ui".split(" "),
);

const NAME = /^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const VERSION = /^[\x21-\x7e]{1,64}$/;
const API_VERSION = /^[0-9]+(?:\.[0-9]+){0,2}$/;
const PATH = /^\/[\x21-\x7e]{0,255}$/;
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/;
const SECTIONS = ["platform", "settings", "project"];

/**
 * Checks a plugin's name.
 *
 * @throws {WireError} says what is wrong with it.
 */
export function checkName(name: string): void {
  if (!NAME.test(name)) {
    const rule = "use 1 to 63 lower-case letters, digits and inner hyphens, beginning with a letter";
    throw new WireError(`${quote(name)} is not a plugin name; ${rule}`);
  }
  if (RESERVED_NAMES.has(name)) throw new WireError(`${quote(name)} is kept for the host; choose another name`);
}

/** All rules that a manifest breaks. */
export function problemsOf(manifest: PluginManifest): ManifestProblem[] {
  const problems = new Problems();
  checkIdentity(manifest, problems);
  checkPaths(manifest, problems);
  checkWishes(manifest, problems);
  return problems.found;
}

class Problems {
  readonly found: ManifestProblem[] = [];

  add(field: string, message: string | undefined): void {
    if (message !== undefined) this.found.push({ field, message });
  }

  text(field: string, text: string | undefined): void {
    if (text === undefined) return;
    if (byteLength(text) > MAX_TEXT) this.add(field, `has more than ${MAX_TEXT} bytes`);
    if (CONTROL.test(text)) this.add(field, "has control characters");
  }

  each<T>(field: string, entries: readonly T[] | undefined, check: (entry: T, field: string) => void): void {
    if (entries === undefined) return;
    if (entries.length > MAX_ENTRIES) {
      this.add(field, `has ${entries.length} entries; at most ${MAX_ENTRIES} are allowed`);
    }
    entries.slice(0, MAX_ENTRIES).forEach((entry, index) => check(entry, `${field}[${index}]`));
  }
}

function checkIdentity(manifest: PluginManifest, problems: Problems): void {
  try {
    checkName(manifest.name);
  } catch (error) {
    problems.add("name", (error as Error).message);
  }
  if (!VERSION.test(manifest.version)) {
    problems.add("version", `${quote(manifest.version)} is not a version; use a semantic version like "1.0.0"`);
  }
  problems.text("display_name", manifest.display_name);
  problems.text("description", manifest.description);
  if (manifest.api_version !== undefined && !API_VERSION.test(manifest.api_version)) {
    problems.add("api_version", `${quote(manifest.api_version)} is not a version like "1.0"`);
  }
}

function checkPaths(manifest: PluginManifest, problems: Problems): void {
  problems.add("health_path", pathProblem(manifest.health_path ?? "/health"));
  problems.each("nav", manifest.nav, (entry, field) => {
    if (entry.label.trim() === "") problems.add(`${field}.label`, "must not be empty");
    for (const part of ["label", "icon", "path"] as const) problems.text(`${field}.${part}`, entry[part]);
    if (!SECTIONS.includes(entry.section)) {
      problems.add(`${field}.section`, `${quote(entry.section)} is not one of ${SECTIONS.join(", ")}`);
    }
    if (!entry.path.startsWith("/") || entry.path.includes("..") || entry.path.includes("\\")) {
      problems.add(`${field}.path`, 'must begin with "/" and stay inside the plugin');
    }
    if (entry.order < 0 || entry.order >= 2 ** 32) problems.add(`${field}.order`, "must be from 0 to 4294967295");
  });
  problems.each("public_paths", manifest.public_paths, (path, field) => problems.add(field, pathProblem(path)));
}

function checkWishes(manifest: PluginManifest, problems: Problems): void {
  problems.each("events", manifest.events, (pattern, field) => {
    if (isPattern(pattern)) return;
    const right = 'neither a type like "deployment.succeeded" nor a pattern like "deployment.*"';
    problems.add(field, `${quote(pattern)} is ${right}`);
  });
  problems.each("permissions.methods", manifest.permissions?.methods, (method, field) => {
    if (METHODS.includes(method)) return;
    problems.add(field, `${quote(method)} is not a method that needs a permission; known are ${METHODS.join(", ")}`);
  });
  problems.each("egress", manifest.egress, (target, field) => {
    if (!isEgressTarget(target)) problems.add(field, `${quote(target)} is not a public host name, with an optional port`);
  });
  if (manifest.ordering !== undefined && !["relaxed", "strict"].includes(manifest.ordering)) {
    problems.add("ordering", `${quote(manifest.ordering)} is not one of relaxed, strict`);
  }
  problems.each("filters", manifest.filters, ({ path }, field) => {
    if (path === "project_id" || path === "environment_id" || path.startsWith("data.")) return;
    problems.add(`${field}.path`, 'must be project_id, environment_id, or begin with "data."');
  });
}

function pathProblem(path: string): string | undefined {
  if (!path.startsWith("/")) return 'must begin with "/"';
  if (!PATH.test(path) || /[%?#\\]/.test(path)) return "must be at most 256 plain characters, without % ? # \\ and spaces";
  const segments = path.split("/");
  if (segments.includes(".") || segments.includes("..")) return 'must not have "." or ".." segments';
  if (segments[1] === "_temps" || segments[1] === "_events") return "/_temps and /_events belong to the host";
  return undefined;
}

function isEgressTarget(target: string): boolean {
  const colon = target.lastIndexOf(":");
  let name = target;
  if (colon >= 0) {
    const port = target.slice(colon + 1);
    if (!/^[0-9]{1,5}$/.test(port) || Number(port) === 0 || Number(port) > 65535) return false;
    name = target.slice(0, colon);
  }
  if (name.startsWith("*.")) name = name.slice(2);
  if (name === "*") return true;
  return isIP(name) === 0 && name.length <= 253 && name.includes(".") && name.split(".").every((label) => LABEL.test(label));
}
