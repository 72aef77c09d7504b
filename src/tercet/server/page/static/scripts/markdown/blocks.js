// The blocks of a text: paragraphs, headings, code, lists, quotes, tables, rules. A useful part of CommonMark, read
// line by line in one pass; what is not recognized stays a paragraph, and nothing is ever lost.

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^( {0,3})([-*+•]|(\d{1,9})[.)])(\s+|$)/;
const QUOTE = /^ {0,3}> ?/;
const DIVIDER = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?$/;
const MAX_DEPTH = 8;
const MAX_COLUMNS = 64; // every row has them all

/** The blocks of a text; each has its `kind` and its `source`, by which an unchanged one is known again. */
export function readBlocks(text, depth = 0) {
  const lines = text.split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [block, end] = readBlock(lines, at, depth);
    blocks.push({ ...block, source: lines.slice(at, end).join("\n") });
    at = end;
  }
  return blocks;
}

function readBlock(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return readCode(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) return [{ kind: "heading", level: heading[1].length, text: withoutClosing(heading[2].trim()) }, at + 1];
  if (RULE.test(line)) return [{ kind: "rule" }, at + 1];
  if (depth < MAX_DEPTH && QUOTE.test(line)) return readQuote(lines, at, depth);
  if (depth < MAX_DEPTH && ITEM.test(line)) return readList(lines, at, depth);
  if (line.includes("|") && DIVIDER.test((lines[at + 1] ?? "").trimEnd())) return readTable(lines, at);
  return readParagraph(lines, at, depth);
}

/** `# Title #` is a title without the second mark. */
function withoutClosing(title) {
  let end = title.length;
  while (title[end - 1] === "#") end -= 1;
  return end === 0 || /\s/.test(title[end - 1]) ? title.slice(0, end).trimEnd() : title;
}

function readCode(lines, at, [, fence, language]) {
  const closing = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) end += 1;
  const text = lines.slice(at + 1, end).join("\n");
  return [{ kind: "code", language, text }, Math.min(end + 1, lines.length)];
}

function readQuote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [{ kind: "quote", blocks: readBlocks(inner.join("\n"), depth + 1) }, end];
}

function readList(lines, at, depth) {
  const [, , , start] = ITEM.exec(lines[at]);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || Boolean(item[3]) !== Boolean(start) || RULE.test(lines[end])) break;
    const inside = [lines[end].slice(item[0].length)];
    const indent = item[0].length;
    end += 1;
    while (end < lines.length && belongs(lines, end, indent)) {
      inside.push(lines[end].replace(new RegExp(`^ {0,${indent}}`), ""));
      end += 1;
    }
    items.push(readBlocks(inside.join("\n").trimEnd(), depth + 1));
    while (end < lines.length && !lines[end].trim() && ITEM.test(lines[end + 1] ?? "")) end += 1;
  }
  return [{ kind: "list", start: start === undefined ? null : Number(start), items }, end];
}

/** Whether a line goes on with the item above: it is indented, or it follows without a blank line and starts nothing. */
function belongs(lines, at, indent) {
  const line = lines[at];
  if (!line.trim()) return /^ {2,}\S/.test(lines[at + 1] ?? "") && indentOf(lines[at + 1]) >= Math.min(indent, 4);
  if (indentOf(line) >= Math.min(indent, 4) || (indentOf(line) >= 2 && ITEM.test(line.trimStart()))) return true;
  return lines[at - 1].trim() !== "" && !startsBlock(line);
}

const indentOf = (line) => line.length - line.trimStart().length;

const startsBlock = (line) => [FENCE, HEADING, RULE, ITEM, QUOTE].some((pattern) => pattern.test(line));

function readTable(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|") && lines[end].trim()) end += 1;
  const [head, , ...rows] = lines.slice(at, end).map(cells);
  if (head.length > MAX_COLUMNS) return [{ kind: "code", language: "", text: lines.slice(at, end).join("\n") }, end];
  return [{ kind: "table", head, rows }, end];
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function readParagraph(lines, at, depth) {
  let end = at + 1;
  const breaks = (line) => startsBlock(line) && !(depth >= MAX_DEPTH && (ITEM.test(line) || QUOTE.test(line)));
  while (end < lines.length && lines[end].trim() && !breaks(lines[end])) end += 1;
  return [{ kind: "paragraph", text: lines.slice(at, end).map((line) => line.trim()).join("\n") }, end];
}
