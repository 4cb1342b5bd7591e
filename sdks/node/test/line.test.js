// The line of events: order, time-outs, room, and the end.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventLine } from "../dist/esm/line.js";

const event = (id) => ({ id, event_type: "test.ordinary", timestamp: "2026-06-06T12:00:00Z", data: {} });
const push = (line, id, bytes = 1) => new Promise((resolve) => line.push(event(id), bytes, resolve));

test("events are handled one at a time and in order, and not before the start", async () => {
  const steps = [];
  const line = new EventLine(async ({ id }) => {
    steps.push(`begin ${id}`);
    await new Promise((resolve) => setImmediate(resolve));
    steps.push(`end ${id}`);
  });
  const done = [push(line, "a"), push(line, "b")];
  assert.deepEqual(steps, []);
  line.start();
  assert.deepEqual(await Promise.all(done), [undefined, undefined]);
  assert.deepEqual(steps, ["begin a", "end a", "begin b", "end b"]);
});

test("a handler that takes too long is told so, its event has failed, and the next one begins", async () => {
  let aborted;
  const line = new EventLine(({ id }, signal) => {
    if (id !== "slow") return Promise.resolve();
    signal.addEventListener("abort", () => (aborted = signal.reason.message));
    return new Promise(() => undefined);
  }, 20);
  line.start();
  const [slow, next] = await Promise.all([push(line, "slow"), push(line, "next")]);
  assert.match(slow, /took longer than 0.02 s/);
  assert.equal(next, undefined);
  assert.equal(aborted, slow);
});

test("a line that is full says so, and says when there is room", async () => {
  const line = new EventLine(async () => undefined);
  const done = push(line, "large", 8 * 1024 * 1024);
  assert.equal(line.hasRoom(), false);
  const room = new Promise((resolve) => line.whenRoom(resolve));
  line.start();
  await Promise.all([done, room]);
  assert.equal(line.hasRoom(), true);
});

test("after its close a line takes nothing more, and what it had is handled first", async () => {
  const line = new EventLine(async () => new Promise((resolve) => setImmediate(resolve)));
  line.start();
  const had = push(line, "had");
  const closed = line.close();
  assert.equal(await push(line, "late"), "the plugin is ending");
  await closed;
  assert.equal(await had, undefined);
});
