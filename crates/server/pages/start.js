// The start page: asks the REST API what there is, and asks again when an event comes or some time has passed.
// Everything from the API goes into the page as text, never as HTML.
"use strict";

const SHOWN = 12; // rows of a list
const REFRESH_MS = 5000; // plugins change without events

const good = new Set(["running", "succeeded", "ready"]);
const bad = new Set(["failed", "quarantined", "refused", "backoff", "gone"]);
const calm = new Set(["stopped", "disabled", "cancelled", "pending"]);

function element(tag, options = {}, children = []) {
  const { text, ...attributes } = options;
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  made.append(...children.filter(Boolean));
  return made;
}

function state(word) {
  const kind = good.has(word) ? "good" : bad.has(word) ? "bad" : calm.has(word) ? "calm" : "busy";
  return element("span", { class: `state ${kind}`, text: word.replaceAll("_", " ") });
}

function time(text) {
  const at = new Date(text);
  const shown = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return element("time", { class: "quiet", datetime: text, title: at.toLocaleString(), text: shown });
}

// Only web addresses become links: an address of another kind could run as a script.
function link(address) {
  if (!/^https?:\/\//.test(address)) return element("span", { text: address });
  return element("a", { href: address, rel: "noopener noreferrer", target: "_blank", text: address });
}

function show(id, rows, nothing) {
  const list = document.getElementById(id);
  list.replaceChildren(...(rows.length ? rows : [element("li", { class: "empty quiet", text: nothing })]));
}

function plugin(one) {
  const version = one.version ? element("span", { class: "quiet", text: one.version }) : null;
  const head = element("div", { class: "head" }, [element("strong", { text: one.display_name || one.name }), version, state(one.state)]);
  const told = one.reason || one.description;
  const page = one.ui_url && one.state === "running" && one.ui_url.startsWith("/api/x/")
    ? element("a", { href: one.ui_url, text: "Open its page" }) : null;
  return element("li", {}, [head, told && element("p", { class: "quiet", text: told }), page]);
}

function deployment(one) {
  const commit = [one.commit_sha && one.commit_sha.slice(0, 7), one.commit_message].filter(Boolean).join(" · ");
  const detail = one.error_message || commit;
  return element("li", {}, [
    element("span", { class: "main" }, [element("strong", { text: one.project }), ` → ${one.environment}`]),
    state(one.state),
    element("span", { class: "detail quiet" }, [detail ? `${detail} ` : "", one.url && link(one.url)]),
  ]);
}

function word(name, value) {
  if (typeof value === "object") return "…";
  return String(value).slice(0, name === "commit_sha" ? 7 : 60);
}

function event(one) {
  // Ids say little to people; what is left is told in a few words.
  const told = Object.entries(one.data).filter(([name, value]) => value !== null && value !== "" && !name.endsWith("_id"));
  const words = told.slice(0, 4).map(([name, value]) => `${name.replaceAll("_", " ")} ${word(name, value)}`);
  return element("li", {}, [
    element("span", { class: "main mono", text: one.event_type }),
    time(one.timestamp),
    element("span", { class: "detail quiet", text: words.join(" · ") }),
  ]);
}

async function ask(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (answer.status === 401) location.assign("/login");
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function tell(words) {
  document.getElementById("connection").textContent = words;
}

let asking = false;
let again = false;

async function refresh() {
  if (asking) { again = true; return; }
  asking = true;
  try {
    const [plugins, deployments, events] = await Promise.all([
      ask("/api/plugins"), ask(`/api/deployments?limit=${SHOWN}`), ask(`/api/events?limit=${SHOWN}`),
    ]);
    show("plugins", plugins.items.map(plugin), "No plugins yet. Put an executable into the plugins directory.");
    show("deployments", deployments.items.map(deployment), "No deployments yet. Report one with `temps deployment report`.");
    show("events", events.items.map(event), "No events yet.");
    tell("");
  } catch (error) {
    tell("The daemon does not answer.");
  }
  asking = false;
  if (again) { again = false; setTimeout(refresh, 250); }
}

document.getElementById("sign-out").addEventListener("click", async () => {
  await fetch("/api/session", { method: "DELETE" });
  location.assign("/login");
});

new EventSource("/api/events/stream").addEventListener("event", refresh);
setInterval(refresh, REFRESH_MS);
refresh();
