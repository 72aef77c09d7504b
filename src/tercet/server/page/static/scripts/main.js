// The page from above: which view and which conversation the address names, and who tells whom.
//
//   #/new            an empty conversation (stored once something is said)
//   #/c/<id>         a conversation
//   #/dashboard      the dashboard

import { notify, say } from "./announcer.js";
import { Answers } from "./answers.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { Dashboard } from "./dashboard/view.js";
import { byId, element } from "./dom.js";
import { Library } from "./library.js";
import { SettingsPanel } from "./settings-panel.js";
import { Settings } from "./settings.js";
import { listenForKeys } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { Transcript } from "./transcript.js";

const SUGGESTIONS = [
  "Once upon a time there was a little dog",
  "Tell me a story about the moon.",
  "Why is the sky blue?",
];

const settings = new Settings();
const library = new Library();
const answers = new Answers(library, settings);
const panel = new SettingsPanel(settings, notify);
const dashboard = new Dashboard(() => settings.key);

let shown = new Conversation();

const transcript = new Transcript(answers, {
  edit: (message, text) => ask(text, shown.messages[message.parent]),
  retry: (message) => answers.answer(shown, shown.messages[message.parent]),
  choose: (message) => {
    shown.choose(message);
    library.save(shown);
    drawChat();
  },
});
const composer = new Composer({
  send: (text) => ask(text, shown.path().at(-1)),
  stop: () => answers.stop(shown),
  editLast: () => transcript.editLastQuestion(),
});
const sidebar = new Sidebar(library, answers, {
  current: () => shown,
  opened: (id) => { location.hash = id === null ? "#/new" : `#/c/${id}`; },
});

function ask(text, parent) {
  const question = shown.add("user", text, parent);
  library.save(shown);
  history.replaceState(null, "", `#/c/${shown.id}`);
  markTabs();
  answers.answer(shown, question);
  transcript.scrollToEnd();
}

function drawChat() {
  transcript.draw();
  composer.setRunning(answers.isRunning(shown));
  const last = shown.path().findLast(({ usage }) => usage);
  composer.showModel(settings.model, last?.usage, panel.contexts?.get(last?.model));
  sidebar.draw();
}

// Routes ---------------------------------------------------------------------------------------------

function markTabs() {
  const onDashboard = location.hash === "#/dashboard";
  byId("tab-chat").setAttribute("aria-current", onDashboard ? "false" : "page");
  byId("tab-dashboard").setAttribute("aria-current", onDashboard ? "page" : "false");
  byId("tab-chat").href = shown.isEmpty ? "#/new" : `#/c/${shown.id}`;
  return onDashboard;
}

function route() {
  const [, kind, id] = location.hash.split("/");
  if (kind === "c" && id !== shown.id) {
    const found = library.open(id);
    if (!found) {
      notify("That conversation is not in this browser.");
      location.replace("#/new");
      return;
    }
    shown = found;
  } else if (kind !== "c" && kind !== "dashboard" && !shown.isEmpty) {
    shown = new Conversation();
  }
  const onDashboard = markTabs();
  byId("chat").hidden = onDashboard;
  byId("dashboard").hidden = !onDashboard;
  byId("skip").hidden = onDashboard;
  dashboard.setShown(onDashboard);
  sidebar.drawer.close();
  if (onDashboard) {
    document.title = "Dashboard – Tercet";
    sidebar.draw();
    return;
  }
  document.title = shown.title ? `${shown.title} – Tercet` : "Tercet";
  if (transcript.conversation !== shown) transcript.show(shown);
  drawChat();
  if (matchMedia("(hover: hover)").matches) composer.focus(); // on a phone it would open the keyboard
}

// Who tells whom -------------------------------------------------------------------------------------

answers.addEventListener("start", ({ detail }) => {
  if (detail.conversation !== shown) return;
  drawChat();
  transcript.scrollToEnd();
  say("Writing an answer.");
});
answers.addEventListener("progress", ({ detail }) => {
  if (detail.conversation === shown) transcript.progress(detail.message);
});
answers.addEventListener("end", ({ detail: { conversation, message } }) => {
  sidebar.draw();
  if (conversation !== shown) return;
  drawChat();
  say(message.state === "failed" ? message.error : message.content || "The answer is empty.");
  if (message.status === 401) byId("settings").showModal();
});
answers.addEventListener("storage-full", () => {
  notify("The browser's storage is full: this conversation is not kept. Delete others to make room.");
});
library.addEventListener("change", () => transcript.conversation && !answers.isRunning(shown) && transcript.draw());
addEventListener("hashchange", route);
addEventListener("beforeunload", (event) => answers.isRunning(shown) && event.preventDefault());

byId("open-settings").addEventListener("click", () => byId("settings").showModal());
byId("show-help").addEventListener("click", () => byId("help").showModal());
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // the backdrop
}
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the conversation
  composer.focus();
});
byId("suggestions").append(...SUGGESTIONS.map((text) =>
  element("li", {}, element("button", { type: "button", className: "suggestion", onclick: () => ask(text) }, text))));
listenForKeys({
  stop: () => answers.stop(shown),
  create: () => { location.hash = "#/new"; },
  retry: () => {
    const last = shown.path().at(-1);
    if (last?.role === "assistant") answers.answer(shown, shown.messages[last.parent]);
  },
  dashboard: () => { location.hash = location.hash === "#/dashboard" ? byId("tab-chat").hash : "#/dashboard"; },
  settings: () => byId("settings").showModal(),
});

settings.addEventListener("change", drawChat);

// Models come and go while the server runs, and at its start there is none yet.
let names = null;
dashboard.feed.addEventListener("change", () => {
  const now = dashboard.feed.latest?.models.map(({ name }) => name).join("\n");
  if (now === undefined || now === names) return;
  names = now;
  panel.loadModels();
});

route();
panel.loadModels();
