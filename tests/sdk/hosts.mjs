// @ts-check
// Hosts of mini-programs other than WeChat, where they differ from it, and frameworks that wrap a host.

import { answer, makeWx, off, text, weChat } from './wx.mjs';

/**
 * @import { Connection, MiniProgram } from './phone.mjs'
 * @import * as TT from '@douyin-microapp/typings/types/api'
 */

/**
 * @typedef {Pick<typeof my, 'connectSocket' | 'onAppHide' | 'offAppHide' | 'onAppShow' | 'offAppShow'
 *   | 'onNetworkStatusChange' | 'offNetworkStatusChange' | 'getStorageSync' | 'setStorageSync' | 'removeStorageSync'>} My
 */

/** Alipay: a message within a message, a close without code, a hide without reason, and a storage that takes objects. */
export const alipay = {
  /** @param {MiniProgram} program @returns {{ my: My }} */
  globals: (program) => ({
    my: {
      // Its two forms, of which only the one with `multiple` answers a task.
      connectSocket: /** @type {(param: { url: string, protocols?: string[], multiple?: boolean }) => any} */ (
        ({ url, protocols, multiple }) => {
          if (multiple) return alipayTask(program, program.connect(url, protocols));
        }
      ),
      onAppHide: (listener) => void program.on('AppHide', listener),
      offAppHide: (listener) => off(program, 'AppHide', listener),
      onAppShow: (listener) => void program.on('AppShow', listener),
      offAppShow: (listener) => off(program, 'AppShow', listener),
      onNetworkStatusChange: (listener) => void program.on('NetworkStatusChange', listener),
      offNetworkStatusChange: (listener) => off(program, 'NetworkStatusChange', listener),
      getStorageSync: ({ key }) => ({ data: JSON.parse(program.phone.storage.get(text(key)) ?? 'null') }),
      setStorageSync({ key, data }) {
        program.phone.storage.set(text(key), JSON.stringify(data));
        return { success: true };
      },
      removeStorageSync({ key }) {
        program.phone.storage.delete(text(key));
        return { success: true };
      },
    },
  }),
  events: {
    AppHide: () => undefined,
    AppShow: () => ({ path: 'pages/index', query: {}, scene: 1001 }),
    /** @param {boolean} isConnected */
    NetworkStatusChange: (isConnected) => ({ isConnected, networkType: isConnected ? 'WIFI' : 'NOTREACHABLE' }),
  },
};

/**
 * @param {MiniProgram} program
 * @param {Connection} connection
 * @returns {Pick<my.SocketTask, 'send' | 'close' | 'onOpen' | 'onMessage' | 'onError' | 'onClose'>}
 */
function alipayTask(program, connection) {
  const socketTaskID = '1';
  return {
    async send(option) {
      const success = connection.send(text(option.data));
      answer(program, 'send', success ? '' : 'not connected', option);
      return { success };
    },
    async close(option) {
      connection.close(option?.code, option?.reason);
      return { message: '' };
    },
    onOpen: (listener) => void connection.on('open', () => listener({ data: { socketTaskID } })),
    onMessage: (listener) => void connection.on('message', (data) => listener({ data: { data, isBuffer: false, socketTaskID } })),
    onError: (listener) => void connection.on('failure', () => listener({ data: { socketTaskID }, error: 1 })),
    onClose: (listener) => void connection.on('close', () => listener({ data: { socketTaskID } })),
  };
}

/**
 * @typedef {Pick<typeof TT, 'connectSocket' | 'onAppHide' | 'offAppHide' | 'onAppShow' | 'offAppShow'
 *   | 'onNetworkStatusChange' | 'offNetworkStatusChange' | 'getStorageSync' | 'setStorageSync' | 'removeStorageSync'>} Tt
 */

/** Douyin: much like WeChat, but for close codes that may be text, and a hide of which nothing is told. */
export const douyin = {
  /** @param {MiniProgram} program @returns {{ tt: Tt }} */
  globals(program) {
    const wx = makeWx(program);
    return {
      tt: {
        connectSocket: ({ url, protocols, fail }) => douyinTask(wx.connectSocket({ url, protocols, fail })),
        onAppHide: (listener) => void program.on('AppHide', (result) => listener(result)),
        offAppHide: () => off(program, 'AppHide', undefined),
        onAppShow: (listener) => void program.on('AppShow', listener),
        offAppShow: () => off(program, 'AppShow', undefined),
        onNetworkStatusChange: (listener) => void program.on('NetworkStatusChange', listener),
        offNetworkStatusChange: (listener) => off(program, 'NetworkStatusChange', listener),
        getStorageSync: wx.getStorageSync,
        setStorageSync: wx.setStorageSync,
        removeStorageSync: wx.removeStorageSync,
      },
    };
  },
  events: { ...weChat.events, AppHide: () => ({}) },
};

/** @param {WechatMiniprogram.SocketTask} task @returns {ReturnType<Tt['connectSocket']>} */
function douyinTask(task) {
  const how = /** @type {const} */ ({ protocolType: 'tcp', socketType: 'tradition' });
  return {
    CONNECTING: 0,
    OPEN: 1,
    CLOSING: 2,
    CLOSED: 3,
    send: (option) => task.send(option),
    close: (option) => task.close(option),
    onOpen: (listener) => task.onOpen(({ header }) => listener({ header, ...how })),
    onMessage: (listener) => task.onMessage(({ data }) => listener({ data, ...how })),
    onError: (listener) => task.onError(listener),
    onClose: (listener) => task.onClose(({ code, reason }) => listener({ code: String(code), reason, errMsg: 'closed', ...how })),
  };
}

/** Taro, within WeChat: a promise of the task. */
export const taro = {
  /** @param {MiniProgram} program */
  globals(program) {
    const wx = makeWx(program);
    /** @param {WechatMiniprogram.ConnectSocketOption} option */
    const connectSocket = async (option) => wx.connectSocket(option);
    return { wx, Taro: { ...wx, connectSocket } };
  },
  events: weChat.events,
};

/** uni-app, within WeChat: a promise unless somebody wants to be called back. */
export const uniApp = {
  /** @param {MiniProgram} program */
  globals(program) {
    const wx = makeWx(program);
    /** @param {WechatMiniprogram.ConnectSocketOption} option */
    const connectSocket = (option) => {
      const task = wx.connectSocket(option);
      return option.success || option.fail || option.complete ? task : Promise.resolve(task);
    };
    return { wx, uni: { ...wx, connectSocket } };
  },
  events: weChat.events,
};
