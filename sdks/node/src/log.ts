/** The plugin's log: one JSON object a line on standard error, which the host keeps with its level and fields. */

/** Levels of the log. */
export type Level = "error" | "warn" | "info" | "debug";

/** Writes lines of the log. */
export interface Logger {
  error(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  debug(message: string, fields?: Record<string, unknown>): void;
}

/** Makes a logger whose lines say where they come from. Debug lines are written when `TEMPS_LOG` is `debug`. */
export function loggerFor(target: string): Logger {
  const at = (level: Level) => (message: string, fields?: Record<string, unknown>) => write(level, target, message, fields);
  return { error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") };
}

/** The package's own log. */
export const logger = loggerFor("temps_plugin");

/** What an error says, in one text: its name, code and message; with `withStack`, where it comes from, too. */
export function describe(error: unknown, withStack = false): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  // Errors with a code are answers of somebody else, whose place in this program tells nothing.
  if (typeof code === "string") return `${error.name} [${code}]: ${error.message}`;
  return withStack && error.stack ? error.stack : `${error.name}: ${error.message}`;
}

function write(level: Level, target: string, message: string, fields: Record<string, unknown> = {}): void {
  if (level === "debug" && process.env["TEMPS_LOG"] !== "debug") return;
  let line: string;
  try {
    line = JSON.stringify({ ...fields, level, message, target }, shown);
  } catch {
    line = JSON.stringify({ level, message, target, fields: "cannot be written as JSON" });
  }
  process.stderr.write(`${line}\n`);
}

function shown(_name: string, value: unknown): unknown {
  if (value instanceof Error) return describe(value);
  return typeof value === "bigint" ? value.toString() : value;
}
