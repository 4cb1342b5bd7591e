/** The server's end of a WebSocket, with the bounds that a channel needs. The only file that knows the library. */

import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";

/** Longest message in bytes, in either direction. */
export const MAX_MESSAGE_BYTES = 1024 * 1024;

/** How long one message may take to be written before the connection counts as lost, in milliseconds. */
const WRITE_TIMEOUT = 10_000;

/** Most bytes that wait to be written. A host that reads nothing for so long gets no more. */
const MAX_UNWRITTEN_BYTES = 8 * 1024 * 1024;

/** How long the other side may take to say goodbye, in milliseconds. */
const CLOSE_TIMEOUT = 1_000;

/** What happens on a connection. */
export interface Listener {
  /** A text message came in. */
  text(message: string): void;
  /** A binary message came in. */
  binary(): void;
  /** The connection has ended, for whatever reason. Called once. */
  ended(reason: string): void;
}

/** One connection. */
export interface Connection {
  /** Sends a text message. Does nothing after the end. */
  send(text: string): void;
  /** Stops reading, so that the other side has to wait, until {@link resume}. */
  pause(): void;
  /** Reads on. */
  resume(): void;
  /** Says goodbye after everything that was sent; resolves when the connection has ended, a second later at most. */
  close(reason: string): Promise<void>;
}

// Compression is off: messages are small, and it would cost memory for each connection.
const server = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: MAX_MESSAGE_BYTES, clientTracking: false });

/** Answers an upgrade with 101 and serves the connection. A request that is no WebSocket is answered 400 or 405. */
export function accept(request: IncomingMessage, socket: Duplex, head: Buffer, serve: (connection: Connection) => Listener): void {
  server.handleUpgrade(request, socket, head, (websocket) => {
    const listener = serve(connectionOf(websocket));
    let reason = "the connection was lost";
    websocket.on("message", (data: Buffer, isBinary: boolean) => {
      if (isBinary) listener.binary();
      else listener.text(data.toString("utf8"));
    });
    websocket.on("error", (error) => (reason = error.message));
    websocket.on("close", (code) => listener.ended(code === 1000 || code === 1001 ? "the host closed it" : reason));
  });
}

function connectionOf(websocket: WebSocket): Connection {
  const send = (text: string): void => {
    if (websocket.readyState !== websocket.OPEN) return;
    if (websocket.bufferedAmount > MAX_UNWRITTEN_BYTES) return websocket.terminate();
    const late = setTimeout(() => websocket.terminate(), WRITE_TIMEOUT);
    websocket.send(text, () => clearTimeout(late));
  };
  const close = (reason: string): Promise<void> =>
    new Promise((resolve) => {
      if (websocket.readyState === websocket.CLOSED) return resolve();
      const late = setTimeout(() => websocket.terminate(), CLOSE_TIMEOUT);
      websocket.once("close", () => {
        clearTimeout(late);
        resolve();
      });
      // The goodbye of the other side is only seen while reading.
      websocket.resume();
      websocket.close(1000, reason);
    });
  return { send, close, pause: () => websocket.pause(), resume: () => websocket.resume() };
}
