// Builds both forms of the package, each with its types: dist/esm for `import`, dist/cjs for `require`.
//
// With --if-needed it does nothing while dist is newer than the source: npm calls it so whenever a project beside this one
// is installed, and others may be using dist by then. For the same reason a new dist takes the old one's place at once.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = `${root}dist`;
const fresh = `${root}.dist-${process.pid}`;

function isUpToDate() {
  const mark = `${dist}/cjs/package.json`;
  if (!existsSync(mark)) return false;
  const sources = readdirSync(`${root}src`).map((name) => `${root}src/${name}`);
  const built = statSync(mark).mtimeMs;
  return [...sources, `${root}tsconfig.json`, `${root}tsconfig.cjs.json`].every((file) => statSync(file).mtimeMs < built);
}

function build() {
  let tsc;
  try {
    tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  } catch {
    console.error(`temps-plugin is not built, and TypeScript is not there to do it; run \`npm ci\` in ${root}`);
    process.exit(1);
  }
  for (const [project, form] of [["tsconfig.json", "esm"], ["tsconfig.cjs.json", "cjs"]]) {
    execFileSync(process.execPath, [tsc, "-p", project, "--outDir", `${fresh}/${form}`], { cwd: root, stdio: "inherit" });
  }
  // The package itself is a module; what is for `require` says that it is not.
  writeFileSync(`${fresh}/cjs/package.json`, '{ "type": "commonjs" }\n');
  rmSync(dist, { recursive: true, force: true });
  renameSync(fresh, dist);
}

if (!process.argv.includes("--if-needed") || !isUpToDate()) {
  try {
    build();
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}
