// Before the page is painted: dark where the system is dark, unless the visitor has chosen (then the server has said it).
(() => {
  const root = document.documentElement;
  root.classList.add("scripts"); // what a button opens is open without them
  if (!root.dataset.bsTheme) {
    root.dataset.bsTheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
})();
