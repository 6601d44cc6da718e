// A person's marks: accepted or rejected masks, kept in the browser for the file, saved for tools/apply_marks.py.

const MARKED = { "": "all", none: "without mark", accepted: "accepted", rejected: "rejected" };

const marks = (() => {
  const key = `wsis marks ${data.sha256}`;
  let history = []; // [annotation id, mark or ""], the last one last; other pages of the file may show other ids
  let found = new Map(); // annotation id to its mark
  let kept = true, unsaved = false;

  function read() {
    try {
      history = JSON.parse(localStorage.getItem(key) || "[]");
    } catch {
      notKept();
    }
    replay();
  }

  /** Some browsers keep nothing of pages from disk: they ask before marks are lost. */
  function notKept() {
    if (kept) addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
    kept = false;
  }

  function replay() {
    found = new Map();
    for (const [id, mark] of history)
      if (mark) found.set(id, mark);
      else found.delete(id);
    const number = (mark) => ids(mark).length.toLocaleString("en");
    const warning = kept ? "" : ", not kept by this browser";
    byId("marks").textContent = `${number("accepted")} accepted, ${number("rejected")} rejected${warning}`;
    byId("undo").disabled = !history.length;
    byId("save").disabled = !found.size;
  }

  /** After a change of the history: keeps it, and shows the mask that was marked. */
  function changed(id) {
    try {
      localStorage.setItem(key, JSON.stringify(history));
    } catch {
      notKept();
    }
    unsaved = true;
    replay();
    grid.redraw(columns.id.indexOf(id));
  }

  const ids = (mark) => [...found].filter(([, own]) => own === mark).map(([id]) => id).sort((a, b) => a - b);
  const of = (i) => found.get(columns.id[i]) ?? "";
  const go = (place) => (large.dialog.open ? large.go(place) : grid.focus(place));

  /** Marks the mask at a place and goes on to the next one; the same mark again is taken off. */
  function set(place, mark) {
    if (!rows.length) return;
    const id = columns.id[rows[place]], same = of(rows[place]) === mark;
    history.push([id, same ? "" : mark]);
    changed(id);
    go(same ? place : Math.min(place + 1, rows.length - 1));
  }

  /** Takes the last mark back and goes to its mask, if that passes the filters. */
  function undo() {
    if (!history.length) return;
    const [id] = history.pop();
    changed(id);
    const place = rows.indexOf(columns.id.indexOf(id));
    if (place >= 0) go(place);
  }

  function save() {
    const made = { proxy: data.title, proxy_sha256: data.sha256, accepted: ids("accepted"), rejected: ids("rejected") };
    const href = URL.createObjectURL(new Blob([JSON.stringify(made)], { type: "application/json" }));
    make("a", { href, download: "marks.json" }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60000);
    unsaved = false;
  }

  function start() {
    read();
    byId("undo").addEventListener("click", undo);
    byId("save").addEventListener("click", save);
    for (const [name, mark] of [["accept", "accepted"], ["reject", "rejected"]])
      byId(name).addEventListener("click", () => set(large.place(), mark));
    addEventListener("storage", (event) => {
      if (event.key !== key) return;
      read(); // marked in another tab
      grid.redraw();
      if (large.dialog.open) large.show();
    });
  }

  return { of, set, undo, start };
})();
