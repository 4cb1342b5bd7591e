// The guide is executed as it stands: its shell blocks in one shell, beside a daemon, from the checkout.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { CHECKOUT, MISSING, RealHost, TEMPS } from "./real-host.js";

const guide = readFileSync(`${CHECKOUT}docs/guides/write-a-plugin-node.md`, "utf8");
const blocks = [...guide.matchAll(/^```(.*)\n([^]*?)^```$/gm)].map(([, first, body]) => ({ words: first.split(" "), body }));

test("code of the guide that names its file stands there exactly so", () => {
  const named = blocks.filter(({ words }) => words[1]?.startsWith("file="));
  assert.ok(named.length > 3);
  for (const { words, body } of named) {
    const file = words[1].slice("file=".length);
    assert.ok(readFileSync(CHECKOUT + file, "utf8").includes(body), `${file} does not have:\n${body}`);
  }
});

test("the guide works as it stands", { skip: MISSING }, async () => {
  const script = blocks.filter(({ words }) => words[0] === "sh" && words[1] === "run").map(({ body }) => body).join("");
  assert.ok(script.includes("temps deployment report"));
  const host = await RealHost.start();
  try {
    // Not as a part of this run: a runner's own variables would steer the one that the guide starts.
    const { NODE_TEST_CONTEXT: _, ...outer } = process.env;
    const env = { ...outer, ...host.env, PATH: `${dirname(TEMPS)}:${process.env.PATH}` };
    await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], { cwd: CHECKOUT, env });
  } catch (error) {
    error.message += `\n${error.stdout}\n${error.stderr}`;
    throw error;
  } finally {
    await host.end();
  }
});
