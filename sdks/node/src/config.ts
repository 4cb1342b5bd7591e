/** The plugin's settings, as the host sends them. */

import { Fields, type JsonObject } from "./rules.js";

/** All settings of a plugin, defaults and secrets among them. */
export interface Configuration {
  /** The settings by name. Secrets are in it: never log it. */
  config: JsonObject;
  /** Grows with each change; 0 while nothing was ever set. */
  revision: number;
}

/** There are no settings: the host sent none. */
export class ConfigError extends Error {
  constructor() {
    super('the host sent no settings; does the manifest declare "config"?');
    this.name = "ConfigError";
  }
}

/** Reads settings as they stand on the wire. @throws {WireError} names the field that is wrong. */
export function readConfiguration(value: unknown): Configuration {
  const fields = new Fields(value);
  return { config: fields.object("config"), revision: fields.revision("revision") };
}
