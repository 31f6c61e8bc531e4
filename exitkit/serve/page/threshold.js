// The slider: what another threshold would change, and the commands that would use it.

import { byId, rows, write } from "/page/element.js";
import { AXES, draw, predicted, sharesNow } from "/page/curve.js";
import { fitted } from "/page/scale.js";
import { change, ms, percent, plural, threshold as digits } from "/page/words.js";

const PAUSE_MS = 120; // of the slider, before images are asked about again

let tradeoff = null, stats = null;
let chosen = null; // the point of the slider once it was moved; null: what is in force
let command = null; // (text or null to serve with, and to ask with) => { serve, ask }

// `moved(text or null)` is called when the slider rests; `commands` makes both commands.
export function setup(moved, commands) {
  command = commands;
  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => moved(wish()), PAUSE_MS);
  };
  byId("threshold").addEventListener("input", (event) => {
    chosen = tradeoff.points[event.target.value];
    show();
    later();
  });
  byId("back").addEventListener("click", () => {
    chosen = null;
    byId("threshold").focus();
    show();
    later();
  });
  for (const choice of document.querySelectorAll("input[name=axis]")) choice.addEventListener("change", chart);
  for (const button of document.querySelectorAll("button[data-copies]")) button.addEventListener("click", copy);
  fitted(byId("chart"), chart);
}

// What /tradeoff says; `fresh`: of another model, whose slider begins at what is in force.
export function network(table, fresh) {
  tradeoff = table;
  if (fresh) chosen = null;
  const slider = byId("threshold");
  slider.max = Math.max(0, tradeoff.points.length - 1);
  slider.disabled = tradeoff.exits.length < 2 || tradeoff.points.length < 2;
  byId("axis-ms").disabled = !tradeoff.measured;
  if (!tradeoff.measured) byId("axis-compute").checked = true;
  byId("buys").hidden = !tradeoff.points.length;
  byId("no-sweep").hidden = tradeoff.points.length > 0;
  show();
}

// What /stats says, each second.
export function live(table) {
  stats = table;
  if (tradeoff) show();
}

// What is asked for: the text of a threshold, or null for the server's own.
const wish = () => (chosen ? digits(chosen.threshold) : null);
// The text of the one threshold that the server was started with; null: those of the bundle.
function given() {
  const [one, ...others] = new Set(tradeoff.thresholds);
  const exported = tradeoff.chosen && Math.abs(tradeoff.chosen.threshold - one) < 1e-6;
  return one === undefined || others.length || exported ? null : digits(one);
}

// Under load a server may have lowered its thresholds to those of another point of the sweep.
const lowered = () => stats !== null && String(stats.thresholds) !== String(tradeoff.thresholds);

function force() {
  const [now] = stats?.thresholds ?? [];
  const point = lowered() ? tradeoff.points.find((one) => Math.abs(one.threshold - now) < 1e-6) : null;
  return point ?? tradeoff.in_force ?? null;
}

const here = () => chosen ?? force() ?? tradeoff.points[nearest()];

function nearest() {
  const wanted = (force() ?? tradeoff.chosen)?.threshold ?? tradeoff.thresholds[0] ?? 0;
  const distance = (point) => Math.abs(point.threshold - wanted);
  return tradeoff.points.reduce((best, p, k, all) => (distance(p) < distance(all[best]) ? k : best), 0);
}

function show() {
  if (!tradeoff.points.length) return;
  chart();
  if (!chosen) byId("threshold").value = nearest();
  const point = here(), words = summary(point);
  write(byId("value"), digits(point.threshold));
  byId("threshold").setAttribute("aria-valuetext", `threshold ${digits(point.threshold)}: ${words}`);
  byId("back").disabled = !chosen;
  write(byId("compared"), chosen ? `at ${digits(point.threshold)}` : "slider");
  rows(byId("changes"), changes(point));
  write(byId("recent"), recent());
  const { serve, ask } = command(wish() ?? given(), wish());
  write(byId("command-serve"), serve);
  write(byId("command-ask"), ask);
}

function chart() {
  const place = byId("chart");
  if (!tradeoff?.points.length || !place.clientWidth) return;
  const axis = document.querySelector("input[name=axis]:checked").value;
  const now = stats?.now ?? null;
  draw(place, place.clientWidth, { tradeoff, axis, here: here(), force: force(), now, shares: now && sharesNow(stats, tradeoff.exits) });
}

const summary = (point) => `${percent(point.accuracy, 2)} right at `
  + `${AXES.compute.text(AXES.compute.cost(tradeoff, point))} of the compute`;

// Rows of the table: name, in force, slider, difference, measured now.
function changes(point) {
  const now = stats?.now ?? null, shares = now && sharesNow(stats, tradeoff.exits);
  const points = (a, b) => `${change(100 * (a - b))}\u00a0pts`;
  const cost = (p) => p.mean_macs / tradeoff.plain_macs;
  // Name, how to read it of a point, how to write it and a difference, the measured value.
  const table = [
    ["accuracy", (p) => p.accuracy, (v) => percent(v), points, now?.confidence ?? null],
    ["compute", cost, (v) => percent(v), points, now?.macs_fraction ?? null],
    ...tradeoff.exits.map((exit, k) =>
      [`leave at exit ${exit}`, (p) => p.shares[k], (v) => percent(v), points, shares?.[k] ?? null]),
  ];
  if (tradeoff.measured) {
    const spent = (p) => predicted(tradeoff, p.shares);
    const later = (a, b) => `${change(a - b, 2)}\u00a0ms`;
    table.splice(2, 0, ["time in the network", spent, ms, later, shares && predicted(tradeoff, shares)]);
  }
  return table.map(([name, of, words, less, measured]) => [
    name,
    force() ? words(of(force())) : "–",
    words(of(point)),
    force() ? less(of(point), of(force())) : "–",
    measured === null ? "–" : words(measured),
  ]);
}

function recent() {
  const now = stats?.now;
  const load = lowered() ? `Under load, thresholds are lowered to ${[...new Set(stats.thresholds.map(digits))].join(", ")}. ` : "";
  if (!now) return load + "Nothing was asked in the last seconds, so there is no point measured now.";
  return load + `Measured now: ${plural(now.images, "image")} of the last ${now.seconds} s, half of the requests within `
    + `${ms(now.p50_ms)}. Its accuracy is expected accuracy from calibrated confidence: nobody knows the labels.`;
}

async function copy(event) {
  const code = byId(event.target.dataset.copies);
  try {
    await navigator.clipboard.writeText(code.textContent);
    write(byId("copied"), "Copied.");
  } catch { // not allowed, or not an encrypted page: the text is selected, to be copied by hand
    getSelection().selectAllChildren(code);
    write(byId("copied"), "The command is selected; copy it with the keyboard.");
  }
}
