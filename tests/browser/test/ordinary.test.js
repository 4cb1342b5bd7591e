// An ordinary Vite React app, built with an absolute base, works unchanged inside the frame page.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
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

const app = (page) => page.frameLocator('iframe');
const says = (page, id, text) => app(page).locator(`#${id}`, { hasText: text }).waitFor();

test('everything that an ordinary app does works in the frame', async () => {
  const page = await person(browser, front.base);
  await page.goto('/api/x/ordinary/ui/');
  assert.equal(await page.title(), 'The ordinary plugin');
  await says(page, 'whoami', 'Ada (admin)');
  await says(page, 'xhr', '200 7');
  await says(page, 'events', 'one');
  await says(page, 'events', 'two');
  await says(page, 'chat', 'you said hello');
  await says(page, 'later', 'loaded later');
  await says(page, 'visits', '1');
  await app(page).locator('#save').click();
  await says(page, 'saved', '200 {"color":"teal"}');
  assert.ok(await app(page).locator('#logo').evaluate((image) => image.complete && image.naturalWidth > 0));
  assert.equal(await app(page).locator('body').evaluate((body) => getComputedStyle(body).borderTopWidth), '6px');
  assert.equal(await app(page).locator('body').evaluate(() => window.origin), 'null', 'the page has an origin');
  assert.deepEqual(page.complaints, []);
  await shot(page, 'ordinary');
  await page.context().close();
});

test('what the app stores is there again after a reload, under the plugin’s own name', async () => {
  const page = await person(browser, front.base);
  await page.goto('/api/x/ordinary/ui/');
  await says(page, 'visits', '1');
  await page.waitForFunction(() => localStorage.getItem('temps:plugin:ordinary')?.includes('"1"'));
  await page.reload();
  await says(page, 'visits', '2');
  await page.waitForFunction(() => localStorage.getItem('temps:plugin:ordinary') === '{"visits":"2"}');
  // A second tab of the same app sees what the first one stores.
  const second = await page.context().newPage();
  await second.goto('/api/x/ordinary/ui/');
  await says(second, 'visits', '3');
  const seen = await app(page).locator('body').evaluate(() => new Promise((resolve) => {
    const look = () => { if (localStorage.getItem('visits') === '3') resolve('3'); };
    window.addEventListener('storage', look);
    look();
  }));
  assert.equal(seen, '3');
  await page.context().close();
});

test('a page that the app opens in its frame keeps token and storage', async () => {
  const page = await person(browser, front.base);
  await page.goto('/api/x/ordinary/ui/');
  await says(page, 'visits', '1');
  await app(page).locator('body').evaluate(() => { location.href = '/api/x/ordinary/ui/index.html?again'; });
  await says(page, 'visits', '2');
  await says(page, 'whoami', 'Ada (admin)');
  await page.waitForURL('**/api/x/ordinary/ui/index.html?again');
  await page.context().close();
});

test('the app’s place and the tab’s address follow each other', async () => {
  const page = await person(browser, front.base);
  await page.goto('/api/x/ordinary/ui/#/start');
  await says(page, 'route', '#/start');
  await app(page).locator('#to-settings').click();
  await page.waitForURL('**/api/x/ordinary/ui/#/settings');
  await page.evaluate(() => { location.hash = '#/typed'; });
  await says(page, 'route', '#/typed');
  await app(page).locator('body').evaluate(() => window.temps.navigate('#/called'));
  await says(page, 'route', '#/called');
  // A router that uses paths instead of hashes.
  await app(page).locator('body').evaluate(() => history.pushState(null, '', '/api/x/ordinary/ui/deep/place?a=b'));
  await page.waitForURL('**/api/x/ordinary/ui/deep/place?a=b');
  await page.context().close();
});

test('downloads and ordinary forms carry the caller', async () => {
  const page = await person(browser, front.base);
  await page.goto('/api/x/ordinary/ui/');
  await says(page, 'whoami', 'Ada');
  const [download] = await Promise.all([page.waitForEvent('download'), app(page).locator('#export').click()]);
  assert.equal(await readFile(await download.path(), 'utf8'), 'a,b\n1,2\n');
  await app(page).locator('#post').click();
  await app(page).getByText('Ada posted field=value').waitFor();
  await page.context().close();
});

test('the app learns of the theme and of its change', async () => {
  const page = await person(browser, front.base);
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.goto('/api/x/ordinary/ui/');
  await says(page, 'visits', '1');
  const body = app(page).locator('body');
  assert.equal(await body.evaluate(() => window.temps.theme), 'dark');
  await body.evaluate(() => { window.changed = new Promise((resolve) => { window.temps.onTheme(resolve); }); });
  await page.emulateMedia({ colorScheme: 'light' });
  assert.equal(await body.evaluate(() => window.changed), 'light');
  assert.deepEqual(await body.evaluate(() => window.temps.user), { id: '7', name: 'Ada', role: 'admin' });
  await page.context().close();
});

test('calls go on when the first token has ended', async () => {
  const short = await startFront(4);
  const page = await person(browser, short.base);
  await page.goto('/api/x/ordinary/ui/');
  await says(page, 'whoami', 'Ada');
  const first = await app(page).locator('body').evaluate(() => JSON.parse(window.name).token);
  await page.waitForResponse((response) => response.url().endsWith('/_temps/token'));
  const old = async () => (await fetch(`${short.base}/api/x/ordinary/whoami`, { headers: { authorization: `Bearer ${first}` } })).status;
  while (await old() === 200) await new Promise((resolve) => setTimeout(resolve, 100));
  const status = () => app(page).locator('body').evaluate(() => fetch('/api/x/ordinary/whoami').then((r) => r.status));
  assert.equal(await status(), 200);
  await page.context().close();
  await short.stop();
});

test('without a sign-in the tab says how to get one', async () => {
  const page = await person(browser, front.base, false);
  const response = await page.goto('/api/x/ordinary/ui/');
  assert.equal(response.status(), 401);
  await page.getByRole('heading', { name: 'Sign in first' }).waitFor();
  await shot(page, 'sign-in');
  await page.context().close();
});

test('a browser that does not say what it fills still ends up in the frame page', async () => {
  const page = await person(browser, front.base);
  // Browsers leave these headers out on plain HTTP to other machines.
  await page.route('**/*', (route) => {
    const headers = Object.fromEntries(Object.entries(route.request().headers()).filter(([name]) => !name.startsWith('sec-fetch-')));
    return route.continue({ headers: { ...headers, 'sec-fetch-dest': '', 'sec-fetch-site': '', 'sec-fetch-mode': '' } });
  });
  await page.goto('/api/x/ordinary/ui/#/deep');
  await says(page, 'route', '#/deep');
  await says(page, 'whoami', 'Ada (admin)');
  await page.waitForURL('**/api/x/ordinary/ui/#/deep');
  await page.context().close();
});
