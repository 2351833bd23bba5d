// Elements of SVG, and the room there is for them. Places and sizes are attributes, for the page allows no inline style.

const NAMESPACE = 'http://www.w3.org/2000/svg';

/**
 * @param {string} tag
 * @param {Record<string, string | number | undefined>} attributes what is undefined is left out
 * @param {(Node | string)[]} children
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** Tells how wide an element is, to whoever draws into it. @param {(width: number) => void} changed */
export function widthObserver(changed) {
  let known = 0;
  return new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width !== known) changed((known = width));
  });
}
