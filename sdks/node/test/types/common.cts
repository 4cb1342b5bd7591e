// What an author's TypeScript sees through `require`: this file is only compiled.
import temps = require("temps-plugin");

const plugin = new temps.Plugin({ name: "typed", version: "1.0.0" });
plugin.mount((_request, response) => response.end("hello"));
plugin.run();
export = plugin;
