/**
 * Reading what came over the wire: every field is checked by name, and a refusal says which one and why.
 *
 * Nothing here knows what a manifest or an event is.
 */

const MIN_I32 = -(2 ** 31);
const MAX_I32 = 2 ** 31 - 1;

/** Anything that JSON knows, as an object. */
export type JsonObject = Record<string, unknown>;

/** A message breaks a rule of the protocol. */
export class WireError extends Error {
  /** The part that breaks the rule, where it has a name, for example `nav[0].label`. */
  readonly field: string | undefined;

  constructor(message: string, field?: string) {
    super(field ? `${field}: ${message}` : message);
    this.name = "WireError";
    this.field = field;
  }
}

/**
 * Reads a JSON object.
 *
 * @throws {WireError} when the text is something else.
 */
export function parseObject(text: string, what: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new WireError(`the ${what} is not JSON`);
  }
  if (!isObject(value)) throw new WireError(`the ${what} must be a JSON object, found ${kindOf(value)}`);
  return value;
}

/** Whether `value` is an object of JSON: neither null nor a list. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The fields of one object. Null stands for an absent field; unknown fields are left alone. */
export class Fields {
  private readonly value: JsonObject;

  constructor(
    value: unknown,
    private readonly path = "",
  ) {
    if (!isObject(value)) throw new WireError(`must be an object, found ${kindOf(value)}`, path || undefined);
    this.value = value;
  }

  /** The field's name in a refusal. */
  name(field: string): string {
    return this.path ? `${this.path}.${field}` : field;
  }

  /** Whatever stands there. */
  raw(field: string): unknown {
    return this.value[field];
  }

  /** Whether the field stands there, null or not. */
  has(field: string): boolean {
    return Object.hasOwn(this.value, field);
  }

  text(field: string, otherwise?: string): string {
    return this.get(field, otherwise, "a text", (value) => typeof value === "string");
  }

  flag(field: string, otherwise?: boolean): boolean {
    return this.get(field, otherwise, "true or false", (value) => typeof value === "boolean");
  }

  object(field: string, otherwise?: JsonObject): JsonObject {
    return this.get(field, otherwise, "an object", isObject);
  }

  /** An integer of 32 bits, not below `least`. */
  integer(field: string, least = MIN_I32): number {
    return integerEntry(this.value[field], this.name(field), least);
  }

  /** A revision: an integer of 64 bits, as far as numbers here are exact. */
  revision(field: string): number {
    const value = this.value[field];
    if (!Number.isSafeInteger(value)) throw new WireError(`must be an integer, found ${kindOf(value)}`, this.name(field));
    return value as number;
  }

  /** A moment in RFC 3339, turned to UTC. */
  time(field: string): string {
    const text = this.text(field);
    const moment = toUtc(text);
    if (moment === undefined) throw new WireError(`${quote(text)} is not a time in RFC 3339`, this.name(field));
    return moment;
  }

  /** A list, each entry read by `read(entry, name)`; empty when absent, unless it must be there. */
  list<T>(field: string, read: (entry: unknown, name: string) => T, mustBeThere = false): T[] {
    const value = this.value[field];
    if ((value === undefined || value === null) && !mustBeThere) return [];
    if (!Array.isArray(value)) throw new WireError(`must be a list, found ${kindOf(value)}`, this.name(field));
    return value.map((entry, index) => read(entry, `${this.name(field)}[${index}]`));
  }

  /** `read()`, or undefined when the field is absent or null. */
  optional<T>(field: string, read: (field: string) => T): T | undefined {
    const value = this.value[field];
    return value === undefined || value === null ? undefined : read.call(this, field);
  }

  private get<T>(field: string, otherwise: T | undefined, words: string, fits: (value: unknown) => boolean): T {
    const value = this.value[field];
    if ((value === undefined || value === null) && otherwise !== undefined) return otherwise;
    if (!fits(value)) {
      const missing = this.has(field) ? "" : " (it is missing)";
      throw new WireError(`must be ${words}, found ${kindOf(value)}${missing}`, this.name(field));
    }
    return value as T;
  }
}

/** An entry of a list that must be a text. */
export function textEntry(value: unknown, name: string): string {
  if (typeof value !== "string") throw new WireError(`must be a text, found ${kindOf(value)}`, name);
  return value;
}

/** An entry of a list that must be an integer of 32 bits. */
export function integerEntry(value: unknown, name: string, least = MIN_I32): number {
  if (typeof value !== "number" || !Number.isInteger(value)) {
    throw new WireError(`must be an integer, found ${kindOf(value)}`, name);
  }
  if (value < least || value > MAX_I32) throw new WireError(`must be from ${least} to ${MAX_I32}, found ${value}`, name);
  return value;
}

const TIME = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/;

/**
 * Reads RFC 3339 with an offset and writes it in UTC, its fraction of a second unchanged; undefined for anything else.
 * Texts, because a `Date` would cut off what is finer than a millisecond.
 */
export function toUtc(text: string): string | undefined {
  const [, date, time, fraction = "", zone] = TIME.exec(text) ?? [];
  if (date === undefined || time === undefined || zone === undefined) return undefined;
  const moment = new Date(`${date}T${time}${zone.toUpperCase()}`);
  // A `Date` takes the 30th of February for a day in March.
  const local = new Date(`${date}T${time}Z`);
  if (Number.isNaN(moment.getTime()) || Number.isNaN(local.getTime())) return undefined;
  if (local.toISOString().slice(0, 19) !== `${date}T${time}`) return undefined;
  return `${moment.toISOString().slice(0, 19)}${fraction}Z`;
}

/** A text in a message, shortened. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

/** What a value is, in words. */
export function kindOf(value: unknown): string {
  if (value === undefined || value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  const words: Record<string, string> = { string: "a text", number: "a number", boolean: "true or false", object: "an object" };
  return words[typeof value] ?? `a ${typeof value}`;
}

/** Length of a text in bytes of UTF-8. */
export function byteLength(text: string): number {
  return Buffer.byteLength(text, "utf8");
}
