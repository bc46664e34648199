"use strict";
// The table of classes: sorted by its heads, searched by name, rows made as they are scrolled to.
(() => {
  const STEP = 100;
  const classes = JSON.parse(document.getElementById("class-data").textContent);
  const table = document.getElementById("classes");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  const DIGITS = [null, 0, 1, 1, 1, 1, 2];
  let shown = classes;
  let drawn = 0;
  let sorted = { column: 2, down: true };

  const make = (tag, text, parent) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };

  const written = (value, column) =>
    value === null ? "\u2013" : value.toLocaleString("en", {
      minimumFractionDigits: DIGITS[column], maximumFractionDigits: DIGITS[column],
    });

  const makeRow = (entry) => {
    const row = make("tr");
    row.tabIndex = 0;
    row.entry = entry;
    make("th", entry[0], row).scope = "row";
    for (let column = 1; column <= 6; column += 1) {
      const text = written(entry[column], column);
      if (column !== 2) {
        make("td", text, row);
        continue;
      }
      const cell = make("td", undefined, row);
      cell.className = "ap";
      const line = make("div", undefined, cell);
      make("span", text, line);
      const bar = make("span", undefined, line);
      bar.className = "bar";
      make("i", undefined, bar).style.width = `${entry[2]}%`;
    }
    return row;
  };

  const drawMore = () => {
    body.append(...shown.slice(drawn, drawn + STEP).map(makeRow));
    drawn = Math.min(drawn + STEP, shown.length);
  };

  const start = () => {
    const words = search.value.trim().toLowerCase();
    shown = classes.filter((entry) => entry[0].toLowerCase().includes(words));
    const { column, down } = sorted;
    const compare = (a, b) => {
      if (column === 0) return a[0].localeCompare(b[0]);
      return (a[column] ?? -1) - (b[column] ?? -1);
    };
    shown.sort((a, b) => (down ? compare(b, a) : compare(a, b)));
    body.replaceChildren();
    document.getElementById("box").scrollTop = 0;
    drawn = 0;
    drawMore();
    count.textContent = shown.length === classes.length
      ? `${classes.length.toLocaleString("en")} classes; a row opens its curves`
      : `${shown.length.toLocaleString("en")} of ${classes.length.toLocaleString("en")} classes`;
    heads.forEach((head, at) => {
      if (at === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  };

  heads.forEach((head, column) => {
    const button = make("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = sorted.column === column ? !sorted.down : column > 0;
      sorted = { column, down };
      start();
    });
  });
  search.addEventListener("input", start);

  // The curves of one class.
  const shape = (kind, parent, attributes, text) => {
    const element = document.createElementNS("http" + "://www.w3.org/2000/svg", kind);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const LEFT = 42;
  const RIGHT = 312;
  const TOP = 10;
  const BOTTOM = 150;
  const across = (share) => LEFT + share * (RIGHT - LEFT);
  const up = (share) => BOTTOM - share * (BOTTOM - TOP);

  const plot = (parent, title, xName, yName, ticks) => {
    const figure = make("figure", undefined, parent);
    const svg = shape("svg", figure, { viewBox: "0 0 320 188", role: "img", "aria-label": title });
    ticks.forEach(([share, text]) => {
      shape("path", svg, { d: `M${LEFT} ${up(share)}H${RIGHT}`, stroke: "var(--line)" });
      shape("text", svg, { x: LEFT - 5, y: up(share) + 4, "text-anchor": "end" }, text);
    });
    [0, 0.5, 1].forEach((share) => {
      shape("text", svg, { x: across(share), y: BOTTOM + 14, "text-anchor": "middle" }, share);
    });
    shape("text", svg, { x: across(0.5), y: BOTTOM + 30, "text-anchor": "middle" }, xName);
    const turned = { transform: `translate(9 ${up(0.5)}) rotate(-90)`, "text-anchor": "middle" };
    shape("text", svg, turned, yName);
    make("figcaption", title, figure);
    return svg;
  };

  const drawCurve = (parent, points) => {
    const ticks = [[0, "0"], [0.5, "0.5"], [1, "1"]];
    const svg = plot(parent, "Precision against recall, interpolated", "recall", "precision", ticks);
    const path = points.map((value, at) => `${across(at / 10)} ${up(value / 100)}`).join("L");
    const line = { d: `M${path}`, fill: "none", stroke: "var(--blue)", "stroke-width": 2 };
    shape("path", svg, line);
  };

  const drawHistogram = (parent, [other, own]) => {
    const most = Math.max(...other, ...own, 1);
    const height = (value) => Math.log1p(value) / Math.log1p(most);
    const ticks = [[0, "0"], [1, String(most)]];
    const title = "Pictures by score: solid without the class, dashed with it (log scale)";
    const svg = plot(parent, title, "score", "pictures", ticks);
    const steps = (values) => values.map((value, at) =>
      `${at ? "L" : "M"}${across(at / 10)} ${up(height(value))}H${across((at + 1) / 10)}`).join("");
    const line = { fill: "none", "stroke-width": 2 };
    shape("path", svg, { ...line, d: steps(other), stroke: "var(--vermilion)" });
    const dashed = { stroke: "var(--blue)", "stroke-dasharray": "6 3" };
    shape("path", svg, { ...line, ...dashed, d: steps(own) });
  };

  const toggle = (row) => {
    const next = row.nextElementSibling;
    if (next && next.className === "detail") {
      next.remove();
      return;
    }
    const detail = make("tr");
    detail.className = "detail";
    const cell = make("td", undefined, detail);
    cell.colSpan = 7;
    const both = make("div", undefined, cell);
    if (row.entry[7].length) drawCurve(both, row.entry[7]);
    drawHistogram(both, row.entry[8]);
    row.after(detail);
  };
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && row.entry) toggle(row);
  });
  body.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.entry) return;
    toggle(event.target);
  });

  document.getElementById("tools").hidden = false;
  table.classList.add("live");
  start();
  const box = document.getElementById("box");
  const end = make("div", undefined, box);
  end.style.height = "1px";
  new IntersectionObserver((seen) => {
    if (seen.some((part) => part.isIntersecting) && drawn < shown.length) drawMore();
  }, { root: box.classList.contains("box") ? box : null, rootMargin: "600px" }).observe(end);
})();
