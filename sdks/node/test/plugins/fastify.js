import { appendFileSync } from "node:fs";
import fastify from "fastify";
import { Plugin } from "../../dist/esm/index.js";

const app = fastify();
app.get("/hello/:name", async (request) => ({ hello: request.params.name }));
app.post("/sum", async (request) => ({ sum: request.body.reduce((a, b) => a + b, 0) }));
app.addHook("onClose", async () => appendFileSync("life.txt", "closed\n"));
app.server.on("upgrade", (request, socket) => {
  socket.end("HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\nfrom fastify");
});

const plugin = new Plugin({ name: "with-fastify", version: "1.0.0" });
plugin.get("/own", () => "own");
plugin.mount(app);
plugin.run();
