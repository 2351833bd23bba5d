// The words of both pages, in both languages, and who puts them there. Keys are flat; {name} is filled in.

export const en = {
  language: 'Language',
  nav_demo: 'Demo',
  nav_dashboard: 'Dashboard',
  never: '—',

  Online: 'Online',
  PushOnline: 'PushOnline',
  Offline: 'Offline',

  demo_title: 'presence-hub · demo',
  demo_lead: 'Log in, watch others, and see what each of them sees. Open a second window as another device to try the login policy.',
  you: 'You',
  name: 'Name',
  watch: 'Watch',
  watch_hint: 'names, separated by commas',
  platform: 'Platform',
  device: 'Device',
  device_hint: 'empty: this browser',
  ttl: 'Its tokens live for',
  ttl_day: 'a day',
  ttl_short: '75 s: about to expire after 15 s',
  dev_key: 'Development key',
  dev_key_hint: 'from the link that the hub prints at start',
  login: 'Log in',
  another: 'Open another device',
  connection: 'Connection',
  session: 'Session',
  state_disconnected: 'disconnected',
  state_connecting: 'connecting…',
  state_connected: 'connected',
  custom: 'Custom status',
  custom_set: 'Set',
  custom_clear: 'Clear',
  do_something: 'What happens to this device',
  hide: 'Go to the background',
  exit: 'Leave by the close button',
  foreground: 'Come to the foreground',
  cut: 'Be cut off',
  renew: 'Show a new token',
  logout: 'Log out (destroy)',
  do_hint: 'The background starts a clock for mini-programs only. A device that is cut off hears nothing more of the hub, nor the hub of it, until the silence is noticed.',
  watched: 'People you watch',
  who: 'A name',
  who_watch: 'Watch',
  who_ask: 'Ask once',
  unwatch: 'Watch {user} no longer',
  watched_none: 'Nobody yet.',
  waiting: 'not known yet',
  sessions: 'Your sessions',
  refresh: 'Refresh',
  this_one: 'this one',
  kick: 'Kick',
  events: 'What happened',
  use_here: 'Use here instead',

  notice_login_elsewhere: 'You were logged out here: you logged in on another device ({by}).',
  notice_same_device: 'You were logged out here: the same device logged in again.',
  notice_own_request: 'You ended this session from another of your devices ({by}).',
  notice_admin: 'An administrator ended this session.',
  notice_message: '“{message}”',
  notice_other: 'This session was ended.',
  notice_superseded: 'You are logged in on another device. To use this one, that one has to go.',
  notice_login_conflict: 'You are logged in on another device, and it keeps its place ({by}).',
  notice_token: 'No token for you: {message}',
  notice_error: 'The hub refused: {message}',

  log_state: 'connection: {state}',
  log_session: 'logged in as {user}, session {session}',
  log_resumed: 'resumed session {session}',
  log_kicked_others: 'kicked {others}',
  log_status: '{user} is {state}',
  log_status_custom: '{user} is {state} · {custom}',
  log_kicked: 'kicked: {reason}',
  log_superseded: 'superseded',
  log_expiring: 'the token is about to expire',
  log_error: 'error: {message}',
  log_hide: 'went to the background',
  log_exit: 'left by the close button',
  log_foreground: 'came to the foreground',
  log_renew: 'showed the hub a new token',
  log_asked: 'asked: {user} is {state}',
  log_cut: 'cut off: the hub ignores this connection from now on',
  log_logout: 'logged out',
  log_kick: 'kicked session {session}',

  dash_title: 'presence-hub · dashboard',
  key_title: 'Admin key',
  key_lead: 'The hub prints a link with the key at start. You can also type the key here; this tab keeps it until it is closed.',
  key_use: 'Use this key',
  key_forget: 'Forget the key',
  key_wrong: 'The hub does not accept this key.',
  overview: 'Overview',
  connections: 'Connections',
  subscriptions: 'Subscriptions',
  logins: 'Logins',
  refusals: 'Refused logins',
  kicks: 'Kicks',
  deliveries: 'Deliveries',
  conflated: 'Conflated',
  per_second: '{rate}/s',
  by_platform: 'Sessions by platform',
  no_sessions: 'No sessions.',
  nodes: 'Nodes',
  node: 'Node',
  version: 'Version',
  started: 'Started',
  stale: 'The hub does not answer. What is shown is old.',
  find_user: 'Find a user',
  user_id: 'User id',
  find: 'Find',
  close: 'Close',
  user_unknown: 'Nothing is remembered of this user.',
  terminals: 'Devices',
  terminals_none: 'No devices.',
  state: 'State',
  since: 'Since',
  last_seen: 'Last seen',
  last_heard: 'Last heard',
  background: 'Background',
  address: 'Address',
  app: 'App',
  platforms: 'Platforms',
  actions: 'Actions',
  kick_device: 'Kick',
  kick_all: 'Kick all devices',
  confirm_device: 'Kick {device} ({platform}) of {user}?',
  confirm_device_many: 'All {count} sessions of this device end.',
  confirm_device_hint: 'The device is logged out and may log in again.',
  confirm_all: 'Kick all devices of {user}?',
  confirm_all_hint: 'All sessions end, and every token issued until now is refused from then on.',
  message: 'Message to the user (optional)',
  cancel: 'Cancel',
  kicked_count: 'Kicked sessions: {count}.',
  kicked_revoked: 'Kicked sessions: {count}. Older tokens are refused from now on.',
  failed: 'That did not work: {message}',
  yes: 'yes',
  no: 'no',
};

export const zh = {
  language: '语言',
  nav_demo: '演示',
  nav_dashboard: '控制台',
  never: '—',

  Online: '前台运行',
  PushOnline: '后台运行',
  Offline: '未登录',

  demo_title: 'presence-hub · 演示',
  demo_lead: '登录、关注他人，看看彼此看到的状态。再打开一个窗口作为另一台设备，即可体验登录策略。',
  you: '我',
  name: '用户名',
  watch: '关注',
  watch_hint: '多个用户名用逗号分隔',
  platform: '平台',
  device: '设备',
  device_hint: '留空：使用本浏览器',
  ttl: '令牌有效期',
  ttl_day: '一天',
  ttl_short: '75 秒：15 秒后即将过期',
  dev_key: '开发密钥',
  dev_key_hint: '见服务启动时打印的链接',
  login: '登录',
  another: '打开另一台设备',
  connection: '连接',
  session: '会话',
  state_disconnected: '未连接',
  state_connecting: '连接中…',
  state_connected: '已连接',
  custom: '自定义状态',
  custom_set: '设置',
  custom_clear: '清除',
  do_something: '这台设备发生了什么',
  hide: '切到后台',
  exit: '点关闭按钮退出',
  foreground: '回到前台',
  cut: '断网',
  renew: '出示新令牌',
  logout: '退出登录（destroy）',
  do_hint: '切到后台只对小程序计时。断网后，服务与设备互相收不到任何数据，直到服务发现其无响应。',
  watched: '我关注的人',
  who: '用户名',
  who_watch: '关注',
  who_ask: '查询一次',
  unwatch: '不再关注 {user}',
  watched_none: '还没有。',
  waiting: '尚未知晓',
  sessions: '我的会话',
  refresh: '刷新',
  this_one: '当前',
  kick: '踢下线',
  events: '事件记录',
  use_here: '改在这里使用',

  notice_login_elsewhere: '您已在另一台设备登录（{by}），此处已下线。',
  notice_same_device: '同一设备重新登录，此处已下线。',
  notice_own_request: '您在另一台设备上（{by}）结束了此会话。',
  notice_admin: '管理员结束了此会话。',
  notice_message: '“{message}”',
  notice_other: '此会话已结束。',
  notice_superseded: '您正在另一台设备上登录。若要在这里使用，那台设备将下线。',
  notice_login_conflict: '您已在另一台设备登录，且那台设备优先（{by}）。',
  notice_token: '无法取得令牌：{message}',
  notice_error: '服务拒绝：{message}',

  log_state: '连接：{state}',
  log_session: '以 {user} 登录，会话 {session}',
  log_resumed: '恢复会话 {session}',
  log_kicked_others: '已踢下线：{others}',
  log_status: '{user}：{state}',
  log_status_custom: '{user}：{state} · {custom}',
  log_kicked: '被踢下线：{reason}',
  log_superseded: '已被其他设备取代',
  log_expiring: '令牌即将过期',
  log_error: '错误：{message}',
  log_hide: '切到后台',
  log_exit: '点关闭按钮退出',
  log_foreground: '回到前台',
  log_renew: '已向服务出示新令牌',
  log_asked: '查询：{user} {state}',
  log_cut: '已断网：服务从现在起忽略此连接',
  log_logout: '已退出登录',
  log_kick: '已踢下线会话 {session}',

  dash_title: 'presence-hub · 控制台',
  key_title: '管理密钥',
  key_lead: '服务启动时会打印带密钥的链接。也可在此输入密钥；关闭标签页后不再保留。',
  key_use: '使用此密钥',
  key_forget: '清除密钥',
  key_wrong: '服务不接受此密钥。',
  overview: '总览',
  connections: '连接数',
  subscriptions: '订阅数',
  logins: '登录次数',
  refusals: '拒绝登录',
  kicks: '踢下线次数',
  deliveries: '推送次数',
  conflated: '合并次数',
  per_second: '{rate}/秒',
  by_platform: '各平台会话数',
  no_sessions: '暂无会话。',
  nodes: '节点',
  node: '节点',
  version: '版本',
  started: '启动时间',
  stale: '服务没有响应，以下为旧数据。',
  find_user: '查找用户',
  user_id: '用户 ID',
  find: '查找',
  close: '关闭',
  user_unknown: '没有此用户的记录。',
  terminals: '设备',
  terminals_none: '没有设备。',
  state: '状态',
  since: '起始时间',
  last_seen: '最后在线',
  last_heard: '最后收到',
  background: '后台',
  address: '地址',
  app: '应用',
  platforms: '平台',
  actions: '操作',
  kick_device: '踢此设备',
  kick_all: '踢所有设备',
  confirm_device: '将 {user} 的设备 {device}（{platform}）踢下线？',
  confirm_device_many: '此设备的全部 {count} 个会话都会结束。',
  confirm_device_hint: '该设备将退出登录，可重新登录。',
  confirm_all: '将 {user} 的所有设备踢下线？',
  confirm_all_hint: '所有会话都会结束，此前签发的令牌全部失效。',
  message: '给用户的留言（可选）',
  cancel: '取消',
  kicked_count: '已踢下线 {count} 个会话。',
  kicked_revoked: '已踢下线 {count} 个会话，旧令牌已失效。',
  failed: '操作失败：{message}',
  yes: '是',
  no: '否',
};

const STORED = 'presence-hub language';

/** Where a word is put, by the attribute that names it. @type {[string, (it: Element, word: string) => void][]} */
const PLACES = [
  ['data-i18n', (it, word) => (it.textContent = word)],
  ['data-i18n-hint', (it, word) => it.setAttribute('placeholder', word)],
  ['data-i18n-label', (it, word) => it.setAttribute('aria-label', word)],
];
/** @type {Record<string, string>} */
let words = en;

/**
 * The word for `key`; what is filled in is text from outside, so the result is for textContent only.
 *
 * @param {string} key
 * @param {Record<string, any>} [values]
 */
export function t(key, values = {}) {
  const word = words[key] ?? key;
  return word.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

export const locale = () => (words === zh ? 'zh-CN' : 'en');

/**
 * Fills the page's [data-i18n] elements and its language menu, now and at each change of the language.
 *
 * @param {HTMLSelectElement} menu
 * @param {() => void} onChange
 */
export function speak(menu, onChange) {
  /** @param {string} name */
  const choose = (name) => {
    words = name === 'zh' ? zh : en;
    menu.value = name;
    document.documentElement.lang = locale();
    for (const [part, put] of PLACES) {
      for (const it of document.querySelectorAll(`[${part}]`)) put(it, t(it.getAttribute(part) ?? ''));
    }
    onChange();
  };
  menu.addEventListener('change', () => {
    try {
      localStorage.setItem(STORED, menu.value);
    } catch {
      // Refused: the choice lasts as long as the page.
    }
    choose(menu.value);
  });
  let stored = null;
  try {
    stored = localStorage.getItem(STORED);
  } catch {
    // Refused: the browser's language it is.
  }
  choose(stored ?? (navigator.language.startsWith('zh') ? 'zh' : 'en'));
}
