"use strict";
// Filters, sorting and marks. Without it the page reads the same.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, text = "", attributes = {}) => {
    const element = document.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const memory = {
    get: (name) => { try { return localStorage.getItem(name); } catch { return null; } },
    set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* a page that may keep nothing */ } },
  };

  // Theme: what the system asks for, or what was chosen here.
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const chosen = memory.get("side_jax theme");
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  const theme = make("button", "", { type: "button", class: "theme" });
  const name = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    memory.set("side_jax theme", root.dataset.theme);
    name();
  });
  name();
  document.querySelector("header").prepend(theme);

  // On a narrow screen a row becomes a list, and every cell needs its heading.
  root.dataset.scripted = "";
  for (const table of all("table")) {
    const headings = all("thead tr:last-child th", table).map((heading) => heading.textContent.trim());
    for (const row of all("tbody tr, tfoot tr", table)) {
      [...row.cells].forEach((cell, column) => { if (headings[column]) cell.dataset.heading = headings[column]; });
    }
  }

  // Tables: a click on a heading sorts by it.
  const value = (cell) => {
    const text = cell ? cell.textContent.trim() : "";
    const number = text.replace(/,/g, "").match(/-?\d+(\.\d+)?(e-?\d+)?/i);
    const below = text.includes("<") ? -1e-9 : 0; // p < 0.001 comes before p = 0.001
    return { text, number: number && /^[^a-z]*\d|^p /i.test(text) ? Number(number[0]) + below : null };
  };
  const compare = (a, b) => {
    if (a.number !== null && b.number !== null) return a.number - b.number;
    if (a.number !== null || b.number !== null) return a.number === null ? 1 : -1;
    return a.text.localeCompare(b.text);
  };
  for (const table of all("table")) {
    const body = table.tBodies[0];
    const headings = all("thead tr:last-child th", table);
    if (!headings.length || body.rows.length < 2 || all("td[colspan]", body).length) continue;
    headings.forEach((heading, column) => {
      const button = make("button", "", { type: "button" });
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
        rows.sort(([a], [b]) => (down ? -1 : 1) * compare(a, b));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // A click on a photo at risk opens the images that found it.
  for (const row of all("tr")) {
    const more = row.querySelector("details");
    const photo = row.querySelector("td > img");
    if (!more || !photo) continue;
    photo.style.cursor = "pointer";
    photo.addEventListener("click", () => { more.open = !more.open; });
  }
  addEventListener("beforeprint", () => all("details").forEach((more) => { more.open = true; }));

  // Contact sheets: filters and marks.
  const sheets = document.getElementById("sheets");
  if (!sheets) return;
  const pairs = all(".sheet .pair", sheets);
  const key = (pair) => `${pair.dataset.scale} ${pair.dataset.index}`;
  const store = `side_jax marks ${document.body.dataset.run}`;
  const marks = JSON.parse(memory.get(store) || "{}");

  const tools = make("div", "", { class: "tools", role: "group", "aria-label": "Filter and mark the pairs" });
  const filters = {};
  for (const [field, label] of [["band", "Band"], ["set", "Set"], ["class", "Class"]]) {
    const values = [...new Set(pairs.map((pair) => pair.dataset[field]))].filter((one) => one !== "");
    if (values.length < 2) continue;
    values.sort((a, b) => compare(value({ textContent: a }), value({ textContent: b })));
    const select = make("select", "", { "aria-label": label });
    select.append(make("option", "all", { value: "" }), ...values.map((one) => make("option", one, { value: one })));
    const holder = make("label", label);
    holder.append(select);
    tools.append(holder);
    filters[field] = (pair) => !select.value || pair.dataset[field] === select.value;
  }
  const search = make("input", "", { type: "search", placeholder: "part of its id", "aria-label": "Training photo" });
  const holder = make("label", "Training photo");
  holder.append(search);
  filters.photo = (pair) => pair.dataset.photo.toLowerCase().includes(search.value.toLowerCase());
  const shown = make("span", "", { role: "status" });
  const save = make("button", "Save marks as CSV", { type: "button" });
  tools.append(holder, save, shown);
  sheets.querySelector("h2").after(tools);

  const update = () => {
    let count = 0;
    for (const pair of pairs) {
      pair.hidden = !Object.values(filters).every((keeps) => keeps(pair));
      count += !pair.hidden;
      const mark = marks[key(pair)];
      pair.classList.toggle("copy", mark === "keep");
      pair.classList.toggle("chance", mark === "reject");
      for (const button of all("button", pair)) button.setAttribute("aria-pressed", String(mark === button.dataset.mark));
    }
    shown.textContent = `${count} of ${pairs.length} pairs, ${Object.keys(marks).length} marked`;
  };
  for (const pair of pairs) {
    const caption = pair.querySelector("figcaption");
    for (const [mark, text] of [["reject", "no copy"], ["keep", "copy"]]) {
      const label = `${text}: image ${pair.dataset.index} of ${pair.dataset.set}`;
      const button = make("button", text, { type: "button", "data-mark": mark, "aria-label": label });
      button.addEventListener("click", () => {
        if (marks[key(pair)] === mark) delete marks[key(pair)];
        else marks[key(pair)] = mark;
        memory.set(store, JSON.stringify(marks));
        update();
      });
      caption.prepend(button);
    }
  }
  tools.addEventListener("input", update);
  save.addEventListener("click", () => {
    const lines = ["run,scale,index,mark"];
    for (const [name, mark] of Object.entries(marks)) lines.push([document.body.dataset.run, ...name.split(" "), mark].join(","));
    const link = make("a", "", { href: URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" })), download: "marks.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  });
  update();
})();
