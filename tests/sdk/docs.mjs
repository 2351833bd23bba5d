// Reads the examples in the pages of docs/, so that the tests run what the pages print.

import { readFileSync } from 'node:fs';

const read = (page) => readFileSync(new URL(`../../docs/${page}`, import.meta.url), 'utf8');

/** All files that a page prints, in its order: [name, text]. A name stands alone above its block: `dots.html`: */
export const printedFiles = (page) => [...read(page).matchAll(/^`([\w./-]+)`:\n\n```\w+\n([^]*?)^```$/gm)].map(([, name, text]) => [name, text]);

/** The text of a file that a page prints. */
export function printedFile(page, name) {
  const [, text] = printedFiles(page).find(([it]) => it === name) ?? [];
  if (!text) throw new Error(`docs/${page} prints no ${name}`);
  return text;
}

/** The only block of a page in this language that contains `part`. */
export function printedBlock(page, language, part) {
  const found = [...read(page).matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'gm'))].map(([, text]) => text);
  const [text, another] = found.filter((it) => it.includes(part));
  if (!text || another) throw new Error(`docs/${page} does not have exactly one block with ${part}`);
  return text;
}
