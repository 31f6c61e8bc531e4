// The last minute, second by second, as three small charts with one axis of time.

import { byId, element, node, write } from "/page/element.js";
import { above, decades, linear, logarithmic, path } from "/page/scale.js";
import { ms, percent, rate } from "/page/words.js";

const HIGH = 140, LEFT = 44, RIGHT = 4, TOP = 10, BOTTOM = 22, SECONDS = 60;
const FLOOR = HIGH - BOTTOM;
const LINES = [["p99_ms", "p99"], ["p95_ms", "p95"], ["p50_ms", "p50"]]; // the middle on top

// How strong the colour of exit k of K is: the earliest is the strongest.
export const strength = (k, all) => (all < 2 ? 1 : 1 - (0.84 * k) / (all - 1));

// The exit shares' colours are those of the whole page: see strength().
export function draw(history, exits) {
  requests(byId("chart-requests"), history);
  latencies(byId("chart-latency"), history);
  shares(byId("chart-exits"), history, exits);
}

const x = (width) => linear(SECONDS - 1, 0, LEFT, width - RIGHT);

function requests(place, history) {
  const whole = history.filter((row) => row.age_s > 0); // the running second is not over
  const most = Math.max(0, ...whole.map((row) => row.requests));
  const top = Math.max(2, above(most)), y = linear(0, top, FLOOR, TOP);
  chart(place, most > 0, `Requests per second in the last minute: ${rate(whole.at(-1)?.requests ?? 0)} in the last whole second, ${rate(most)} at most.`, (width) => {
    const at = x(width), line = whole.map((row) => [at(row.age_s), y(row.requests)]);
    return [
      ...frame(width, [0, top / 2, top].map((value) => [y(value), String(value)])),
      node("path", { class: "area", d: `${path(line)}L${line.at(-1)[0]},${FLOOR}L${line[0][0]},${FLOOR}Z` }),
      node("path", { class: "line p50", d: path(line) }),
    ];
  });
}

function latencies(place, history) {
  const known = history.flatMap((row) => LINES.map(([key]) => row[key])).filter((value) => value > 0);
  const marks = known.length ? decades(Math.min(...known), Math.max(...known)) : [1, 10];
  const y = logarithmic(marks[0], marks.at(-1), FLOOR, TOP);
  const last = history.findLast((row) => row.requests > 0);
  const words = last ? LINES.map(([key, name]) => `${name} ${ms(last[key])}`).reverse().join(", ") : "none";
  chart(place, known.length > 0, `Latency in the last minute, latest second with requests: ${words}.`, (width) => {
    const at = x(width);
    return [
      ...frame(width, marks.map((value) => [y(value), tick(value)])),
      ...LINES.flatMap(([key, name]) => [
        node("path", { class: `line ${name}`, d: path(history.map((row) => [at(row.age_s), row[key] === null ? null : y(row[key])])) }),
        ...lonely(history, key).map((row) => node("circle", { class: `dot ${name}`, r: 2, cx: at(row.age_s), cy: y(row[key]) })),
      ]),
    ];
  });
}

// Seconds between two without requests: a line through one point is none.
const lonely = (history, key) => history.filter((row, k) =>
  row[key] !== null && (history[k - 1]?.[key] ?? null) === null && (history[k + 1]?.[key] ?? null) === null);

function shares(place, history, exits) {
  const total = (row) => exits.reduce((sum, exit) => sum + (row.exits[exit] ?? 0), 0);
  const all = history.reduce((sum, row) => sum + total(row), 0);
  const part = (exit) => history.reduce((sum, row) => sum + (row.exits[exit] ?? 0), 0) / (all || 1);
  const words = exits.map((exit) => `exit ${exit} ${percent(part(exit), 0)}`).join(", ");
  chart(place, all > 0, `Share of images that left at each exit in the last minute: ${words}.`, (width) => {
    const at = x(width), wide = (width - LEFT - RIGHT) / SECONDS, y = linear(0, 1, FLOOR, TOP);
    const made = frame(width, [0, 0.5, 1].map((share) => [y(share), percent(share, 0)]));
    for (const row of history) {
      const sum = total(row);
      let below = 0;
      if (sum)
        exits.forEach((exit, k) => {
          const share = (row.exits[exit] ?? 0) / sum;
          const left = Math.max(LEFT, at(row.age_s) - wide / 2);
          if (share)
            made.push(node("rect", { class: "part", "fill-opacity": strength(k, exits.length).toFixed(2), x: left,
              width: Math.max(1, wide - 1), y: y(below + share), height: y(below) - y(below + share) }));
          below += share;
        });
    }
    return made;
  });
}

// Draws what `inside(width)` makes, or says that there is nothing.
function chart(place, any, label, inside) {
  const width = place.clientWidth;
  if (!width) return;
  const svg = node("svg", { viewBox: `0 0 ${width} ${HIGH}`, role: "img", "aria-label": label });
  if (any) svg.append(...inside(width));
  else
    svg.append(...frame(width, []),
      node("text", { x: (LEFT + width) / 2, y: HIGH / 2, "text-anchor": "middle" }, "no requests in the last minute"));
  place.replaceChildren(svg);
}

// Marks of an axis are round numbers: no digits but those that they need.
const tick = (value) => (value < 1000 ? `${Number(value.toPrecision(3))}\u00a0ms` : `${value / 1000}\u00a0s`);

function frame(width, marks) {
  return [
    ...[...marks, ...(marks.length ? [] : [[FLOOR, ""]])].flatMap(([y, text]) => [
      node("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }),
      node("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, text),
    ]),
    node("text", { x: LEFT, y: HIGH - 5 }, "60 s ago"),
    node("text", { x: width - RIGHT, y: HIGH - 5, "text-anchor": "end" }, "now"),
  ];
}

// What each line and colour means, with its newest number.
export function legend(stats, exits) {
  const whole = stats.history.filter((row) => row.age_s > 0).map((row) => row.requests);
  write(byId("key-requests"), `last second ${whole.at(-1)}, at most ${Math.max(...whole)}`);
  for (const p of ["p50", "p95", "p99"]) write(byId(`key-${p}`), ms(stats.latency_ms[p]));
  const place = byId("key-exits");
  if (place.children.length !== exits.length)
    place.replaceChildren(...exits.map((exit, k) => {
      const swatch = element("i", { class: "swatch" });
      swatch.style.opacity = strength(k, exits.length);
      return element("span", {}, swatch, element("span"));
    }));
  exits.forEach((exit, k) => write(place.children[k].lastChild, `exit ${exit}`));
}
