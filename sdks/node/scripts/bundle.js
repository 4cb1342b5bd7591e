// Bundles a plugin of this checkout with this SDK into one executable file: bundle.js SOURCE OUTPUT
//
// `temps plugin build` does the same for projects that have the package installed.
import { chmodSync, mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const [source, output] = process.argv.slice(2);
if (!source || !output) {
  console.error("usage: bundle.js SOURCE OUTPUT");
  process.exit(2);
}
const sdk = fileURLToPath(new URL("..", import.meta.url));
mkdirSync(dirname(resolve(output)), { recursive: true });
await build({
  entryPoints: [source],
  outfile: output,
  bundle: true,
  platform: "node",
  target: "node20",
  format: "cjs",
  minifySyntax: true,
  logLevel: "warning",
  alias: { "temps-plugin": sdk },
  // A bundle is no module, so what `import.meta.url` says there is told by hand.
  define: { "import.meta.url": "__module_url" },
  banner: { js: '#!/usr/bin/env node\nconst __module_url = require("node:url").pathToFileURL(__filename).href;' },
});
chmodSync(output, 0o755);
