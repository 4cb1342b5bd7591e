/**
 * The plugin's end of the channel: questions to the host, their answers, events and settings that come in.
 *
 * The host connects; the plugin accepts. There is one channel at a time: a new one takes the place of the old one, whose
 * unanswered questions fail. Reading never waits for the handler of an event, only for room in the line of events, so that
 * a handler can ask and be answered.
 */

import type { Duplex } from "node:stream";
import type { IncomingMessage } from "node:http";
import { type Configuration, readConfiguration } from "./config.js";
import { type PluginEvent, readEvent } from "./event.js";
import { logger } from "./log.js";
import { Fields, type JsonObject, WireError, byteLength, parseObject } from "./rules.js";
import { type Connection, MAX_MESSAGE_BYTES, accept } from "./websocket.js";

/** How long an answer is waited for unless said otherwise, in milliseconds; a wait for the channel is part of it. */
export const REQUEST_TIMEOUT = 10_000;

/** Questions that may be unanswered at a time; further ones wait. */
const MAX_IN_FLIGHT = 32;

/** Longest reason that a host is told, in characters. */
export const MAX_REASON = 1_000;

/** Frames that are not understood are logged at most this often, in milliseconds. */
const COMPLAINT_INTERVAL = 60_000;

/** Error codes that this version knows; any other is read as `internal`. */
export const ERROR_CODES = [
  "method_not_found",
  "invalid_params",
  "permission_denied",
  "not_found",
  "busy",
  "timeout",
  "conflict",
  "quota_exceeded",
  "internal",
] as const;

/** Why there is no result, for programs. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** The host did not answer with a result. */
export class ChannelError extends Error {
  /** For programs, for example `not_found`. */
  readonly code: ErrorCode;
  /** With `conflict`: the revision that the entry has by now; 0 when it does not exist. */
  readonly revision: number | undefined;

  constructor(code: string, message: string, revision?: number) {
    super(message);
    this.name = "ChannelError";
    this.code = (ERROR_CODES as readonly string[]).includes(code) ? (code as ErrorCode) : "internal";
    this.revision = revision;
  }
}

/** There is no channel, or it was lost before the answer came. Asking again later may work. Its code is `internal`. */
export class ChannelLost extends ChannelError {
  constructor(message: string) {
    super("internal", message);
    this.name = "ChannelLost";
  }
}

/** The answer to a question. */
export interface ResponseFrame {
  type: "response";
  /** The question's id, whatever JSON value that was. */
  id: unknown;
  result?: unknown;
  error?: ChannelError;
}

/** A frame of the host. */
export type HostFrame =
  | ResponseFrame
  | { type: "event"; event: PluginEvent }
  | ({ type: "config" } & Configuration);

/**
 * Reads a frame of the host; undefined for a type of another version.
 *
 * @throws {WireError} when it is no frame, or one of a known type that breaks a rule.
 */
export function readFrame(text: string): HostFrame | undefined {
  const value = parseObject(text, "frame");
  switch (new Fields(value).text("type")) {
    case "response":
      return readResponse(value);
    case "event":
      return { type: "event", event: readEvent(value["event"]) };
    case "config":
      return { type: "config", ...readConfiguration(value) };
    default:
      return undefined;
  }
}

/** Reads an answer. @throws {WireError} names the field that is wrong. */
export function readResponse(value: JsonObject): ResponseFrame {
  const fields = new Fields(value);
  if (!fields.has("id")) throw new WireError("is missing", "id");
  const id = fields.raw("id");
  const words = fields.optional("error", (field) => new Fields(fields.raw(field), field));
  if (words === undefined) return { type: "response", id, result: fields.raw("result") ?? null };
  const revision = words.raw("revision");
  const known = typeof revision === "number" ? revision : undefined;
  return { type: "response", id, error: new ChannelError(words.text("code"), words.text("message"), known) };
}

/** The frame of a question. */
export function requestFrame(id: unknown, method: string, params: JsonObject): string {
  return JSON.stringify({ type: "request", id, method, params });
}

/** The frame that confirms an event, or says why it was not handled. */
export function ackFrame(id: string, error?: string): string {
  if (error === undefined) return JSON.stringify({ type: "ack", id, status: "ok" });
  return JSON.stringify({ type: "ack", id, status: "error", error: error.slice(0, MAX_REASON) });
}

/** Takes the events of a channel. */
export interface EventSink {
  /** Takes one event of `bytes` bytes. `done` is called once, with the reason if it was not handled. */
  push(event: PluginEvent, bytes: number, done: (failure: string | undefined) => void): void;
  /** Whether there is room for another; if not, `whenRoom` is called once there is. */
  hasRoom(): boolean;
  whenRoom(call: () => void): void;
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

interface Link {
  connection: Connection;
  waiting: Map<number, Waiting>;
}

/** The channel, whichever connection carries it now. */
export class Channel {
  /** The settings that the host sent last. */
  configuration: Configuration | undefined;

  private link: Link | undefined;
  private closed = false;
  private nextId = 1;
  private inFlight = 0;
  private readonly places: Array<() => void> = [];
  private readonly linkWatchers = new Set<() => void>();
  private complaints = 0;
  private complainedAt = -COMPLAINT_INTERVAL;

  /** `confirms`: each event is confirmed once it was handled. `changed` is told of each configuration. */
  constructor(
    private readonly events: EventSink,
    private readonly confirms: boolean,
    private readonly changed: () => void,
  ) {}

  /** Whether there is a connection now. */
  get isOpen(): boolean {
    return this.link !== undefined;
  }

  /** Takes a connection in place of the one before. */
  serve(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    accept(request, socket, head, (connection) => {
      const link: Link = { connection, waiting: new Map() };
      const old = this.link;
      if (this.closed) {
        void connection.close("the plugin is ending");
      } else {
        this.link = link;
        if (old !== undefined) this.drop(old, "a new channel took its place");
        for (const watcher of [...this.linkWatchers]) watcher();
      }
      return {
        text: (text) => this.take(link, text),
        binary: () => this.complain("a binary message"),
        ended: (reason) => {
          logger.debug("the channel ended", { reason });
          if (this.link === link) this.link = undefined;
          fail(link);
        },
      };
    });
  }

  /**
   * Asks the host and returns the result. All of it, the wait for a place and for a channel too, takes `timeout` ms at most.
   *
   * @throws {ChannelError} when the host refuses, does not answer in time, or there is no channel.
   */
  async request(method: string, params: JsonObject, timeout = REQUEST_TIMEOUT): Promise<unknown> {
    const deadline = Date.now() + timeout;
    const late = () => new ChannelError("timeout", `no answer to ${method} in ${timeout / 1000} s`);
    await within(deadline, late, (done) => this.takePlace(done));
    try {
      const none = () => new ChannelLost(`the host opened no channel for ${method} in ${timeout / 1000} s`);
      await within(deadline, none, (done) => this.whenLinked(done));
      return await this.ask(method, params, deadline, late);
    } finally {
      this.givePlace();
    }
  }

  /** Ends the connection that is there now, after what was to be sent, and accepts no other. */
  async close(): Promise<void> {
    this.closed = true;
    await this.link?.connection.close("the plugin is ending");
  }

  private ask(method: string, params: JsonObject, deadline: number, late: () => Error): Promise<unknown> {
    const link = this.link;
    if (link === undefined) throw new ChannelLost("there is no channel");
    // Ids stay within 31 bits: some hosts read them as such.
    const id = this.nextId;
    this.nextId = id === 0x7fff_ffff ? 1 : id + 1;
    const frame = requestFrame(id, method, params);
    if (byteLength(frame) > MAX_MESSAGE_BYTES) {
      throw new ChannelError("invalid_params", `the question ${method} has more than ${MAX_MESSAGE_BYTES} bytes`);
    }
    return new Promise<unknown>((resolve, reject) => {
      const timer = setTimeout(() => reject(late()), Math.max(0, deadline - Date.now()));
      link.waiting.set(id, {
        resolve: (result) => (clearTimeout(timer), resolve(result)),
        reject: (error) => (clearTimeout(timer), reject(error)),
      });
      link.connection.send(frame);
    }).finally(() => link.waiting.delete(id));
  }

  private take(link: Link, text: string): void {
    let frame: HostFrame | undefined;
    try {
      frame = readFrame(text);
    } catch (error) {
      return this.complain(`a frame that cannot be read: ${(error as Error).message}`);
    }
    if (frame === undefined) return;
    if (frame.type === "response") return this.answered(link, frame);
    if (frame.type === "config") {
      this.configuration = { config: frame.config, revision: frame.revision };
      return this.changed();
    }
    const { event } = frame;
    // Over the connection that the event came over and no other: the host sends again what was not confirmed there.
    this.events.push(event, byteLength(text), (failure) => {
      if (this.confirms) link.connection.send(ackFrame(event.id, failure));
    });
    if (!this.events.hasRoom()) {
      link.connection.pause();
      this.events.whenRoom(() => link.connection.resume());
    }
  }

  private answered(link: Link, frame: ResponseFrame): void {
    const waiting = typeof frame.id === "number" ? link.waiting.get(frame.id) : undefined;
    if (waiting === undefined) return this.complain("an answer that nobody waits for");
    if (frame.error === undefined) waiting.resolve(frame.result);
    else waiting.reject(frame.error);
  }

  private drop(link: Link, reason: string): void {
    fail(link);
    void link.connection.close(reason);
  }

  private takePlace(done: () => void): () => void {
    const take = (): void => {
      this.inFlight += 1;
      done();
    };
    if (this.inFlight < MAX_IN_FLIGHT) {
      take();
      return () => undefined;
    }
    this.places.push(take);
    return () => {
      const at = this.places.indexOf(take);
      if (at >= 0) this.places.splice(at, 1);
    };
  }

  private givePlace(): void {
    this.inFlight -= 1;
    this.places.shift()?.();
  }

  private whenLinked(done: () => void): () => void {
    if (this.link !== undefined) {
      done();
      return () => undefined;
    }
    this.linkWatchers.add(done);
    return () => this.linkWatchers.delete(done);
  }

  private complain(what: string): void {
    this.complaints += 1;
    const now = performance.now();
    if (now - this.complainedAt < COMPLAINT_INTERVAL) return;
    this.complainedAt = now;
    logger.warn(`the host sent ${what}; it is ignored`, { count: this.complaints });
  }
}

function fail(link: Link): void {
  for (const waiting of link.waiting.values()) {
    waiting.reject(new ChannelLost("the channel was lost before the answer came"));
  }
  link.waiting.clear();
}

/** Waits until `begin` calls back, until `deadline` at most. What `begin` returns ends the wait early. */
function within(deadline: number, late: () => Error, begin: (done: () => void) => () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let cancel: () => void = () => undefined;
    const timer = setTimeout(() => (cancel(), reject(late())), Math.max(0, deadline - Date.now()));
    cancel = begin(() => (clearTimeout(timer), cancel(), resolve()));
  });
}
