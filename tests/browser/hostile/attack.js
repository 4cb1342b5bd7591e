// A page that tries to act as the console. Each attack says what it reached, or 'held'; a thrown error also means held.
const held = 'held';
const alone = window.top === window; // in a tab of its own, top and parent are this page itself
const within = (promise, ms) => Promise.race([promise, new Promise((resolve) => setTimeout(() => resolve(held), ms))]);
const read = async (url, init) => {
  const response = await fetch(url, init);
  return `read ${response.status} ${(await response.text()).slice(0, 60)}`;
};
const ownToken = () => {
  try { return JSON.parse(window.name).token ?? ''; } catch { return ''; }
};
const frameAt = (src) => new Promise((resolve) => {
  const frame = document.createElement('iframe');
  frame.onload = () => resolve(frame);
  frame.src = src;
  document.body.append(frame);
});
// Undoes what the bridge put in front, to get at the browser's own.
const native = (name) => Object.getOwnPropertyDescriptor(Window.prototype, name)?.get?.call(window)
  ?? (delete window[name], window[name]);

const attacks = {
  'fetch the administration with credentials': () => read('/api/admin/secret', { credentials: 'include' }),
  'fetch the administration with the own token': () => read('/api/admin/secret', { headers: { authorization: `Bearer ${ownToken()}` } }),
  'post to the administration without looking': async () => {
    await fetch('/api/admin/change?by=no-cors', { method: 'POST', mode: 'no-cors', credentials: 'include', body: 'x=1' });
    return held; // the log decides
  },
  'send a beacon to the administration': () => { navigator.sendBeacon('/api/admin/change?by=beacon', 'x'); return held; },
  'XMLHttpRequest with credentials': () => new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open('GET', '/api/admin/secret');
    request.withCredentials = true;
    request.onload = () => resolve(`read ${request.responseText}`);
    request.onerror = () => resolve(held);
    request.send();
  }),
  'load the administration as a script, an image and a style': async () => {
    for (const [tag, name] of [['script', 'src'], ['img', 'src'], ['link', 'href']]) {
      const element = document.createElement(tag);
      if (tag === 'link') element.rel = 'stylesheet';
      element[name] = `/api/admin/change?by=${tag}`;
      document.body.append(element);
    }
    return held;
  },
  'post a form to the administration in a frame': () => {
    const target = document.createElement('iframe');
    target.name = 'target';
    document.body.append(target);
    const form = document.createElement('form');
    Object.assign(form, { method: 'post', action: '/api/admin/change?by=form', target: 'target' });
    document.body.append(form);
    form.submit();
    return held;
  },
  'post a form to the administration in a popup': () => {
    const form = document.createElement('form');
    Object.assign(form, { method: 'post', action: '/api/admin/change?by=popup-form', target: '_blank' });
    document.body.append(form);
    form.submit();
    return held;
  },
  'move the tab away': () => { if (alone) return held; window.top.location.href = '/console?moved'; return held; },
  'replace the tab’s address by the bridge’s messages': async () => {
    for (const path of ['/console', '/api/x/other/ui/', '/api/x/hostile/ui/../../../console', '//evil.example/api/x/hostile/ui/', 'javascript:alert(1)', '/api/x/hostile/uix']) {
      window.parent.postMessage({ temps: 1, plugin: 'hostile', type: 'route', path }, '*');
    }
    return held; // the test looks at the address
  },
  'fill the tab’s storage by the bridge’s messages': () => {
    window.parent.postMessage({ temps: 1, plugin: 'hostile', type: 'storage', changes: { big: 'x'.repeat(300 * 1024) } }, '*');
    window.parent.postMessage({ temps: 1, plugin: 'other', type: 'storage', changes: { planted: 'x' } }, '*');
    window.parent.postMessage({ temps: 1, plugin: 'hostile', type: 'storage', changes: { __proto__: { polluted: 'x' }, mine: 'ok' } }, '*');
    return held;
  },
  'read the tab’s document': () => alone ? held : `read ${window.parent.document.title}`,
  'read the tab’s storage': () => `read ${window.top.localStorage.getItem('console')}`,
  'call the tab’s functions': () => { if (alone) return held; window.parent.eval('1'); return 'called'; },
  'read cookies': () => {
    delete document.cookie;
    const cookie = Object.getOwnPropertyDescriptor(Document.prototype, 'cookie').get.call(document);
    return `read ${cookie}`;
  },
  'read the real localStorage': () => `read ${native('localStorage').getItem('console')}`,
  'use IndexedDB': () => new Promise((resolve) => {
    const open = indexedDB.open('console');
    open.onsuccess = () => resolve('opened');
    open.onerror = () => resolve(held);
  }),
  'register a service worker': async () => { await navigator.serviceWorker.register('/api/x/hostile/ui/attack.js', { scope: '/' }); return 'registered'; },
  'start a shared worker': () => { new SharedWorker('/api/x/hostile/ui/attack.js'); return 'started'; },
  'open the console in a popup and read it': async () => {
    const popup = window.open('/console', 'console-popup');
    await new Promise((resolve) => setTimeout(resolve, 1500));
    return `read ${popup.document.title} ${popup.localStorage.getItem('console')}`;
  },
  'open a popup that runs as the console': () => {
    const popup = window.open('about:blank', 'blank-popup');
    popup.document.write('<script>opener.reached = document.cookie + localStorage.getItem("console")</scr' + 'ipt>');
    return window.reached ? `read ${window.reached}` : held;
  },
  'open a blob as a page of this origin': () => {
    const html = '<script>window.name = "blob"; fetch("/api/admin/change?by=blob", { method: "POST", credentials: "include" })</script>';
    window.open(URL.createObjectURL(new Blob([html], { type: 'text/html' })), 'blob-popup');
    return held;
  },
  'look at the administration in a frame': async () => {
    const frame = await frameAt('/api/admin/change?by=frame');
    return `read ${frame.contentDocument.body.textContent}`;
  },
  'look at the console in a frame': async () => {
    const frame = await frameAt('/console?framed');
    return `read ${frame.contentWindow.localStorage.getItem('console')}`;
  },
  'fetch another plugin’s route': () => read('/api/x/other/secret', { credentials: 'include' }),
  'fetch another plugin’s route with the own token': () => read('/api/x/other/secret', { headers: { authorization: `Bearer ${ownToken()}` } })
    .then((text) => (/^read 40[13]/.test(text) ? held : text)),
  'open another plugin’s route in a popup': () => { window.open('/api/x/other/change?by=popup', 'other-popup'); return held; },
  'open another plugin’s route in a frame': async () => { await frameAt('/api/x/other/change?by=frame'); return held; },
  'get a token of another plugin': () => read('/api/x/other/_temps/token', { method: 'POST', credentials: 'include' })
    .then((text) => (text.startsWith('read 403') ? held : text)),
  'get another token of the own plugin with the cookie': () => read('/api/x/hostile/_temps/token', { method: 'POST', credentials: 'include' })
    .then((text) => (text.startsWith('read 403') ? held : text)),
  'put another plugin’s frame page into a frame': async () => {
    const frame = await frameAt('/api/x/other/_temps/frame');
    return `read ${frame.contentDocument.title}`;
  },
  'plant a cookie': async () => { await within(fetch('/api/x/hostile/cookie'), 3000); return held; },
};

(async () => {
  const results = {};
  for (const [name, attack] of Object.entries(attacks)) {
    try {
      results[name] = await within(Promise.resolve().then(attack), 5000);
    } catch (error) {
      results[name] = `${held} (${error.name})`;
    }
  }
  document.getElementById('results').textContent = JSON.stringify(results);
  document.title = 'done';
  // Last, since nothing of this page is left if it works.
  if (location.hash === '#leave') location.href = '/api/admin/change?by=navigation';
})();
