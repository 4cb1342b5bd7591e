/** Requests to a plugin's routes, and what its handlers may answer with. */

import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { STATUS_CODES } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

/** Longest body that is read unless said otherwise, in bytes. A host lets 64 MiB pass. */
export const MAX_BODY_BYTES = 64 * 1024 * 1024;

/** Ends a request with a status and an explanation, as `application/problem+json`. */
export class HttpError extends Error {
  constructor(
    /** The status, for example 404. */
    readonly status: number,
    /** What is wrong, for whoever called. */
    readonly detail: string,
    /** Further headers of the answer. */
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(detail);
    this.name = "HttpError";
  }
}

/** Who calls, as the host has verified. */
export interface User {
  id: string;
  name: string;
  /** Address, where the host knows one. */
  email?: string;
  /** `admin` or `viewer`. */
  role: string;
}

/** One request to a plugin's route. */
export class PluginRequest {
  /** `GET`, `POST`, and so on. */
  readonly method: string;
  /** Path with its escapes undone, without the query. */
  readonly path: string;
  /** The query's parameters. */
  readonly query: URLSearchParams;
  /** Header fields; names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** Parts of the path that the route's pattern names, for example `id` of `/notes/{id}`. */
  params: Readonly<Record<string, string>> = {};
  private body: Promise<Buffer> | undefined;

  constructor(
    /** Node's own request, for what is not here: streams, sockets. */
    readonly raw: IncomingMessage,
    /** Aborted when whoever called has gone away. */
    readonly signal: AbortSignal,
  ) {
    const target = raw.url ?? "/";
    const question = target.indexOf("?");
    this.method = raw.method ?? "GET";
    this.path = decodePath(question < 0 ? target : target.slice(0, question));
    this.query = new URLSearchParams(question < 0 ? "" : target.slice(question + 1));
    this.headers = raw.headers;
  }

  /** Who calls; undefined for a caller that is not signed in. What callers claim themselves was removed by the host. */
  get user(): User | undefined {
    const part = (name: string): string | undefined => {
      const value = this.headers[`x-temps-user-${name}`];
      return typeof value === "string" ? decodePath(value) : undefined;
    };
    const id = part("id");
    if (id === undefined) return undefined;
    const email = part("email");
    return { id, name: part("name") ?? "", ...(email === undefined ? {} : { email }), role: part("role") ?? "" };
  }

  /** The whole body. @throws {HttpError} 413 when it has more than `most` bytes. */
  async bytes(most = MAX_BODY_BYTES): Promise<Buffer> {
    this.body ??= readBody(this.raw, most);
    return this.body;
  }

  /** The whole body as a text in UTF-8. @throws {HttpError} 413 when it has more than `most` bytes. */
  async text(most = MAX_BODY_BYTES): Promise<string> {
    return (await this.bytes(most)).toString("utf8");
  }

  /** The body as JSON. @throws {HttpError} 400 when it is none, 413 when it is too long. */
  async json(most = MAX_BODY_BYTES): Promise<unknown> {
    const text = await this.text(most);
    try {
      return JSON.parse(text);
    } catch {
      throw new HttpError(400, "the body is not JSON");
    }
  }
}

/** Undoes escapes; what cannot be read stays as it is. */
export function decodePath(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * What a handler returns: a web `Response` (streams too), a text, bytes, anything that JSON knows, or nothing, which is
 * 204.
 */
export type Answer = unknown;

/** An explained failure (RFC 9457). */
export function problem(status: number, detail: string, headers: Readonly<Record<string, string>> = {}): Response {
  const body = JSON.stringify({ title: STATUS_CODES[status] ?? "Error", status, detail });
  return new Response(body, { status, headers: { "content-type": "application/problem+json", ...headers } });
}

/** Server-sent events: each text becomes the data of one. The connection ends with the iteration, or the caller. */
export function eventStream(events: AsyncIterable<string>): Response {
  const frames = async function* (): AsyncGenerator<Uint8Array> {
    for await (const event of events) {
      const lines = event.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`);
      yield Buffer.from(`${lines.join("")}\n`);
    }
  };
  const body = Readable.toWeb(Readable.from(frames(), { objectMode: false, highWaterMark: 0 }));
  const headers = { "content-type": "text/event-stream", "cache-control": "no-cache" };
  return new Response(body as unknown as ReadableStream, { headers });
}

/** Writes what a handler returned. A caller that goes away in the middle ends it. */
export async function writeAnswer(answer: Answer, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (answer instanceof Response) return writeResponse(answer, request, response);
  if (response.headersSent || response.destroyed) return;
  if (answer === undefined || answer === null) return void response.writeHead(204).end();
  // With its length, so that head and body go out in one piece.
  const [type, body] = wholeBody(answer);
  response.writeHead(200, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(request.method === "HEAD" ? undefined : body);
}

function wholeBody(answer: unknown): [type: string, body: string | Uint8Array] {
  if (typeof answer === "string") return ["text/plain; charset=utf-8", answer];
  if (answer instanceof Uint8Array) return ["application/octet-stream", answer];
  const text = JSON.stringify(answer) as string | undefined;
  if (text === undefined) throw new TypeError(`a route answered with a ${typeof answer}, which JSON does not know`);
  return ["application/json", text];
}

async function writeResponse(answer: Response, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (response.headersSent || response.destroyed) return;
  const headers: Record<string, string | string[]> = {};
  answer.headers.forEach((value, name) => {
    if (name !== "set-cookie") headers[name] = value;
  });
  const cookies = answer.headers.getSetCookie();
  if (cookies.length > 0) headers["set-cookie"] = cookies;
  const isEmpty = answer.body === null || request.method === "HEAD" || answer.status === 204 || answer.status === 304;
  if (isEmpty) {
    if (answer.body === null && answer.status !== 204 && answer.status !== 304) headers["content-length"] ??= "0";
    response.writeHead(answer.status, headers).end();
    await answer.body?.cancel();
    return;
  }
  response.writeHead(answer.status, headers);
  // A body that is there already goes out together with the head; one that is not does not hold the head up.
  setImmediate(() => response.flushHeaders());
  await pipeline(Readable.fromWeb(answer.body as import("node:stream/web").ReadableStream), response);
}

function readBody(request: IncomingMessage, most: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const cut = (): void => reject(new Error("the request ended in the middle of its body"));
    if (request.destroyed) return cut();
    let pieces: Buffer[] = [];
    let size = 0;
    request.on("data", (piece: Buffer) => {
      size += piece.length;
      if (size <= most) pieces.push(piece);
      else pieces = [];
    });
    // Of a body that is too long the rest is read and thrown away, as far as a host lets it pass: an answer before its end
    // would close the connection under whoever still sends.
    request.on("end", () => {
      if (size <= most) resolve(Buffer.concat(pieces));
      else reject(new HttpError(413, `the body has more than ${most} bytes`));
    });
    request.on("close", cut);
    request.on("error", reject);
  });
}
