// The page reads well without this: it adds the theme switch, the place in the contents, and
// opens folded code that a link points into.
"use strict";

const THEMES = ["automatic", "light", "dark"];

function storedTheme() {
  try {
    const theme = localStorage.getItem("theme");
    return THEMES.includes(theme) ? theme : THEMES[0];
  } catch {
    return THEMES[0]; // storage may be barred, for one in private windows
  }
}

function applyTheme(theme) {
  if (theme === THEMES[0]) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // The choice then holds for this visit alone.
  }
}

function addThemeSwitch() {
  const button = document.querySelector("button.theme");
  let theme = storedTheme();
  const label = () => (button.textContent = `Theme: ${theme}`);
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    applyTheme(theme);
    label();
  });
  label();
  button.hidden = false;
}

function foldContentsWhereNarrow() {
  const wide = matchMedia("(min-width: 64rem)");
  const contents = document.querySelector(".contents details");
  const adapt = () => (contents.open = wide.matches);
  wide.addEventListener("change", adapt);
  adapt();
}

function followReader() {
  const contents = document.querySelector(".contents");
  const links = new Map(
    [...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link])
  );
  const headings = [...links.keys()].map((id) => document.getElementById(id));
  let current;
  const mark = () => {
    const passed = headings.filter((h) => h.getBoundingClientRect().top < innerHeight / 3);
    const link = links.get(passed.at(-1)?.id);
    if (link === current) return;
    current?.removeAttribute("aria-current");
    link?.setAttribute("aria-current", "true");
    current = link;
    if (link && matchMedia("(min-width: 64rem)").matches) keepVisible(contents, link);
  };
  const observer = new IntersectionObserver(mark, { rootMargin: "0px 0px -66.6% 0px" });
  headings.forEach((heading) => observer.observe(heading));
  mark();
}

// Scrolls the list alone: scrollIntoView would take the page with it.
function keepVisible(box, link) {
  const [outer, inner] = [box.getBoundingClientRect(), link.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) {
    box.scrollTop += inner.top - outer.top - outer.height / 2;
  }
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const code = target?.closest("details") ?? target?.querySelector(":scope > details.code");
  code?.setAttribute("open", "");
}

applyTheme(storedTheme()); // before the body is drawn, so that nothing flashes
document.addEventListener("DOMContentLoaded", () => {
  addThemeSwitch();
  foldContentsWhereNarrow();
  followReader();
  openTarget();
  addEventListener("hashchange", openTarget);
});
