// The SDK for `import`: Node and bundlers hand over its exports, a browser its global.
import * as loaded from './presence.js';

const sdk = loaded.default || globalThis.PresenceHub;
export const { PresenceClient, PresenceError } = sdk;
export default sdk;
