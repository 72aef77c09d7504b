// Blocks as elements. While an answer grows only its last blocks change, so the others keep their elements: a long
// answer stays cheap to draw, and text that the reader has selected stays selected.
//
// Every block has dir="auto": a Hebrew paragraph runs from the right beside an English one. Code runs from the left.

import { copyText } from "../clipboard.js";
import { element, icon } from "../dom.js";
import { readBlocks } from "./blocks.js";
import { inline } from "./inline.js";

/** Draws a text into `container`, reusing what is there. */
export function renderMarkdown(container, text) {
  const blocks = readBlocks(text);
  const drawn = container.drawnBlocks ?? [];
  let same = 0;
  while (same < blocks.length && same < drawn.length && drawn[same] === blocks[same].source) same += 1;
  while (container.childNodes.length > same) container.lastChild.remove();
  container.append(...blocks.slice(same).map(draw));
  container.drawnBlocks = blocks.map(({ source }) => source);
}

const DRAW = {
  paragraph: ({ text }) => element("p", { dir: "auto" }, ...inline(text)),
  heading: ({ level, text }) => element(`h${Math.min(level + 2, 6)}`, { dir: "auto" }, ...inline(text)),
  rule: () => element("hr"),
  quote: ({ blocks }) => element("blockquote", { dir: "auto" }, ...blocks.map(draw)),
  list: drawList,
  table: drawTable,
  code: drawCode,
};

const draw = (block) => DRAW[block.kind](block);

function drawList({ start, items }) {
  const drawn = items.map((blocks) => element("li", { dir: "auto" }, ...tight(blocks)));
  return start === null ? element("ul", { dir: "auto" }, ...drawn) : element("ol", { dir: "auto", start }, ...drawn);
}

/** A single paragraph of an item needs no element of its own. */
function tight([first, ...rest]) {
  if (first?.kind !== "paragraph") return (first ? [first, ...rest] : []).map(draw);
  return [...inline(first.text), ...rest.map(draw)];
}

function drawTable({ head, rows }) {
  const row = (tag, texts) => element("tr", {}, ...head.map((_, at) => element(tag, { dir: "auto" }, ...inline(texts[at] ?? ""))));
  const table = element("table", {}, element("thead", {}, row("th", head)), element("tbody", {}, ...rows.map((texts) => row("td", texts))));
  return element("div", { className: "table-frame", tabIndex: 0, role: "group", "aria-label": "Table" }, table);
}

function drawCode({ language, text }) {
  const name = language || "code";
  const label = element("span", { textContent: "Copy" });
  const button = element("button", {
    type: "button",
    className: "copy-code",
    "aria-label": `Copy ${name}`,
    onclick: async () => {
      label.textContent = (await copyText(text)) ? "Copied" : "Not allowed";
      setTimeout(() => { label.textContent = "Copy"; }, 1500);
    },
  }, icon("copy"), label);
  const top = element("div", { className: "code-top" }, element("span", { className: "code-language", textContent: name }), button);
  const body = element("pre", { dir: "ltr", tabIndex: 0, role: "group", "aria-label": `${name} block` }, element("code", { textContent: text }));
  return element("div", { className: "code-frame", dir: "ltr" }, top, body);
}
