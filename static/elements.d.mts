// The types of elements.mjs.
import type { PresenceElementsApi } from './elements.js';

export type * from './elements.js';
declare const elements: PresenceElementsApi;
export default elements;
