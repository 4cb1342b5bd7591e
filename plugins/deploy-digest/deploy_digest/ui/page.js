// The page of the plugin "deploy-digest": one day's deployments. Every address is relative to this page, so it works
// behind any prefix. Texts of deployments are put in as text, never as HTML.

const OUTCOMES = ["succeeded", "failed", "cancelled"];
const picker = document.getElementById("day");
const state = document.getElementById("state");

async function ask(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`the plugin answered ${answer.status}`);
  return answer.json();
}

function element(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function show(digest) {
  const rows = digest.projects.map((project) => {
    const row = document.createElement("tr");
    row.append(element("td", project.project), ...OUTCOMES.map((outcome) => element("td", project[outcome])));
    return row;
  });
  document.querySelector("#projects tbody").replaceChildren(...rows);
  document.getElementById("projects").hidden = rows.length === 0;
  const failures = digest.failures.map((failure) => {
    const where = failure.environment ? `${failure.project}/${failure.environment}` : failure.project;
    return element("li", `${where}: ${failure.error ?? "failed, without a reason"}`);
  });
  document.querySelector("#failures ul").replaceChildren(...failures);
  document.getElementById("failures").hidden = failures.length === 0;
  const total = OUTCOMES.reduce((sum, outcome) => sum + digest[outcome], 0);
  state.textContent = total === 0 ? "No deployments have ended on this day." : `${total} in all`;
}

async function load(day) {
  try {
    const digest = await ask(day ? `../digest?day=${day}` : "../digest");
    show(digest);
    return digest.day;
  } catch (problem) {
    state.textContent = `The digest cannot be shown: ${problem.message}`;
    return day;
  }
}

const today = await load();
const days = await ask("../days").catch(() => []);
picker.append(...[...new Set([today, ...days])].filter(Boolean).map((day) => new Option(day, day)));
picker.addEventListener("change", () => load(picker.value));
