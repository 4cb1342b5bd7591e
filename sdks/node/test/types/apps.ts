// Express and Fastify applications are taken as they are: this file is only compiled.
import fastify from "fastify";
import { createServer } from "node:http";
import { Plugin } from "temps-plugin";

const plugin = new Plugin({ name: "typed", version: "1.0.0" });
plugin.mount(fastify());
plugin.mount(createServer());
