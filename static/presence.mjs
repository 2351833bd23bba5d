// The SDK for `import`: Node and bundlers hand over its exports, a browser its global.
import * as loaded from './presence.js';

/** @type {any} */
const module = loaded;
const sdk = module.default || Reflect.get(globalThis, 'PresenceHub');
export const { PresenceClient, PresenceError } = sdk;
export default sdk;
