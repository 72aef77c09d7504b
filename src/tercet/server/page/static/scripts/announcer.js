// Telling the reader: quietly to screen readers, or as a notice that all can see.

import { byId, element } from "./dom.js";

const SHOWN_MS = 6000;
const SPOKEN_CHARACTERS = 1500;
let timer;

/** Says a text to screen readers only. */
export function say(text) {
  byId("announcement").textContent = text.length > SPOKEN_CHARACTERS ? `${text.slice(0, SPOKEN_CHARACTERS)}…` : text;
}

/** Shows a notice for a few seconds, perhaps with one thing to do about it: `{label, onclick}`. */
export function notify(text, action) {
  const notice = byId("notice");
  clearTimeout(timer);
  const act = () => {
    notice.replaceChildren();
    action.onclick();
  };
  const button = action && element("button", { type: "button", className: "text-button", onclick: act }, action.label);
  notice.replaceChildren(element("p", { dir: "auto" }, text), ...(button ? [button] : []));
  timer = setTimeout(() => notice.replaceChildren(), SHOWN_MS);
}
