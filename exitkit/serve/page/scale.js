// From numbers to places on a chart, and round numbers for its axes.

// At most about `count` round numbers from low to high.
export function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * (1 - 1e-9));
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step)
    found.push(Number(at.toPrecision(12)));
  return found;
}

// A function that puts low..high at from..to, in pixels.
export const linear = (low, high, from, to) => (value) =>
  from + ((value - low) / (high - low || 1)) * (to - from);

// Powers of ten from at most `low` to at least `high`, two or more.
export function decades(low, high) {
  const first = Math.floor(Math.log10(low) + 1e-9), last = Math.ceil(Math.log10(high) - 1e-9);
  return Array.from({ length: Math.max(2, last - first + 1) }, (_, k) => 10 ** (first + k));
}

// A function that puts low..high at from..to, each power of ten as far from the next.
export function logarithmic(low, high, from, to) {
  const place = linear(Math.log10(low), Math.log10(high), from, to);
  return (value) => place(Math.log10(value));
}

// The next round number above: the top of an axis that begins at zero.
export function above(value) {
  const marks = ticks(0, value || 1, 3);
  const step = marks[1] ?? 1;
  return Math.ceil((value || 1) / step - 1e-9) * step;
}

// A path through points [x, y]; it is interrupted where y is null.
export function path(points) {
  let text = "", on = false;
  for (const [x, y] of points) {
    if (y !== null) text += `${on ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`;
    on = y !== null;
  }
  return text;
}

// Calls `draw` now and whenever the width of `place` is another one, unless it has none.
export function fitted(place, draw) {
  let width = 0;
  const watch = new ResizeObserver(() => {
    if (place.clientWidth === width) return;
    width = place.clientWidth;
    if (width) draw();
  });
  watch.observe(place);
}
