// The app in Vue, as a server renders it.
import { createSSRApp } from 'vue';
import { renderToString } from 'vue/server-renderer';
import { App } from './vue.js';

export { clients } from './page.js';
export const render = (props) => renderToString(createSSRApp(App, props));
