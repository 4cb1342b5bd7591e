/** What a plugin's handlers are given: the platform, storage and settings, a directory, and whether it is time to end. */

import type { Channel } from "./channel.js";
import { type Configuration, ConfigError } from "./config.js";
import type { Feature, Launch } from "./handshake.js";
import { KeyValue } from "./kv.js";
import { type Logger, describe, loggerFor } from "./log.js";
import { Platform } from "./platform.js";
import type { JsonObject } from "./rules.js";

/** Handed to every handler and hook. */
export class Context {
  /** The plugin's name, as the host knows it. */
  readonly name: string;
  /** Asks the platform for projects, environments and deployments. */
  readonly platform: Platform;
  /** The plugin's key-value storage at the host. */
  readonly kv: KeyValue;
  /** A log that carries the plugin's name. */
  readonly logger: Logger;

  constructor(
    name: string,
    private readonly launch: Launch,
    private readonly channel: Channel,
    /** Aborted when the plugin is told to end; for work in the background and for long answers. */
    readonly stopping: AbortSignal,
  ) {
    this.name = launch.pluginName ?? name;
    this.platform = new Platform(channel);
    this.kv = new KeyValue(channel);
    this.logger = loggerFor(this.name);
  }

  /**
   * The settings as they are now, with defaults. Secrets are in them: never log them.
   *
   * @throws {ConfigError} when the host sent none; a host of temps does so before the start hook runs.
   */
  get config(): JsonObject {
    return { ...this.configuration.config };
  }

  /** The settings with their revision. @throws {ConfigError} when the host sent none. */
  get configuration(): Configuration {
    if (this.channel.configuration === undefined) throw new ConfigError();
    return this.channel.configuration;
  }

  /**
   * The settings as `read` makes them, for example `ctx.configAs(Settings.parse)`; without `read`, as the type that the
   * caller says, which the manifest's schema promises.
   *
   * @throws {ConfigError} when the host sent none; whatever `read` throws.
   */
  configAs<T>(read?: (config: JsonObject) => T): T {
    return read === undefined ? (this.config as T) : read(this.config);
  }

  /** The plugin's own directory; its content outlives restarts and updates. */
  get dataDir(): string {
    return this.launch.dataDir;
  }

  /** The URL of the plugin's own database, for a manifest with `requires_db`; drivers take it as it is. */
  get databaseUrl(): string | undefined {
    return this.launch.databaseUrl;
  }

  /** The auth secret of this start, which the host shows with every request. Never log it. */
  get authSecret(): string {
    return this.launch.authSecret;
  }

  /** Version of the protocol that the host speaks, if it said so. */
  get apiVersion(): string | undefined {
    return this.launch.apiVersion;
  }

  /** Whether the host announced an optional feature. */
  hostHas(feature: Feature): boolean {
    return this.launch.hostFeatures.includes(feature);
  }

  /** Whether the plugin was told to end. */
  get isStopping(): boolean {
    return this.stopping.aborted;
  }

  /** Starts work beside the current call. A failure of it is logged. The plugin's end does not wait for it. */
  spawn(work: () => Promise<unknown>): void {
    const failed = (error: unknown): void => this.logger.error(`work in the background failed: ${describe(error, true)}`);
    void Promise.resolve().then(work).catch(failed);
  }
}
