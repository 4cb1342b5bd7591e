// The plugins of plugin.test.js once more, on Bun in place of Node.
import { test } from "node:test";
import { BUN, NO_BUN, skipLoudly } from "./support.js";

if (NO_BUN) {
  test("plugins on Bun", { skip: skipLoudly("sdks/node on Bun", NO_BUN) });
} else {
  // Read by what they share, which each test file loads for itself.
  process.env.TEMPS_TEST_RUNTIME = BUN;
  await import("./plugin.test.js");
}
