import express from "express";
import { Plugin } from "../../dist/esm/index.js";

const app = express();
app.use(express.json());
app.get("/hello/:name", (request, response) => response.json({ hello: request.params.name }));
app.post("/sum", (request, response) => response.json({ sum: request.body.reduce((a, b) => a + b, 0) }));

const plugin = new Plugin({ name: "with-express", version: "1.0.0" });
plugin.get("/own", () => "own");
plugin.mount(app);
plugin.run();
