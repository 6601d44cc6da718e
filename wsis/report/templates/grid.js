// The cards in view, the enlarged one, keys, and the start.

const GAP = 12, LEAST_SIDE = 150, CAPTION = 62, AHEAD = 500; // CSS pixels; CAPTION is the stylesheet's
const FRAME = 10; // milliseconds of drawing between two frames
const PIXELATED_FROM = 4; // enlargement from which the large picture shows single pixels as such

/** What the page holds under a name, undefined while it still loads. */
function record(name) {
  const element = byId(name);
  const whole = element && (element.nextSibling || document.readyState !== "loading");
  return whole ? JSON.parse(element.textContent) : undefined;
}

/** The picture of a card; null if the image could not be read. */
const pictureOf = (i) => record(`p${i}`);

/** The strip of a card's image; null if it has none. */
const stripOf = (i) => (hasStrip(i) ? record(`s${columns.file[i]}`) : null);

function valueText(i) {
  return measured[i] === null ? "no true mask" : `${data.measure} ${shares(measured[i])}`;
}

function altText(i) {
  const name = data.classes[columns.class[i]], status = data.statuses[columns.status[i]];
  const mark = marks.of(i) ? `, ${marks.of(i)}` : "";
  return `${name}, annotation ${columns.id[i]} in ${data.files[columns.file[i]]}: ${valueText(i)}, ${status}${mark}`;
}

/** Fills a .picture element of so many CSS pixels a side; `weight` is that of its lines. */
function showPicture(element, side, i, picture, weight = 1) {
  const image = element.querySelector("img"), canvas = element.querySelector("canvas");
  element.classList.toggle("missing", picture === null);
  element.dataset.mark = marks.of(i);
  if (!picture) {
    image.removeAttribute("src");
    image.alt = picture === null ? `${altText(i)}; the image cannot be read` : altText(i);
    canvas.width = canvas.height = 0;
    return;
  }
  image.alt = altText(i);
  image.src = `data:image/webp;base64,${picture.webp}`;
  image.classList.toggle("pixelated", weight > 1 && side / Math.max(picture.width, picture.height) >= PIXELATED_FROM);
  drawLayers(canvas, side, picture, state.layers, colours, weight);
}

const grid = (() => {
  const list = byId("cards");
  const cells = new Map(); // place in rows -> { item, button, element, picture, drawn }
  let perRow = 1, side = LEAST_SIDE, rowHeight = 1, filling = 0;

  function measureGrid() {
    const width = list.clientWidth;
    perRow = Math.max(1, Math.floor((width + GAP) / (LEAST_SIDE + GAP)));
    side = (width - GAP * (perRow - 1)) / perRow;
    rowHeight = side + CAPTION + GAP;
    list.style.height = `${Math.ceil(rows.length / perRow) * rowHeight}px`;
  }

  function makeCell(place) {
    const i = rows[place];
    const status = data.statuses[columns.status[i]];
    const element = make("span", { className: "picture" }, make("img", { alt: altText(i) }), make("canvas"));
    element.lastChild.setAttribute("aria-hidden", "true");
    element.style.height = `${side}px`;
    const meter = make("span", { className: "meter" }, make("span"));
    meter.firstChild.style.width = `${100 * (measured[i] ?? 0)}%`;
    meter.className += (measured[i] ?? 1) < 0.5 ? " low" : (measured[i] ?? 1) < 0.75 ? " middle" : " high";
    const text = (className, textContent) => make("span", { className, textContent });
    const above = make("span", { className: "line" }, text("name", data.classes[columns.class[i]]), text("value", shares(measured[i])));
    const below = make("span", { className: "line" }, text("file", data.files[columns.file[i]].split("/").pop()));
    if (status !== "ok") below.append(text(`badge ${status}`, status));
    const caption = make("span", { className: "caption" }, above, below);
    const button = make("button", { type: "button", tabIndex: -1 }, element, meter, caption);
    const item = make("li", { className: "card" }, button);
    item.setAttribute("aria-setsize", rows.length);
    item.setAttribute("aria-posinset", place + 1);
    item.style.width = `${side}px`;
    item.style.transform = `translate(${(place % perRow) * (side + GAP)}px, ${Math.floor(place / perRow) * rowHeight}px)`;
    button.addEventListener("focus", () => setCurrent(place));
    button.addEventListener("click", () => { setCurrent(place); large.open(); });
    return { item, button, element, picture: undefined, drawn: false };
  }

  function setCurrent(place) {
    const before = cells.get(current);
    if (before) before.button.tabIndex = -1;
    current = place;
    const cell = cells.get(current);
    if (cell) cell.button.tabIndex = 0;
  }

  /** Places from the first to behind the last that are in view or nearly so. */
  function inView(ahead) {
    const top = -list.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor((top - ahead) / rowHeight));
    const last = Math.max(0, Math.ceil((top + innerHeight + ahead) / rowHeight));
    return [Math.min(first * perRow, rows.length), Math.min(last * perRow, rows.length)];
  }

  function render() {
    const [first, last] = inView(AHEAD);
    for (const [place, cell] of cells)
      if ((place < first || place >= last) && place !== current) { cell.item.remove(); cells.delete(place); }
    const needed = [];
    for (let place = first; place < last; place++) needed.push(place);
    if (rows.length && (current < first || current >= last)) needed.push(current);
    for (const place of needed) {
      if (cells.has(place)) continue;
      const cell = makeCell(place);
      if (place === current) cell.button.tabIndex = 0;
      cells.set(place, cell);
      list.insertBefore(cell.item, [...cells].find(([other]) => other > place)?.[1].item ?? null);
    }
    fill();
  }

  /** Draws the cells that are not drawn and whose picture is there by now, a few in each frame. */
  function fill() {
    const until = performance.now() + FRAME;
    for (const [place, cell] of cells) {
      if (cell.drawn) continue;
      if (performance.now() > until) {
        if (!filling) filling = requestAnimationFrame(() => { filling = 0; fill(); });
        return;
      }
      if (cell.picture === undefined) cell.picture = pictureOf(rows[place]);
      if (cell.picture === undefined) continue;
      showPicture(cell.element, side, rows[place], cell.picture);
      cell.drawn = true;
    }
  }

  function clear() {
    for (const { item } of cells.values()) item.remove();
    cells.clear();
  }

  /** New rows or a new width: all cards anew, the focus where it was. */
  function reset() {
    const focused = list.contains(document.activeElement);
    clear();
    measureGrid();
    render();
    if (focused) focus();
  }

  /** Draws cells again: all of them (other layers), or that of a mask. */
  function redraw(i = null) {
    for (const [place, cell] of cells) if (i === null || rows[place] === i) cell.drawn = false;
    fill();
  }

  function scrollTo(place) {
    const bar = byId("filters");
    const covered = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
    const top = list.getBoundingClientRect().top + Math.floor(place / perRow) * rowHeight;
    if (top < covered + GAP) scrollBy(0, top - covered - GAP);
    else if (top + rowHeight > innerHeight) scrollBy(0, Math.min(top - covered - GAP, top + rowHeight - innerHeight));
  }

  function focus(place = current) {
    if (!rows.length) return;
    setCurrent(Math.max(0, Math.min(place, rows.length - 1)));
    scrollTo(current);
    render();
    cells.get(current).button.focus({ preventScroll: true });
  }

  /** To the current card if it is in view, else to the first that is. */
  function enter() {
    const [first, last] = inView(-rowHeight / 2);
    focus(current >= first && current < last ? current : first);
  }

  const steps = () => ({
    ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perRow, ArrowDown: perRow, Home: -rows.length, End: rows.length,
    PageUp: -perRow * rowsInView(), PageDown: perRow * rowsInView(),
  });
  const rowsInView = () => Math.max(1, Math.floor(innerHeight / rowHeight) - 1);

  /** Moves by a key; false if the key is none of these. */
  function key(name) {
    const step = steps()[name];
    if (step === undefined) return false;
    const target = current + step;
    const upOrDown = name === "ArrowUp" || name === "ArrowDown";
    if (upOrDown && perRow > 1 && (target < 0 || target >= rows.length)) focus();
    else focus(target);
    return true;
  }

  return { list, reset, render, fill, redraw, focus, enter, key };
})();

// ---- the enlarged card

const large = (() => {
  const dialog = byId("large"), element = dialog.querySelector(".picture"), strip = byId("strip");
  let place = 0, picture;

  function draw() {
    if (dialog.open) showPicture(element, element.clientWidth, rows[place], picture, 1.5);
  }

  function show() {
    const i = rows[place];
    picture = pictureOf(i);
    byId("large-title").textContent = `${data.classes[columns.class[i]]} ${columns.id[i]}`;
    const box = columns.box[i].map((v) => Number(v.toFixed(1)));
    const facts = [
      ["place", `${place + 1} of ${rows.length}`],
      ["file", data.files[columns.file[i]]],
      ["status", data.statuses[columns.status[i]]],
      ["score", shares(columns.score[i])],
    ];
    if (hasTruth) facts.push(["IoU", shares(columns.iou[i])], ["IoU outside of ignored", shares(columns.iouOutsideIgnored[i])]);
    facts.push(["box fit", shares(columns.fit[i])], ["mask / box area", percent(columns.coverage[i])],
      ["ignored / box area", percent(columns.ignored[i])], ["box x, y", `${box[0]}, ${box[1]}`], ["box size", `${box[2]} × ${box[3]}`]);
    byId("facts").replaceChildren(
      ...facts.map(([label, value]) => make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: value })))
    );
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === rows.length - 1;
    showStrip(i, stripOf(i));
    draw();
  }

  function showStrip(i, found) {
    strip.hidden = !found;
    dialog.classList.toggle("with-strip", Boolean(found));
    if (!found) return;
    const image = strip.firstElementChild;
    Object.assign(image, { width: found.width, height: found.height, src: `data:image/webp;base64,${found.webp}` });
    image.alt = `${data.files[columns.file[i]]}: ${found.titles}`;
  }

  function open() {
    place = current;
    dialog.showModal();
    show();
  }

  const move = (step) => go(place + step);

  function go(target) {
    if (target < 0 || target >= rows.length) return;
    place = target;
    show();
  }

  dialog.addEventListener("close", () => grid.focus(place)); // the browser itself goes back to the card it came from
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  byId("previous").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("close").addEventListener("click", () => dialog.close());
  return { dialog, open, move, go, draw, show, place: () => place };
})();

// ---- keys

const MARKING = { a: "accepted", x: "rejected" };
const JUMPS = { f: "class", "/": "find", o: "order" };

function toggleLayer(layer) {
  if (!usedLayers().includes(layer)) return;
  state.layers[layer] = !state.layers[layer];
  fillForm();
  grid.redraw();
  large.draw();
  writeHash();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const name = event.key, layer = LAYERS[Number(name) - 1];
  const inControl = event.target.matches("input, select");
  if (inControl && name !== "Escape") return;
  if (name === "u" && !inControl) marks.undo();
  else if (large.dialog.open) {
    if (name in MARKING) marks.set(large.place(), MARKING[name]);
    else if (name === "ArrowLeft" || name === "ArrowUp") large.move(-1);
    else if (name === "ArrowRight" || name === "ArrowDown") large.move(1);
    else if (layer) toggleLayer(layer);
    else return;
  } else if (inControl) {
    event.target.blur();
    grid.enter();
  } else if (layer) toggleLayer(layer);
  else if (name in JUMPS) byId(JUMPS[name]).focus();
  else if (name === "r") reset();
  else if (name === "?") byId("help").showModal();
  else if (grid.list.contains(event.target)) {
    if (name in MARKING) marks.set(current, MARKING[name]);
    else if (!grid.key(name)) return;
  } else if (event.target === document.body && (name.startsWith("Arrow") || name in MARKING)) grid.enter();
  else return;
  event.preventDefault();
}

// ---- start

function start() {
  const files = count(data.files.length, "image");
  const left = data.crowd ? `, ${count(data.crowd, "crowd region")} left out` : "";
  const overall = data.measure === "IoU" ? `mean IoU ${shares(data.overall.iou)}` : `mean box fit ${shares(data.overall.fit)}`;
  byId("scope").textContent =
    number < data.total
      ? `the ${number.toLocaleString("en")} worst of ${count(data.total, "mask")} (${overall} over all of them)${left}`
      : `${count(number, "mask")} in ${files}${left}`;
  byId("histogram-title").textContent = data.measure === "IoU" ? "IoU with the true mask" : "Box fit: IoU of the mask's tight box with the given box";
  marks.start();
  readHash();
  buildForm();
  buildClassTable();
  fillForm();
  update();
  const redrawn = () => requestAnimationFrame(() => grid.render());
  addEventListener("scroll", redrawn, { passive: true });
  addEventListener("resize", () => { grid.reset(); large.draw(); });
  addEventListener("hashchange", () => { large.dialog.close(); readHash(); fillForm(); update(); });
  addEventListener("keydown", onKey);
  byId("skip").addEventListener("click", (event) => { event.preventDefault(); grid.enter(); }); // the address is the filters'
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  byId("help-close").addEventListener("click", () => byId("help").close());
  const waiting = setInterval(() => grid.fill(), 100);
  addEventListener("DOMContentLoaded", () => {
    clearInterval(waiting);
    grid.fill();
    if (large.dialog.open) large.show();
    document.documentElement.dataset.loaded = Math.round(performance.now()); // for measurements
  });
  document.documentElement.dataset.ready = Math.round(performance.now());
}

start();
