// The list of conversations, and its drawer on narrow screens.

import { notify } from "./announcer.js";
import { byId, element, iconButton } from "./dom.js";

export class Sidebar {
  /** `current()` tells the conversation that is shown; `opened(id)` is asked to show another. */
  constructor(library, answers, { current, opened }) {
    Object.assign(this, { library, answers, current, opened });
    this.list = byId("conversations");
    library.addEventListener("change", () => this.draw());
    byId("export").addEventListener("click", () => this.#export());
    this.drawer = new Drawer();
  }

  draw() {
    const shown = this.current();
    const rows = this.library.list().map((conversation) => ({
      conversation,
      isShown: conversation === shown,
      runs: this.answers.isRunning(conversation),
    }));
    const signature = JSON.stringify(rows.map(({ conversation: { id, title }, isShown, runs }) => [id, title, isShown, runs]));
    if (signature === this.signature) return; // keeps the focus of a row while an answer is saved
    this.signature = signature;
    const focused = document.activeElement?.closest("li")?.dataset.id;
    this.list.replaceChildren(...rows.map((row) => this.#row(row)));
    byId("no-conversations").hidden = rows.length > 0;
    if (focused) this.list.querySelector(`[data-id="${CSS.escape(focused)}"] a`)?.focus();
  }

  #row({ conversation, isShown, runs }) {
    const title = conversation.title || "Untitled";
    const link = element(
      "a",
      { href: `#/c/${conversation.id}`, dir: "auto", title, "aria-current": isShown ? "page" : null },
      runs ? element("span", { className: "pulse", title: "an answer is being written" }) : null,
      title,
    );
    const rename = iconButton("rename", `Rename “${title}”`, () => this.#rename(conversation, link));
    const remove = iconButton("remove", `Delete “${title}”`, () => this.#remove(conversation));
    return element("li", { "data-id": conversation.id, className: isShown ? "shown" : "" }, link, rename, remove);
  }

  #rename(conversation, link) {
    const input = element("input", { value: conversation.title, dir: "auto", "aria-label": "Name of the conversation", maxLength: 200 });
    let left = false;
    const leave = (keeps) => {
      if (left) return;
      left = true;
      input.replaceWith(link);
      if (keeps && input.value.trim()) {
        Object.assign(conversation, { title: input.value.trim(), named: true });
        this.library.save(conversation);
      }
      this.list.querySelector(`[data-id="${CSS.escape(conversation.id)}"] a`)?.focus();
    };
    input.addEventListener("blur", () => leave(true));
    input.addEventListener("keydown", (event) => {
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      event.stopPropagation();
      leave(event.key === "Enter");
    });
    link.replaceWith(input);
    input.select();
    input.focus();
  }

  #remove(conversation) {
    this.answers.discard(conversation);
    const wasShown = this.current() === conversation;
    this.library.remove(conversation.id);
    if (wasShown) this.opened(null);
    const undo = () => {
      this.answers.keep(conversation);
      this.library.save(conversation);
      if (wasShown) this.opened(conversation.id);
    };
    notify("The conversation was deleted.", { label: "Undo", onclick: undo });
  }

  #export() {
    const address = URL.createObjectURL(new Blob([this.library.export()], { type: "application/json" }));
    element("a", { href: address, download: "tercet-conversations.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }
}

/** On a narrow screen the sidebar lies over the page, and only one of the two can be used at a time. */
class Drawer {
  constructor() {
    this.sidebar = byId("sidebar");
    this.button = byId("open-sidebar");
    this.narrow = matchMedia("(max-width: 860px)");
    this.narrow.addEventListener("change", () => this.#set(false));
    this.button.addEventListener("click", () => this.#set(true));
    byId("close-sidebar").addEventListener("click", () => this.close());
    byId("backdrop").addEventListener("click", () => this.close());
    this.sidebar.addEventListener("keydown", ({ key }) => key === "Escape" && this.close());
    this.#set(false);
  }

  close() {
    if (!this.narrow.matches || !this.isOpen) return;
    this.#set(false);
    this.button.focus();
  }

  #set(isOpen) {
    this.isOpen = isOpen && this.narrow.matches;
    this.sidebar.classList.toggle("open", this.isOpen);
    this.sidebar.inert = this.narrow.matches && !this.isOpen;
    byId("stage").inert = this.isOpen;
    byId("backdrop").hidden = !this.isOpen;
    this.button.setAttribute("aria-expanded", String(this.isOpen));
    if (this.isOpen) byId("close-sidebar").focus();
  }
}
