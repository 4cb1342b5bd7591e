// An author's new plugin with a page, seen in a real browser while `temps plugin dev` runs it: the page, and an edit of it.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { person, shot, startBrowser } from './rig.js';

const checkout = fileURLToPath(new URL('../../..', import.meta.url));
const temps = process.env.TEMPS_BIN ?? join(checkout, 'target/debug/temps');

let browser;
let place;
before(async () => {
  browser = await startBrowser();
  place = mkdtempSync('/tmp/author-');
});
after(async () => {
  await browser?.close();
  rmSync(place, { recursive: true, force: true });
});

// Starts `temps plugin dev`, and gives what happens, one thing after the other.
function develop(project) {
  const dev = spawn(temps, ['--json', '--quiet', 'plugin', 'dev', project], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: dev.stdout })[Symbol.asyncIterator]();
  return {
    type: (line) => dev.stdin.write(`${line}\n`),
    async next(what) {
      for (;;) {
        const { value, done } = await lines.next();
        assert.ok(!done, `it ended before "${what}"`);
        const line = JSON.parse(value);
        if (line.what === what) return line;
      }
    },
    stop: () => new Promise((resolve) => { dev.once('exit', resolve); dev.kill('SIGINT'); }),
  };
}

test('the page of a new project is there, and an edit of it', async () => {
  const project = join(place, 'seen');
  const made = spawnSync(temps, ['plugin', 'new', 'seen', '--lang', 'python', '--ui', '--dir', project, '--sdk-path', checkout]);
  assert.equal(made.status, 0, String(made.stderr));
  const dev = develop(project);
  try {
    const { url, sign_in } = await dev.next('started');
    const ready = await dev.next('ready');
    const page = await person(browser, url, false);
    await page.goto(sign_in);
    await page.goto(ready.page);
    const says = (text) => page.frameLocator('iframe').getByText(text).waitFor();
    await says('nothing yet');
    dev.type('1');
    let step;
    do step = (await dev.next('traffic')).step; while (!String(step.text).includes('"ack"'));
    await page.reload();
    await says('My App');
    await shot(page, 'author');

    const index = join(project, 'ui/index.html');
    writeFileSync(index, readFileSync(index, 'utf8').replace('Deployed last', 'Edited, deployed last'));
    await dev.next('ready');
    await page.reload();
    await says('Edited, deployed last');
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  } finally {
    assert.equal(await dev.stop(), 0);
  }
});
