// The settings page of the plugin "slack-notifier".
// Every address is relative to this page, so it works behind any prefix. The webhook's address is only ever sent.

const REFRESH_MS = 5000;
const element = (id) => document.getElementById(id);

const WORDS = {
  ok: "Messages are posted.",
  not_configured: "No webhook yet. Make an incoming webhook in Slack, and paste its address here.",
  trouble: "The last message had trouble; it is tried again.",
  needs_attention: "Needs attention: nothing is posted until you change something.",
};

async function call(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: body ? { "content-type": "application/json" } : {},
    body: body ? JSON.stringify(body) : undefined,
  });
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.detail ?? `status ${answer.status}`);
  return value;
}

function show(settings, { form = false } = {}) {
  const { status } = settings;
  const words = WORDS[status.state] ?? status.state;
  element("state").textContent = status.reason ? `${words} (${status.reason})` : words;
  element("state").dataset.state = status.state;
  element("known").textContent = settings.webhook_set ? `Set: ${settings.webhook}` : "Not set";
  element("remove").disabled = element("test").disabled = !settings.webhook_set;
  if (form) element("custom").checked = settings.allow_custom_host;
  const numbers = { Posted: status.posted, Waiting: status.waiting, "Given up": status.given_up };
  element("numbers").replaceChildren(
    ...Object.entries(numbers).flatMap(([name, number]) => {
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = name;
      value.textContent = number;
      return [term, value];
    }),
  );
}

async function attempt(work, success) {
  element("result").textContent = "";
  try {
    const settings = await work();
    if (settings.status) show(settings, { form: true });
    element("result").textContent = success;
  } catch (problem) {
    element("result").textContent = problem.message;
  }
  refresh();
}

async function refresh(options) {
  try {
    show(await call("GET", "../settings"), options);
  } catch (problem) {
    element("state").textContent = problem.message;
  }
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const change = { allow_custom_host: element("custom").checked };
  const address = element("webhook").value.trim();
  if (address) change.webhook_url = address;
  element("webhook").value = "";
  attempt(() => call("PATCH", "../settings", change), "Saved.");
});
element("test").addEventListener("click", () => attempt(() => call("POST", "../settings/test"), "The test message was posted."));
element("remove").addEventListener("click", () =>
  attempt(() => call("PATCH", "../settings", { webhook_url: null }), "Removed."),
);

refresh({ form: true });
setInterval(refresh, REFRESH_MS);
