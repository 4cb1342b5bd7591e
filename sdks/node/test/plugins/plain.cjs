// The protocol's own functions, without the class, through `require`.
const { emitManifest, emitReady, runServer } = require("../../dist/cjs/index.js");

async function main() {
  emitManifest({ name: "plain", version: "1.0.0", events: ["deployment.*"] });
  console.log("printed between the two lines");
  await runServer({ onEvent: (ctx, event) => console.log("got", event.id) });
  emitReady({ has_ui: false });
}

main();
