"use strict";
// Tables: sorted by their heads, and long ones searched by the first column.
document.querySelectorAll(".table").forEach((part) => {
  const { tBodies, tHead } = part.querySelector("table");
  const rows = [...tBodies[0].rows];
  const heads = [...tHead.rows[0].cells];
  const collator = new Intl.Collator("en");

  heads.forEach((head, column) => {
    if (rows[0]?.cells[column].querySelector(".spark")) return;
    const isNumber = head.className === "number";
    const text = (row) => row.cells[column].textContent;
    const number = (row) => {
      const value = Number.parseFloat(text(row).replaceAll(",", ""));
      return Number.isNaN(value) ? -Number.MAX_VALUE : value;
    };
    const compare = isNumber
      ? (a, b) => number(a) - number(b)
      : (a, b) => collator.compare(text(a), text(b));
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sorted = head.getAttribute("aria-sort");
      const down = sorted ? sorted === "ascending" : isNumber;
      tBodies[0].append(...[...rows].sort((a, b) => (down ? compare(b, a) : compare(a, b))));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });

  const tools = part.querySelector(".tools");
  if (!tools) return;
  const [search, status] = tools.querySelectorAll("input, span");
  const filter = () => {
    const words = search.value.trim().toLowerCase();
    rows.forEach((row) => {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(words);
    });
    const shown = rows.filter((row) => !row.hidden).length.toLocaleString("en");
    const all = rows.length.toLocaleString("en");
    status.textContent = words ? `${shown} of ${all}` : `${all} rows`;
  };
  search.addEventListener("input", filter);
  tools.hidden = false;
  filter();
});
