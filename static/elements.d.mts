// The types of elements.mjs.
export * from './elements.js';
export { default } from './elements.js';
