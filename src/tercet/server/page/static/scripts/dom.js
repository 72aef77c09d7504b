// Elements without markup: every text on the page becomes a text node, so nothing that a model or a user
// wrote is ever parsed as HTML. (The page's policy forbids innerHTML as well.)

/** An element with its properties, `aria-*`/`data-*`/`role` attributes, `on...` handlers and children. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.includes("-") && name !== "list") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export const byId = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

// 24 x 24, stroked with the colour of the text around.
const PATHS = {
  send: "M12 19V5M5.5 11.5 12 5l6.5 6.5",
  stop: "M7 7h10v10H7z",
  edit: "M4 20h4L19 9l-4-4L4 16zM13.5 6.5l4 4",
  retry: "M20 11a8 8 0 1 0-2.3 6.2M20 4v7h-7",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  done: "M5 12.5 10 17.5 19.5 7",
  previous: "M14.5 6 8.5 12l6 6",
  next: "M9.5 6l6 6-6 6",
  remove: "M5 7h14M10 7V4.5h4V7M7 7l1 13h8l1-13",
  rename: "M4 20h16M14 4h4M16 4v12M14 16h4",
  down: "M12 5v14M5.5 12.5 12 19l6.5-6.5",
};

/** An icon, hidden from screen readers: the button around it carries the name. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button that shows only an icon; its name is read aloud and shown on hover. */
export function iconButton(name, label, onclick, properties = {}) {
  return element(
    "button",
    { type: "button", className: "icon-button", title: label, "aria-label": label, onclick, ...properties },
    icon(name),
  );
}
