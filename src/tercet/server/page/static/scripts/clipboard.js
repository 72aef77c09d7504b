// Copying, also where the clipboard API is missing: a page served over plain HTTP to another machine.

import { element } from "./dom.js";

/** Copies a text; returns whether it went well. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const area = element("textarea", { value: text, className: "visually-hidden", tabIndex: -1 });
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return copied;
}
