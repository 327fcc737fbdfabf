// The page reads well without this: it adds the theme switch, the place in the contents, and
// tables that sort, opens folded code that a link points into, and prints folded tables whole.
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
  // At each scroll, since an observer would miss the headings that a jump passes over.
  let waiting = false;
  const later = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      mark();
    });
  };
  addEventListener("scroll", later, { passive: true });
  addEventListener("resize", later);
  mark();
}

// Scrolls the list alone: scrollIntoView would take the page with it.
function keepVisible(box, link) {
  const [outer, inner] = [box.getBoundingClientRect(), link.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) {
    box.scrollTop += inner.top - outer.top - outer.height / 2;
  }
}

// Anybody can write an address, such as one that ends in "#100%", which is no encoding.
function targetOf(hash) {
  try {
    return document.getElementById(decodeURIComponent(hash.slice(1)));
  } catch {
    return null;
  }
}

function openFor(hash) {
  const target = targetOf(hash);
  const code = target?.closest("details") ?? target?.querySelector(":scope > details.code");
  code?.setAttribute("open", "");
}

// The same link again changes no hash, and what it leads to may have been folded meanwhile.
function openWhatLinksLeadTo() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link) openFor(link.hash);
  });
}

function printLongTablesWhole() {
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details.rows:not([open])")];
    folded.forEach((details) => (details.open = true));
  });
  addEventListener("afterprint", () => folded.forEach((details) => (details.open = false)));
}

const MISSING = /^[\s\u2013]*$/;
const NUMBER = /^[+-]?(\d|\.\d)/;
const asNumber = (text) => text.replace("\u2212", "-").replaceAll(",", "");

// Compare cells as numbers where all of the column begin with one, and as words otherwise.
function comparison(texts) {
  const numbers = texts.filter((text) => !MISSING.test(text)).map(asNumber);
  if (numbers.every((text) => NUMBER.test(text))) {
    return (a, b) => parseFloat(asNumber(a)) - parseFloat(asNumber(b));
  }
  return new Intl.Collator("en", { numeric: true }).compare;
}

// Order by a column; what is missing comes last either way, and equal rows keep their order.
function sortRows(rows, column, direction) {
  const text = (row) => row.cells[column].textContent.trim();
  const compare = comparison(rows.map(text));
  const missing = (row) => MISSING.test(text(row));
  return rows.toSorted(
    (a, b) => missing(a) - missing(b) || direction * (missing(a) ? 0 : compare(text(a), text(b)))
  );
}

// A header sorts upwards, then downwards, then as the table was.
function makeSortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const next = { ascending: "descending", descending: null };
  heads.forEach((head, column) => {
    if (!head.textContent.trim() || head.querySelector("a")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const state = head.ariaSort in next ? next[head.ariaSort] : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (state) head.setAttribute("aria-sort", state);
      const sorted = state ? sortRows(rows, column, state === "ascending" ? 1 : -1) : rows;
      body.append(...sorted);
    });
  });
}

function makeTablesSortable() {
  for (const table of document.querySelectorAll("main table")) {
    const plain = table.tHead?.rows.length === 1 && table.tBodies[0]?.rows.length > 1;
    if (plain && !table.querySelector("[rowspan], [colspan]")) makeSortable(table);
  }
}

// What fits its box needs no stop for the keyboard; what does not fades where there is more.
function markWhatScrolls() {
  const adapt = (box) => {
    const hidden = box.scrollWidth - box.clientWidth;
    if (hidden > 0) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
    box.classList.toggle("more", hidden - box.scrollLeft > 1);
  };
  const observer = new ResizeObserver((entries) => entries.forEach(({ target }) => adapt(target)));
  for (const box of document.querySelectorAll(".scroll, .equation")) {
    observer.observe(box);
    box.addEventListener("scroll", () => adapt(box), { passive: true });
  }
}

document.documentElement.classList.add("scripted"); // shows the tools in place of still pictures
applyTheme(storedTheme()); // before the body is drawn, so that nothing flashes
document.addEventListener("DOMContentLoaded", () => {
  addThemeSwitch();
  foldContentsWhereNarrow();
  followReader();
  makeTablesSortable();
  markWhatScrolls();
  printLongTablesWhole();
  openFor(location.hash);
  openWhatLinksLeadTo();
  addEventListener("hashchange", () => openFor(location.hash));
});
