// The page: the board's rows, filtered by project, as they change. Every address is relative, so it works behind any prefix.
import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

const MAX_ROWS = 60;

function merge(rows, changed) {
  const others = rows.filter(({ id }) => !changed.some((row) => row.id === id));
  return [...changed, ...others].sort((a, b) => Date.parse(b.at) - Date.parse(a.at)).slice(0, MAX_ROWS);
}

/** The rows as they are now, and whether they are live. */
function useRows() {
  const [rows, setRows] = useState([]);
  const [isLive, setLive] = useState(false);
  useEffect(() => {
    const source = new EventSource("../deployments/live");
    source.onopen = () => setLive(true);
    source.onerror = () => setLive(false);
    source.onmessage = (message) => setRows((known) => merge(known, JSON.parse(message.data)));
    return () => source.close();
  }, []);
  return [rows, isLive];
}

function Card({ row }) {
  return (
    <li className="card" data-state={row.state}>
      <div className="head">
        <strong>{row.project}</strong>
        <span className="state">{row.state}</span>
      </div>
      <div className="detail">
        {row.environment && <span>{row.environment}</span>}
        {row.commit && <code>{row.commit.slice(0, 8)}</code>}
        <time dateTime={row.at}>{new Date(row.at).toLocaleTimeString()}</time>
      </div>
      {row.error && <p className="error">{row.error}</p>}
      {/^https?:/.test(row.url ?? "") && (
        <a href={row.url} target="_blank" rel="noreferrer">
          {row.url}
        </a>
      )}
    </li>
  );
}

function Board() {
  const [rows, isLive] = useRows();
  const [project, setProject] = useState("");
  const projects = [...new Set(rows.map((row) => row.project))].sort();
  const shown = rows.filter((row) => project === "" || row.project === project);
  return (
    <>
      <header>
        <h1>Deployments</h1>
        <p role="status">{isLive ? "Live" : "Connecting…"}</p>
        <label>
          Project
          <select value={project} onChange={(event) => setProject(event.target.value)}>
            <option value="">All</option>
            {projects.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      </header>
      {shown.length === 0 ? (
        <p>No deployments yet. Report one, and it appears here.</p>
      ) : (
        <ul>
          {shown.map((row) => (
            <Card key={row.id} row={row} />
          ))}
        </ul>
      )}
    </>
  );
}

createRoot(document.getElementById("board")).render(
  <StrictMode>
    <Board />
  </StrictMode>,
);
