// Each screen has an address, behind the `#`: `#/users/alice?range=day`.

/** @typedef {{ screen: string, user: ?string, query: URLSearchParams }} Route */

/** @param {string} hash @returns {Route} */
export function readRoute(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const [screen = '', ...rest] = path.split('/');
  return { screen: screen || 'overview', user: rest.length ? decoded(rest.join('/')) : null, query: new URLSearchParams(query) };
}

/**
 * The address of a screen. What is empty is left out.
 *
 * @param {string} screen
 * @param {Record<string, string | number | null | undefined>} [query]
 * @param {string} [user]
 */
export function address(screen, query = {}, user) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== '');
  const path = `#/${screen}${user === undefined ? '' : `/${encodeURIComponent(user)}`}`;
  return given.length ? `${path}?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : path;
}

/** Changes the address of what is shown, without showing anything else. @param {string} hash */
export function remember(hash) {
  if (location.hash !== hash) history.replaceState(null, '', hash);
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // typed by hand: taken as it stands
  }
}
