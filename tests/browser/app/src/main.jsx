// An app that knows nothing of frames, bridges or tokens: it loads itself in parts, stores, fetches, listens and routes as any
// other does. Nothing in here is written for this host but the addresses of its plugin.
import { StrictMode, Suspense, lazy, useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import './main.css';
import logo from './logo.svg';

const Later = lazy(() => import('./Later.jsx'));
const api = '/api/x/ordinary';

function useHash() {
  const [hash, setHash] = useState(window.location.hash);
  useEffect(() => {
    const changed = () => setHash(window.location.hash);
    window.addEventListener('hashchange', changed);
    return () => window.removeEventListener('hashchange', changed);
  }, []);
  return hash || '#/';
}

function Line({ id, children }) {
  return <p><span className="name">{id}</span><output id={id}>{children}</output></p>;
}

function App() {
  const hash = useHash();
  const [visits] = useState(() => {
    const count = Number(localStorage.getItem('visits') ?? 0) + 1;
    localStorage.setItem('visits', String(count));
    sessionStorage.seen = 'yes';
    return count;
  });
  const [whoami, setWhoami] = useState('');
  const [saved, setSaved] = useState('');
  const [old, setOld] = useState('');
  const [events, setEvents] = useState([]);
  const [chat, setChat] = useState('');

  useEffect(() => {
    fetch(`${api}/whoami`, { credentials: 'include' }).then((r) => r.json()).then((me) => setWhoami(`${me.name} (${me.role})`));
    const request = new XMLHttpRequest();
    request.open('GET', `${api}/whoami`);
    request.withCredentials = true;
    request.onload = () => setOld(`${request.status} ${JSON.parse(request.responseText).id}`);
    request.send();

    const stream = new EventSource(`${api}/events`);
    stream.onmessage = (event) => setEvents((all) => [...all, event.data]);
    stream.addEventListener('tick', (event) => setEvents((all) => [...all, event.data]));

    const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${api}/chat`);
    socket.onopen = () => socket.send('hello');
    socket.onmessage = (event) => setChat(event.data);
    return () => { stream.close(); socket.close(); };
  }, []);

  const save = async () => {
    const response = await fetch(new Request(`${api}/settings`, {
      method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ color: 'teal' }),
    }));
    setSaved(`${response.status} ${await response.text()}`);
  };

  return (
    <main>
      <h1><img id="logo" src={logo} alt="" width="32" height="32" /> Ordinary</h1>
      <Line id="visits">{visits}</Line>
      <Line id="whoami">{whoami}</Line>
      <Line id="xhr">{old}</Line>
      <Line id="events">{events.join(' ')}</Line>
      <Line id="chat">{chat}</Line>
      <Line id="route">{hash}</Line>
      <Suspense fallback={<p>…</p>}><Later /></Suspense>
      <p><a id="to-settings" href="#/settings">Settings</a> <a id="export" href={`${api}/export.csv`} download>Export</a></p>
      <form action={`${api}/form`} method="post"><input name="field" defaultValue="value" /><button id="post">Post</button></form>
      <button id="save" onClick={save}>Save</button> <output id="saved">{saved}</output>
    </main>
  );
}

createRoot(document.getElementById('root')).render(<StrictMode><App /></StrictMode>);
