// Fewer of many: never more than so many in any second, taken evenly from what came.

/**
 * @template T
 */
export class Sampler {
  /** When what was let through came, the earliest first. @type {number[]} */
  #passed = [];
  /** When everything came. @type {number[]} */
  #came = [];

  /** @param {number} most in a second */
  constructor(most) {
    this.most = most;
  }

  /**
   * What may be shown of what came since the last time.
   *
   * @param {T[]} items
   * @param {number} now
   * @returns {T[]}
   */
  take(items, now) {
    const second = now - 1000;
    this.#passed = this.#passed.filter((at) => at > second);
    this.#came = this.#came.filter((at) => at > second);
    for (let i = 0; i < items.length; i++) this.#came.push(now);
    const room = Math.min(items.length, this.most - this.#passed.length);
    const taken = Array.from({ length: room }, (_, i) => items[Math.floor((i * items.length) / room)]);
    for (let i = 0; i < room; i++) this.#passed.push(now);
    return taken;
  }

  /** How many came in the last second. @param {number} now */
  rate(now) {
    return this.#came.filter((at) => at > now - 1000).length;
  }
}
