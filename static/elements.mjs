// The elements for `import`: in a browser it defines them, on a server it does nothing.
import './elements.js';

export default globalThis.PresenceElements;
