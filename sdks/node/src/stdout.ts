/**
 * Keeps standard output for the handshake's two lines: what anything else writes there, `console.log` too, goes to the
 * plugin's log on standard error.
 *
 * It works for what runs in this process. A child process that inherits standard output writes past it: start children
 * with `stdio: ["ignore", "pipe", "inherit"]`.
 */

import { Console } from "node:console";
import { writeSync } from "node:fs";

const STDOUT = 1;

/** Times that a full pipe is tried again before the line is given up, a millisecond apart: 30 s, as long as a host waits. */
const MAX_TRIES = 30_000;

let guarded = false;

/** Begins to keep standard output. Calling it again changes nothing. */
export function guardStdout(): void {
  if (guarded) return;
  guarded = true;
  process.stdout.write = process.stderr.write.bind(process.stderr) as typeof process.stdout.write;
  if (process.versions["bun"] !== undefined) guardConsole();
}

/** Bun's `console` writes past `process.stdout`, so each of its functions is replaced by that of one for standard error. */
function guardConsole(): void {
  const own = console as unknown as Record<string, unknown>;
  const other = new Console({ stdout: process.stderr, stderr: process.stderr }) as unknown as Record<string, unknown>;
  for (const [name, value] of Object.entries(other)) {
    if (typeof value === "function" && typeof own[name] === "function") own[name] = value.bind(other);
  }
  own["write"] = (...pieces: Array<string | Uint8Array>) => pieces.forEach((piece) => process.stderr.write(piece));
}

/** Writes one of the two lines, whole, before it returns. */
export function writeLine(line: string): void {
  guardStdout();
  let rest = Buffer.from(`${line}\n`, "utf8");
  for (let tries = 0; rest.length > 0; ) {
    try {
      rest = rest.subarray(writeSync(STDOUT, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || ++tries > MAX_TRIES) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

// In a process that a host started, nothing must stand between the two lines from here on. Anywhere else, an import
// changes nothing.
if (process.argv.some((argument) => argument.startsWith("--socket-path"))) guardStdout();
