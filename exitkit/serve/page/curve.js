// The accuracy-latency curve: what each threshold gives and costs, and where the server is now.

import { node } from "/page/element.js";
import { linear, path, ticks } from "/page/scale.js";
import { ms, percent } from "/page/words.js";

const HIGH = 320, LEFT = 52, RIGHT = 16, TOP = 22, BOTTOM = 44;

// Mean milliseconds of an image that leaves by these shares, as measured at batch 1; or null.
export function predicted(tradeoff, shares) {
  const each = tradeoff.measured?.exit_ms;
  return each ? shares.reduce((sum, share, k) => sum + share * each[k], 0) : null;
}

// Shares of the exits over the last seconds, or null where nobody asked.
export function sharesNow(stats, exits) {
  const rows = (stats.history ?? []).filter((row) => row.age_s < (stats.now?.seconds ?? 0));
  const counts = exits.map((exit) => rows.reduce((sum, row) => sum + (row.exits[exit] ?? 0), 0));
  const all = counts.reduce((sum, count) => sum + count, 0);
  return all ? counts.map((count) => count / all) : null;
}

// Each axis: cost of a point, of leaving at exit k, of the measured point; its ticks and its name.
export const AXES = {
  compute: {
    title: "mean compute of an image, share of the network without exits",
    cost: (tradeoff, point) => point.mean_macs / tradeoff.plain_macs,
    now: (tradeoff, now) => now.macs_fraction,
    whole: () => 1,
    wholeName: "no exits",
    text: (value) => percent(value, 0),
  },
  ms: {
    title: "mean milliseconds of an image, predicted from times at batch 1",
    cost: (tradeoff, point) => predicted(tradeoff, point.shares),
    now: (tradeoff, now, shares) => (shares ? predicted(tradeoff, shares) : null),
    whole: (tradeoff) => tradeoff.measured.exit_ms.at(-1),
    wholeName: "all to the end",
    text: (value) => ms(value),
  },
};

// Draws everything into `place`. `state`: { tradeoff, axis, here, force, now, shares }: the points of
// the slider, in force (or null) and measured now (or null).
export function draw(place, width, state) {
  const { tradeoff, here, now } = state, axis = AXES[state.axis];
  const cost = (point) => axis.cost(tradeoff, point);
  const points = [...tradeoff.points].sort((a, b) => cost(a) - cost(b));
  const whole = axis.whole(tradeoff), measured = now && axis.now(tradeoff, now, state.shares);
  const most = 1.03 * Math.max(whole, measured ?? 0, ...points.map(cost));
  const [low, high] = range([...points.map((p) => p.accuracy), ...(measured === null ? [] : [now.confidence])]);
  const x = linear(0, most, LEFT, width - RIGHT), y = linear(low, high, HIGH - BOTTOM, TOP);
  const svg = node("svg", { viewBox: `0 0 ${width} ${HIGH}`, role: "img", "aria-label": describe(state, points) });
  svg.append(...axes(axis, width, x, y, [low, high], most));
  const line = points.map((p) => [x(cost(p)), y(p.accuracy)]);
  const floor = HIGH - BOTTOM;
  svg.append(
    node("path", { class: "area", d: `${path(line)}L${line.at(-1)[0]},${floor}L${line[0][0]},${floor}Z` }),
    node("path", { class: "sweep", d: path(line) }),
  );
  svg.append(...plain(axis.wholeName, x(whole)));
  const { force } = state;
  if (force) svg.append(node("circle", { class: "force", r: 9, cx: x(cost(force)), cy: y(force.accuracy) }));
  svg.append(node("circle", { class: "here", r: 6, cx: x(cost(here)), cy: y(here.accuracy) }));
  if (measured !== null) svg.append(diamond(x(measured), y(now.confidence)));
  place.replaceChildren(svg);
}

function range(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = 0.12 * Math.max(most - least, 0.02);
  return [Math.max(0, least - room), Math.min(1, most + room)];
}

function axes(axis, width, x, y, [low, high], most) {
  const made = [node("text", { x: LEFT - 44, y: 12 }, "accuracy")];
  for (const at of ticks(100 * low, 100 * high, 6)) {
    made.push(node("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(at / 100), y2: y(at / 100) }));
    made.push(node("text", { x: LEFT - 8, y: y(at / 100) + 4, "text-anchor": "end" }, `${at}\u00a0%`));
  }
  for (const at of ticks(0, most, width < 420 ? 4 : 6))
    made.push(node("text", { x: x(at), y: HIGH - BOTTOM + 18, "text-anchor": "middle" }, axis.text(at)));
  const short = width < 420 ? axis.title.split(",")[0] : axis.title;
  made.push(node("text", { x: (LEFT + width - RIGHT) / 2, y: HIGH - 4, "text-anchor": "middle" }, short));
  return made;
}

const plain = (name, at) => [
  node("line", { class: "plain", x1: at, x2: at, y1: TOP, y2: HIGH - BOTTOM }),
  node("text", { x: at, y: 12, "text-anchor": "end" }, name),
];

const diamond = (x, y) =>
  node("path", { class: "now", d: `M${x - 7},${y}L${x},${y - 7}L${x + 7},${y}L${x},${y + 7}Z` });

function describe({ tradeoff, axis, here, now }, points) {
  const cost = (p) => AXES[axis].text(AXES[axis].cost(tradeoff, p));
  const [first, last] = [points[0], points.at(-1)];
  const measured = now
    ? ` Measured now: expected accuracy ${percent(now.confidence)} at ${percent(now.macs_fraction, 0)} of the compute.`
    : "";
  return `Accuracy against ${AXES[axis].title}: from ${percent(first.accuracy)} at ${cost(first)} to `
    + `${percent(last.accuracy)} at ${cost(last)}. Chosen: ${percent(here.accuracy)} at ${cost(here)}.${measured}`;
}
