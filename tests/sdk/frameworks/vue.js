// The app in Vue.
import { computed, createApp, h, shallowReactive } from 'vue';
import { providePresence, useKicked, usePresence, usePresenceClient, useSelf } from 'presence-hub/vue';
import { clientOf, ofList, ofOne, ofSelf, start } from './page.js';

const Self = { setup: () => ((self) => () => h('p', { id: 'self' }, ofSelf(self.value)))(useSelf()) };

const List = {
  props: ['users'],
  setup(props) {
    const statuses = usePresence(() => props.users);
    return () => h('p', { id: 'list' }, ofList(props.users, statuses.value));
  },
};

const One = {
  props: ['user'],
  setup(props) {
    const status = usePresence(() => props.user);
    return () => h('p', { id: 'one' }, ofOne(props.user, status.value));
  },
};

const Kicked = {
  setup() {
    const kicked = useKicked();
    return () => kicked.value && h('p', { id: 'kicked' }, [kicked.value.reason, h('button', { id: 'here', onClick: kicked.value.loginHere }, 'Use here instead')]);
  },
};

const Set = {
  setup() {
    const client = usePresenceClient();
    return () => h('button', { id: 'set', onClick: () => client.value.setStatus('busy') }, 'Set');
  },
};

export const App = {
  props: ['account', 'users', 'one', 'show'],
  setup(props) {
    const client = computed(() => clientOf(props.account));
    providePresence(client);
    return () => [h(Self), h(Kicked), h(Set), props.show ? [h(List, { users: [...props.users] }), h(One, { user: props.one })] : null];
  },
};

if (typeof document === 'object') {
  start((place) => {
    const props = shallowReactive({ version: 0 });
    const app = createApp({ render: () => props.users && h(App, { ...props, users: [...props.users] }) });
    app.mount(place);
    return { set: (next) => Object.assign(props, next, { version: props.version + 1 }), unmount: () => app.unmount() };
  });
}
