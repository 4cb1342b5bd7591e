#!/usr/bin/env -S NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt node
// A plugin that tries to reach what it may and what it may not, with what Node has, and writes down what it found. With
// `--control` it does the same outside of any sandbox, where everything can be reached.
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const net = require("node:net");
const tls = require("node:tls");

const PATIENCE = 5000;
const PUBLIC = "45.90.28.10";
const PUBLIC_6 = "2a0b:9000::10";
// Where things are, as the test has it.
const places = JSON.parse(`@PLACES@`);
const args = Object.fromEntries(process.argv.slice(2).map((word, at, all) => [word, all[at + 1]]));

const fetched = async (url) => (await fetch(url, { signal: AbortSignal.timeout(PATIENCE) })).text();

const got = (url, options = {}) =>
  new Promise((done, failed) => {
    const request = https.get(url, { timeout: PATIENCE, ...options }, (answer) => {
      answer.setEncoding("utf8");
      answer.on("data", done);
    });
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", failed);
  });

const connected = (socket) =>
  new Promise((done, failed) => {
    socket.setTimeout(PATIENCE, () => socket.destroy(new Error("timeout")));
    socket.on("error", failed);
    socket.on("close", () => failed(new Error("closed")));
    socket.on(socket.encrypted ? "secureConnect" : "connect", () => {
      done("connected");
      socket.destroy();
    });
  });

// A host whose name leads elsewhere when it is asked for again; the control has one of its own.
const turning = `https://node-${args["--control"] ? "control" : "probe"}.turns.example.com/`;

const ways = {
  allowed: () => fetched("https://hooks.slack.com/"),
  allowed_by_default: () => got("https://hooks.slack.com/"),
  allowed_before_it_turned: () => got(turning, { agent: false }),
  turned_to_loopback: () => got(turning, { agent: false, rejectUnauthorized: false }),
  another_name: () => fetched("https://other.example.com/"),
  another_name_by_default: () => got("https://other.example.com/"),
  name_of_loopback: () => got("https://inside.example.com/", { rejectUnauthorized: false }),
  name_of_both: () => got("https://both.example.com/", { rejectUnauthorized: false }),
  literal: () => got(`https://${PUBLIC}/`, { rejectUnauthorized: false }),
  another_port: () => connected(net.connect(8443, "hooks.slack.com")),
  hello_for_another: () =>
    connected(tls.connect({ host: "hooks.slack.com", port: 443, servername: "other.example.com", rejectUnauthorized: false })),
  ipv6: () => connected(net.connect(443, PUBLIC_6)),
  host_port: () => connected(net.connect(places.port, "127.0.0.1")),
  host_port_by_public_address: () => connected(net.connect(443, PUBLIC)),
  database_port: () => connected(net.connect(5432, "127.0.0.1")),
  database_file: async () => fs.readFileSync(places.database).subarray(0, 4).toString(),
  unix_socket: () => connected(net.connect(places.socket)),
};

async function tryAll(result) {
  const found = {};
  for (const [name, way] of Object.entries(ways)) {
    try {
      found[name] = { reached: true, said: await way() };
    } catch (error) {
      found[name] = { reached: false, said: `${error} ${error.cause ?? ""}` };
    }
  }
  fs.writeFileSync(`${result}.new`, JSON.stringify(found));
  fs.renameSync(`${result}.new`, result);
}

if (args["--control"]) {
  tryAll(args["--control"]);
} else {
  const egress = ["hooks.slack.com", "inside.example.com", "both.example.com", "*.turns.example.com"];
  console.log(JSON.stringify({ type: "manifest", name: "node-probe", version: "1.0.0", events: [], egress }));
  const server = http.createServer((request, answer) => answer.writeHead(request.url === "/health" ? 200 : 404).end());
  // A plugin without a channel says so; without this Node would close the connection.
  server.on("upgrade", (request, socket) => socket.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
  server.listen(args["--socket-path"], () => {
    console.log('{"type":"ready","ready":true,"has_ui":false}');
    tryAll(`${args["--data-dir"]}/result.json`);
  });
}
