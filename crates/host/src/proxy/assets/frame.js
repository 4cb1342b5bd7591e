// The frame page's script. It runs with the console's origin, so it trusts nothing that the plugin's page says: messages
// count only from the frame's own window, and all they can do is store bounded texts and name a place inside the plugin's UI.
'use strict';
(() => {
  const plugin = document.documentElement.dataset.plugin;
  const prefix = `/api/x/${plugin}/`;
  const home = `${prefix}ui/`;
  const storageKey = `temps:plugin:${plugin}`;
  const STORAGE_QUOTA = 256 * 1024; // characters, all keys and values of one plugin
  const MAX_PATH = 4096; // characters of a path that is mirrored to the address bar
  const RENEW_AT = 0.6; // share of a token's life after which it is renewed
  const RENEW_PAUSE = 5000; // milliseconds between two renewals, whatever the page asks
  const embedded = window.parent !== window;
  const status = document.getElementById('status');
  const dark = window.matchMedia('(prefers-color-scheme: dark)');

  let frame = null;
  let session = { token: null, expires: 0, user: null };
  let theme = dark.matches ? 'dark' : 'light';
  let stored = readStored();
  let writing = 0;
  let renewing = null;
  let renewedAt = 0;

  function say(text, beside) {
    status.textContent = text;
    status.classList.toggle('beside', Boolean(beside));
  }

  // ---- places inside the plugin's UI

  function place(path) {
    if (typeof path !== 'string' || path.length > MAX_PATH) return null;
    let url;
    try { url = new URL(path, location.origin); } catch { return null; }
    const inside = url.pathname === `${prefix}ui` || url.pathname.startsWith(home);
    return url.origin === new URL(location.href).origin && inside ? url.pathname + url.search + url.hash : null;
  }

  function wanted() {
    const asked = new URLSearchParams(location.search).get('path');
    if (location.pathname === `${prefix}_temps/frame`) {
      return place(asked ? `/api/x/${plugin}${asked}` : home) ?? home;
    }
    return place(location.pathname + location.search + location.hash) ?? home;
  }

  function mirror(path) {
    if (embedded) window.parent.postMessage({ type: 'temps:route', plugin, path }, location.origin);
    else if (path !== location.pathname + location.search + location.hash) history.replaceState(null, '', path);
  }

  // ---- what stands in for the page's localStorage

  function readStored() {
    const entries = Object.create(null);
    try {
      for (const [key, value] of Object.entries(JSON.parse(localStorage.getItem(storageKey) ?? '{}'))) {
        if (typeof value === 'string') entries[key] = value;
      }
    } catch { /* unreadable or not allowed: the page begins with nothing stored */ }
    return entries;
  }

  function writeStored() {
    clearTimeout(writing);
    writing = 0;
    try { localStorage.setItem(storageKey, JSON.stringify(stored)); } catch { /* the browser's own quota is full */ }
  }

  function store(changes, clear) {
    if (typeof changes !== 'object' || changes === null) return;
    const next = Object.assign(Object.create(null), clear ? {} : stored);
    for (const [key, value] of Object.entries(changes)) {
      if (typeof value === 'string') next[key] = value;
      else delete next[key];
    }
    let size = 0;
    for (const [key, value] of Object.entries(next)) size += key.length + value.length;
    if (size > STORAGE_QUOTA) return;
    stored = next;
    writing ||= setTimeout(writeStored, 100);
  }

  // ---- the page's token

  async function fetchSession() {
    renewedAt = Date.now();
    const response = await fetch(`${prefix}_temps/token`, { method: 'POST', credentials: 'same-origin' });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const { token, expires_in: seconds, user } = await response.json();
    session = { token, expires: Date.now() + seconds * 1000, user };
    setTimeout(renew, seconds * 1000 * RENEW_AT);
  }

  function renew() {
    if (renewing) return;
    const wait = Math.max(0, renewedAt + RENEW_PAUSE - Date.now());
    renewing = new Promise((resolve) => setTimeout(resolve, wait))
      .then(fetchSession)
      .then(() => tell({ type: 'session', ...session }), () => say('Your sign-in has ended. Sign in again, then reload this page.', true))
      .finally(() => { renewing = null; });
  }

  // ---- talk with the page

  function tell(message) {
    // The page has no origin that could be named here; the frame-src policy keeps other pages out of the frame.
    frame?.contentWindow?.postMessage({ temps: 1, plugin, ...message }, '*');
  }

  function setTheme(next) {
    if (next !== 'dark' && next !== 'light') return;
    theme = next;
    tell({ type: 'theme', theme });
  }

  function hear(event) {
    const message = event.data;
    if (embedded && event.source === window.parent && event.origin === location.origin) {
      if (message?.type === 'temps:theme') setTheme(message.theme);
      return;
    }
    if (!frame || event.source !== frame.contentWindow || message?.temps !== 1 || message.plugin !== plugin) return;
    if (message.type === 'route') {
      const path = place(message.path);
      if (path) mirror(path);
    } else if (message.type === 'storage') {
      store(message.changes, message.clear === true);
    } else if (message.type === 'renew') {
      if (Date.now() < session.expires - 60000) tell({ type: 'session', ...session });
      else renew();
    }
  }

  // Only pages below the plugin's prefix may ever be shown in the frame, so that what the frame was given stays there.
  // Policies cannot name an IPv6 address; there the header's 'self' is all there is.
  function narrowPolicy() {
    if (location.hostname.startsWith('[')) return;
    const meta = document.createElement('meta');
    meta.httpEquiv = 'Content-Security-Policy';
    meta.content = `frame-src ${location.protocol}//${location.host}${prefix}`;
    document.head.append(meta);
  }

  function show() {
    narrowPolicy();
    frame = document.createElement('iframe');
    frame.title = document.title;
    frame.setAttribute('sandbox', 'allow-scripts allow-forms allow-popups allow-downloads');
    frame.referrerPolicy = 'no-referrer';
    // The page reads this before its first script runs, without having to ask.
    frame.name = JSON.stringify({ temps: 1, plugin, ...session, theme, storage: stored });
    frame.src = wanted();
    document.body.append(frame);
  }

  async function open() {
    window.addEventListener('message', hear);
    window.addEventListener('pagehide', () => { if (writing) writeStored(); });
    window.addEventListener('hashchange', () => {
      const path = place(location.pathname + location.search + location.hash);
      if (path) frame?.contentWindow?.location.replace(path);
    });
    window.addEventListener('storage', (event) => {
      if (event.key !== storageKey) return;
      stored = readStored();
      tell({ type: 'storage', storage: stored });
    });
    dark.addEventListener('change', () => setTheme(dark.matches ? 'dark' : 'light'));
    if (window.origin === 'null') {
      say('This tab was opened by a plugin’s page, so it does not have your sign-in. Open the address in a tab of your own.', true);
    } else {
      try {
        await fetchSession();
      } catch (error) {
        say(`This page could not be opened (${error.message}). Sign in again, then reload.`);
        return;
      }
      say('');
    }
    show();
  }

  open();
})();
