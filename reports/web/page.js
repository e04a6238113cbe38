"use strict";

/* The switch between a light ground, a dark one, and the system's. */
(() => {
  const root = document.documentElement;
  const field = document.querySelector(".ground");
  const inputs = [...field.querySelectorAll("input")];
  const remember = (value) => {
    try {
      if (value === "system") localStorage.removeItem("loadahead-ground");
      else localStorage.setItem("loadahead-ground", value);
    } catch { /* where storage is not allowed the choice holds until the page is left */ }
  };
  const chosen = root.dataset.ground ?? "system";
  for (const input of inputs) {
    input.checked = input.value === chosen;
    input.addEventListener("change", () => {
      if (input.value === "system") delete root.dataset.ground;
      else root.dataset.ground = input.value;
      remember(input.value);
    });
  }
  field.hidden = false;
})();

/* Tables sort by a header's button: numbers by their values, what is no number last. */
(() => {
  const valueOf = (cell) => (cell.dataset.value === undefined ? null : Number(cell.dataset.value));
  const compare = (a, b) => {
    const [x, y] = [valueOf(a), valueOf(b)];
    if (x !== null && y !== null) return x === y ? 0 : x - y;
    if (x !== null || y !== null) return 0;
    return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  };
  const isLast = (cell) => valueOf(cell) === null;
  const sort = (header) => {
    const table = header.closest("table");
    const body = table.tBodies[0];
    const place = header.cellIndex;
    const down = header.getAttribute("aria-sort") === "ascending";
    const rows = [...body.rows];
    const hasNumbers = rows.some((row) => !isLast(row.cells[place]));
    rows.sort((one, other) => {
      const [a, b] = [one.cells[place], other.cells[place]];
      if (hasNumbers && isLast(a) !== isLast(b)) return isLast(a) ? 1 : -1;
      return down ? compare(b, a) : compare(a, b);
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  };
  for (const button of document.querySelectorAll("table.sortable th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }
})();

/* The table of contents: a folded one closes when it has led somewhere, the other marks where the reader is. */
(() => {
  const folded = document.querySelector(".contents");
  folded.addEventListener("click", (event) => {
    if (event.target.closest("a")) folded.open = false;
  });
  folded.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !folded.open) return;
    folded.open = false;
    folded.querySelector("summary").focus();
  });
  const links = [...document.querySelectorAll(".side a")];
  const targets = links.map((link) => document.getElementById(link.hash.slice(1)));
  let waiting = false;
  const mark = () => {
    waiting = false;
    const here = targets.findLastIndex((target) => target && target.getBoundingClientRect().top < 120);
    links.forEach((link, place) => {
      if (place === here) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  };
  addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(mark);
    waiting = true;
  }, { passive: true });
  mark();
})();
