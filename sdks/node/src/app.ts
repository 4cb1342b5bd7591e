/** Applications of other frameworks that answer what the plugin's own routes do not: Express, Fastify, plain Node. */

import type { IncomingMessage, Server as HttpServer, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

/** What Express, Connect, Koa's `app.callback()` and a plain handler are. */
export type RequestListener = (request: IncomingMessage, response: ServerResponse) => unknown;

/** What the package needs of a Fastify application. */
export interface FastifyLike {
  ready(): PromiseLike<unknown>;
  routing(request: IncomingMessage, response: ServerResponse): void;
  close(): PromiseLike<unknown> | unknown;
  server?: unknown;
}

/** An application: a function of request and response, a Fastify instance, or an `http.Server` that does not listen. */
export type App = RequestListener | FastifyLike | HttpServer;

/** An application in one form. */
export interface Mounted {
  /** Before the first request. */
  start(): Promise<void>;
  answer(request: IncomingMessage, response: ServerResponse): void;
  /** Takes an upgrade; false when the application has no use for it. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean;
  /** At the plugin's end. */
  stop(): Promise<void>;
}

/** Brings an application into one form. */
export function mounted(app: App): Mounted {
  if (isFastify(app)) {
    const server = app.server as HttpServer | undefined;
    return {
      start: async () => void (await app.ready()),
      answer: (request, response) => app.routing(request, response),
      upgrade: (...upgrade) => server?.emit("upgrade", ...upgrade) ?? false,
      stop: async () => void (await app.close()),
    };
  }
  if (typeof app === "function") {
    return { ...still, answer: (request, response) => void app(request, response), upgrade: () => false };
  }
  return {
    ...still,
    answer: (request, response) => void app.emit("request", request, response),
    upgrade: (...upgrade) => app.emit("upgrade", ...upgrade),
  };
}

const still = { start: async () => undefined, stop: async () => undefined };

function isFastify(app: App): app is FastifyLike {
  return "routing" in app && "ready" in app && typeof app.routing === "function";
}
