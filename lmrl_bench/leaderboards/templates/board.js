"use strict";
// Sortable tables: a click on a heading sorts by its column, a second click the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const original = [...table.tBodies[0].rows];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = { none: "descending", descending: "ascending", ascending: "none" };
      const next = order[head.getAttribute("aria-sort") || "none"];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== "none") head.setAttribute("aria-sort", next);
      table.tBodies[0].append(...(next === "none" ? original : sorted(original, column, next)));
    });
  });
}

function sorted(rows, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  return [...rows].sort((first, second) => {
    const a = key(first);
    const b = key(second);
    if (a === "" || b === "") return (a === "") - (b === ""); // what was not measured goes last
    const numbers = [Number(a), Number(b)];
    return sign * (numbers.some(Number.isNaN) ? a.localeCompare(b) : numbers[0] - numbers[1]);
  });
}

// Sample viewer: one prompt at a time; without JavaScript all of them are shown.
for (const viewer of document.querySelectorAll(".viewer")) {
  const samples = [...viewer.querySelectorAll(".sample")];
  const label = document.createElement("label");
  const select = document.createElement("select");
  samples.forEach((sample, index) => {
    const start = sample.dataset.prompt.replace(/\s+/g, " ").slice(0, 60);
    select.append(new Option(`${index + 1} of ${samples.length}: ${start}…`, index));
  });
  const show = () => samples.forEach((sample, i) => { sample.hidden = i !== Number(select.value); });
  select.addEventListener("change", show);
  label.append("Prompt ", select);
  viewer.prepend(label);
  show();
}
