// The page of the plugin "hello": shows events as they happen.
// Every address is relative to this page, so it works behind any prefix.

const KEPT = 50;
const rows = document.getElementById("events");
const state = document.getElementById("state");
const empty = document.getElementById("empty");
const shown = new Set();

function cell(text) {
  const element = document.createElement("td");
  element.textContent = text;
  return element;
}

function show(event) {
  if (shown.has(event.id)) return;
  shown.add(event.id);
  const row = document.createElement("tr");
  row.dataset.id = event.id;
  row.append(
    cell(new Date(event.timestamp).toLocaleTimeString()),
    cell(event.event_type),
    cell(event.project_id ?? ""),
    cell(JSON.stringify(event.data)),
  );
  rows.prepend(row);
  while (rows.children.length > KEPT) {
    shown.delete(rows.lastElementChild.dataset.id);
    rows.lastElementChild.remove();
  }
  empty.hidden = true;
}

fetch("../greeting")
  .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(`status ${answer.status}`))))
  .then((greeting) => {
    document.getElementById("greeting").textContent = greeting.message;
  })
  .catch((problem) => {
    document.getElementById("greeting").textContent = `Hello (${problem.message})`;
  });

const stream = new EventSource("../events/stream");
stream.onopen = () => {
  state.textContent = "Live";
};
stream.onmessage = (message) => show(JSON.parse(message.data));
stream.addEventListener("greeting", (message) => {
  document.getElementById("greeting").textContent = JSON.parse(message.data);
});
stream.onerror = () => {
  state.textContent = "Connection lost, trying again…";
};
