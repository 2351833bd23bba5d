// A line chart over time, drawn as SVG: two labelled axes, a legend that reads out the values, and a cross-hair that
// pointer and arrow keys move. To a screen reader it is a slider over the points in time, whose value is said in words.

import { locale, t } from '../i18n.js';
import { clock, el } from '../ui.js';
import { svg, widthObserver } from './svg.js';

/** @typedef {{ at: number, values: (number | null)[] }} Point values stand in the order of the lines; null: not known */
/** @typedef {{ label: string, tone: string }} Line a tone is a colour and a way to draw, both in `dashboard.css` */
/**
 * @typedef {object} Look
 * @property {string} title
 * @property {Line[]} lines
 * @property {(value: number) => string} show
 * @property {(value: number) => string} [tick] shorter, for the axis
 * @property {number} minutes how much time there is from left to right
 */

const HEIGHT = 132;
const MARGIN = { top: 10, right: 10, bottom: 20, left: 46 };
/** Without a point for so long, the line is broken. */
const GAP_MS = 16_000;
const MINUTE_MS = 60_000;

export class HubChart extends HTMLElement {
  /** @type {?Look} */
  #look = null;
  /** @type {Point[]} */
  #points = [];
  /** The moment the cross-hair stands at; null: the latest. @type {?number} */
  #at = null;
  #plot = el('div', { class: 'plot', role: 'slider', tabindex: '0', 'aria-valuemin': '0' });
  #legend = el('p', { class: 'legend' });
  #width = 0;
  #resized = widthObserver((width) => {
    this.#width = width;
    this.#draw();
  });

  connectedCallback() {
    this.append(this.#legend, this.#plot);
    this.#resized.observe(this.#plot);
    this.#plot.addEventListener('pointermove', this.#point);
    this.#plot.addEventListener('pointerdown', this.#point);
    this.#plot.addEventListener('pointerleave', this.#leave);
    this.#plot.addEventListener('blur', this.#leave);
    this.#plot.addEventListener('keydown', this.#key);
  }

  disconnectedCallback() {
    this.#resized.disconnect();
  }

  /** @param {Look} look @param {Point[]} points the earliest first */
  show(look, points) {
    this.#look = look;
    this.#points = points;
    this.#draw();
  }

  #point = (/** @type {PointerEvent} */ event) => {
    const { from, to } = this.#span();
    const inside = event.clientX - this.#plot.getBoundingClientRect().left - MARGIN.left;
    const wanted = from + ((to - from) * inside) / this.#inner();
    const nearest = this.#points.reduce(
      (/** @type {?Point} */ best, point) => (best && Math.abs(best.at - wanted) <= Math.abs(point.at - wanted) ? best : point),
      null,
    );
    this.#at = nearest?.at ?? null;
    this.#draw();
  };

  #leave = () => {
    this.#at = null;
    this.#draw();
  };

  #key = (/** @type {KeyboardEvent} */ event) => {
    const last = this.#points.length - 1;
    const index = this.#index();
    /** @type {Record<string, number>} */
    const moves = {
      ArrowLeft: index - 1,
      ArrowDown: index - 1,
      ArrowRight: index + 1,
      ArrowUp: index + 1,
      PageDown: index - 12,
      PageUp: index + 12,
      Home: 0,
      End: last,
    };
    if (!(event.key in moves) || last < 0) return;
    event.preventDefault();
    const wanted = Math.max(0, Math.min(last, moves[event.key]));
    this.#at = wanted === last ? null : this.#points[wanted].at;
    this.#draw();
  };

  /** The point that is read out. */
  #index() {
    const index = this.#points.findIndex(({ at }) => at === this.#at);
    return index < 0 ? this.#points.length - 1 : index;
  }

  #inner() {
    return Math.max(1, this.#width - MARGIN.left - MARGIN.right);
  }

  /** The time from left to right: it ends at the latest point. */
  #span() {
    const to = this.#points.length ? this.#points[this.#points.length - 1].at : Date.now();
    return { from: to - (this.#look?.minutes ?? 15) * MINUTE_MS, to };
  }

  #draw() {
    if (!this.#look) return;
    const { title, lines, show } = this.#look;
    const index = this.#index();
    const point = this.#points[index];
    const readings = lines.map(
      ({ label }, i) => `${label} ${point?.values[i] == null ? t('never') : show(Number(point.values[i]))}`,
    );
    this.#legend.replaceChildren(
      ...lines.map(({ label, tone }, i) =>
        el(
          'span',
          { class: 'reading', data: { tone } },
          svg(
            'svg',
            { class: 'swatch', width: 18, height: 8, 'aria-hidden': 'true' },
            svg('line', { x1: 0, y1: 4, x2: 18, y2: 4, class: `line ${tone}` }),
          ),
          el('span', {}, label),
          el('b', {}, point?.values[i] == null ? t('never') : show(Number(point.values[i]))),
        ),
      ),
      el('span', { class: 'at' }, this.#at === null ? '' : clock(this.#at)),
    );

    for (const [name, value] of Object.entries({
      'aria-label': title,
      'aria-valuemax': Math.max(0, this.#points.length - 1),
      'aria-valuenow': Math.max(0, index),
      'aria-valuetext': point ? [clock(point.at), ...readings].join(', ') : t('no_data'),
    }))
      this.#plot.setAttribute(name, String(value));
    if (this.#width) this.#plot.replaceChildren(this.#picture(lines, point));
  }

  /** @param {Line[]} lines @param {Point | undefined} read */
  #picture(lines, read) {
    const { from, to } = this.#span();
    const shown = this.#points.filter(({ at }) => at >= from);
    const top = ceiling(Math.max(0, ...shown.flatMap(({ values }) => values.map((value) => value ?? 0))));
    const inner = { width: this.#inner(), height: HEIGHT - MARGIN.top - MARGIN.bottom };
    const x = (/** @type {number} */ at) => round(MARGIN.left + (inner.width * (at - from)) / (to - from));
    const y = (/** @type {number} */ value) => round(MARGIN.top + inner.height * (1 - value / top));
    const picture = svg('svg', { width: this.#width, height: HEIGHT, 'aria-hidden': 'true' });

    const tick = this.#look?.tick ?? shortNumber;
    for (const part of [0, 0.5, 1]) {
      const at = y(top * part);
      picture.append(
        svg('line', { class: 'grid', x1: MARGIN.left, x2: this.#width - MARGIN.right, y1: at, y2: at }),
        svg('text', { class: 'tick', x: MARGIN.left - 8, y: at + 4, 'text-anchor': 'end' }, tick(top * part)),
      );
    }
    const step = 5 * MINUTE_MS;
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
      const isLast = x(at) > this.#width - 20;
      picture.append(
        svg('line', { class: 'grid', x1: x(at), x2: x(at), y1: MARGIN.top + inner.height, y2: MARGIN.top + inner.height + 4 }),
        svg(
          'text',
          { class: 'tick', x: isLast ? this.#width : x(at), y: HEIGHT - 3, 'text-anchor': isLast ? 'end' : 'middle' },
          minute(at),
        ),
      );
    }

    lines.forEach(({ tone }, i) => {
      for (const piece of pieces(shown, i)) {
        const path = piece.map(([at, value]) => `${x(at)},${y(value)}`).join('L');
        const [first, last] = [piece[0], piece[piece.length - 1]];
        if (i === 0)
          picture.append(svg('path', { class: `area ${tone}`, d: `M${x(first[0])},${y(0)}L${path}L${x(last[0])},${y(0)}Z` }));
        picture.append(svg('path', { class: `line ${tone}`, d: `M${path}` }));
      }
    });

    if (read && this.#at !== null) {
      picture.append(
        svg('line', { class: 'hair', x1: x(read.at), x2: x(read.at), y1: MARGIN.top, y2: MARGIN.top + inner.height }),
      );
    }
    lines.forEach(({ tone }, i) => {
      const value = read?.values[i];
      if (read && value != null && read.at >= from)
        picture.append(svg('circle', { class: `dot ${tone}`, cx: x(read.at), cy: y(value), r: 3.5 }));
    });
    return picture;
  }
}

customElements.define('hub-chart', HubChart);

/** A line's points, apart where there is a gap. @param {Point[]} points @param {number} line */
function pieces(points, line) {
  /** @type {[number, number][][]} */
  const all = [];
  let last = -Infinity;
  for (const { at, values } of points) {
    const value = values[line];
    if (value == null) continue;
    if (at - last > GAP_MS) all.push([]);
    all[all.length - 1].push([at, value]);
    last = at;
  }
  return all;
}

/** The least of 1, 2, 4, 5 and 10 by a power of ten that is not below: its half is as round. @param {number} value */
export function ceiling(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 4, 5, 10].find((step) => step * power >= value) ?? 10) * power;
}

const round = (/** @type {number} */ value) => Math.round(value * 10) / 10;
export const shortNumber = (/** @type {number} */ value) =>
  new Intl.NumberFormat(locale(), { notation: 'compact', maximumFractionDigits: 1 }).format(value);
const minute = (/** @type {number} */ at) =>
  new Date(at).toLocaleTimeString(locale(), { hour12: false, hour: '2-digit', minute: '2-digit' });
