// What the browser tests share: the stand-in host as a process of its own, and Chromium.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

// Starts the stand-in host; it was built by cargo beforehand (`cargo build -p temps-host --example proxy_front`).
export async function startFront(tokenSeconds = 900) {
  const binary = process.env.PROXY_FRONT ?? here('../../../target/debug/examples/proxy_front');
  const front = spawn(binary, [here('../app/dist'), here('../hostile'), String(tokenSeconds)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const base = await new Promise((resolve, reject) => {
    createInterface({ input: front.stdout }).once('line', resolve);
    front.once('error', reject);
    front.once('exit', (code) => reject(new Error(`the stand-in host ended with ${code}`)));
  });
  return {
    base,
    log: async () => (await fetch(`${base}/log`)).json(),
    stop: () => new Promise((resolve) => { front.removeAllListeners('exit').once('exit', resolve); front.stdin.end(); }),
  };
}

export function startBrowser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
}

// A browser of its own for one person, signed in or not.
export async function person(browser, base, signedIn = true) {
  const context = await browser.newContext({ baseURL: base, acceptDownloads: true });
  // Every wait for the page ends with a message that says what was waited for.
  context.setDefaultTimeout(20000);
  const page = await context.newPage();
  page.complaints = [];
  page.on('console', (message) => { if (message.type() === 'error') page.complaints.push(message.text()); });
  page.on('pageerror', (error) => page.complaints.push(String(error)));
  if (signedIn) await page.goto('/login');
  return page;
}

export async function shot(page, name) {
  mkdirSync(here('../shots'), { recursive: true });
  await page.screenshot({ path: here(`../shots/${name}.png`) });
}
