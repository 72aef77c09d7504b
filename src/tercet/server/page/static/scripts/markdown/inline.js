// Emphasis, code and links inside a line, as DOM nodes.
//
// Images are never loaded: an answer could carry the conversation away in the address of one. They become their
// description. Links keep only http, https and mailto, show where they lead, and open without telling from where.
//
// Every pattern looks at most some thousand characters ahead, so that a text made to be slow is not.

import { element } from "../dom.js";

const RULES = [
  { pattern: /(`{1,9})(?!`)([\s\S]{0,2000}?[^`])\1(?!`)/y, make: ([, , code]) => element("code", { dir: "auto" }, trimmed(code)) },
  { pattern: /!\[([^\]\n]{0,500})\]\([^)\n]{0,2000}\)/y, make: ([, text]) => element("span", { className: "no-image" }, `[image: ${text || "no description"}]`) },
  { pattern: /\[([^\]\n]{1,500})\]\(\s{0,9}<?([^\s<>()]{1,2000})>?(?:\s{1,9}"[^"\n]{0,500}")?\s{0,9}\)/y, make: ([, text, address], depth) => link(inline(text, depth + 1), address) },
  { pattern: /<?(https?:\/\/[^\s<>"'`]{1,2000}[^\s<>"'`.,:;!?)\]])>?/y, make: ([, address]) => link([address], address) },
  { pattern: /\*\*(?=\S)([\s\S]{0,2000}?\S)\*\*(?!\*)/y, make: ([, text], depth) => element("strong", {}, ...inline(text, depth + 1)) },
  { pattern: /__(?=\S)([\s\S]{0,2000}?\S)__(?![\p{L}\p{N}_])/yu, wordStart: true, make: ([, text], depth) => element("strong", {}, ...inline(text, depth + 1)) },
  { pattern: /~~(?=\S)([\s\S]{0,2000}?\S)~~/y, make: ([, text], depth) => element("s", {}, ...inline(text, depth + 1)) },
  { pattern: /\*(?=[^\s*])([\s\S]{0,2000}?[^\s*])\*(?!\*)/y, make: ([, text], depth) => element("em", {}, ...inline(text, depth + 1)) },
  { pattern: /_(?=[^\s_])([\s\S]{0,2000}?[^\s_])_(?![\p{L}\p{N}_])/yu, wordStart: true, make: ([, text], depth) => element("em", {}, ...inline(text, depth + 1)) },
];

const SPECIAL = /[\\`![<h*_~\n]/g;
const MAX_DEPTH = 6;
const MAX_MARKED = 20_000; // a paragraph longer than this is shown as plain text: patterns are not linear

/** The nodes of a text: strings and elements, in order. */
export function inline(text, depth = 0) {
  if (depth > MAX_DEPTH || text.length > MAX_MARKED) return [text];
  const nodes = [];
  let plainFrom = 0;
  let at = 0;
  const flush = (to) => to > plainFrom && nodes.push(text.slice(plainFrom, to));
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const found = SPECIAL.exec(text);
    if (!found) break;
    at = found.index;
    const special = specialAt(text, at, depth);
    if (!special) {
      at += 1;
      continue;
    }
    flush(at);
    nodes.push(special.node);
    at += special.length;
    plainFrom = at;
  }
  flush(text.length);
  return nodes;
}

function specialAt(text, at, depth) {
  if (text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) return { node: text[at + 1], length: 2 };
  if (text[at] === "\n") return { node: element("br"), length: 1 };
  for (const { pattern, make, wordStart } of RULES) {
    if (wordStart && /[\p{L}\p{N}]/u.test(text[at - 1] ?? "")) continue;
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) return { node: make(match, depth), length: match[0].length };
  }
  return null;
}

const trimmed = (code) => (/^ .* $/s.test(code) && code.trim() ? code.slice(1, -1) : code);

function link(content, address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return element("span", {}, ...content);
  }
  if (!["http:", "https:", "mailto:"].includes(url.protocol)) return element("span", {}, ...content);
  const properties = { href: url.href, title: url.href, target: "_blank", rel: "noopener noreferrer nofollow" };
  return element("a", properties, ...content);
}
