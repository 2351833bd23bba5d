// The examples of static/README.md for elements, frameworks and unit tests, run as they stand there.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { compile } from 'svelte/compiler';
import { build } from 'vite';
import { compileScript, parse } from 'vue/compiler-sfc';
import { startBrowser } from './browser.mjs';
import { client } from './dashboard.mjs';
import { startHub } from './hub.mjs';
import { install } from './installed.mjs';
import { startSite } from './site.mjs';

const text = await readFile(new URL('../../static/README.md', import.meta.url), 'utf8');
/** The code blocks of a section. */
const blocks = (title) => [...text.match(new RegExp(`\\n###? ${title}\\n(.*?)\\n##`, 's'))[1].matchAll(/```(\w+)\n(.*?)\n```/gs)].map(([, , code]) => code);

/** Compiles components as the frameworks' own plugins would. */
const components = {
  name: 'components',
  transform(code, filename) {
    if (filename.endsWith('.svelte')) return compile(code, { filename, generate: 'client' }).js;
    if (filename.endsWith('.vue')) return compileScript(parse(code, { filename }).descriptor, { id: filename, inlineTemplate: true }).content;
  },
};

/** For each framework, the files of its example, and how a page begins it. */
const EXAMPLES = {
  React: { files: ['main.jsx'] },
  Vue: { files: ['App.vue', 'Friends.vue'], main: "import { createApp } from 'vue'; import App from './App.vue'; createApp(App).mount('#app');" },
  Svelte: {
    files: ['App.svelte', 'Friends.svelte'],
    main: "import { mount } from 'svelte'; import App from './App.svelte'; mount(App, { target: document.getElementById('app') });",
  },
};

describe('README.md', () => {
  let hub;
  let site;
  let browser;
  let installed;
  const pages = {};
  /** With the address of this hub, and the tokens of this site. */
  const here = (code) => code
    .replaceAll('wss://hub.example.com', hub.origin.replace('http', 'ws'))
    .replaceAll('https://hub.example.com', hub.origin)
    .replaceAll('/presence-token', '/token/ann');

  before(async () => {
    installed = await install('react', 'react-dom', 'scheduler', 'vue', 'svelte');
    site = await startSite(() => hub, { pages, folder: pathToFileURL(`${installed.place}/dist/`) });
    hub = await startHub({ 'server.allowed_origins': JSON.stringify([site.origin]), 'login.policy': 'multi' });
    await client(hub, 'bob', 'mac');
    browser = await startBrowser();
  });
  after(async () => {
    await browser?.stop();
    await hub?.stop();
    await site?.stop();
    await installed?.remove();
  });

  for (const [framework, { files, main }] of Object.entries(EXAMPLES)) {
    test(framework, async () => {
      const root = join(installed.place, framework);
      await mkdir(root);
      const codes = blocks(framework);
      assert.equal(codes.length, files.length + 1, 'the example, and a line about accounts');
      for (const [at, name] of files.entries()) await writeFile(join(root, name), here(codes[at]));
      if (main) await writeFile(join(root, 'main.js'), main);
      const output = { format: 'es', entryFileNames: `${framework}.js` };
      await build({
        root, configFile: false, logLevel: 'error', plugins: [components], esbuild: { jsx: 'automatic' },
        resolve: { conditions: ['module', 'browser'] },
        build: { outDir: '../dist', emptyOutDir: false, rollupOptions: { input: join(root, main ? 'main.js' : files[0]), output } },
      });
      pages[`/${framework}`] = `<!doctype html><div id="app"></div><script type="module" src="/${framework}.js"></script>`;
      const page = await browser.open(`${site.origin}/${framework}`);
      await page.getByText('bob: Online').waitFor();
      await page.getByText('alice: Offline').waitFor();
      await fetch(`${hub.origin}/v1/users/ann/kick`, { method: 'POST', headers: { 'X-API-Key': hub.adminKey }, body: '{"platform":"web"}' });
      await page.getByRole('alert').getByRole('button', { name: 'Use here instead' }).click();
      await page.getByRole('alert').waitFor({ state: 'detached' });
      await page.close();
    });
  }

  test('Elements', async () => {
    const [, code] = text.match(/\n## Elements\n.*?```html\n(.*?)\n```/s);
    pages['/elements'] = here(code);
    const page = await browser.open(`${site.origin}/elements`);
    await page.locator('presence-dot[state=Online]').waitFor();
    await page.locator('presence-self[state=Online]').waitFor();
    await page.locator('presence-list').getByText('alice').waitFor();
  });

  test('Unit tests', async () => {
    const [code] = blocks('Unit tests');
    await writeFile(join(installed.place, 'example.test.js'), code);
    // Otherwise it would report to this test run, and not print.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { stdout } = await promisify(execFile)('node', ['--test', 'example.test.js'], { cwd: installed.place, env });
    assert.match(stdout, /# pass 1\n/);
  });
});
