// The timeline: a lane for the user and one for each device, drawn as SVG. Where something happened there is a marker,
// which pointer, touch and arrow keys reach, and below it stands what it was. The table of changes that the screen
// shows beside it says the same.

import { locale, t } from '../i18n.js';
import { badge, el, foreign, platformName } from '../ui.js';
import { deviceState, evidenceOf, sentence, why } from './causes.js';
import { exactly } from './format.js';
import { svg, widthObserver } from './svg.js';
/** @import { Lane } from './lanes.js' */
/** @import { HubEvent, State } from './shapes.d.ts' */

/** @typedef {{ x: number, events: HubEvent[] }} Mark those that stand too close to be told apart are one */

const HEIGHT = 34;
const BAR = { y: 9, height: 16 };
/** Marks closer than this are one. */
const CLOSE_PX = 7;
/** From here on a piece bears its word. */
const WORD_PX = 84;
const MINUTE = 60_000;
const STEPS = [10 * MINUTE, 30 * MINUTE, 60 * MINUTE, 3 * 60 * MINUTE, 6 * 60 * MINUTE, 24 * 60 * MINUTE, 48 * 60 * MINUTE];
const TICK_PX = 76;

export class HubTimeline extends HTMLElement {
  /** @type {Lane[]} */
  #lanes = [];
  #from = 0;
  #to = 0;
  #width = 0;
  /** The id of the event that is read out. @type {?string} */
  #read = null;
  #rows = el('div', { class: 'lanes' });
  #axis = el('div', { class: 'axis', 'aria-hidden': 'true' });
  #detail = el('div', { class: 'detail' });
  #resized = widthObserver((width) => {
    this.#width = width;
    this.#draw();
  });

  connectedCallback() {
    this.append(this.#rows, this.#axis, this.#detail);
    this.#resized.observe(this.#axis);
    this.#rows.addEventListener('keydown', this.#key);
  }

  disconnectedCallback() {
    this.#resized.disconnect();
  }

  /** @param {Lane[]} lanes @param {number} from @param {number} to */
  show(lanes, from, to) {
    this.#lanes = lanes;
    this.#from = from;
    this.#to = to;
    this.#draw();
  }

  #draw() {
    if (!this.#width || this.#to <= this.#from) return;
    const focused = document.activeElement?.getAttribute('data-mark') ?? null;
    this.#rows.replaceChildren(...this.#lanes.map((lane, index) => this.#lane(lane, index)));
    this.#axis.replaceChildren(this.#drawAxis());
    this.#tell();
    const again = focused && this.#rows.querySelector(`[data-mark="${CSS.escape(focused)}"]`);
    if (again instanceof SVGElement) again.focus();
  }

  #x = (/** @type {number} */ at) => Math.round((10 * this.#width * (at - this.#from)) / (this.#to - this.#from)) / 10;

  /** @param {Lane} lane @param {number} index */
  #lane({ platform, device, pieces, events }, index) {
    const name = platform ? [el('b', {}, platformName(platform)), ' ', foreign(device)] : [el('b', {}, t('lane_user'))];
    const label = platform ? `${platformName(platform)} ${device}` : t('lane_user');
    const picture = svg('svg', { width: this.#width, height: HEIGHT, role: 'group', 'aria-label': label });
    for (const at of this.#ticks())
      picture.append(svg('line', { class: 'grid', x1: this.#x(at), x2: this.#x(at), y1: 0, y2: HEIGHT }));
    const marks = this.#marks(events);
    for (const { from, to, state } of pieces) picture.append(...this.#piece(this.#x(from), this.#x(to), state, marks));
    picture.append(...marks.map((mark, i) => this.#mark(mark, index, i === marks.length - 1)));
    return el(
      'div',
      { class: platform ? 'lane' : 'lane user', data: { lane: platform ? `${platform} ${device}` : 'user' } },
      el('div', { class: 'name', title: label }, ...name),
      picture,
    );
  }

  /** Online is a full bar, PushOnline a hatched one, Offline a line: no colour is needed to tell. @param {number} x1 @param {number} x2 @param {State} state @param {Mark[]} marks */
  #piece(x1, x2, state, marks) {
    const width = Math.max(1, x2 - x1);
    if (state === 'Offline')
      return [svg('line', { class: 'piece Offline', x1, x2, y1: BAR.y + BAR.height / 2, y2: BAR.y + BAR.height / 2 })];
    const bar = svg('rect', { class: `piece ${state}`, x: x1, y: BAR.y, width, height: BAR.height, rx: Math.min(3, width / 2) });
    const hatch = [];
    if (state === 'PushOnline') {
      let path = '';
      for (let x = x1 + 4; x < x2; x += 8)
        path += `M${x},${BAR.y + BAR.height}L${Math.min(x + 6, x2)},${BAR.y + BAR.height - Math.min(BAR.height, ((Math.min(x + 6, x2) - x) / 6) * BAR.height)}`;
      if (path) hatch.push(svg('path', { class: 'hatch', d: path }));
    }
    // The word stands in the widest place that no mark covers.
    const edges = [x1, ...marks.map(({ x }) => x).filter((x) => x > x1 && x < x2), x2];
    const rooms = edges.slice(1).map((edge, i) => /** @type {const} */ ([edge - edges[i], (edge + edges[i]) / 2]));
    const [room, middle] = rooms.reduce((a, b) => (a[0] >= b[0] ? a : b));
    const word =
      room >= WORD_PX
        ? [svg('text', { class: `word ${state}`, x: middle, y: BAR.y + 12, 'text-anchor': 'middle' }, t(state))]
        : [];
    return [bar, ...hatch, ...word];
  }

  /** @param {HubEvent[]} events @returns {Mark[]} */
  #marks(events) {
    /** @type {Mark[]} */
    const marks = [];
    for (const event of events.filter(({ at }) => at >= this.#from && at <= this.#to)) {
      const x = this.#x(event.at);
      const last = marks[marks.length - 1];
      if (last && x - last.x < CLOSE_PX) last.events.push(event);
      else marks.push({ x, events: [event] });
    }
    return marks;
  }

  /** @param {Mark} mark @param {number} lane @param {boolean} isEntry whether the tab key comes here */
  #mark({ x, events }, lane, isEntry) {
    const last = events[events.length - 1];
    const isUser = lane === 0;
    const to = isUser ? last.state.to : deviceState(last);
    const label =
      events.length > 1
        ? t('marks', { count: events.length, from: exactly(events[0].at), to: exactly(last.at), last: sentence(last, isUser) })
        : `${exactly(last.at)} · ${sentence(last, isUser)}`;
    const isBad = last.cause === 'kicked';
    const middle = BAR.y + BAR.height / 2;
    const shape = isBad
      ? svg('path', { class: 'sign kicked', d: `M${x},${middle - 7}L${x + 7},${middle}L${x},${middle + 7}L${x - 7},${middle}Z` })
      : svg('circle', { class: `sign ${to}`, cx: x, cy: middle, r: events.length > 1 ? 6 : 4.5 });
    const mark = svg(
      'g',
      {
        class: 'mark',
        role: 'button',
        tabindex: isEntry ? 0 : -1,
        'aria-label': label,
        'data-mark': `${lane} ${last.id}`,
        'data-lane': lane,
      },
      svg('rect', { class: 'reach', x: x - 9, y: 0, width: 18, height: HEIGHT }),
      shape,
    );
    if (events.length > 1)
      mark.append(
        svg(
          'text',
          { class: `count ${to}`, x, y: middle + 3.5, 'text-anchor': 'middle' },
          events.length > 9 ? '+' : String(events.length),
        ),
      );
    const read = () => {
      this.#read = last.id;
      this.#tell(events, isUser);
    };
    for (const occasion of ['focus', 'pointerenter', 'click']) mark.addEventListener(occasion, read);
    return mark;
  }

  #key = (/** @type {KeyboardEvent} */ event) => {
    const here = /** @type {Element} */ (event.target).closest('.mark');
    if (!here) return;
    const lane = [...this.#rows.querySelectorAll(`.mark[data-lane="${here.getAttribute('data-lane')}"]`)];
    const index = lane.indexOf(here);
    /** @type {Record<string, () => Element | undefined>} */
    const moves = {
      ArrowLeft: () => lane[index - 1],
      ArrowRight: () => lane[index + 1],
      Home: () => lane[0],
      End: () => lane[lane.length - 1],
      ArrowUp: () => this.#beside(here, -1),
      ArrowDown: () => this.#beside(here, 1),
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const next = /** @type {SVGElement | undefined} */ (move());
    if (!next) return;
    here.setAttribute('tabindex', '-1');
    next.setAttribute('tabindex', '0');
    next.focus();
  };

  /** The nearest mark of the next lane that has any. @param {Element} here @param {number} step */
  #beside(here, step) {
    const at = here.getBoundingClientRect().left;
    for (let lane = Number(here.getAttribute('data-lane')) + step; lane >= 0 && lane < this.#lanes.length; lane += step) {
      const marks = [...this.#rows.querySelectorAll(`.mark[data-lane="${lane}"]`)];
      const distance = (/** @type {Element} */ it) => Math.abs(it.getBoundingClientRect().left - at);
      if (marks.length) return marks.reduce((a, b) => (distance(a) <= distance(b) ? a : b));
    }
    return undefined;
  }

  /** @param {HubEvent[]} [events] what is read; else what was, as long as it is shown @param {boolean} [isUser] */
  #tell(events, isUser = false) {
    if (!events && this.#detail.firstChild && this.#lanes.some((lane) => lane.events.some(({ id }) => id === this.#read))) return;
    if (!events) {
      this.#read = null;
      this.#detail.replaceChildren(
        el('p', { class: 'hint' }, t(this.#lanes.some((lane) => lane.events.length) ? 'timeline_hint' : 'timeline_quiet')),
      );
      return;
    }
    const shown = events.slice(-3).reverse();
    const more = events.length - shown.length;
    this.#detail.replaceChildren(
      ...shown.map((event) =>
        el(
          'p',
          {},
          el('time', { datetime: new Date(event.at).toISOString(), class: 'num' }, exactly(event.at)),
          badge(isUser ? event.state.to : deviceState(event)),
          event.terminal ? el('span', {}, platformName(event.terminal.platform), ' ', foreign(event.terminal.device)) : null,
          el('span', { class: 'why' }, foreign(why(event))),
          ...evidenceOf(event)
            .filter(([name]) => name === 'address' || name === 'last_heard')
            .map(([name, value]) =>
              el(
                'span',
                { class: 'hint' },
                t('fact', { name: t(name), value: typeof value === 'number' ? exactly(value) : value }),
              ),
            ),
        ),
      ),
      more > 0 ? el('p', { class: 'hint' }, t('marks_more', { count: more })) : '',
    );
  }

  /** Round times of the clock here, as many as there is room for. */
  #ticks() {
    const span = this.#to - this.#from;
    const room = Math.max(2, Math.floor(this.#width / TICK_PX));
    const step = STEPS.find((size) => span / size <= room) ?? STEPS[STEPS.length - 1];
    const ticks = [];
    const first = new Date(this.#from);
    first.setHours(0, 0, 0, 0);
    for (let at = first.getTime(); at <= this.#to; at += step) if (at >= this.#from) ticks.push(at);
    return ticks;
  }

  #drawAxis() {
    const picture = svg('svg', { width: this.#width, height: 20 });
    for (const at of this.#ticks()) {
      const date = new Date(at);
      const isDay = date.getHours() === 0 && date.getMinutes() === 0;
      const word = isDay
        ? date.toLocaleDateString(locale(), { month: 'short', day: 'numeric' })
        : date.toLocaleTimeString(locale(), { hour12: false, hour: '2-digit', minute: '2-digit' });
      const x = this.#x(at);
      const anchor = x < 20 ? 'start' : x > this.#width - 20 ? 'end' : 'middle';
      picture.append(svg('text', { class: isDay ? 'tick day' : 'tick', x, y: 14, 'text-anchor': anchor }, word));
    }
    return picture;
  }
}

customElements.define('hub-timeline', HubTimeline);
