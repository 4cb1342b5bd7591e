// The package reads the specification's vectors as every SDK must, and what it writes reads back as the same.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import * as channel from "../dist/esm/channel.js";
import * as config from "../dist/esm/config.js";
import * as data from "../dist/esm/data.js";
import * as events from "../dist/esm/event.js";
import * as handshake from "../dist/esm/handshake.js";
import * as kv from "../dist/esm/kv.js";
import * as manifest from "../dist/esm/manifest.js";
import * as rules from "../dist/esm/manifest-rules.js";
import { Fields, WireError } from "../dist/esm/rules.js";

const SPEC = fileURLToPath(new URL("../../../spec/v1/", import.meta.url));

const vectors = readdirSync(`${SPEC}vectors`, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .flatMap(({ name: kind }) =>
    ["valid", "invalid"].flatMap((folder) => {
      const place = `${SPEC}vectors/${kind}/${folder}`;
      let files = [];
      try {
        files = readdirSync(place);
      } catch {
        // Some kinds have no invalid messages.
      }
      return files.map((file) => {
        const vector = JSON.parse(readFileSync(`${place}/${file}`, "utf8"));
        return { kind, isValid: folder === "valid", name: `${kind}/${folder}/${file}`, vector };
      });
    }),
  );

const wire = (vector) => vector.text ?? JSON.stringify(vector.input);

function response(frame) {
  if (frame.error === undefined) return frame;
  const { code, message, revision } = frame.error;
  return { ...frame, error: { code, message, ...(revision === undefined ? {} : { revision }) } };
}

function hostFrame(text) {
  const frame = channel.readFrame(text);
  if (frame === undefined) throw new WireError("a frame of another version");
  return frame.type === "response" ? response(frame) : frame;
}

function checked(check) {
  return (text) => {
    if (check(text) === false) throw new WireError("refused");
    return text;
  };
}

const READERS = {
  PluginManifest: (text) => JSON.parse(manifest.manifestLine(manifest.readManifest(text))),
  Ready: (text) => JSON.parse(handshake.readyLine(handshake.readReady(text))),
  Response: (text) => response(channel.readResponse(JSON.parse(text))),
  HostFrame: hostFrame,
  PluginEvent: (text) => events.readEvent(JSON.parse(text)),
  ProjectInfo: (text) => data.readProject(JSON.parse(text)),
  EnvironmentInfo: (text) => data.readEnvironment(JSON.parse(text)),
  DeploymentInfo: (text) => data.readDeployment(JSON.parse(text)),
  Configuration: (text) => config.readConfiguration(JSON.parse(text)),
  KvEntry: (text) => kv.readEntry(JSON.parse(text)),
  KvPage: (text) => kv.readPage(JSON.parse(text)),
  PluginName: checked(rules.checkName),
  EventPattern: checked(events.isPattern),
  FeatureList: handshake.parseFeatures,
};

// Frames and parameters that only a plugin writes.
const WRITTEN = ["Request", "Ack", "MethodParams", "KvParams"];

// Payloads reach a plugin as they are; their types are compared with the schemas below.
const PAYLOADS = {
  DeploymentCreated: "deployment.created",
  DeploymentReady: "deployment.ready",
  DeploymentSucceeded: "deployment.succeeded",
  DeploymentFailed: "deployment.failed",
  DeploymentCancelled: "deployment.cancelled",
  ProjectSubject: "project.created",
  EnvironmentSubject: "environment.created",
};

describe("vectors", () => {
  test("every kind of vector has a reader, is only written, or is handed on", () => {
    const known = [...Object.keys(READERS), ...WRITTEN, ...Object.keys(PAYLOADS)];
    assert.deepEqual([...new Set(vectors.map(({ kind }) => kind))].filter((kind) => !known.includes(kind)), []);
    assert.ok(vectors.length > 200);
  });

  test("every valid vector is read as it is meant", () => {
    for (const { kind, isValid, name, vector } of vectors) {
      if (!isValid || READERS[kind] === undefined) continue;
      const meaning = READERS[kind](wire(vector));
      const wanted = vector.normalized ?? vector.input;
      if (Array.isArray(wanted) || typeof wanted === "string") assert.deepEqual(meaning, wanted, name);
      else if (wanted !== undefined) {
        for (const [field, value] of Object.entries(wanted)) {
          assert.deepEqual(meaning[field] ?? null, value, `${name}: ${field}`);
        }
      }
    }
  });

  test("every invalid vector is refused, and the refusal names the field", () => {
    for (const { kind, isValid, name, vector } of vectors) {
      if (isValid || READERS[kind] === undefined) continue;
      assert.throws(() => READERS[kind](wire(vector)), (error) => {
        assert.ok(error instanceof WireError || error instanceof SyntaxError, `${name}: ${error}`);
        if (vector.field) assert.ok(error.message.includes(vector.field), `${name}: ${error.message}`);
        return true;
      }, name);
    }
  });

  test("patterns take in what the vectors say", () => {
    for (const { kind, name, vector } of vectors) {
      if (kind !== "EventPattern") continue;
      for (const type of vector.takes_in ?? []) assert.ok(events.matches(vector.text, type), `${name}: ${type}`);
      for (const type of vector.leaves_out ?? []) assert.ok(!events.matches(vector.text, type), `${name}: ${type}`);
    }
  });

  test("what a plugin writes is what the valid vectors show", () => {
    let compared = 0;
    for (const { kind, isValid, name, vector } of vectors) {
      const input = vector.input;
      if (!isValid) continue;
      if (kind === "Ack") {
        const written = JSON.parse(channel.ackFrame(input.id, input.status === "ok" ? undefined : (input.error ?? "")));
        assert.equal(written.status, input.status, name);
        assert.equal(written.id, input.id, name);
      } else if (kind === "Request" && input?.type === "request" && input.params) {
        const { type, id, method, params } = input;
        assert.deepEqual(JSON.parse(channel.requestFrame(id, method, params)), { type, id, method, params }, name);
      } else continue;
      compared += 1;
    }
    assert.ok(compared > 5);
  });

  test("payloads pass through an event unchanged, whatever further fields they have", () => {
    for (const { kind, isValid, name, vector } of vectors) {
      if (!isValid || PAYLOADS[kind] === undefined) continue;
      const event = { id: "1", event_type: PAYLOADS[kind], timestamp: "2026-06-06T12:00:00Z", data: vector.input };
      assert.deepEqual(events.readEvent(event).data, vector.input, name);
    }
  });
});

describe("types", () => {
  // The interfaces are written by hand, so that they read well; this is what keeps them from drifting.
  const source = (file) => readFileSync(new URL(`../src/${file}`, import.meta.url), "utf8");
  const interfaces = new Map();
  for (const text of ["payload.ts", "data.ts", "manifest.ts", "config.ts"].map(source)) {
    for (const [, name, parent, body] of text.matchAll(/export interface (\w+)(?: extends (\w+))? \{(.*?)\n?\}\n/gs)) {
      const own = new Map([...body.matchAll(/^ {2}(?:readonly )?(\w+)(\?)?:\s*([^;]*(?:;(?=[^\n]))?[^;]*);/gm)].map(([, field, optional]) => [field, optional !== "?"]));
      interfaces.set(name, new Map([...(interfaces.get(parent) ?? []), ...own]));
    }
  }

  for (const name of [...Object.keys(PAYLOADS), "ProjectInfo", "EnvironmentInfo", "DeploymentInfo", "PluginManifest", "Configuration"]) {
    test(`${name} has the fields of its schema`, () => {
      const schema = JSON.parse(readFileSync(`${SPEC}schema/${name}.json`, "utf8"));
      const fields = interfaces.get(name);
      assert.ok(fields, `${name} has no interface`);
      const wanted = Object.keys(schema.properties).filter((field) => field !== "type");
      assert.deepEqual([...fields.keys()].sort(), wanted.sort());
      for (const field of (schema.required ?? []).filter((field) => field !== "type")) {
        assert.ok(fields.get(field), `${field} must be there`);
      }
    });
  }

  test("there is a payload for each event type of the specification and no other", () => {
    const page = readFileSync(`${SPEC}../PROTOCOL.md`, "utf8");
    const table = page.slice(page.indexOf("| Type | When |"), page.indexOf("- **E-1**"));
    const rows = table.split("\n").filter((row) => row.startsWith("| `"));
    const types = rows.flatMap((row) => [...row.split("|")[1].matchAll(/`([^`]+)`/g)].map(([, type]) => type));
    const written = [...source("payload.ts").matchAll(/^ {2}"([a-z.]+)":/gm)].map(([, type]) => type);
    assert.deepEqual(written.sort(), types.sort());
  });
});

describe("transcripts", () => {
  for (const file of readdirSync(`${SPEC}transcripts`).filter((name) => name.endsWith(".jsonl"))) {
    test(`every step of the host in ${file} is read`, () => {
      const steps = readFileSync(`${SPEC}transcripts/${file}`, "utf8").trim().split("\n").map((line) => JSON.parse(line));
      assert.ok(steps.length > 1);
      for (const step of steps) {
        if (step.from === "host" && step.kind === "frame") channel.readFrame(step.text);
        else if (step.kind === "spawn") assert.ok(handshake.readLaunch(step.args.slice(1), step.env).socketPath);
        else if (step.kind === "http_request" && step.path === "/_events") events.readEvent(step.body);
      }
    });
  }
});

test("times keep what is finer than a millisecond, and no other days come out than went in", () => {
  const read = (time) => new Fields({ time }).time("time");
  assert.equal(read("2026-06-06T14:00:00.123456789+02:00"), "2026-06-06T12:00:00.123456789Z");
  for (const wrong of ["2026-02-30T12:00:00Z", "2026-06-06T25:00:00Z", "2026-06-06T12:00:00", "2026-06-06", "now"]) {
    assert.throws(() => read(wrong), WireError, wrong);
  }
});
