/** Events: what happened on the platform, as a plugin sees it. */

import type { Payloads } from "./payload.js";
import { Fields, WireError, quote } from "./rules.js";

/** Longest event on the wire, in bytes. */
export const MAX_EVENT_BYTES = 256 * 1024;

/** Longest event type or pattern, in characters. */
const MAX_TYPE = 128;

const WORD = "[a-z][a-z0-9_]*";
const TYPE = new RegExp(`^${WORD}(?:\\.${WORD})+$`);
const PATTERN = new RegExp(`^(?:\\*|${WORD}(?:\\.${WORD})*\\.\\*|${WORD}(?:\\.${WORD})+)$`);
const ID = /^[\x21-\x7e]{1,64}$/;

/** An event type of the specification. A platform may have types of its own. */
export type EventType = keyof Payloads;

/**
 * One thing that happened. It may come twice, after a crash or because the operator had it sent again; whoever must not
 * act twice remembers its `id`.
 */
export interface PluginEvent<Type extends string = string, Data = Record<string, unknown>> {
  /** Identity of the event, at most 64 characters; a UUID. */
  id: string;
  /** What happened, for example `deployment.succeeded`. */
  event_type: Type;
  /** When it happened: RFC 3339 in UTC. `new Date(event.timestamp)` reads it. */
  timestamp: string;
  /** The project that it concerns; absent for events of no project. */
  project_id?: number;
  /** The payload; its fields depend on the type. Unknown fields may be there. */
  data: Data;
}

/** An event of one known type, with its payload. */
export type EventOf<Type extends EventType> = Type extends EventType ? PluginEvent<Type, Payloads[Type]> : never;

/**
 * The events that a pattern takes in. `"deployment.succeeded"` gives its payload, `"deployment.*"` the union of all known
 * types below it, other patterns an event with any data.
 */
export type EventFor<Pattern extends string> = Pattern extends EventType
  ? EventOf<Pattern>
  : Pattern extends `${infer Prefix}.*`
    ? [Extract<EventType, `${Prefix}.${string}`>] extends [never]
      ? PluginEvent
      : EventOf<Extract<EventType, `${Prefix}.${string}`>>
    : PluginEvent;

/**
 * Reads an event as it stands on the wire.
 *
 * @throws {WireError} says which field is wrong, and why.
 */
export function readEvent(value: unknown): PluginEvent {
  const fields = new Fields(value);
  const projectId = fields.optional("project_id", fields.integer);
  const event: PluginEvent = {
    id: fields.text("id"),
    event_type: fields.text("event_type"),
    timestamp: fields.time("timestamp"),
    ...(projectId === undefined ? {} : { project_id: projectId }),
    data: fields.has("data") ? fields.object("data") : {},
  };
  if (!ID.test(event.id)) throw new WireError("must be 1 to 64 printable characters, best a UUID", "id");
  if (!isEventType(event.event_type)) {
    throw new WireError(`${quote(event.event_type)} is not a type like "deployment.succeeded"`, "event_type");
  }
  return event;
}

/** Whether `text` is an event type: at least two dotted words of lower-case letters, digits and underscores. */
export function isEventType(text: string): boolean {
  return text.length <= MAX_TYPE && TYPE.test(text);
}

/** Whether `text` is a subscription: an event type, `prefix.*`, or `*`. */
export function isPattern(text: string): boolean {
  return text.length <= MAX_TYPE && PATTERN.test(text);
}

/** Whether a subscription takes in an event type. */
export function matches(pattern: string, eventType: string): boolean {
  if (pattern === "*") return true;
  if (!pattern.endsWith(".*")) return pattern === eventType;
  return eventType.startsWith(pattern.slice(0, -1)) && eventType.length >= pattern.length;
}
