// Bundles a plugin of this checkout with this SDK into one executable file: bundle.js SOURCE OUTPUT [RUNTIME]
//
// RUNTIME is what runs it: `node`, `bun`, or a path. A source that has a first line with `#!` says so itself.
//
// `temps plugin build` does the same for projects that have the package installed.
import { chmodSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const [source, output, runtime = "node"] = process.argv.slice(2);
if (!source || !output) {
  console.error("usage: bundle.js SOURCE OUTPUT [RUNTIME]");
  process.exit(2);
}
const sdk = fileURLToPath(new URL("..", import.meta.url));
// Where the source has one, the bundler keeps it as the first line, before the banner.
const shebang = readFileSync(source, "utf8").startsWith("#!") ? "" : `#!${runtime.includes("/") ? runtime : `/usr/bin/env ${runtime}`}\n`;
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
  banner: { js: `${shebang}const __module_url = require("node:url").pathToFileURL(__filename).href;` },
});
chmodSync(output, 0o755);
