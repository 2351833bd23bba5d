// Custom elements that show who is online. See README.md, elements.d.ts and elements.internals.d.ts.
'use strict';

/** @import * as In from './elements.internals' */
{
/** @type {Record<string, string[]>} */
const SHAPES = {
  Online: ['linear-gradient(currentColor 0 0)', '#1a7f4b,#5fd398'],
  away: ['radial-gradient(circle at 75% 25%,#0000 50%,currentColor 55%)', '#8a5a00,#f0b84a'],
  PushOnline: ['linear-gradient(90deg,currentColor 50%,#0000 0)', '#0b62c4,#7db8ff'],
  Offline: ['none', '#59636e,#a0acba'],
  unknown: ['none;border-style:dotted', '#59636e,#a0acba'],
};
/** @type {Record<string, string[]>} */
const WORDS = {
  Online: ['Online', '在线'],
  away: ['Away', '离开'],
  PushOnline: ['Push only', '推送在线'],
  Offline: ['Offline', '离线'],
  unknown: ['Unknown', '未知'],
  connecting: ['Connecting…', '连接中…'],
  disconnected: ['Not connected', '未连接'],
  nobody: ['Nobody is online', '没有人在线'],
  custom: ['Custom status', '自定义状态'],
  set: ['Set', '设置'],
  failed: ['Not saved', '未保存'],
  here: ['Use here instead', '改在这里使用'],
  elsewhere: ['You are logged in elsewhere', '您已在别处登录'],
  over: ['This session was ended', '此会话已被结束'],
};
const STYLE = `:host(:not([hidden])){display:inline-block}
ul{list-style:none;margin:0;padding:0}
li,div div{display:flex;flex-wrap:wrap;gap:.2em .6em;align-items:baseline;padding:.2em 0}
bdi{overflow-wrap:anywhere;min-width:0}
bdi:empty{display:none}
[part=shape]{display:inline-block;box-sizing:border-box;width:var(--presence-size,.8em);height:var(--presence-size,.8em);border:.15em solid;border-radius:50%;background-origin:border-box}
[part=state]{white-space:nowrap}
[part=word]{margin-inline-start:.35em}
form{display:inline-flex;flex-wrap:wrap;gap:.4em;margin-inline-start:.6em}
input,button{font:inherit;padding:.2em .6em;min-width:0;min-height:24px}
div div{padding:.7em 1em;border:1px solid;border-radius:.5em;color:light-dark(#1b2430,#e8ecf1);background:light-dark(#fdf3e0,#3a2e16)}
${Object.keys(SHAPES).map((state) => `.${state} [part=shape]{background-image:${SHAPES[state][0]};color:var(--presence-${state.toLowerCase()},light-dark(${SHAPES[state][1]}))}`).join('')}`;

/** @type {In.Shared} */
let { client, owned, notice, nameOf, ends, elements } = /** @type {any} */ ({ nameOf: String, ends: [], elements: new Set() });

/** @type {In.Api} */
const api = {
  get nameOf() {
    return nameOf;
  },

  set nameOf(next) {
    nameOf = next;
    each('draw');
  },

  get client() {
    return client || null;
  },

  set client(next) {
    if (next === client) return;
    for (const end of ends) end();
    if (client && owned) client.logout();
    client = next;
    owned = !!next && next.state === 'disconnected';
    const calm = () => tell(next.stale && next.state === 'disconnected' ? notice : null);
    ends = next ? [
      next.on('session', () => each('begin')),
      next.on('unwatched', () => each('draw')),
      next.on('state', calm),
      next.on('stale', calm),
      next.on('kicked', tell),
      next.on('superseded', () => tell({ reason: 'login_elsewhere', by: null, at: null })),
    ] : [];
    notice = null;
    each('begin');
    if (owned) next.connect();
  },
};

/** @type {In.Tools} */
const { each, tell, stateOf, word, make, badge } = {
  each: (action) => elements.forEach((it) => it[action]()),

  tell(news) {
    notice = news;
    each('draw');
  },

  stateOf(user) {
    const status = client && !client.stale && client.get(user);
    return !status ? 'unknown' : status.away && status.state === 'Online' ? 'away' : status.state;
  },

  word(it, key) {
    let language = '';
    for (let node = it; node && !language; node = node.parentNode || node.host) language = node.lang;
    return WORDS[key][+/^zh/i.test(language || navigator.language)];
  },

  make(tag, part, attributes = {}, ...children) {
    const it = document.createElement(tag);
    for (const [name, value] of Object.entries({ part, ...attributes })) it.setAttribute(name, value);
    it.append(...children);
    return it;
  },

  badge(state, said, compact) {
    const named = compact ? { role: 'img', 'aria-label': said, title: said } : {};
    return make('span', 'state', { class: state, ...named }, make('span', 'shape'), compact ? '' : make('span', 'word', {}, said));
  },
};

/** @type {In.Kinds} */
const kinds = {
  dot: {
    attributes: ['user', 'compact'],
    follow: (it) => client.subscribe(it.getAttribute('user'), it.draw),
    render(it, root) {
      const state = stateOf(it.getAttribute('user'));
      it.setAttribute('state', state);
      root.replaceChildren(badge(state, word(it, state), it.hasAttribute('compact')));
    },
  },

  list: {
    attributes: ['users', 'contacts'],
    follow: (it) => !it.hasAttribute('contacts') ? client.subscribe(it.users, it.draw) : client.contacts(({ whole, statuses, added, removed }) => {
      if (whole) it.listed = new Set();
      for (const { user } of [...statuses, ...added]) it.listed.add(user);
      for (const user of removed) it.listed.delete(user);
      it.draw();
    }),
    render(it, root) {
      const { rows = new Map(), listed } = it;
      const all = it.hasAttribute('contacts');
      const users = all ? [...(listed || [])].filter((user) => client.get(user) && stateOf(user) !== 'Offline') : it.users;
      if (all) users.sort((one, other) => nameOf(one).localeCompare(nameOf(other)));
      it.rows = new Map(users.map((user) => {
        const state = stateOf(user);
        const custom = (state !== 'unknown' && client.get(user).custom) || '';
        const key = JSON.stringify([user, nameOf(user), word(it, state), custom]);
        return [key, rows.get(key) || make('li', 'item', {}, make('bdi', 'name', {}, nameOf(user)), badge(state, word(it, state)), make('bdi', 'custom', {}, custom))];
      }));
      const list = root.firstChild || root.appendChild(make('ul', 'list', { role: 'list' }));
      list.replaceChildren(...(all && listed && !users.length && client.state === 'connected' ? [make('li', 'empty', {}, word(it, 'nobody'))] : it.rows.values()));
    },
  },

  self: {
    follow: (it) => client.subscribe(client.user || [], it.draw),
    render(it, root) {
      const { state: connection = 'disconnected', user } = Object(client);
      const on = connection === 'connected';
      const state = on ? stateOf(user) : 'unknown';
      if (!root.firstChild) {
        const made = make('form', 'form', {}, make('input', 'input', { maxlength: 256 }), make('button', 'button'), make('span', 'error', { role: 'alert' }));
        made.onsubmit = () => {
          client.setStatus(made[0].value || null).then(() => '', (error) => error.code || '> 256 B').then((trouble) => {
            it.trouble = trouble;
            it.draw();
          });
          return false;
        };
        root.append(make('span', ''), made);
      }
      const [place, form] = root.children;
      const [input, button] = form;
      it.setAttribute('state', state);
      place.replaceChildren(badge(state, word(it, on ? state : connection)));
      if (root.activeElement !== input) input.value = (on && client.get(user)?.custom) || '';
      input.placeholder = input.ariaLabel = word(it, 'custom');
      input.disabled = button.disabled = !on;
      button.textContent = word(it, 'set');
      form.lastChild.textContent = it.trouble ? `${word(it, 'failed')} (${it.trouble})` : '';
    },
  },

  kicked: {
    follow: () => null,
    render(it, root) {
      const place = root.firstChild || root.appendChild(make('div', '', { role: 'alert' }));
      if (!notice) return place.replaceChildren();
      const { reason, by, message = '' } = notice;
      const button = make('button', 'button', {}, word(it, 'here'));
      button.onclick = () => client.loginHere();
      const text = word(it, /login|same/.test(reason) ? 'elsewhere' : 'over') + (by ? ` (${by.platform})` : '');
      place.replaceChildren(make('div', 'notice', {}, make('span', 'text', {}, text), make('bdi', 'message', {}, reason === 'admin' ? message : ''), button));
    },
  },
};

Reflect.set(globalThis, 'PresenceElements', api);

if (typeof HTMLElement === 'function') {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  new MutationObserver(() => each('draw')).observe(document, { attributeFilter: ['lang'], subtree: true });

  for (const [name, { attributes, follow, render }] of Object.entries(kinds)) {
    customElements.define(`presence-${name}`, class extends /** @type {In.Base} */ (HTMLElement) {
      static observedAttributes = attributes;

      constructor() {
        super();
        this.attachShadow({ mode: 'open' }).adoptedStyleSheets = [sheet];
      }

      get users() {
        return this.given || (this.getAttribute('users') || '').split(/[,，]/).map((user) => user.trim()).filter((user) => user);
      }

      set users(users) {
        this.given = users && [...new Set(users)].filter((user) => user != null);
        this.begin();
      }

      connectedCallback() {
        if (this.hasOwnProperty('users')) { // set before this class was defined
          const { users } = this;
          Reflect.deleteProperty(this, 'users');
          this.users = users;
        }
        elements.add(this);
        this.begin();
      }

      disconnectedCallback() {
        elements.delete(this);
        this.begin();
      }

      attributeChangedCallback() {
        this.begin();
      }

      begin() {
        const { end, from, isConnected } = this;
        if (from !== client) this.listed = null;
        this.from = client;
        this.end = client && isConnected && follow(this);
        if (end) end();
        this.draw();
      }

      draw = () => {
        if (!this.due) queueMicrotask(() => {
          this.due = false;
          if (this.isConnected) render(this, this.shadowRoot);
        });
        this.due = true;
      };
    });
  }

  /** @type {any} */
  const { src, dataset = {} } = document.currentScript || {};
  const { hub, token, tokenUrl } = dataset;
  if (token || tokenUrl) {
    const getToken = async () => {
      const answer = await fetch(tokenUrl);
      return answer.ok ? answer.text() : `HTTP ${answer.status}`; // no token, as the client will say
    };
    const url = hub || new URL('../ws', src).href.replace('http', 'ws');
    api.client = new PresenceHub.PresenceClient({ url, ...(tokenUrl ? { getToken } : { token }) });
    api.client.on('error', console.warn);
  }
}
}
