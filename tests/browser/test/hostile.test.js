// A hostile page reaches neither the administration nor another plugin, whatever it tries.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { person, shot, startBrowser, startFront } from './rig.js';

let front;
let browser;
before(async () => {
  front = await startFront();
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await front?.stop();
});

async function attack(page, read) {
  await page.goto('/console');
  await page.goto('/api/x/hostile/ui/#here');
  const results = page.frameLocator('iframe').locator('#results', { hasText: '{' });
  await results.waitFor({ timeout: 120000 });
  return read(await results.textContent());
}

function assertHeld(results) {
  const reached = Object.entries(results).filter(([, result]) => !result.startsWith('held'));
  assert.deepEqual(reached, []);
  assert.ok(Object.keys(results).length > 25);
}

// What the administration and the other plugin did on somebody's behalf. A tab that a page opens carries the (lax) cookie, so
// the careless administration shows itself to it; nobody can read that, and a change it would be is not a GET.
function assertNothingChanged(log) {
  assert.deepEqual(log.filter((line) => !/^admin GET /.test(line)), []);
}

test('a hostile page in the frame reaches nothing', async () => {
  const page = await person(browser, front.base);
  const results = await attack(page, JSON.parse);
  assertHeld(results);
  assertNothingChanged(await front.log());
  assert.equal(new URL(page.url()).pathname, '/api/x/hostile/ui/');
  const stored = await page.evaluate(() => ({ ...localStorage }));
  assert.equal(stored.console, 'the console\'s secret');
  const planted = Object.keys(stored).filter((key) => !['console', 'temps:plugin:hostile'].includes(key));
  assert.deepEqual(planted, []);
  assert.ok((stored['temps:plugin:hostile'] ?? '').length < 1000);
  const cookies = await page.context().cookies();
  assert.deepEqual(cookies.map((cookie) => `${cookie.name}=${cookie.value}`).sort(), ['seen=1', 'session=admin']);
  await shot(page, 'hostile');
  await page.context().close();
});

test('a hostile page cannot leave its prefix inside the frame', async () => {
  const page = await person(browser, front.base);
  const blocked = page.waitForEvent('console', (message) => /frame-src/.test(message.text()));
  await page.goto('/api/x/hostile/ui/#leave');
  await blocked;
  assert.deepEqual((await front.log()).filter((line) => line.includes('by=navigation')), []);
  await page.context().close();
});

test('a hostile page without the frame, in a tab of its own, reaches nothing either', async () => {
  const page = await person(browser, front.base);
  await page.goto('/api/x/hostile/raw');
  assert.equal(await page.evaluate(() => window.origin), 'null');
  await page.waitForFunction(() => document.title === 'done', null, { timeout: 120000 });
  const results = JSON.parse(await page.locator('#results').textContent());
  assertHeld(results);
  assertNothingChanged(await front.log());
  await page.context().close();
});
