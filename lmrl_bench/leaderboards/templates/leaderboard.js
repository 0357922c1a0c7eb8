"use strict";
// The state of the page is its hash: #entries=ppo&only=docs-en-de&sort.leaderboard=3.ascending&task=…&sample=…&at=legend
// A plain #legend is a place, too. Without JavaScript everything is shown and nothing is lost.
const read = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : { at: location.hash.slice(1) });
let state = read();
const set = (changes) => {
  for (const [name, value] of Object.entries(changes)) value ? state.set(name, value) : state.delete(name);
  const text = state.toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
};

// Tables: a click on a heading sorts by its column, a second one the other way round, a third one back.
const tables = [...document.querySelectorAll("table.sortable")].map((table) => {
  const heads = [...table.tHead.rows[0].cells];
  const original = [...table.tBodies[0].rows];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const sorted = (column, sign) => [...original].sort((first, second) => {
    const [a, b] = [key(first, column), key(second, column)];
    if (a === "" || b === "") return (a === "") - (b === ""); // what was not measured goes last
    const numbers = [Number(a), Number(b)];
    return sign * (numbers.some(Number.isNaN) ? a.localeCompare(b) : numbers[0] - numbers[1]);
  });
  const show = () => {
    const [column, direction] = (state.get(`sort.${table.id}`) ?? "").split(".");
    const sign = { ascending: 1, descending: -1 }[direction];
    const valid = sign && heads[column] && !("fixed" in heads[column].dataset);
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    if (valid) heads[column].setAttribute("aria-sort", direction);
    table.classList.toggle("sorted", Boolean(valid));
    table.tBodies[0].append(...(valid ? sorted(Number(column), sign) : original));
  };
  heads.forEach((head, column) => {
    if ("fixed" in head.dataset) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { none: "descending", descending: "ascending", ascending: "" };
      const direction = next[head.getAttribute("aria-sort") ?? "none"];
      set({ [`sort.${table.id}`]: direction && `${column}.${direction}` });
      show();
    });
  });
  return show;
});

// Filter: entries by parts of their names, in tables, plots and completions; tasks by name.
const filter = document.querySelector("form[role=search]");
filter.hidden = false;
const showFilter = () => {
  const parts = (state.get("entries") ?? "").toLowerCase().split(/[\s,]+/).filter(Boolean);
  const only = state.get("only") ?? "";
  const matches = (name) => !parts.length || parts.some((part) => name.toLowerCase().includes(part));
  for (const found of document.querySelectorAll("[data-entry]")) {
    found.toggleAttribute("hidden", !matches(found.dataset.entry));
    if (found instanceof SVGElement) found.style.display = matches(found.dataset.entry) ? "" : "none";
  }
  for (const found of document.querySelectorAll("section[data-task], figure[data-task]")) {
    found.hidden = Boolean(only) && found.dataset.task !== only;
  }
  const rows = [...document.querySelectorAll("#leaderboard tbody tr")];
  filter.querySelector("[role=status]").textContent =
    parts.length || only ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} entries shown` : "";
  filter.entries.value = state.get("entries") ?? "";
  filter.only.value = only;
};
filter.addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("input", () => {
  set({ entries: filter.entries.value, only: filter.only.value });
  showFilter();
});
filter.addEventListener("reset", (event) => {
  event.preventDefault();
  set({ entries: "", only: "" });
  showFilter();
});

// Answers: one prompt at a time.
const viewer = document.querySelector("form.viewer");
const samples = [...document.querySelectorAll(".sample")];
const tasks = [...new Set(samples.map((sample) => sample.dataset.of))];
viewer.task.append(...tasks.map((task) => new Option(task)));
viewer.hidden = samples.length === 0;
const showSample = () => {
  const task = tasks.includes(state.get("task")) ? state.get("task") : tasks[0];
  const ofTask = samples.filter((sample) => sample.dataset.of === task);
  const shown = ofTask.find((sample) => sample.dataset.sample === state.get("sample")) ?? ofTask[0];
  samples.forEach((sample) => { sample.hidden = sample !== shown; });
  const options = ofTask.map((sample, index) => {
    const prompt = sample.querySelector(".quote").textContent.replace(/\s+/g, " ");
    const start = prompt.length > 48 ? `${prompt.slice(0, 47)}…` : prompt;
    return new Option(`${index + 1} of ${ofTask.length}: ${start}`, sample.dataset.sample);
  });
  viewer.sample.replaceChildren(...options);
  viewer.task.value = task;
  viewer.sample.value = shown?.dataset.sample;
};
const turn = (step) => {
  const options = viewer.sample.options;
  const next = (viewer.sample.selectedIndex + step + options.length) % options.length;
  set({ task: viewer.task.value, sample: options[next].value });
  showSample();
};
viewer.addEventListener("submit", (event) => event.preventDefault());
viewer.previous.addEventListener("click", () => turn(-1));
viewer.next.addEventListener("click", () => turn(1));
viewer.task.addEventListener("change", () => { set({ task: viewer.task.value, sample: "" }); showSample(); });
viewer.sample.addEventListener("change", () => { set({ task: viewer.task.value, sample: viewer.sample.value }); showSample(); });

// Places: links inside the page keep the rest of the state.
const go = () => {
  const name = state.get("at") || (state.has("sample") || state.has("task") ? "completions" : "");
  const place = name && document.getElementById(name);
  if (!place) return;
  place.tabIndex = -1;
  place.focus({ preventScroll: true });
  place.scrollIntoView();
};
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (!link) return;
  event.preventDefault();
  set({ at: link.getAttribute("href").slice(1) });
  go();
});
const show = () => {
  tables.forEach((showTable) => showTable());
  showFilter();
  if (samples.length) showSample();
};
addEventListener("hashchange", () => { state = read(); show(); go(); });
// Tables that are wider than the page say so.
const boxes = [...document.querySelectorAll(".scroll")];
const markCut = () => boxes.forEach((box) => box.classList.toggle("cut", box.scrollLeft + box.clientWidth < box.scrollWidth - 2));
boxes.forEach((box) => box.addEventListener("scroll", markCut, { passive: true }));
addEventListener("resize", markCut);
document.addEventListener("toggle", markCut, true);
show();
markCut();
go();
