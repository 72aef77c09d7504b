// Keys that work everywhere on the page. None is a single letter, so none is in the way of typing or of a screen reader.

/** `acts`: `stop`, `create`, `retry`, `dashboard`, `settings`. */
export function listenForKeys(acts) {
  const withAlt = { KeyN: acts.create, KeyR: acts.retry, KeyD: acts.dashboard, Comma: acts.settings };
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      acts.stop();
      return;
    }
    const act = event.altKey && !event.ctrlKey && !event.metaKey && !event.shiftKey && withAlt[event.code];
    if (!act) return;
    event.preventDefault(); // Option and a letter would type a sign on a Mac
    act();
  });
}
