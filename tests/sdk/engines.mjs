// Three engines behind one small interface, each driven by what its makers offer.
//
// start() -> browser: open(url) -> page, freeze(page), thaw(page), stop()
// page: evaluate(function, ...arguments), reload(), goTo(url), back(), duplicate() -> page, close()

import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import puppeteer from 'puppeteer-core';
import { Builder, By, Capabilities } from 'selenium-webdriver';
import { descendants, listeningPort, startDisplay, TIED } from './processes.mjs';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FIREFOX = '/usr/bin/firefox-esr';
const WEBKIT_DRIVER = '/usr/bin/WebKitWebDriver';
const START_MS = 30_000;

// `restores`: whether a page comes back from the back-forward cache that had an open WebSocket when it was left.
export const engines = [
  { name: 'Chromium', missing: missing(CHROMIUM), start: startChromium, restores: true },
  { name: 'Firefox', missing: missing(FIREFOX), start: startFirefox, restores: false },
  { name: 'WebKitGTK', missing: missing(WEBKIT_DRIVER, '/usr/bin/Xvfb', miniBrowser()), start: startWebKit, restores: true },
];

function missing(...programs) {
  const absent = programs.filter((program) => !existsSync(program));
  return absent.length ? `there is no ${absent.join(', ')}` : false;
}

async function startChromium() {
  const browser = await launch('chrome', CHROMIUM, ['--no-sandbox', '--disable-gpu', '--disable-quic']);
  const setState = async ({ driven }, state) => (await driven.createCDPSession()).send('Page.setWebLifecycleState', { state });
  return { ...browser, freeze: (page) => setState(page, 'frozen'), thaw: (page) => setState(page, 'active') };
}

async function startFirefox() {
  const browser = await launch('firefox', FIREFOX, []);
  return { ...browser, ...frozenFromOutside(browser.pid, / -contentproc .* tab$/) };
}

/** Puppeteer speaks the DevTools protocol with the one, WebDriver BiDi with the other. */
async function launch(name, program, args) {
  const browser = await puppeteer.launch({
    browser: name, executablePath: TIED, env: { ...process.env, PROGRAM: program }, args, headless: true, timeout: START_MS,
    handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false,
  });
  const page = (driven) => ({
    driven,
    evaluate: (action, ...values) => driven.evaluate(action, ...values),
    reload: () => driven.reload(),
    goTo: (url) => driven.goto(url),
    back: () => driven.goBack(),
    async duplicate() {
      const opened = new Promise((done) => driven.once('popup', done));
      await driven.click('#duplicate');
      return page(await opened);
    },
    close: () => driven.close(),
  });
  return {
    pid: browser.process().pid,
    async open(url) {
      const driven = await browser.newPage({ type: 'window' });
      await driven.goto(url);
      return page(driven);
    },
    stop: () => browser.close(),
  };
}

async function startWebKit() {
  const display = await startDisplay();
  const driverProcess = spawn(TIED, ['--port=0'], {
    env: { ...process.env, PROGRAM: WEBKIT_DRIVER, DISPLAY: display.name }, stdio: ['ignore', 'ignore', 'inherit'],
  });
  const exited = new Promise((done) => driverProcess.once('close', done));
  const stop = async () => {
    driverProcess.kill('SIGKILL');
    await exited;
    await display.stop();
  };
  // The driver may wait for its browser without a timeout.
  const late = setTimeout(() => driverProcess.kill('SIGKILL'), START_MS);
  try {
    const browser = await miniBrowserSession(await webKitPort(driverProcess.pid));
    const quit = async () => browser.quit().finally(stop);
    return { open: browser.open, stop: quit, ...frozenFromOutside(driverProcess.pid, /\/WebKitWebProcess /) };
  } catch (error) {
    await stop();
    throw error;
  } finally {
    clearTimeout(late);
  }
}

async function miniBrowserSession(port) {
  const capabilities = new Capabilities({
    browserName: 'MiniBrowser', 'webkitgtk:browserOptions': { binary: miniBrowser(), args: ['--automation'] },
  });
  const server = `http://127.0.0.1:${port}`;
  const driver = await new Builder().disableEnvironmentOverrides().usingServer(server).withCapabilities(capabilities).build();
  // A session has one present window.
  let turn = Promise.resolve();
  const inWindow = (handle, action) => {
    const result = turn.then(() => driver.switchTo().window(handle)).then(action);
    turn = result.catch(() => {});
    return result;
  };
  const first = await driver.getWindowHandle();
  const page = (handle) => {
    const here = (action) => inWindow(handle, action);
    return {
      evaluate: (action, ...values) => here(() => driver.executeScript(`return (${action})(...arguments)`, ...values)),
      reload: () => here(() => driver.navigate().refresh()),
      goTo: (url) => here(() => driver.get(url)),
      back: () => here(() => driver.navigate().back()),
      duplicate: () =>
        here(async () => {
          const before = await driver.getAllWindowHandles();
          await driver.findElement(By.id('duplicate')).click();
          const added = async () => (await driver.getAllWindowHandles()).find((it) => !before.includes(it));
          return page(await driver.wait(added, START_MS));
        }),
      close: () => here(() => driver.close()),
    };
  };
  return {
    open: (url) =>
      inWindow(first, async () => {
        await driver.switchTo().newWindow('window');
        await driver.get(url);
        return page(await driver.getWindowHandle());
      }),
    quit: () => driver.quit(),
  };
}

/** The driver takes a free port and does not report it. */
async function webKitPort(pid) {
  for (const deadline = Date.now() + START_MS; Date.now() < deadline; ) {
    const port = listeningPort(pid);
    if (port) return port;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error('WebKitWebDriver does not listen');
}

/** A program of the library's package, which stands beside the library. */
function miniBrowser() {
  const libraries = `/usr/lib/${{ x64: 'x86_64', arm64: 'aarch64' }[process.arch]}-linux-gnu`;
  const directories = existsSync(libraries) ? readdirSync(libraries).filter((name) => /^webkit2?gtk-/.test(name)) : [];
  const programs = directories.map((name) => `${libraries}/${name}/MiniBrowser`);
  return programs.find((program) => existsSync(program)) ?? 'MiniBrowser';
}

/** Stops the processes in which pages run, and no other. */
function frozenFromOutside(pid, ofPages) {
  const signal = (name) => {
    const found = descendants(pid).filter(({ command }) => ofPages.test(command));
    if (!found.length) throw new Error('no process of a page was found');
    for (const it of found) process.kill(it.pid, name);
  };
  return { freeze: async () => signal('SIGSTOP'), thaw: async () => signal('SIGCONT') };
}
