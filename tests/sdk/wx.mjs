// @ts-check
// WeChat's `wx`, as much of it as concerns the SDK.

/** @import { Connection, MiniProgram } from './phone.mjs' */

const MAX_SOCKETS = 5;
const CONNECT_MS = 60_000;

/**
 * @typedef {Pick<WechatMiniprogram.Wx, 'connectSocket' | 'onAppHide' | 'offAppHide' | 'onAppShow' | 'offAppShow'
 *   | 'onNetworkStatusChange' | 'offNetworkStatusChange' | 'getStorageSync' | 'setStorageSync' | 'removeStorageSync'>} Wx
 */

export const weChat = {
  /** @param {MiniProgram} program */
  globals: (program) => ({ wx: makeWx(program) }),
  events: {
    /** @param {0 | 1 | 2 | 3} [reason] @returns {WechatMiniprogram.HideOptionsApp} */
    AppHide: (reason) => ({ reason }),
    /** @returns {Pick<WechatMiniprogram.LaunchOptionsApp, 'path' | 'query' | 'scene'>} */
    AppShow: () => ({ path: 'pages/index', query: {}, scene: 1001 }),
    /** @param {boolean} isConnected @returns {WechatMiniprogram.OnNetworkStatusChangeListenerResult} */
    NetworkStatusChange: (isConnected) => ({ isConnected, networkType: isConnected ? 'wifi' : 'none' }),
  },
};

/**
 * @param {MiniProgram} program
 * @returns {Wx}
 */
export function makeWx(program) {
  const { storage } = program.phone;
  return {
    connectSocket(option) {
      const refusal = program.connections.size < MAX_SOCKETS ? '' : 'too many sockets';
      const connection = refusal ? null : program.connect(option.url, option.protocols);
      connection?.expireAfter(option.timeout ?? CONNECT_MS);
      answer(program, 'connectSocket', refusal, option);
      return socketTask(program, connection);
    },
    onAppHide: (listener) => void program.on('AppHide', listener),
    offAppHide: (listener) => void off(program, 'AppHide', listener),
    onAppShow: (listener) => void program.on('AppShow', listener),
    offAppShow: (listener) => void off(program, 'AppShow', listener),
    onNetworkStatusChange: (listener) => void program.on('NetworkStatusChange', listener),
    offNetworkStatusChange: (listener) => void off(program, 'NetworkStatusChange', listener),
    getStorageSync: (key) => JSON.parse(storage.get(text(key)) ?? '""'),
    setStorageSync: (key, data) => void storage.set(text(key), JSON.stringify(data)),
    removeStorageSync: (key) => void storage.delete(text(key)),
  };
}

/**
 * @param {MiniProgram} program
 * @param {Connection | null} connection null where it was refused
 * @returns {WechatMiniprogram.SocketTask}
 */
function socketTask(program, connection) {
  const time = { connectEnd: 0, connectStart: 0, cost: 0, domainLookUpEnd: 0, domainLookUpStart: 0, fetchStart: 0, handshakeCost: 0, rtt: 0 };
  return {
    send: (option) => answer(program, 'sendSocketMessage', connection?.send(text(option.data)) ? '' : 'not connected', option),
    close(option) {
      // A socket that is still connecting is not closed, and goes on to take its place.
      const refusal = connection && !connection.connecting ? '' : 'not connected';
      if (!refusal) connection?.close(option.code, option.reason);
      answer(program, 'closeSocket', refusal, option);
    },
    onOpen: (listener) => void connection?.on('open', () => listener({ header: {}, profile: time })),
    onMessage: (listener) => void connection?.on('message', (data) => listener({ data })),
    onError: (listener) => void connection?.on('failure', (errMsg) => listener({ errMsg })),
    onClose: (listener) => void connection?.on('close', (code, reason) => listener({ code, reason })),
  };
}

/**
 * Calls back as all asynchronous methods of hosts like WeChat do. `refusal` is empty where it went well.
 * @param {MiniProgram} program
 * @param {string} method
 * @param {string} refusal
 * @param {{ success?(result: any): void, fail?(result: any): void, complete?(result: any): void }} option
 */
export function answer(program, method, refusal, { success, fail, complete }) {
  const result = { errMsg: `${method}:${refusal ? `fail ${refusal}` : 'ok'}` };
  const callbacks = [refusal ? fail : success, complete];
  for (const callback of callbacks) if (callback) setImmediate(() => program.post(() => callback(result)));
}

/**
 * Without a listener, all are removed.
 * @param {MiniProgram} program
 * @param {string} event
 * @param {((result: any) => void) | undefined} listener
 */
export function off(program, event, listener) {
  if (listener) program.off(event, listener);
  else program.removeAllListeners(event);
}

/**
 * Other hosts take an object where this one takes a string: who mixes them up is told.
 * @param {unknown} value
 * @returns {string}
 */
export function text(value) {
  if (typeof value !== 'string') throw new TypeError(`not a string: ${value}`);
  return value;
}
