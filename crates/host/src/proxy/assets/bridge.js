// The bridge: put in front of everything else in a plugin's page. The page runs without an origin, so it has no cookies and
// no storage. The bridge gives it stand-ins, and lets its calls to its own plugin carry the token that the frame page gave.
// It is no guard: a page that leaves it out, or changes it, only loses what it gives.
'use strict';
(() => {
  const script = document.currentScript;
  const plugin = /\/api\/x\/([a-z0-9-]+)\/_temps\/bridge\.js/.exec(script?.src ?? '')?.[1];
  script?.remove();
  if (!plugin || window.temps) return;
  const prefix = `/api/x/${plugin}/`;
  const home = `${prefix}ui/`;
  const STORAGE_QUOTA = 256 * 1024; // characters, all keys and values
  const EXPIRY_MARGIN = 5000; // milliseconds before its end from which a token is not used any more
  const RENEW_PATIENCE = 10000; // milliseconds that a call waits for a new token
  const RECONNECTS = 5; // tries in a row to open an event stream again

  // A page that stands alone in a tab (the browser did not tell the host so) belongs into the host's frame page.
  if (window.parent === window) {
    if (location.pathname === `${prefix}ui` || location.pathname.startsWith(home)) {
      const path = location.pathname.slice(prefix.length - 1) + location.search + location.hash;
      location.replace(`${prefix}_temps/frame?path=${encodeURIComponent(path)}`);
    }
    return;
  }

  const given = readName();
  let session = { token: given.token ?? null, expires: given.expires ?? 0, user: given.user ?? null };
  let theme = given.theme === 'dark' ? 'dark' : 'light';
  const themeListeners = new Set();
  const sessionListeners = new Set();

  function readName() {
    try {
      const state = JSON.parse(window.name);
      return state?.temps === 1 && state.plugin === plugin ? state : {};
    } catch {
      return {};
    }
  }

  function tell(message) {
    window.parent.postMessage({ temps: 1, plugin, ...message }, '*');
  }

  // ---- the token, and which calls carry it

  function resolve(url) {
    try {
      const full = new URL(url, document.baseURI);
      if (full.protocol === 'ws:') full.protocol = 'http:';
      if (full.protocol === 'wss:') full.protocol = 'https:';
      return full;
    } catch {
      return null;
    }
  }

  function isOwn(url) {
    const full = resolve(url);
    return full !== null && full.host === location.host && full.pathname.startsWith(prefix);
  }

  function isPageFile(url) {
    return resolve(url)?.pathname.startsWith(home) ?? false;
  }

  // Added as text: setting it through URLSearchParams would write the rest of the query anew.
  function withParameter(url, name, value) {
    const full = new URL(url, document.baseURI);
    full.search += `${full.search ? '&' : '?'}${name}=${encodeURIComponent(value)}`;
    return full.href;
  }

  function withToken(url) {
    return session.token ? withParameter(url, '_temps_token', session.token) : new URL(url, document.baseURI).href;
  }

  function isFresh() {
    return session.token !== null && Date.now() < session.expires - EXPIRY_MARGIN;
  }

  function freshToken() {
    if (session.token === null || isFresh()) return Promise.resolve();
    return new Promise((done) => {
      const finish = () => { clearTimeout(timer); sessionListeners.delete(finish); done(); };
      const timer = setTimeout(finish, RENEW_PATIENCE);
      sessionListeners.add(finish);
      tell({ type: 'renew' });
    });
  }

  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && session.token !== null && !isFresh()) tell({ type: 'renew' });
  });

  // ---- fetch, beacons, XMLHttpRequest

  const nativeFetch = window.fetch.bind(window);
  window.fetch = async function fetch(input, init) {
    const target = input instanceof Request ? input.url : String(input);
    if (!isOwn(target)) return nativeFetch(input, init);
    const request = new Request(input, init);
    await freshToken();
    const headers = new Headers(request.headers);
    if (session.token) headers.set('authorization', `Bearer ${session.token}`);
    // Without an origin there is nothing that credentials could mean, and asking for them would fail.
    return nativeFetch(new Request(request, { headers, credentials: 'omit', mode: 'cors' }));
  };

  const nativeBeacon = navigator.sendBeacon?.bind(navigator);
  if (nativeBeacon) {
    navigator.sendBeacon = (url, body) => {
      if (!isOwn(url)) return nativeBeacon(url, body);
      window.fetch(url, { method: 'POST', body, keepalive: true }).catch(() => {});
      return true;
    };
  }

  const ownCalls = new WeakSet();
  const xhr = XMLHttpRequest.prototype;
  const { open: nativeOpen, send: nativeSend, setRequestHeader: nativeSet } = xhr;
  xhr.open = function open(method, url, ...rest) {
    if (isOwn(url)) ownCalls.add(this);
    else ownCalls.delete(this);
    return nativeOpen.call(this, method, url, ...rest);
  };
  xhr.setRequestHeader = function setRequestHeader(name, value) {
    if (ownCalls.has(this) && String(name).toLowerCase() === 'authorization') return;
    nativeSet.call(this, name, value);
  };
  xhr.send = function send(body) {
    if (ownCalls.has(this)) {
      this.withCredentials = false;
      if (session.token) nativeSet.call(this, 'authorization', `Bearer ${session.token}`);
    }
    return nativeSend.call(this, body);
  };

  // ---- event streams and WebSockets, which cannot set headers

  const NativeEventSource = window.EventSource;
  class PageEventSource extends EventTarget {
    #url;
    #inner = null;
    #state = NativeEventSource.CONNECTING;
    #failures = 0;
    #lastId = '';
    #types = new Set();
    #handlers = { open: null, message: null, error: null };

    constructor(url) {
      super();
      this.#url = new URL(url, document.baseURI).href;
      for (const type of ['open', 'message', 'error']) {
        super.addEventListener(type, (event) => this.#handlers[type]?.call(this, event));
      }
      this.#connect();
    }

    #connect() {
      const url = withToken(this.#url);
      this.#inner = new NativeEventSource(this.#lastId ? withParameter(url, '_temps_last_event_id', this.#lastId) : url);
      this.#inner.onopen = () => {
        this.#state = NativeEventSource.OPEN;
        this.#failures = 0;
        this.dispatchEvent(new Event('open'));
      };
      this.#inner.onerror = () => this.#failed();
      this.#types.add('message');
      for (const type of this.#types) this.#inner.addEventListener(type, this.#pass);
    }

    #pass = (event) => {
      this.#lastId = event.lastEventId;
      this.dispatchEvent(new MessageEvent(event.type, { data: event.data, origin: location.origin, lastEventId: event.lastEventId }));
    };

    // The browser connects again by itself, but with the token of the first time; once that is refused, it gives up.
    #failed() {
      if (this.#inner.readyState !== NativeEventSource.CLOSED) {
        this.#state = NativeEventSource.CONNECTING;
      } else if (++this.#failures > RECONNECTS) {
        this.#state = NativeEventSource.CLOSED;
      } else {
        this.#state = NativeEventSource.CONNECTING;
        const again = () => { if (this.#state !== NativeEventSource.CLOSED) this.#connect(); };
        setTimeout(() => freshToken().then(again), 1000 * this.#failures);
      }
      this.dispatchEvent(new Event('error'));
    }

    addEventListener(type, ...rest) {
      super.addEventListener(type, ...rest);
      if (!['open', 'error', 'message'].includes(type) && !this.#types.has(type)) {
        this.#types.add(type);
        this.#inner.addEventListener(type, this.#pass);
      }
    }

    close() {
      this.#state = NativeEventSource.CLOSED;
      this.#inner.close();
    }

    get url() { return this.#url; }
    get readyState() { return this.#state; }
    get withCredentials() { return false; }
    get onopen() { return this.#handlers.open; }
    set onopen(handler) { this.#handlers.open = handler; }
    get onmessage() { return this.#handlers.message; }
    set onmessage(handler) { this.#handlers.message = handler; }
    get onerror() { return this.#handlers.error; }
    set onerror(handler) { this.#handlers.error = handler; }
  }
  // `instanceof EventSource` holds for the stand-in, too.
  Object.setPrototypeOf(PageEventSource.prototype, NativeEventSource.prototype);
  window.EventSource = new Proxy(NativeEventSource, {
    construct: (target, [url, options]) => (isOwn(url) ? new PageEventSource(url) : new target(url, options)),
  });

  window.WebSocket = new Proxy(window.WebSocket, {
    construct: (target, [url, ...rest]) => {
      if (!isOwn(url)) return new target(url, ...rest);
      const full = new URL(withToken(url));
      full.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
      return new target(full.href, ...rest);
    },
  });

  // ---- links and forms that lead to the plugin's own routes: a download, an ordinary post

  function forAMoment(element, attribute, value) {
    const before = element.getAttribute(attribute);
    element.setAttribute(attribute, value);
    setTimeout(() => (before === null ? element.removeAttribute(attribute) : element.setAttribute(attribute, before)), 0);
  }

  window.addEventListener('click', (event) => {
    const link = event.composedPath().find((node) => node instanceof HTMLAnchorElement && node.href);
    if (event.defaultPrevented || !link || !session.token || !isOwn(link.href) || isPageFile(link.href)) return;
    forAMoment(link, 'href', withToken(link.href));
  });

  window.addEventListener('submit', (event) => {
    const form = event.target;
    if (event.defaultPrevented || !session.token || !isOwn(form.action)) return;
    if (form.method === 'get') {
      const field = Object.assign(document.createElement('input'), { type: 'hidden', name: '_temps_token', value: session.token });
      form.append(field);
      setTimeout(() => field.remove(), 0);
    } else {
      forAMoment(form, 'action', withToken(form.action));
    }
  });

  // ---- storage

  function makeStorage(entries, changed) {
    const map = new Map(Object.entries(entries ?? {}).filter(([, value]) => typeof value === 'string'));
    const size = () => { let sum = 0; for (const [key, value] of map) sum += key.length + value.length; return sum; };
    const methods = {
      getItem: (key) => map.get(String(key)) ?? null,
      setItem: (key, value) => {
        const [name, text] = [String(key), String(value)];
        const grown = size() + text.length - (map.has(name) ? map.get(name).length : -name.length);
        if (grown > STORAGE_QUOTA) throw new DOMException('The quota of 256 KiB has been exceeded.', 'QuotaExceededError');
        map.set(name, text);
        changed({ [name]: text }, false);
      },
      removeItem: (key) => { if (map.delete(String(key))) changed({ [String(key)]: null }, false); },
      clear: () => { map.clear(); changed({}, true); },
      key: (index) => [...map.keys()][index] ?? null,
    };
    const target = Object.create(Storage.prototype);
    const isEntry = (key) => typeof key === 'string' && map.has(key) && !(key in methods) && key !== 'length';
    return {
      map,
      proxy: new Proxy(target, {
        get: (_, key) => {
          if (key === 'length') return map.size;
          if (typeof key === 'string' && Object.hasOwn(methods, key)) return methods[key];
          return isEntry(key) ? map.get(key) : Reflect.get(target, key, target);
        },
        set: (_, key, value) => { methods.setItem(key, value); return true; },
        deleteProperty: (_, key) => { methods.removeItem(key); return true; },
        has: (_, key) => isEntry(key) || key in target,
        ownKeys: () => [...map.keys()],
        getOwnPropertyDescriptor: (_, key) => (isEntry(key)
          ? { value: map.get(key), writable: true, enumerable: true, configurable: true } : undefined),
      }),
    };
  }

  const local = makeStorage(given.storage, (changes, clear) => { tell({ type: 'storage', changes, clear }); nameSoon(); });
  const ofSession = makeStorage(given.session, () => nameSoon());
  Object.defineProperty(window, 'localStorage', { value: local.proxy, configurable: true, enumerable: true });
  Object.defineProperty(window, 'sessionStorage', { value: ofSession.proxy, configurable: true, enumerable: true });
  // Without an origin even reading cookies throws. There are none.
  Object.defineProperty(document, 'cookie', { get: () => '', set: () => {}, configurable: true });

  // The next page in this frame begins where this one ends. The name must be right before the browser leaves the page: what is
  // set later (in pagehide) does not reach the next one.
  let naming = 0;
  function writeName() {
    clearTimeout(naming);
    naming = 0;
    window.name = JSON.stringify({
      temps: 1, plugin, ...session, theme, storage: Object.fromEntries(local.map), session: Object.fromEntries(ofSession.map),
    });
  }
  function nameSoon() { naming ||= setTimeout(writeName, 50); }
  window.addEventListener('beforeunload', writeName);

  // ---- where the page is

  let reported = '';
  function report() {
    const path = location.pathname + location.search + location.hash;
    if (path === reported) return;
    reported = path;
    tell({ type: 'route', path });
  }
  for (const name of ['pushState', 'replaceState']) {
    const native = history[name].bind(history);
    history[name] = (...args) => { native(...args); report(); };
  }
  window.addEventListener('popstate', report);
  window.addEventListener('hashchange', report);
  report();

  // ---- what the frame page says, and what the page may use

  function setTheme(next) {
    theme = next === 'dark' ? 'dark' : 'light';
    document.documentElement?.setAttribute('data-temps-theme', theme);
    for (const listener of themeListeners) listener(theme);
  }

  function setStorage(entries) {
    const next = new Map(Object.entries(entries ?? {}));
    const keys = new Set([...local.map.keys(), ...next.keys()]);
    for (const key of keys) {
      const [oldValue, newValue] = [local.map.get(key) ?? null, next.get(key) ?? null];
      if (oldValue === newValue) continue;
      if (newValue === null) local.map.delete(key);
      else local.map.set(key, newValue);
      window.dispatchEvent(new StorageEvent('storage', { key, oldValue, newValue, url: location.href }));
    }
  }

  window.addEventListener('message', (event) => {
    const message = event.data;
    if (event.source !== window.parent || message?.temps !== 1 || message.plugin !== plugin) return;
    // These are between the frame page and the bridge; the page does not hear them.
    event.stopImmediatePropagation();
    if (message.type === 'theme') setTheme(message.theme);
    if (message.type === 'storage') setStorage(message.storage);
    if (message.type === 'session') {
      session = { token: message.token, expires: message.expires, user: message.user };
      nameSoon();
      for (const listener of [...sessionListeners]) listener();
    }
  });

  setTheme(theme);
  window.temps = Object.freeze({
    plugin,
    get theme() { return theme; },
    get user() { return session.user; },
    // Calls `listener` with 'light' or 'dark' on each change; returns a function that ends it.
    onTheme(listener) { themeListeners.add(listener); return () => themeListeners.delete(listener); },
    // Goes to a place inside the plugin's UI, for example '/settings' or '#/settings'.
    navigate(path) {
      const text = String(path);
      const url = new URL(text.startsWith('/') ? home + text.slice(1) : text, text.startsWith('/') ? location.origin : location.href);
      if (!isPageFile(url.href) || !isOwn(url.href)) throw new TypeError(`${text} is not inside the plugin's UI`);
      location.assign(url.href);
    },
  });
})();
