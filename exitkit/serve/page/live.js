// Live numbers of one model: what /stats says, each second.

import * as charts from "/page/charts.js";
import { bar, byId, element, rows, write } from "/page/element.js";
import { fitted } from "/page/scale.js";
import { ms, number, percent, rate } from "/page/words.js";

let last = null; // what was shown last, to be drawn again at another width

// Shows one answer of /stats.
export function show(stats) {
  last = stats;
  const exits = Object.keys(stats.exits).map(Number);
  const numbers = {
    "requests-rate": rate(stats.requests_per_s),
    "images-rate": rate(stats.images_per_s),
    p50: ms(stats.latency_ms.p50),
    p95: ms(stats.latency_ms.p95),
    p99: ms(stats.latency_ms.p99),
    saved: stats.images ? percent(stats.compute_saved) : "–",
    waiting: number(stats.queue),
    answered: number(stats.images),
  };
  for (const [name, text] of Object.entries(numbers)) write(byId(`live-${name}`), text);
  charts.legend(stats, exits);
  draw();
  stages(stats, exits);
  if (byId("seconds").open) table(stats, exits);
}

function draw() {
  if (last) charts.draw(last.history, Object.keys(last.exits).map(Number));
}

// Where images have left since the start, and how many wait before each exit now.
function stages(stats, exits) {
  const place = byId("stages");
  if (place.children.length !== exits.length)
    place.replaceChildren(...exits.map(() => element("li", {},
      element("span", { class: "name" }), bar(0),
      element("span", { class: "left" }), element("span", { class: "waits" }))));
  exits.forEach((exit, k) => {
    const [name, fill, left, waits] = place.children[k].children;
    write(name, `exit ${exit}`);
    const count = stats.exits[exit], share = stats.images ? count / stats.images : 0;
    fill.firstChild.style.width = `${(100 * share).toFixed(2)}%`;
    fill.firstChild.style.opacity = charts.strength(k, exits.length);
    write(left, stats.images ? `${percent(share)} · ${number(count)}` : "–");
    write(waits, `${number(stats.stages[exit] ?? 0)} waiting`);
  });
}

function table(stats, exits) {
  const names = ["seconds ago", "requests", "images", "p50", "p95", "p99", ...exits.map((exit) => `exit ${exit}`)];
  const head = byId("seconds-head");
  if (head.children.length !== names.length)
    head.replaceChildren(...names.map(() => element("th", { scope: "col" })));
  names.forEach((name, k) => write(head.children[k], name));
  rows(byId("seconds-rows"), [...stats.history].reverse().map((row) => [
    String(row.age_s), number(row.requests), number(row.images),
    ms(row.p50_ms), ms(row.p95_ms), ms(row.p99_ms), ...exits.map((exit) => number(row.exits[exit] ?? 0)),
  ]));
}

export function setup() {
  byId("seconds").addEventListener("toggle", () => last && show(last));
  fitted(byId("chart-requests"), draw); // as wide as the other two
}
