// Sets the theme before the page is drawn, so that it does not flash. The choice is kept in this browser only.

const KEY = "celeriac.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage may be forbidden: then the theme of the system applies
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
    // If the choice equals the theme of the system, follow the system again.
    if (next === (system.matches ? "dark" : "light")) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // storage may be forbidden: the choice lasts until the page is closed
  }
  document.documentElement.dataset.theme = next;
  dispatchEvent(new CustomEvent("themechange", { detail: next }));
};

system.addEventListener("change", apply);
apply();
