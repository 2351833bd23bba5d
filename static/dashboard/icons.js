// The few pictures there are, drawn with lines on a field of 20 by 20. They stand beside words, so nobody needs them.

import { svg } from './svg.js';

/** @type {Record<string, string>} */
const PATHS = {
  overview: 'M3 12.5 7 8l3.5 3L17 4.5M3 16.5h14',
  users:
    'M7.5 9.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM2 16.5c0-3 2.4-4.7 5.5-4.7s5.5 1.7 5.5 4.7M13 3.8a3 3 0 0 1 0 5.4M15 12.2c1.9.7 3 2.2 3 4.3',
  sessions: 'M2.5 4.5h11v8h-11zM6 16h4M8 12.5V16M14.5 7.5h3.5v9h-5v-4',
  feed: 'M3 5h2M8 5h9M3 10h2M8 10h9M3 15h2M8 15h6',
  refusals: 'M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14ZM5.2 5.2l9.6 9.6',
  audit: 'M5 2.5h7l3.5 3.5v11.5H5zM8 8h4.5M8 11h4.5M8 14h3',
  policy: 'M3 3h6v6H3zM11 3h6v6h-6zM3 11h6v6H3zM12 15.2l1.8 1.8 3.2-4.5',
  webhooks: 'M3 10h10M9.5 6 13.5 10 9.5 14M17 4v12',
  system: 'M3 4h14v5H3zM3 11h14v5H3zM6 6.5h.01M6 13.5h.01',
  theme: 'M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14ZM10 3v14M10 7.5l4.5-2M10 12l6.6-2.5M10 16.2l5-2',
  logout: 'M8 3H3.5v14H8M8 10h9M13.5 6.5 17 10l-3.5 3.5',
  demo: 'M4 3.5h12v9H9l-3.5 3.5v-3.5H4z',
};

/** @param {string} name */
export function icon(name) {
  return svg(
    'svg',
    { class: 'icon', viewBox: '0 0 20 20', width: 20, height: 20, 'aria-hidden': 'true' },
    svg('path', { d: PATHS[name] }),
  );
}
