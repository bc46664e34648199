"use strict";
// Tables: sorted by their heads, and long ones searched by the first column.
document.querySelectorAll(".table").forEach((part) => {
  const table = part.querySelector("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];

  const number = (text) => {
    const value = Number.parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(value) ? -Infinity : value;
  };

  const sort = (column, down) => {
    const isNumber = heads[column].className === "number";
    const entries = rows.map((row) => {
      const text = row.cells[column].textContent;
      return { row, key: isNumber ? number(text) : text };
    });
    const compare = isNumber ? (a, b) => a - b : new Intl.Collator("en").compare;
    entries.sort((a, b) => (down ? compare(b.key, a.key) : compare(a.key, b.key)));
    body.append(...entries.map((entry) => entry.row));
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  };

  heads.forEach((head, column) => {
    if (rows.length && rows[0].cells[column].querySelector(".spark")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sorted = head.getAttribute("aria-sort");
      sort(column, sorted ? sorted === "ascending" : head.className === "number");
    });
  });

  const tools = part.querySelector(".tools");
  if (!tools) return;
  const search = tools.querySelector("input");
  const status = tools.querySelector("span");
  const names = rows.map((row) => row.cells[0].textContent.toLowerCase());
  const filter = () => {
    const words = search.value.trim().toLowerCase();
    let shown = 0;
    rows.forEach((row, index) => {
      row.hidden = !names[index].includes(words);
      shown += !row.hidden;
    });
    const all = rows.length.toLocaleString("en");
    status.textContent = words ? `${shown.toLocaleString("en")} of ${all}` : `${all} rows`;
  };
  search.addEventListener("input", filter);
  tools.hidden = false;
  filter();
});
