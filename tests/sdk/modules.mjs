// Loads the pages' modules in Node. Their package.json does not declare modules, because the SDK beside them is none.

import { register } from 'node:module';

const hooks = `export const load = (url, context, next) =>
  next(url, /\\/static\\/.*\\.js$/.test(url) ? { ...context, format: 'module' } : context);`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);

/** @param {string} name below `static/` */
export const page = (name) => import(new URL(`../../static/${name}`, import.meta.url));
