// What the tests share: a host played by hand. It starts a plugin as a process and speaks the protocol's other side over
// bare sockets, with no code of the package.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { Agent, request as httpRequest } from "node:http";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const SECRET = "s3cret-of-this-start";
export const PLUGINS = fileURLToPath(new URL("plugins/", import.meta.url));

/** Bun, as its package brings it, and why it cannot be started here; undefined when it can. */
export const BUN = fileURLToPath(new URL("../node_modules/bun/bin/bun.exe", import.meta.url));
export const NO_BUN = spawnSync(BUN, ["--version"]).status === 0 ? undefined : "Bun is not installed; run `scripts/setup.sh test` with a network";

/** What runs plugins: Node, unless a test file wishes for something else. */
export const runtime = () => process.env.TEMPS_TEST_RUNTIME ?? process.execPath;

/** Notes that something cannot run here, where `make test` shows it, and returns the reason. */
export function skipLoudly(what, reason) {
  if (process.env.TEMPS_TEST_SKIPS) appendFileSync(process.env.TEMPS_TEST_SKIPS, `${what}: ${reason}\n`);
  return reason;
}

export class PlayedHost {
  static async start(program, { features = "ack,reconnect,config,kv", args, command = runtime(), env = {} } = {}) {
    // In /tmp by name, because a socket's path has at most 107 bytes.
    const home = mkdtempSync("/tmp/temps-node-");
    const given = ["--socket-path", `${home}/p.sock`, "--auth-secret", SECRET, "--data-dir", home];
    const child = spawn(command, [...(program ? [program] : []), ...(args ?? given)], {
      cwd: home,
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env.PATH, TEMPS_FEATURES: features, ...env },
    });
    return new PlayedHost(child, home);
  }

  constructor(child, home) {
    this.child = child;
    this.home = home;
    this.socketPath = `${home}/p.sock`;
    this.log = "";
    this.logIsWhole = false;
    this.wake = () => undefined;
    this.channels = [];
    this.exited = once(child, "exit");
    this.lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    child.stderr.on("data", (piece) => {
      this.log += piece;
      this.wake();
    });
    child.stderr.on("close", () => {
      this.logIsWhole = true;
      this.wake();
    });
  }

  /** One line of standard output, as JSON; undefined at its end. */
  async line() {
    const { value, done } = await this.lines.next();
    return done ? undefined : JSON.parse(value);
  }

  async handshake() {
    return [await this.line(), await this.line()];
  }

  /**
   * Waits until the plugin's log has what is looked for, and fails when it has ended without.
   *
   * The log comes by a pipe of its own: what a plugin wrote before an answer, or before its end, may be read after it.
   */
  async logged(pattern) {
    while (!this.logIsWhole && !pattern.test(this.log)) await new Promise((resolve) => (this.wake = resolve));
    assert.match(this.log, pattern);
  }

  /**
   * One request on a connection of its own.
   *
   * The connection is kept open until the answer is there: Node writes an empty piece after a long body, and where the
   * plugin has answered and closed by then, that ends the request with EPIPE, whatever of the answer is still unread.
   */
  async request(method, path, { body, headers = {}, secret = SECRET, agent } = {}) {
    const fields = { ...(secret ? { authorization: `Bearer ${secret}` } : {}), ...headers };
    const own = agent ?? new Agent({ keepAlive: true });
    try {
      const asked = httpRequest({ socketPath: this.socketPath, method, path, headers: fields, agent: own });
      asked.end(body);
      const [response] = await once(asked, "response");
      const pieces = [];
      for await (const piece of response) pieces.push(piece);
      const text = Buffer.concat(pieces).toString();
      const isJson = /json/.test(response.headers["content-type"] ?? "");
      return { status: response.statusCode, headers: response.headers, text, json: isJson && text ? JSON.parse(text) : undefined };
    } finally {
      if (own !== agent) own.destroy();
    }
  }

  /** Sends bytes as they are, and returns all that comes back until the plugin closes. */
  async raw(text) {
    const socket = connect(this.socketPath);
    socket.write(text);
    let answer = "";
    for await (const piece of socket) answer += piece;
    return answer;
  }

  /** Opens the channel. */
  async channel(secret = SECRET) {
    const socket = connect(this.socketPath);
    await once(socket, "connect");
    const auth = secret ? `Authorization: Bearer ${secret}\r\n` : "";
    socket.write(
      "GET /_temps/channel HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
        `Sec-WebSocket-Extensions: permessage-deflate\r\n${auth}\r\n`,
    );
    const channel = new ChannelClient(socket);
    this.channels.push(channel);
    const head = await channel.head();
    const status = Number(head.split(" ")[1]);
    if (status !== 101) throw Object.assign(new Error(head), { status });
    channel.headText = head;
    return channel;
  }

  async ended() {
    const [code, signal] = await this.exited;
    return code ?? signal;
  }

  async end() {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill("SIGKILL");
    await this.exited;
    for (const channel of this.channels) channel.socket.destroy();
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** The host's end of the channel: frames of the client are masked. */
export class ChannelClient {
  constructor(socket) {
    this.socket = socket;
    this.buffer = Buffer.alloc(0);
    this.over = false;
    this.wake = () => undefined;
    socket.on("data", (piece) => {
      this.buffer = Buffer.concat([this.buffer, piece]);
      this.wake();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.over = true;
      this.wake();
    });
  }

  async more() {
    if (this.over) throw new Error("the channel has ended");
    await new Promise((resolve) => (this.wake = resolve));
  }

  async take(count) {
    while (this.buffer.length < count) await this.more();
    const taken = this.buffer.subarray(0, count);
    this.buffer = this.buffer.subarray(count);
    return taken;
  }

  async head() {
    while (!this.buffer.includes("\r\n\r\n")) await this.more();
    return (await this.take(this.buffer.indexOf("\r\n\r\n") + 4)).toString();
  }

  send(frame) {
    this.raw(1, Buffer.from(typeof frame === "string" ? frame : JSON.stringify(frame)));
  }

  raw(opcode, payload = Buffer.alloc(0), isFinal = true) {
    const mask = Buffer.from([0x11, 0x22, 0x33, 0x44]);
    const head = [(isFinal ? 0x80 : 0) | opcode];
    const size = Buffer.alloc(8);
    if (payload.length < 126) head.push(0x80 | payload.length);
    else if (payload.length < 65536) head.push(0x80 | 126, payload.length >> 8, payload.length & 255);
    else {
      size.writeBigUInt64BE(BigInt(payload.length));
      head.push(0x80 | 127, ...size);
    }
    const masked = Buffer.from(payload.map((byte, at) => byte ^ mask[at % 4]));
    this.socket.write(Buffer.concat([Buffer.from(head), mask, masked]));
  }

  /** One frame: its opcode and payload. */
  async frame() {
    const [first, second] = await this.take(2);
    let size = second & 127;
    if (size === 126) size = (await this.take(2)).readUInt16BE();
    else if (size === 127) size = Number((await this.take(8)).readBigUInt64BE());
    return [first & 15, Buffer.from(await this.take(size))];
  }

  /** One text message, as JSON. */
  async message() {
    const [opcode, payload] = await this.frame();
    if (opcode !== 1) throw new Error(`a frame of kind ${opcode}: ${payload.toString("hex")}`);
    return JSON.parse(payload.toString());
  }

  /** Waits until the other side has ended the connection. */
  async gone() {
    while (!this.over) await this.more().catch(() => undefined);
  }
}

export function event(number, type = "deployment.succeeded", data = { deployment_id: 1 }, projectId) {
  const id = `event-${number}`;
  const project = projectId === undefined ? {} : { project_id: projectId };
  return { type: "event", event: { id, event_type: type, timestamp: "2026-06-06T12:00:00Z", ...project, data } };
}

export const CONFIG = { type: "config", config: { channel: "#a", token: "t0ken" }, revision: 1 };
