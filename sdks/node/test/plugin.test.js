// Plugins made with the package, as processes, under a host that is played by hand.
import assert from "node:assert/strict";
import { Agent } from "node:http";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { describe, test } from "node:test";
import { bundled } from "./real-host.js";
import { CONFIG, PLUGINS, PlayedHost, SECRET, event, runtime } from "./support.js";

/** What a host gives; paths are below the directory that a plugin is started in. */
const ARGUMENTS = ["--socket-path", "p.sock", "--auth-secret", SECRET, "--data-dir", "."];

const PROJECT = { id: 42, name: "shop", slug: "shop", created_at: "2026-06-06T12:00:00Z", updated_at: "2026-06-06T12:00:00Z" };

/** Starts a plugin, runs `body`, and ends it whatever happens. */
function scene(name, program, body, options) {
  test(name, async () => {
    const host = await PlayedHost.start(`${PLUGINS}${program}`, options);
    try {
      await body(host);
    } catch (error) {
      error.message += `\nthe plugin's log:\n${host.log}`;
      throw error;
    } finally {
      await host.end();
    }
  });
}

/** The handshake, the channel and the settings. */
async function opened(host) {
  await host.handshake();
  const channel = await host.channel();
  channel.send(CONFIG);
  return channel;
}

describe("the start", () => {
  scene("prints two lines and nothing else on standard output, whatever the plugin prints", "everything.js", async (host) => {
    const [manifest, ready] = await host.handshake();
    assert.equal(manifest.name, "everything");
    assert.deepEqual(manifest.events, ["deployment.*", "test.*"]);
    assert.equal(ready.has_ui, true);
    assert.equal(ready.openapi.info.title, "Everything");
    assert.deepEqual(ready.features, ["ack", "reconnect", "config", "kv"]);
    host.child.kill("SIGTERM");
    assert.equal(await host.line(), undefined);
    await host.logged(/printed before the manifest/);
  });

  scene("announces only features that the host has", "everything.js", async (host) => {
    const [, ready] = await host.handshake();
    assert.equal(ready.features, undefined);
  }, { features: "" });

  scene("works the plain way and through require", "plain.cjs", async (host) => {
    const [manifest, ready] = await host.handshake();
    assert.equal(manifest.name, "plain");
    assert.deepEqual([ready.ready, ready.has_ui, ready.features], [true, false, ["ack", "reconnect"]]);
    assert.equal((await host.request("GET", "/health", { secret: undefined })).status, 200);
    const channel = await host.channel();
    channel.send(event(1));
    assert.deepEqual(await channel.message(), { type: "ack", id: "event-1", status: "ok" });
    host.child.kill("SIGTERM");
    assert.equal(await host.ended(), 0);
    await host.logged(/printed between the two lines[^]*got event-1/);
  }, { features: "ack,reconnect" });

  scene("explains itself to somebody who runs it by hand, with exit status 2", "everything.js", async (host) => {
    assert.equal(await host.ended(), 2);
    await host.logged(/--socket-path is missing[^]*a host starts it/);
  }, { args: [] });

  scene("refuses arguments that it does not know", "everything.js", async (host) => {
    assert.equal(await host.ended(), 2);
    await host.logged(/unknown argument --of-a-later-version/);
  }, { args: [...ARGUMENTS, "--of-a-later-version", "1"] });

  scene("passes over what older hosts give", "plain.cjs", async (host) => {
    const [, ready] = await host.handshake();
    assert.equal(ready.ready, true);
  }, { args: [...ARGUMENTS, "--database-url", "postgres://nobody@localhost/none"] });

  scene("fails with exit status 1 when the socket cannot be bound", "plain.cjs", async (host) => {
    assert.notEqual(await host.ended(), 0);
  }, { args: ["--socket-path", "/nonexistent/p.sock", "--auth-secret", "x", "--data-dir", "/tmp"] });
});

describe("the channel", () => {
  scene("events are confirmed once their handler is done, and a handler may ask meanwhile", "everything.js", async (host) => {
    const channel = await opened(host);
    channel.send(event(1, "deployment.succeeded", { deployment_id: 1 }, 42));
    const question = await channel.message();
    assert.deepEqual([question.type, question.method, question.params], ["request", "get_project", { project_id: 42 }]);
    channel.send({ type: "response", id: question.id, result: PROJECT });
    assert.deepEqual(await channel.message(), { type: "ack", id: "event-1", status: "ok" });
    assert.deepEqual((await host.request("GET", "/seen")).json, ["event-1", "shop"]);
  });

  scene("an event whose handler throws is confirmed with the reason, and the next one goes on", "everything.js", async (host) => {
    const channel = await opened(host);
    channel.send(event(1, "deployment.failed", { deployment_id: 1, error_message: "it is broken" }));
    channel.send(event(2));
    assert.deepEqual(await channel.message(), { type: "ack", id: "event-1", status: "error", error: "Error: it is broken" });
    assert.deepEqual(await channel.message(), { type: "ack", id: "event-2", status: "ok" });
  });

  scene("without the feature nothing is confirmed, and a pong says that events were read", "plain.cjs", async (host) => {
    await host.handshake();
    const channel = await host.channel();
    channel.send(event(1));
    channel.raw(9, Buffer.from("after-1"));
    const [opcode, payload] = await channel.frame();
    assert.deepEqual([opcode, payload.toString()], [10, "after-1"]);
  }, { features: "" });

  scene("compression is refused, fragments and other kinds of frames are taken", "everything.js", async (host) => {
    const channel = await opened(host);
    assert.doesNotMatch(channel.headText, /permessage-deflate/i);
    assert.match(channel.headText, /s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/);
    const text = Buffer.from(JSON.stringify(event(1, "test.ordinary")));
    channel.raw(2, Buffer.from("binary"));
    channel.send("{not json");
    channel.send({ type: "something.new", id: 7 });
    channel.raw(1, text.subarray(0, 10), false);
    channel.raw(0, text.subarray(10));
    assert.deepEqual(await channel.message(), { type: "ack", id: "event-1", status: "ok" });
  });

  scene("a frame of 1 MiB is read, a longer one closes the channel and the plugin lives on", "everything.js", async (host) => {
    let channel = await opened(host);
    const frame = (size) => {
      const whole = JSON.stringify(event(1, "test.ordinary", { filling: "" }));
      return whole.replace('"filling":""', `"filling":"${"x".repeat(size - whole.length)}"`);
    };
    channel.send(frame(1024 * 1024));
    assert.equal((await channel.message()).status, "ok");
    channel.send(frame(1024 * 1024 + 1));
    await channel.gone();
    channel = await host.channel();
    channel.send(event(2, "test.ordinary"));
    assert.equal((await channel.message()).id, "event-2");
  });

  scene("refusals carry their code, and answers in another order find their questions", "everything.js", async (host) => {
    const channel = await opened(host);
    const asked = [host.request("GET", "/ask/one"), host.request("GET", "/ask/two"), host.request("GET", "/ask/three")];
    const questions = [await channel.message(), await channel.message(), await channel.message()];
    for (const { id, method } of questions.reverse()) {
      if (method === "one") channel.send({ type: "response", id, result: { of: "one" } });
      if (method === "two") channel.send({ type: "response", id, error: { code: "not_found", message: "none" } });
      if (method === "three") channel.send({ type: "response", id, error: { code: "of_later", message: "new" } });
    }
    const [one, two, three] = (await Promise.all(asked)).map(({ json }) => json);
    assert.deepEqual(one, { result: { of: "one" } });
    assert.deepEqual([two.code, two.message], ["not_found", "none"]);
    assert.equal(three.code, "internal");
  });

  scene("a new channel takes the place of the old one, whose questions fail at once", "everything.js", async (host) => {
    const old = await opened(host);
    const asked = host.request("GET", "/ask/get_project");
    await old.message();
    const channel = await host.channel();
    assert.equal((await asked).json.name, "ChannelLost");
    await old.gone();
    channel.send(event(1));
    assert.equal((await channel.message()).id, "event-1");
    assert.equal(host.child.exitCode, null);
  });

  scene("no more than 32 questions are unanswered at a time", "everything.js", async (host) => {
    const channel = await opened(host);
    const agent = new Agent({ maxSockets: 50 });
    const asked = Array.from({ length: 33 }, (_, n) => host.request("GET", `/ask/m${n}`, { agent }));
    const first = [];
    while (first.length < 32) first.push(await channel.message());
    // The ping is answered after everything that the plugin had to say; there is no 33rd question before its pong.
    channel.raw(9, Buffer.from("now"));
    assert.equal((await channel.frame())[0], 10);
    channel.send({ type: "response", id: first[0].id, result: null });
    const last = await channel.message();
    for (const { id } of [...first.slice(1), last]) channel.send({ type: "response", id, result: null });
    assert.ok((await Promise.all(asked)).every(({ status }) => status === 200));
    agent.destroy();
  });

  scene("a wrong secret is refused on the channel and on events, none at all is not", "everything.js", async (host) => {
    await host.handshake();
    await assert.rejects(host.channel("wrong"), { status: 401 });
    const body = JSON.stringify(event(1, "test.ordinary").event);
    assert.equal((await host.request("POST", "/_events", { body, secret: "wrong" })).status, 401);
    const channel = await host.channel(null);
    channel.send(CONFIG);
    assert.equal((await host.request("POST", "/_events", { body, secret: null })).status, 200);
    assert.equal((await host.request("GET", "/_temps/channel")).status, 426);
  });
});

describe("settings and storage", () => {
  scene("the start waits for the settings, changes are told, and every event finds the newest", "everything.js", async (host) => {
    await host.handshake();
    const asked = host.request("GET", "/config");
    const channel = await host.channel();
    channel.send(CONFIG);
    assert.deepEqual((await asked).json, { config: CONFIG.config, revision: 1, told: [] });
    channel.send({ type: "config", config: { channel: "#b" }, revision: 2 });
    // Frames are taken in order: when this is confirmed, the change is known.
    channel.send(event(1, "test.ordinary"));
    await channel.message();
    assert.deepEqual((await host.request("GET", "/config")).json, { config: { channel: "#b" }, revision: 2, told: ["#b"] });
    assert.equal(readFileSync(`${host.home}/life.txt`, "utf8"), "start #a\n");
    host.child.kill("SIGTERM");
    await host.logged(/ending: SIGTERM/);
    assert.doesNotMatch(host.log, /t0ken/);
  });

  scene("storage is asked as the specification says, and a conflict has the revision", "everything.js", async (host) => {
    const channel = await opened(host);
    const asked = host.request("GET", "/kv");
    const answers = [
      ["kv_put", { key: "a", value: { n: 1 }, ttl: 1 }, { result: { revision: 3 } }],
      ["kv_get", { key: "a" }, { result: { key: "a", value: { n: 1 }, revision: 3, expires_at: "2026-06-06T12:00:00Z" } }],
      ["kv_get", { key: "none" }, { error: { code: "not_found", message: "none" } }],
      ["kv_put", { key: "a", value: 2, revision: 10 }, { error: { code: "conflict", message: "no", revision: 3 } }],
      ["kv_list", { prefix: "", values: false, limit: 100 }, { result: { entries: [{ key: "a", revision: 3 }], cursor: "a" } }],
      ["kv_list", { prefix: "", values: false, limit: 100, cursor: "a" }, { result: { entries: [{ key: "b", revision: 4 }] } }],
      ["kv_delete", { key: "a" }, { result: { deleted: true } }],
    ];
    for (const [method, params, answer] of answers) {
      const question = await channel.message();
      assert.deepEqual([question.method, question.params], [method, params]);
      channel.send({ type: "response", id: question.id, ...answer });
    }
    const { json } = await asked;
    assert.equal(json.first, 3);
    assert.equal(json.entry.expires_at, "2026-06-06T12:00:00Z");
    assert.deepEqual([json.missing, json.conflict, json.keys, json.deleted], [null, ["conflict", 3], ["a", "b"], true]);
  });
});

describe("routes", () => {
  scene("answers take every form, and a request without the secret reaches no route", "everything.js", async (host) => {
    await opened(host);
    const user = { "x-temps-user-id": "7", "x-temps-user-name": "Ad%C3%A9la", "x-temps-user-role": "admin" };
    const note = await host.request("GET", "/notes/a%20b?all=1", { headers: user });
    assert.deepEqual(note.json, { id: "a b", all: "1", user: { id: "7", name: "Adéla", role: "admin" } });
    assert.equal((await host.request("GET", "/files/a/b.txt")).text, "a/b.txt");
    const echo = await host.request("POST", "/echo", { body: "x".repeat(200_000) });
    assert.deepEqual([echo.text.length, echo.headers["x-own"]], [200_000, "1"]);
    assert.equal((await host.request("GET", "/nothing")).status, 204);
    // With its length, so in one piece with its head.
    const { headers, text } = await host.request("GET", "/seen");
    assert.deepEqual([headers["content-length"], headers["transfer-encoding"]], [String(text.length), undefined]);
    assert.deepEqual((await host.request("GET", "/teapot")).json, { title: "I'm a Teapot", status: 418, detail: "short and stout" });
    const broken = await host.request("GET", "/broken");
    assert.equal(broken.status, 500);
    assert.doesNotMatch(broken.text, /secret reason/);
    await host.logged(/a secret reason/);
    assert.equal((await host.request("GET", "/stream")).text, "data: one\n\ndata: two\ndata: lines\n\n");
    const wrong = await host.request("POST", "/nothing");
    assert.deepEqual([wrong.status, wrong.headers.allow], [405, "GET"]);
    assert.equal((await host.request("GET", "/none")).status, 404);
    assert.equal((await host.request("HEAD", "/seen")).text, "");
    for (const secret of [null, "wrong"]) assert.equal((await host.request("GET", "/seen", { secret })).status, 401);
    const twice = `GET /seen HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${SECRET}\r\nAuthorization: Bearer ${SECRET}\r\nConnection: close\r\n\r\n`;
    assert.match(await host.raw(twice), /^HTTP\/1.1 401 /);
  });

  scene("upgrades reach the plugin behind the secret", "everything.js", async (host) => {
    await opened(host);
    const head = (secret, path = "/raw") =>
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: raw\r\nAuthorization: Bearer ${secret}\r\n\r\n`;
    assert.match(await host.raw(head(SECRET)), /^HTTP\/1.1 101 [^]*\r\n\r\nhello$/);
    assert.match(await host.raw(head("wrong")), /^HTTP\/1.1 401 /);
    assert.match(await host.raw(head(SECRET, "/other")), /^HTTP\/1.1 404 /);
  });

  scene("events by POST are answered by how their handler ended", "everything.js", async (host) => {
    await opened(host);
    const post = (body) => host.request("POST", "/_events", { body: JSON.stringify(body) });
    assert.equal((await post(event(1).event)).status, 200);
    const failed = await post(event(2, "deployment.failed", { deployment_id: 1, error_message: "no luck" }).event);
    assert.equal(failed.status, 500);
    assert.match(failed.json.detail, /no luck/);
    assert.equal((await post({ id: "x" })).status, 422);
    assert.equal((await host.request("POST", "/_events", { body: "{" })).status, 400);
    assert.equal((await post(event(3, "test.ordinary", { filling: "x".repeat(300_000) }).event)).status, 413);
  });

  scene("pages are served with the rules of a built application, and no path leads out of them", "everything.js", async (host) => {
    await host.handshake();
    const get = (path, headers) => host.request("GET", path, { secret: null, headers });
    const moved = await get("/ui");
    assert.deepEqual([moved.status, moved.headers.location], [301, "ui/"]);
    const index = await get("/ui/");
    assert.match(index.text, /<title>Page/);
    assert.deepEqual([index.headers["cache-control"], index.headers["x-content-type-options"]], ["no-cache", "nosniff"]);
    assert.equal((await get("/ui/", { "if-none-match": index.headers.etag })).status, 304);
    assert.equal((await get("/ui/settings/deep")).text, index.text);
    const script = await get("/ui/app-Ab3dEf9h.js");
    assert.match(script.headers["content-type"], /^text\/javascript/);
    assert.match(script.headers["cache-control"], /immutable/);
    for (const path of ["/ui/../everything.js", "/ui/%2e%2e/everything.js", "/ui/none.js", "/ui/..%2feverything.js"]) {
      const { status, text } = await get(path);
      assert.ok(status === 404 || status === 401, `${path}: ${status}`);
      assert.doesNotMatch(text, /import/);
    }
  });

  for (const framework of ["express", "fastify"]) {
    scene(`an application of ${framework} is mounted unchanged`, `${framework}.js`, async (host) => {
      await host.handshake();
      assert.deepEqual((await host.request("GET", "/hello/ada")).json, { hello: "ada" });
      const headers = { "content-type": "application/json" };
      assert.deepEqual((await host.request("POST", "/sum", { body: "[1,2,3]", headers })).json, { sum: 6 });
      assert.equal((await host.request("GET", "/own")).text, "own");
      assert.equal((await host.request("GET", "/none")).status, 404);
      assert.equal((await host.request("GET", "/hello/ada", { secret: null })).status, 401);
      assert.equal((await host.request("GET", "/health", { secret: null })).status, 200);
      const upgrade = `GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: raw\r\nAuthorization: Bearer ${SECRET}\r\n\r\n`;
      const wanted = framework === "fastify" ? /101 [^]*from fastify$/ : /^HTTP\/1.1 404/;
      assert.match(await host.raw(upgrade), wanted);
      host.child.kill("SIGTERM");
      assert.equal(await host.ended(), 0);
      if (framework === "fastify") assert.equal(readFileSync(`${host.home}/life.txt`, "utf8"), "closed\n");
    });
  }
});

describe("the end", () => {
  scene("SIGTERM lets an event and a request end, runs the hooks, and is status 0", "everything.js", async (host) => {
    const channel = await opened(host);
    channel.send(event(1, "deployment.succeeded", { deployment_id: 1 }, 42));
    const question = await channel.message();
    const asked = host.request("GET", "/ask/slow");
    const slow = await channel.message();
    host.child.kill("SIGTERM");
    channel.send({ type: "response", id: question.id, result: PROJECT });
    assert.deepEqual(await channel.message(), { type: "ack", id: "event-1", status: "ok" });
    channel.send({ type: "response", id: slow.id, result: "late" });
    assert.deepEqual((await asked).json, { result: "late" });
    channel.raw(8, (await channel.frame())[1]);
    assert.equal(await host.ended(), 0);
    assert.equal(readFileSync(`${host.home}/life.txt`, "utf8"), "start #a\nshutdown\n");
    assert.ok(!existsSync(host.socketPath));
  });

  scene("a second signal ends it at once", "everything.js", async (host) => {
    const channel = await opened(host);
    channel.send(event(1, "deployment.succeeded", { deployment_id: 1 }, 42));
    await channel.message();
    host.child.kill("SIGTERM");
    await host.logged(/ending: SIGTERM/);
    host.child.kill("SIGTERM");
    assert.equal(await host.ended(), "SIGTERM");
  });

  test("it ends by itself when its host is gone", async () => {
    // The shell is the host; it dies, and the plugin's parent is another process then.
    const script = '"$0" "$1" --socket-path "$PWD/p.sock" --auth-secret x --data-dir "$PWD" & wait';
    const args = ["-c", script, runtime(), `${PLUGINS}plain.cjs`];
    const host = await PlayedHost.start(undefined, { command: "/bin/sh", args });
    try {
      await host.handshake();
      host.child.kill("SIGKILL");
      // Its end closes the pipes that it inherited.
      assert.equal(await host.line(), undefined);
      await host.logged(/the host has died/);
      assert.ok(!existsSync(host.socketPath));
    } finally {
      await host.end();
    }
  });
});

describe("one file", () => {
  for (const framework of ["express", "fastify"]) {
    test(`a plugin with ${framework} is one file that runs alone`, async () => {
      const built = mkdtempSync("/tmp/temps-node-built-");
      const program = bundled(`${PLUGINS}${framework}.js`, `${built}/plugin-${framework}`, runtime());
      const host = await PlayedHost.start(undefined, { command: program });
      try {
        await host.handshake();
        assert.deepEqual((await host.request("GET", "/hello/ada")).json, { hello: "ada" }, host.log);
        host.child.kill("SIGTERM");
        assert.equal(await host.ended(), 0);
      } finally {
        await host.end();
        rmSync(built, { recursive: true });
      }
    });
  }
});
