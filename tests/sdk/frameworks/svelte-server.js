// The app in Svelte, as a server renders it.
import { render as toHtml } from 'svelte/server';
import App from './App.svelte';

export { clients } from './page.js';
export const render = (props) => toHtml(App, { props }).body;
