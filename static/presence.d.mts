// The types of presence.mjs.
import * as sdk from './presence.js';

export * from './presence.js';
export default sdk;
