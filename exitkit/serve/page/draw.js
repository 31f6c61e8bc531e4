// Inline SVG: the accuracy-compute curve, and the line of exits that one image ran along.

const SVG = "http://www.w3.org/2000/svg";

function node(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u00a0%`;

// At most about `count` round numbers from low to high.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) found.push(at);
  return found;
}

const WIDE = 560, HIGH = 300, LEFT = 46, RIGHT = 14, TOP = 12, BOTTOM = 40;

// Draws the curve into `place`; returns a function that moves the marker to a point.
export function curve(place, tradeoff) {
  const plain = tradeoff.plain_macs;
  const cost = (point) => point.mean_macs / plain;
  const points = [...tradeoff.points].sort((a, b) => a.mean_macs - b.mean_macs);
  const rights = points.map((p) => p.accuracy);
  const spread = Math.max(Math.max(...rights) - Math.min(...rights), 0.02);
  const low = Math.max(0, Math.min(...rights) - 0.12 * spread);
  const high = Math.min(1, Math.max(...rights) + 0.12 * spread);
  const most = Math.max(1, ...points.map(cost)) * 1.02;
  const x = (share) => LEFT + (share / most) * (WIDE - LEFT - RIGHT);
  const y = (right) => TOP + ((high - right) / (high - low)) * (HIGH - TOP - BOTTOM);

  const label = `Accuracy on the tune split against compute, ${points.length} thresholds`;
  const svg = node("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": label });
  for (const at of ticks(100 * low, 100 * high, 6)) {
    svg.append(node("line", { class: "grid", x1: LEFT, x2: WIDE - RIGHT, y1: y(at / 100), y2: y(at / 100) }));
    svg.append(node("text", { x: LEFT - 8, y: y(at / 100) + 4, "text-anchor": "end" }, `${+at.toFixed(2)} %`));
  }
  for (const at of ticks(0, 100 * most, 6))
    svg.append(node("text", { x: x(at / 100), y: HIGH - BOTTOM + 18, "text-anchor": "middle" }, `${+at.toFixed(0)} %`));
  const axis = "mean compute of an image, share of the network without exits";
  svg.append(node("text", { x: (LEFT + WIDE - RIGHT) / 2, y: HIGH - 3, "text-anchor": "middle" }, axis));
  svg.append(node("line", { class: "plain", x1: x(1), x2: x(1), y1: TOP, y2: HIGH - BOTTOM }));
  svg.append(node("text", { x: x(1) - 6, y: TOP + 10, "text-anchor": "end" }, "no exits"));

  const path = points.map((p) => `${x(cost(p)).toFixed(1)},${y(p.accuracy).toFixed(1)}`).join(" L");
  const [first, last] = [x(cost(points[0])), x(cost(points.at(-1)))];
  svg.append(node("path", { class: "area", d: `M${path} L${last},${HIGH - BOTTOM} L${first},${HIGH - BOTTOM} Z` }));
  svg.append(node("path", { class: "sweep", d: `M${path}` }));
  const force = tradeoff.in_force;
  if (force) {
    const ring = node("circle", { class: "force", r: 9, cx: x(cost(force)), cy: y(force.accuracy) });
    ring.append(node("title", {}, "in force"));
    svg.append(ring);
  }
  const here = node("circle", { class: "here", r: 6.5 });
  svg.append(here);
  place.replaceChildren(svg);
  return (point) => {
    here.setAttribute("cx", x(cost(point)));
    here.setAttribute("cy", y(point.accuracy));
  };
}

// Draws the exits at their share of the compute; `taken` is the one that answered, or null.
export function track(place, tradeoff, taken) {
  const width = 420, from = 14, to = width - 34, middle = 16;
  const most = Math.max(tradeoff.plain_macs, ...tradeoff.macs);
  const x = (macs) => from + (macs / most) * (to - from);
  const svg = node("svg", { viewBox: `0 0 ${width} 56` });
  svg.append(node("line", { class: "rail", x1: from, x2: x(tradeoff.macs.at(-1)), y1: middle, y2: middle }));
  const end = x(tradeoff.plain_macs);
  svg.append(node("line", { class: "end", x1: end, x2: end, y1: middle - 7, y2: middle + 7 }));
  if (Math.abs(end - x(tradeoff.macs.at(-1))) > 60) {
    svg.append(node("text", { x: end, y: 38, "text-anchor": "middle" }, "no exits"));
    svg.append(node("text", { x: end, y: 53, "text-anchor": "middle" }, "100 %"));
  }
  const index = tradeoff.exits.indexOf(taken);
  if (index >= 0)
    svg.append(node("line", { class: "run", x1: from, x2: x(tradeoff.macs[index]), y1: middle, y2: middle }));
  tradeoff.exits.forEach((exit, k) => {
    const kind = index < 0 || k > index ? "" : k === index ? "taken" : "passed";
    const group = node("g", { class: kind });
    group.append(node("circle", { cx: x(tradeoff.macs[k]), cy: middle, r: 7 }));
    const share = percent(tradeoff.macs[k] / tradeoff.plain_macs, 0);
    group.append(node("text", { x: x(tradeoff.macs[k]), y: 38, "text-anchor": "middle" }, `exit ${exit}`));
    group.append(node("text", { x: x(tradeoff.macs[k]), y: 53, "text-anchor": "middle" }, share));
    svg.append(group);
  });
  place.replaceChildren(svg);
}
