// @ts-check
// A phone with mini-programs on it: their JavaScript, which the host suspends while they are hidden, their
// sockets, which it cuts, the network, and a storage that outlives them. What their globals are called and
// how they look is the host's: wx.mjs, hosts.mjs.

import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { clearInterval, clearTimeout, setInterval, setTimeout } from 'node:timers';
import vm from 'node:vm';
import WebSocket from 'ws';

const SOURCE = new URL('../../static/presence.js', import.meta.url);
const SUSPEND_MS = 5000;
// What a host's module loader hides from a mini-program.
const HIDDEN = ['window', 'document', 'self', 'location', 'navigator', 'localStorage', 'XMLHttpRequest', 'WebSocket', 'fetch'];

/**
 * What the events of a host bring their listeners: why it is hidden, where it is told, and whether there is a network.
 * @typedef {{ AppHide(reason?: 0 | 1 | 2 | 3): unknown, AppShow(): unknown, NetworkStatusChange(isConnected: boolean): unknown }} Events
 *
 * The globals of its mini-programs, besides timers and what the language has.
 * @typedef {{ globals(program: MiniProgram): Record<string, any>, events: Events }} Host
 *
 * How a socket ends that its host cuts: with a FIN, with a RST, or so that the hub hears nothing of it.
 * @typedef {'fin' | 'rst' | 'nothing'} End
 */

export class Phone {
  /** @type {Map<string, string>} */
  storage = new Map();
  /** @type {Set<MiniProgram>} */
  #programs = new Set();
  /** @type {Set<Connection>} */
  #connections = new Set();
  /** Those who dial while the network is cut.
   * @type {(() => void)[] | null} */
  #dialling = null;
  #online = true;

  /**
   * `speed`: how much faster than real its time goes by, for the host and for its mini-programs.
   * `cut`: how sockets end that are cut behind a hidden mini-program.
   * `heldFirst`: whether one that is shown gets the callbacks that were held before `onAppShow`.
   * @param {{ speed?: number, cut?: End, heldFirst?: boolean }} [options]
   */
  constructor({ speed = 1, cut = 'fin', heldFirst = true } = {}) {
    this.speed = speed;
    this.cut = cut;
    this.heldFirst = heldFirst;
  }

  /** Starts a mini-program. @param {Host} host */
  launch(host) {
    const program = new MiniProgram(this, host);
    this.#programs.add(program);
    return program;
  }

  get online() {
    return this.#online;
  }

  /** The network is gone, or there again, and the phone knows. */
  set online(online) {
    this.#online = online;
    if (!online) for (const connection of this.#connections) connection.fail('nothing');
    for (const program of this.#programs) program.fire('NetworkStatusChange', online);
  }

  /** From now on no bytes pass in either direction, and no side is told. */
  lose() {
    this.#dialling ??= [];
    for (const connection of this.#connections) connection.hold();
  }

  /** What was under way arrives. */
  find() {
    const dialling = this.#dialling ?? [];
    this.#dialling = null;
    for (const connection of this.#connections) connection.letGo();
    for (const dial of dialling) dial();
  }

  /** The phone moves to another network: connections over the old one are lost without a close. */
  roam() {
    for (const connection of this.#connections) connection.hold();
    for (const program of this.#programs) program.fire('NetworkStatusChange', true);
  }

  /** @param {Connection} connection @param {() => void} dial */
  dial(connection, dial) {
    this.#connections.add(connection);
    if (this.#dialling) this.#dialling.push(dial);
    else dial();
  }

  get lost() {
    return this.#dialling !== null;
  }

  stop() {
    for (const program of this.#programs) program.kill('nothing');
    for (const connection of this.#connections) connection.destroy();
  }
}

/** The JavaScript of one mini-program, and what its host tells it. Emits `suspended`, and `sent` for each message. */
export class MiniProgram extends EventEmitter {
  /** What it sent, in order.
   * @type {{ type: string, reason?: string, [field: string]: unknown }[]} */
  sent = [];
  /** Its sockets that it has not closed.
   * @type {Set<Connection>} */
  connections = new Set();
  /** It plays music, so its host lets it run while it is hidden. */
  playing = false;
  /** What waits until it is shown again; null while it runs.
   * @type {(() => void)[] | null} */
  #held = null;
  #dead = false;
  /** @type {NodeJS.Timeout | undefined} */
  #suspending;
  #lastTimer = 0;
  /** @type {Map<number, NodeJS.Timeout>} */
  #timers = new Map();

  /** @param {Phone} phone @param {Host} host */
  constructor(phone, host) {
    super();
    this.phone = phone;
    this.events = host.events;
    this.globals = host.globals(this);
    this.context = vm.createContext({ ...this.globals, ...this.#clock() }, { codeGeneration: { strings: false, wasm: false } });
  }

  /**
   * What the SDK's file exports, loaded as hosts load a module: `this` is nothing, strict. Older ones have no
   * `globalThis`.
   * @param {{ old?: boolean }} [host]
   * @returns {any}
   */
  require({ old = false } = {}) {
    const module = { exports: {} };
    const hidden = old ? [...HIDDEN, 'globalThis'] : HIDDEN;
    const wrapped = `(function (module, exports, require, ${hidden}) { 'use strict'; ${readFileSync(SOURCE, 'utf8')}\n})`;
    vm.runInContext(wrapped, this.context, { filename: 'presence.js' }).call(undefined, module, module.exports);
    return module.exports;
  }

  get suspended() {
    return this.#held !== null;
  }

  /**
   * The user leaves it: by its close button (0), for another one (1), a page of the system (2), or anything else.
   * @param {0 | 1 | 2 | 3} [reason]
   */
  hide(reason) {
    this.fire('AppHide', reason);
    if (this.suspended || this.playing) return;
    this.#suspending ??= setTimeout(() => this.#suspend(), SUSPEND_MS / this.phone.speed);
  }

  show() {
    clearTimeout(this.#suspending);
    this.#suspending = undefined;
    const held = this.#held ?? [];
    this.#held = null;
    if (!this.phone.heldFirst) this.fire('AppShow');
    for (const callback of held) this.post(callback);
    if (this.phone.heldFirst) this.fire('AppShow');
  }

  /**
   * The process ends: none of its JavaScript runs any more. Its sockets end as those of the dead do.
   * @param {End} [how]
   */
  kill(how = 'fin') {
    this.#dead = true;
    clearTimeout(this.#suspending);
    for (const timer of this.#timers.values()) clearTimeout(timer);
    for (const connection of this.connections) connection.fail(how);
  }

  /** Runs a callback of the mini-program, now or when it runs again. @param {() => void} callback */
  post(callback) {
    if (this.#dead) return;
    if (this.#held) this.#held.push(callback);
    else callback();
  }

  /**
   * Tells its listeners of an event of the host, in the host's way.
   * @param {keyof Events} event @param {any} [value]
   */
  fire(event, value) {
    for (const listener of this.listeners(event)) this.post(() => listener(/** @type {(value: any) => unknown} */ (this.events[event])(value)));
  }

  /** @param {string} url @param {string[]} [protocols] */
  connect(url, protocols = []) {
    return new Connection(this, url, protocols);
  }

  #suspend() {
    this.#suspending = undefined;
    this.#held = [];
    for (const connection of this.connections) connection.fail(this.phone.cut, 1000, 'interrupted');
    this.emit('suspended');
  }

  #clock() {
    const { speed } = this.phone;
    const start = Date.now();
    const now = () => start + (Date.now() - start) * speed;
    /** @param {(...rest: unknown[]) => void} callback @param {number} ms @param {unknown[]} rest @param {boolean} again */
    const timer = (callback, ms, rest, again) => {
      const id = ++this.#lastTimer;
      let held = false;
      const due = () => {
        if (held) return; // one tick of an interval waits, however many were missed
        held = true;
        this.post(() => {
          held = false;
          if (!this.#timers.has(id)) return;
          if (!again) this.#timers.delete(id);
          callback(...rest);
        });
      };
      this.#timers.set(id, (again ? setInterval : setTimeout)(due, ms / speed));
      return id;
    };
    /** @param {number} id */
    const clear = (id) => {
      clearTimeout(this.#timers.get(id));
      clearInterval(this.#timers.get(id));
      this.#timers.delete(id);
    };
    return {
      Date: class extends Date {
        static now = now;
      },
      /** @param {() => void} callback @param {unknown[]} rest */
      setTimeout: (callback, ms = 0, ...rest) => timer(callback, ms, rest, false),
      /** @param {() => void} callback @param {unknown[]} rest */
      setInterval: (callback, ms = 0, ...rest) => timer(callback, ms, rest, true),
      clearTimeout: clear,
      clearInterval: clear,
    };
  }
}

/** A socket of a mini-program. Emits, when its JavaScript runs: open, message (text), failure (text), close (code, reason). */
export class Connection extends EventEmitter {
  #program;
  /** @type {WebSocket | undefined} */
  #ws;
  /** @type {import('node:net').Socket | undefined} */
  #socket;
  #heldBack = false;
  #opened = false;
  #over = false;

  /** @param {MiniProgram} program @param {string} url @param {string[]} protocols */
  constructor(program, url, protocols) {
    super();
    this.#program = program;
    program.connections.add(this);
    program.phone.dial(this, () => this.#dial(url, protocols));
  }

  get open() {
    return this.#ws?.readyState === WebSocket.OPEN && !this.#over;
  }

  get connecting() {
    return !this.#opened && !this.#over;
  }

  /** Its host gives it up if it has not opened by then. @param {number} ms */
  expireAfter(ms) {
    setTimeout(() => this.connecting && this.#refused('timeout'), ms / this.#program.phone.speed).unref();
  }

  /** @param {string} text */
  send(text) {
    if (!this.open) return false;
    this.#ws?.send(text);
    this.#program.sent.push(JSON.parse(text));
    this.#program.emit('sent');
    return true;
  }

  /** @param {number} [code] @param {string} [reason] */
  close(code = 1000, reason = '') {
    if (this.#over) return;
    this.#ws?.close(code, reason);
    this.#end(code, reason || 'normal closure');
  }

  /** Ends it without a Close frame. @param {End} how */
  fail(how, code = 1006, reason = 'abnormal closure') {
    if (how === 'nothing' || this.#program.phone.lost) this.hold();
    else if (how === 'rst') this.#socket?.resetAndDestroy();
    else this.#ws?.terminate();
    this.#end(code, reason);
  }

  /** Nothing goes either way, below the WebSocket: pings are not answered. */
  hold() {
    if (!this.#heldBack) this.#socket?.pause().cork();
    this.#heldBack = true;
  }

  letGo() {
    // The end of one that was given up meanwhile is sent again ever more rarely: others are long there before it.
    if (this.#over || !this.#heldBack) return;
    this.#socket?.resume().uncork();
    this.#heldBack = false;
  }

  destroy() {
    this.#over = true;
    this.#ws?.terminate();
  }

  /** @param {string} url @param {string[]} protocols */
  #dial(url, protocols) {
    if (this.#over) return;
    if (!this.#program.phone.online) return this.#refused('no network');
    this.#ws = new WebSocket(url, protocols, { perMessageDeflate: false });
    this.#ws.on('upgrade', ({ socket }) => {
      this.#socket = socket;
      if (this.#heldBack) socket.pause().cork();
    });
    this.#ws.on('open', () => {
      this.#opened = true;
      this.#tell('open');
    });
    this.#ws.on('message', (data) => this.#tell('message', String(data)));
    this.#ws.on('error', (error) => this.#tell('failure', error.message));
    this.#ws.on('close', (code, reason) => this.#end(code, String(reason)));
  }

  /** @param {string} why */
  #refused(why) {
    this.#tell('failure', why);
    this.#end(1006, 'abnormal closure');
  }

  /** @param {number} code @param {string} reason */
  #end(code, reason) {
    if (this.#over) return;
    this.#tell('close', code, reason);
    this.#over = true;
    this.#program.connections.delete(this);
  }

  /** @param {string} event @param {unknown[]} values */
  #tell(event, ...values) {
    if (!this.#over) setImmediate(() => this.#program.post(() => this.emit(event, ...values)));
  }
}
