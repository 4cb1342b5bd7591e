/** The plugin's key-value storage: small JSON values that the host keeps, each plugin its own. */

import { type Channel, ChannelError, REQUEST_TIMEOUT } from "./channel.js";
import { readAnswer } from "./platform.js";
import { Fields, type JsonObject } from "./rules.js";

/** Entries that one question of {@link KeyValue.list} asks for. */
const PAGE = 100;

/** One entry. */
export interface Entry<T = unknown> {
  key: string;
  /** Its value: anything that JSON knows. */
  value: T;
  /** Grows with each write; give it to {@link KeyValue.put}. */
  revision: number;
  /** When it ends (RFC 3339 in UTC), if it does. */
  expires_at?: string;
}

/** One page of entries. */
export interface Page<T = unknown> {
  /** Entries; asked for without `values`, they have no value. There may be fewer than `limit`. */
  entries: Array<Entry<T>>;
  /** Where the next page begins, if there is one. */
  cursor?: string;
}

/** How an entry is written. */
export interface PutOptions {
  /** The entry ends after this time, in seconds (rounded up to whole ones), ten years at most. */
  ttl?: number;
  /** Write only if the entry still has this revision; 0: if it does not exist. */
  revision?: number;
}

/**
 * The storage. A value has 64 KiB of JSON at most, a key 256 bytes, all together 10 MiB in 10,000 entries. A write is
 * durable when its call returns.
 *
 * All calls throw {@link ChannelError}: with the code `conflict` (and the present `revision`) when the entry has another
 * revision than expected, with `quota_exceeded` when it would be more than the plugin may keep. The types of values are
 * the caller's word; nothing checks them.
 */
export class KeyValue {
  constructor(
    private readonly channel: Channel,
    private readonly timeout = REQUEST_TIMEOUT,
  ) {}

  /** The same storage with another time-out per call, in milliseconds. */
  withTimeout(milliseconds: number): KeyValue {
    return new KeyValue(this.channel, milliseconds);
  }

  /** One entry with its revision; undefined when there is none, or when it has ended. */
  async entry<T = unknown>(key: string): Promise<Entry<T> | undefined> {
    try {
      return await this.ask("kv_get", { key }, (value) => readEntry<T>(value));
    } catch (error) {
      if (error instanceof ChannelError && error.code === "not_found") return undefined;
      throw error;
    }
  }

  /** The value of one entry; undefined when there is none, or when it has ended. */
  async get<T = unknown>(key: string): Promise<T | undefined> {
    return (await this.entry<T>(key))?.value;
  }

  /** Writes an entry and returns its new revision. Of several that expect the same revision, one succeeds. */
  async put(key: string, value: unknown, options: PutOptions = {}): Promise<number> {
    if (JSON.stringify(value) === undefined) throw new TypeError(`the value of ${JSON.stringify(key)} is nothing that JSON knows`);
    const params: JsonObject = { key, value };
    if (options.ttl !== undefined) params["ttl"] = Math.ceil(options.ttl);
    if (options.revision !== undefined) params["revision"] = options.revision;
    return this.ask("kv_put", params, (result) => new Fields(result).revision("revision"));
  }

  /** Deletes an entry, with `revision` only if it still has that one. Returns whether it was there. */
  async delete(key: string, options: { revision?: number } = {}): Promise<boolean> {
    const params: JsonObject = options.revision === undefined ? { key } : { key, revision: options.revision };
    return this.ask("kv_delete", params, (result) => new Fields(result).flag("deleted"));
  }

  /** Keys that begin with `prefix`, in the order of their bytes. */
  async keys(prefix = ""): Promise<string[]> {
    return (await this.all(prefix, false)).map((entry) => entry.key);
  }

  /** Entries whose keys begin with `prefix`, with their values, in the order of the bytes of their keys. */
  async list<T = unknown>(prefix = ""): Promise<Array<Entry<T>>> {
    return this.all<T>(prefix, true);
  }

  /** One page; `limit` is 1 to 1000, by default 100. */
  async page<T = unknown>(
    params: { prefix?: string; limit?: number; cursor?: string; values?: boolean } = {},
  ): Promise<Page<T>> {
    return this.ask("kv_list", { ...params }, (value) => readPage<T>(value));
  }

  /** All pages. The quota bounds them. */
  private async all<T>(prefix: string, values: boolean): Promise<Array<Entry<T>>> {
    const entries: Array<Entry<T>> = [];
    let page = await this.page<T>({ prefix, values, limit: PAGE });
    for (;;) {
      entries.push(...page.entries);
      if (page.cursor === undefined) return entries;
      page = await this.page<T>({ prefix, values, limit: PAGE, cursor: page.cursor });
    }
  }

  private async ask<T>(method: string, params: JsonObject, read: (value: unknown) => T): Promise<T> {
    return readAnswer(method, await this.channel.request(method, params, this.timeout), read);
  }
}

/** Reads an entry. @throws {WireError} names the field that is wrong. */
export function readEntry<T = unknown>(value: unknown, name = ""): Entry<T> {
  const fields = new Fields(value, name);
  const expires = fields.optional("expires_at", fields.time);
  return {
    key: fields.text("key"),
    ...((fields.has("value") ? { value: fields.raw("value") } : {}) as { value: T }),
    revision: fields.revision("revision"),
    ...(expires === undefined ? {} : { expires_at: expires }),
  };
}

/** Reads a page of entries. @throws {WireError} names the field that is wrong. */
export function readPage<T = unknown>(value: unknown): Page<T> {
  const fields = new Fields(value);
  const cursor = fields.optional("cursor", (field) => fields.text(field));
  const entries = fields.list("entries", (entry, name) => readEntry<T>(entry, name), true);
  return cursor === undefined ? { entries } : { entries, cursor };
}
