// Several images at once: a small result for each, in the order in which they were given.

import { byId, element, write } from "/page/element.js";
import { percent, plural } from "/page/words.js";

let tiles = [];
let addresses = []; // of the thumbnails, to be given back

// Shows the images; `choose(k)` is called when one of them is pressed.
export function open(files, choose) {
  close();
  addresses = files.map((file) => URL.createObjectURL(file));
  tiles = files.map((file, k) => {
    const made = element("button", { type: "button" },
      picture(addresses[k]),
      element("span", { class: "says" }, "…"), element("span", { class: "facts" }, file.name));
    made.addEventListener("click", () => choose(k));
    return made;
  });
  byId("tiles").replaceChildren(...tiles.map((tile) => element("li", {}, tile)));
  byId("gallery").hidden = false;
  write(byId("summary"), `${plural(files.length, "image")} on the way`);
}

export function close() {
  addresses.forEach((address) => URL.revokeObjectURL(address));
  [tiles, addresses] = [[], []];
  byId("tiles").replaceChildren();
  byId("gallery").hidden = true;
}

// A thumbnail; what is no image leaves its place empty.
function picture(address) {
  const made = element("img", { src: address, alt: "", decoding: "async" });
  made.addEventListener("error", () => { made.style.visibility = "hidden"; });
  return made;
}

// An exit has answered for one of them; later exits replace what it said.
export function arrive({ image, exit, label, confidence, final }) {
  tell(image, final ? "done" : "", label, `${percent(confidence)} · exit ${exit}`);
}

// The last word on all of them: an answer or an error each.
export function finish(rows) {
  rows.forEach((row, k) => {
    if ("error" in row) tell(k, "bad", "no answer", row.error);
    else tell(k, "done", row.label, `${percent(row.confidence)} · exit ${row.exit}`);
  });
  const good = rows.filter((row) => !("error" in row));
  write(byId("summary"), words(rows.length, good));
}

// Marks the one whose way through the exits is shown.
export function mark(chosen) {
  tiles.forEach((tile, k) => tile.setAttribute("aria-pressed", k === chosen));
}

export function fail(text) {
  tiles.forEach((_, k) => tell(k, "bad", "no answer", ""));
  write(byId("summary"), text);
}

function words(count, good) {
  const failed = count - good.length;
  if (!good.length) return `${plural(count, "file")}, no answer`;
  const by = new Map();
  for (const { exit } of good) by.set(exit, (by.get(exit) ?? 0) + 1);
  const exits = [...by].sort(([a], [b]) => a - b).map(([exit, n]) => `${n} at exit ${exit}`).join(", ");
  const spent = good.reduce((sum, row) => sum + row.compute, 0) / good.length;
  return `${plural(count, "image")}: ${exits}${failed ? `, ${failed} without an answer` : ""}. `
    + `${percent(spent, 0)} of the compute of the network without exits.`;
}

function tell(k, kind, says, facts) {
  tiles[k].className = kind;
  write(tiles[k].querySelector(".says"), says);
  write(tiles[k].querySelector(".facts"), facts);
}
