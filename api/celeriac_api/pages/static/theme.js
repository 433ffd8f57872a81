// Loaded before the page is drawn, so that a dark room stays dark. The choice is kept in this browser only.

const KEY = "celeriac.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage may be forbidden; the system's choice stands
  }
}

function apply() {
  const theme = chosen() ?? (system.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  dispatchEvent(new CustomEvent("themechange", { detail: theme }));
}

globalThis.toggleTheme = () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try {
    // What the system says anyway is not a choice: it follows the system again.
    if (next === (system.matches ? "dark" : "light")) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // not kept, but shown
  }
  document.documentElement.dataset.theme = next;
  dispatchEvent(new CustomEvent("themechange", { detail: next }));
};

system.addEventListener("change", apply);
apply();
