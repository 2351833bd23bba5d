// The app in Svelte, on a page.
import { flushSync, mount, unmount } from 'svelte';
import App from './App.svelte';
import { start } from './page.js';

start((target) => {
  const props = $state({});
  let app = null;
  return {
    set(next) {
      flushSync(() => Object.assign(props, next, { users: [...next.users] }));
      app ??= mount(App, { target, props });
    },
    unmount: () => unmount(app),
  };
});
