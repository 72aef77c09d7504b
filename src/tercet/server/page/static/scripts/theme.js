// Light, dark, or as the system says. This file is no module: it runs before the first paint, so nothing flashes.

(() => {
  const KEY = "tercet.theme";
  const THEMES = ["auto", "light", "dark"];
  let stored = null;
  try {
    stored = localStorage.getItem(KEY);
  } catch {
    // storage may be closed to us; the system's choice holds
  }
  document.documentElement.dataset.theme = THEMES.includes(stored) ? stored : "auto";

  addEventListener("DOMContentLoaded", () => {
    const { dataset } = document.documentElement;
    for (const input of document.querySelectorAll("#themes input")) {
      input.checked = input.value === dataset.theme;
      input.addEventListener("change", () => {
        dataset.theme = input.value;
        try {
          localStorage.setItem(KEY, input.value);
        } catch {
          // the choice then holds until the page is closed
        }
        dispatchEvent(new Event("themechange"));
      });
    }
  });
})();
