// One image's way through the network: a row for each exit, lit up as its answer comes.

import { bar, byId, element } from "/page/element.js";
import { ms, percent } from "/page/words.js";

// Exits answer within milliseconds of each other: rows light up this far apart, to be seen at all.
const APART_MS = 170;
const still = matchMedia("(prefers-reduced-motion: reduce)");

let network = null; // what /tradeoff says of this model
let thresholds = []; // in force for the image, of every exit but the deepest
let events = []; // of the exits so far, shallow to deep
let answer = null; // the last word, once it was shown
let queue = []; // what has come and is not shown yet
let timer = 0;

// Another network: rows without an answer.
export function reset(tradeoff, inForce) {
  network = tradeoff;
  begin(inForce);
}

// A new image is on its way.
export function begin(given) {
  clear();
  thresholds = given;
  render();
}

// An exit has answered: `event` is the server's own.
export const arrive = (event) => later(() => {
  events.push(event);
  render();
});

// The last word, after all rows before it; resolves when it is shown.
export const finish = (found) => new Promise((resolve) => later(() => {
  answer = found;
  render();
  resolve();
}));

// Everything at once, for an image that is asked about again.
export function replace(given, seen, found) {
  clear();
  [thresholds, events, answer] = [given, seen, found];
  render();
}

// No answer: what the server said instead.
export function fail(text) {
  clear();
  render();
  byId("headline").replaceChildren(element("p", { class: "error" }, text));
}

function clear() {
  clearTimeout(timer);
  [timer, queue, events, answer] = [0, [], [], null];
}

function later(act) {
  queue.push(act);
  if (!timer) next();
}

function next() {
  timer = 0;
  const act = queue.shift();
  if (!act) return;
  act();
  timer = setTimeout(next, still.matches ? 0 : APART_MS);
}

function render() {
  const exits = network?.exits ?? [];
  byId("exits").replaceChildren(...exits.map(row));
  byId("exits").classList.toggle("blank", !events.length && !answer);
  const last = answer ?? events.at(-1);
  byId("headline").replaceChildren(...(last ? headline(last, answer ? "left at" : "so far, at") : []));
  byId("verdict").textContent = answer ? verdict() : "";
}

function row(exit, k) {
  const found = events.find((event) => event.exit === exit);
  const threshold = thresholds[k] ?? null;
  const share = network.macs[k] / network.plain_macs;
  // At a deadline the deepest exit so far answers, whatever it was going to do.
  const last = answer ? exit === answer.exit : found?.final;
  const kind = found ? (last ? "taken" : "passed") : answer ? "spared" : "ahead";
  const cells = [element("span", { class: "name" }, `exit ${exit}`)];
  if (found) {
    cells.push(
      element("span", { class: "says" }, found.label),
      bar(found.confidence, threshold),
      element("span", { class: "sure" }, percent(found.confidence)),
      element("span", { class: "after" }, ms(found.ms)),
      element("span", { class: "share" }, percent(found.compute, 0)),
      element("span", { class: "why" }, why(found, last, threshold)),
    );
  } else {
    cells.push(
      element("span", { class: "says" }, kind === "spared" ? "not computed" : ""),
      bar(0, kind === "ahead" ? threshold : null),
      element("span", { class: "sure" }),
      element("span", { class: "after" }),
      element("span", { class: "share" }, percent(share, 0)),
    );
  }
  return element("li", { class: kind }, ...cells);
}

// For screen readers; others see the bar and its mark.
function why(found, last, threshold) {
  const sure = threshold === null ? "" : `, ${found.confidence >= threshold ? "at least" : "below"} the threshold of ${percent(threshold)}`;
  return `${last ? "answered" : "went on"}${sure}; after ${ms(found.ms)}, with ${percent(found.compute, 0)} of the compute`;
}

function headline(found, where) {
  const bold = (text) => element("b", {}, text);
  return [
    element("p", { class: "label" }, found.label),
    element("p", { class: "facts" }, bold(percent(found.confidence)), ` sure, ${where} `,
      bold(`exit ${found.exit}`), " after ", bold(ms(found.ms))),
  ];
}

// The answer in a sentence, for screen readers.
export const sentence = () =>
  `${answer.label}, ${percent(answer.confidence)} sure, at exit ${answer.exit}. ${verdict()}`;

function verdict() {
  const saved = 1 - answer.compute;
  const left = network.exits.filter((exit) => exit > answer.exit).length;
  if (left === 0)
    return `Went all the way: ${percent(answer.compute, 0)} of the compute of the network without exits.`;
  const rest = left === 1 ? "One exit was" : `${left} exits were`;
  return saved > 0
    ? `${rest} not needed: ${percent(saved, 0)} of the compute saved.`
    : `${rest} not needed; the heads on the way cost more than that saves.`;
}
