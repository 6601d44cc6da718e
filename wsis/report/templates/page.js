// The page: filters, order, numbers, a grid that holds only the cards in view, keys.

const data = JSON.parse(document.getElementById("data").textContent);
const columns = data.columns;
const number = columns.id.length;
const hasTruth = "iou" in columns;
const measured = hasTruth ? columns.iou : columns.fit;
const BINS = 20;
const byId = (id) => document.getElementById(id);
const shares = (value) => (value === null ? "–" : value.toFixed(3));
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(0)} %`);
const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
const mean = (values) => (values.length ? values.reduce((sum, v) => sum + v, 0) / values.length : null);
const hasStrip = (i) => data.strips[columns.file[i]] === 1;
const known = (column, rows) => rows.map((i) => column[i]).filter((v) => v !== null);
const style = getComputedStyle(document.documentElement);
const colours = Object.fromEntries(LAYERS.map((layer) => [layer, style.getPropertyValue(`--${layer}`).trim()]));

/** An element with properties and children; text is never taken for HTML. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// ---- what is shown

const ORDERS = {
  worst: ["worst first", (a, b) => a - b],
  best: ["best first", (a, b) => rank(b) - rank(a) || a - b],
  "low-score": ["lowest score first", (a, b) => (columns.score[a] ?? 2) - (columns.score[b] ?? 2) || a - b],
  "high-score": ["highest score first", (a, b) => (columns.score[b] ?? -1) - (columns.score[a] ?? -1) || a - b],
  large: ["largest box first", (a, b) => boxArea(b) - boxArea(a) || a - b],
  small: ["smallest box first", (a, b) => boxArea(a) - boxArea(b) || a - b],
  file: ["by file", (a, b) => columns.file[a] - columns.file[b] || columns.id[a] - columns.id[b]],
};
const rank = (i) => measured[i] ?? -1;
const boxArea = (i) => columns.box[i][2] * columns.box[i][3];
let state;
let rows = []; // the cards' numbers, filtered and in order
let current = 0; // place in rows

function emptyState() {
  return {
    class: -1, statuses: new Set(data.statuses.keys()), order: "worst", find: "", marked: "", strip: false,
    measure: [0, 1], score: [0, 1], layers: Object.fromEntries(LAYERS.map((layer) => [layer, true])),
  };
}

function within(value, [low, high]) {
  return (low <= 0 && high >= 1) || (value !== null && value >= low && value <= high);
}

function passes(i, needle) {
  return (
    (state.class < 0 || columns.class[i] === state.class) &&
    state.statuses.has(columns.status[i]) &&
    within(measured[i], state.measure) &&
    within(columns.score[i], state.score) &&
    (!state.strip || hasStrip(i)) &&
    (!state.marked || (marks.of(i) || "none") === state.marked) &&
    (!needle || String(columns.id[i]) === needle || data.files[columns.file[i]].toLowerCase().includes(needle))
  );
}

function update() {
  const needle = state.find.trim().toLowerCase();
  const kept = rows.length ? rows[current] : -1;
  rows = [];
  for (let i = 0; i < number; i++) if (passes(i, needle)) rows.push(i);
  if (state.order !== "worst") rows.sort(ORDERS[state.order][1]);
  current = Math.max(0, rows.indexOf(kept));
  showNumbers();
  showHistogram();
  const text = `${rows.length.toLocaleString("en")} of ${count(number, "mask")}`;
  byId("count").textContent = text;
  byId("nothing").hidden = rows.length > 0;
  byId("nothing").textContent = number ? "No mask passes the filters." : "The file has no masks.";
  byId("cards").setAttribute("aria-label", `Masks, ${ORDERS[state.order][0]}`);
  grid.reset();
  writeHash();
}

// ---- numbers and histogram

function showNumbers() {
  const fits = known(columns.fit, rows);
  const scores = known(columns.score, rows);
  const quality = known(measured, rows);
  const atLeast = (t) => percent(quality.length ? quality.filter((v) => v >= t).length / quality.length : null);
  const name = hasTruth ? "IoU" : "fit";
  const tiles = [["masks", rows.length.toLocaleString("en")]];
  if (hasTruth) tiles.push(["mean IoU", shares(mean(quality))]);
  tiles.push(["mean box fit", shares(mean(fits))]);
  tiles.push([`${name} ≥ 0.5`, atLeast(0.5)], [`${name} ≥ 0.75`, atLeast(0.75)]);
  if (!hasTruth) tiles.push(["no mask found", rows.filter((i) => columns.coverage[i] === null).length.toLocaleString("en")]);
  tiles.push(["mean score", shares(mean(scores))]);
  byId("numbers").replaceChildren(
    ...tiles.map(([label, value]) => make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: value })))
  );
}

const binOf = (value) => Math.min(BINS - 1, Math.floor(value * BINS + 1e-9));

function bins(indices) {
  const out = new Array(BINS).fill(0);
  for (const i of indices) if (measured[i] !== null) out[binOf(measured[i])]++;
  return out;
}

const allBins = bins(columns.id.keys());

function showHistogram() {
  const shownBins = bins(rows);
  const highest = Math.max(1, ...allBins);
  byId("histogram").replaceChildren(
    ...allBins.map((total, b) => {
      const low = b / BINS, high = (b + 1) / BINS;
      const bar = make("div", { className: "bin", title: `${low.toFixed(2)} to ${high.toFixed(2)}: ${shownBins[b]} of ${count(total, "mask")}` });
      const height = (n) => `${n ? Math.max(2, (100 * n) / highest) : 0}%`;
      const all = make("span", { className: "all" }), some = make("span", { className: "some" });
      all.style.height = height(total);
      some.style.height = height(shownBins[b]);
      bar.append(all, some);
      bar.addEventListener("click", () => chooseBin(low, high));
      return bar;
    })
  );
  const peak = shownBins.indexOf(Math.max(...shownBins));
  byId("histogram").setAttribute(
    "aria-label",
    `Histogram of ${data.measure}: ${count(rows.length, "mask")}, most of them from ${(peak / BINS).toFixed(2)} to ${((peak + 1) / BINS).toFixed(2)}`
  );
}

/** A bar's range as filter; the same bar again lifts it. */
function chooseBin(low, high) {
  const bound = high < 1 ? Math.round((high - 0.0001) * 1e4) / 1e4 : 1; // a bin does not hold its upper end
  const same = state.measure[0] === low && state.measure[1] === bound;
  state.measure = same ? [0, 1] : [low, bound];
  fillForm();
  update();
}

// ---- filters

function counts(column, size) {
  const out = new Array(size).fill(0);
  for (const value of column) out[value]++;
  return out;
}

function checkbox(label, checked, onChange, className) {
  const box = make("input", { type: "checkbox", checked });
  box.addEventListener("change", () => onChange(box.checked));
  return make("label", { className: `chip ${className}` }, box, make("span", { textContent: label }));
}

function buildForm() {
  const ofClass = counts(columns.class, data.classes.length);
  byId("class").append(make("option", { value: -1, textContent: `all (${number})` }));
  data.classes.forEach((name, c) => {
    if (ofClass[c]) byId("class").append(make("option", { value: c, textContent: `${name} (${ofClass[c]})` }));
  });
  const ofStatus = counts(columns.status, data.statuses.length);
  data.statuses.forEach((name, s) => {
    const change = (on) => { state.statuses[on ? "add" : "delete"](s); update(); };
    byId("statuses").append(checkbox(`${name} ${ofStatus[s]}`, true, change, "status"));
  });
  for (const layer of usedLayers())
    byId("layers").append(checkbox(LAYER_NAMES[layer], true, (on) => { state.layers[layer] = on; grid.redraw(); writeHash(); }, `layer ${layer}`));
  byId("strips").append(checkbox("with strip", false, (on) => { state.strip = on; update(); }, "strip"));
  byId("strips").hidden = new Set(data.strips).size < 2; // all images have one, or none
  byId("order").append(...Object.entries(ORDERS).map(([value, [text]]) => make("option", { value, textContent: text })));
  byId("marked").append(...Object.entries(MARKED).map(([value, textContent]) => make("option", { value, textContent })));
  byId("measure-legend").textContent = data.measure === "IoU" ? "IoU" : "Box fit";
  byId("class").addEventListener("change", (event) => { state.class = Number(event.target.value); update(); });
  for (const name of ["order", "marked"])
    byId(name).addEventListener("change", (event) => { state[name] = event.target.value; update(); });
  byId("find").addEventListener("input", (event) => { state.find = event.target.value; update(); });
  for (const name of ["measure", "score"])
    ["low", "high"].forEach((end, k) =>
      byId(`${name}-${end}`).addEventListener("input", (event) => {
        const value = event.target.valueAsNumber;
        state[name][k] = Number.isNaN(value) ? k : value;
        update();
      })
    );
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("reset").addEventListener("click", (event) => { event.preventDefault(); reset(); });
}

const usedLayers = () => LAYERS.filter((layer) => (layer !== "truth" || hasTruth) && (layer !== "ignore" || columns.ignored.some((v) => v > 0)));

/** Puts the state into the form's controls. */
function fillForm() {
  byId("class").value = state.class;
  byId("order").value = state.order;
  byId("marked").value = state.marked;
  byId("find").value = state.find;
  for (const name of ["measure", "score"])
    ["low", "high"].forEach((end, k) => { byId(`${name}-${end}`).value = state[name][k] === k ? "" : state[name][k]; });
  byId("statuses").querySelectorAll("input").forEach((box, s) => { box.checked = state.statuses.has(s); });
  byId("strips").querySelector("input").checked = state.strip;
  byId("layers").querySelectorAll("input").forEach((box, k) => { box.checked = state.layers[usedLayers()[k]]; });
}

function reset() {
  state = emptyState();
  fillForm();
  update();
}

/** The state as the page's address, to come back to or to pass on. */
function writeHash() {
  const parts = new URLSearchParams();
  if (state.class >= 0) parts.set("class", data.classes[state.class]);
  if (state.statuses.size < data.statuses.length) parts.set("status", [...state.statuses].map((s) => data.statuses[s]).join(","));
  for (const name of ["measure", "score"])
    if (state[name][0] > 0 || state[name][1] < 1) parts.set(name, state[name].join("-"));
  if (state.find) parts.set("find", state.find);
  if (state.marked) parts.set("marks", state.marked);
  if (state.strip) parts.set("strip", "1");
  if (state.order !== "worst") parts.set("order", state.order);
  const hidden = LAYERS.filter((layer) => !state.layers[layer]);
  if (hidden.length) parts.set("hide", hidden.join(","));
  const hash = parts.toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
}

function readHash() {
  const parts = new URLSearchParams(location.hash.slice(1));
  state = emptyState();
  state.class = parts.has("class") ? data.classes.indexOf(parts.get("class")) : -1;
  if (parts.has("status")) {
    const names = parts.get("status").split(",");
    state.statuses = new Set([...data.statuses.keys()].filter((s) => names.includes(data.statuses[s])));
  }
  for (const name of ["measure", "score"]) {
    const range = (parts.get(name) || "").split("-").map(Number);
    if (parts.has(name) && range.length === 2 && range.every(Number.isFinite)) state[name] = range;
  }
  state.find = parts.get("find") || "";
  if (Object.hasOwn(MARKED, parts.get("marks") || "")) state.marked = parts.get("marks") || "";
  state.strip = parts.has("strip");
  if (Object.hasOwn(ORDERS, parts.get("order") || "")) state.order = parts.get("order");
  for (const layer of (parts.get("hide") || "").split(",")) if (layer in state.layers) state.layers[layer] = false;
}

function buildClassTable() {
  const body = byId("class-rows");
  const all = [...columns.id.keys()];
  const found = data.classes.map((name, c) => {
    const own = all.filter((i) => columns.class[i] === c);
    return { name, c, own, quality: mean(known(measured, own)) };
  });
  found.sort((a, b) => (a.quality ?? 2) - (b.quality ?? 2));
  for (const { name, c, own } of found) {
    if (!own.length) continue;
    const button = make("button", { type: "button", className: "link", textContent: name });
    button.addEventListener("click", () => { state.class = c; fillForm(); update(); });
    const cell = (text) => make("td", { className: "number", textContent: text });
    const row = make("tr", {}, make("th", { scope: "row" }, button), cell(own.length.toLocaleString("en")));
    if (hasTruth) row.append(cell(shares(mean(known(columns.iou, own)))));
    row.append(cell(shares(mean(known(columns.fit, own)))));
    body.append(row);
  }
  if (!hasTruth) document.querySelectorAll(".iou-only").forEach((cell) => cell.remove());
}
