// Reads the examples in the pages of docs/, so that the tests run what the pages print.

import { readFileSync } from 'node:fs';

const read = (page) => readFileSync(new URL(`../../docs/${page}`, import.meta.url), 'utf8');

/** The text of a file that a page prints. Its name stands alone above its block: `dots.html`: */
export function printedFile(page, name) {
  const [, text] = read(page).match(new RegExp(`^\`${name}\`:\n\n\`\`\`\\w+\n([^]*?)^\`\`\`$`, 'm')) ?? [];
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
