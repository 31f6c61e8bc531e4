// The page: one image at a time to /predict, the sweep from /tradeoff, live numbers from /stats.

import { curve, percent, track } from "/page/draw.js";

const EVERY_MS = 2000;
const byId = (id) => document.getElementById(id);

function element(name, className, ...inside) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...inside);
  return made;
}

function bar(share, fill = null) {
  const inside = fill ?? element("i");
  inside.style.width = `${(100 * share).toFixed(2)}%`;
  return element("div", "bar", inside);
}

async function read(path, options) {
  const response = await fetch(path, options);
  const table = await response.json();
  if (!response.ok) throw new Error(table.error);
  return table;
}

let tradeoff = null; // of this server
let threshold = null; // moved by hand, or null: the server's
let image = null; // the last one that was chosen

// --- one image -------------------------------------------------------------------------------

async function ask() {
  if (!image) return;
  const asked = image, form = new FormData();
  form.append("file", asked);
  const query = threshold === null ? "" : `?threshold=${threshold}`;
  try {
    const found = await read(`/predict${query}`, { method: "POST", body: form });
    if (asked === image) show(found);
  } catch (error) {
    byId("answer").replaceChildren(element("p", "error", error.message));
    if (tradeoff) track(byId("track"), tradeoff, null);
  }
}

function show(found) {
  const bold = (text) => element("b", "", text);
  const facts = element("p", "facts", bold(percent(found.probability)), " sure, left at ",
    bold(`exit ${found.exit}`), ", ", bold(`${found.ms.toFixed(1)} ms`));
  byId("answer").replaceChildren(element("p", "label", found.label), facts, bar(found.probability));
  if (tradeoff) track(byId("track"), tradeoff, found.exit);
}

function choose(file) {
  if (!file) return;
  image = file;
  const preview = byId("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  byId("hint").hidden = true;
  preview.onload = () => preview.classList.toggle("tiny", preview.naturalWidth < 128);
  ask();
}

function listen() {
  const drop = byId("drop");
  byId("file").addEventListener("change", (event) => choose(event.target.files[0]));
  document.addEventListener("paste", (event) => choose(event.clipboardData.files[0]));
  for (const name of ["dragover", "drop", "dragleave"])
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") choose(event.dataTransfer.files[0]);
    });
}

// --- the curve -------------------------------------------------------------------------------

function words(point) {
  const exits = tradeoff.exits.map((k, i) => `exit ${k} ${percent(point.shares[i], 0)}`).join(", ");
  const cost = percent(point.mean_macs / tradeoff.plain_macs);
  return `${percent(point.accuracy, 2)} right at ${cost} of the compute; ${exits}`;
}

async function drawCurve() {
  tradeoff = await read("/tradeoff");
  track(byId("track"), tradeoff, null);
  if (!tradeoff.points.length) return;
  const points = tradeoff.points, slider = byId("threshold");
  const start = tradeoff.in_force ?? tradeoff.chosen ?? points[0];
  const move = curve(byId("chart"), tradeoff);
  const set = (point, note) => {
    move(point);
    byId("point").textContent = note + words(point);
    byId("value").textContent = point.threshold.toFixed(3);
    slider.setAttribute("aria-valuetext", `threshold ${point.threshold.toFixed(3)}: ${words(point)}`);
  };
  const distance = (p) => Math.abs(p.threshold - start.threshold);
  slider.max = points.length - 1;
  slider.value = points.reduce((best, p, i) => (distance(p) < distance(points[best]) ? i : best), 0);
  slider.disabled = tradeoff.exits.length < 2;
  set(start, tradeoff.in_force ? "In force: " : "");
  let waiting = 0;
  slider.addEventListener("input", () => {
    const point = points[slider.value];
    threshold = point.threshold;
    set(point, "");
    clearTimeout(waiting);
    waiting = setTimeout(ask, 120);
  });
}

// --- live numbers ----------------------------------------------------------------------------

const fills = new Map(); // exit -> the part of its bar that grows

function live(stats) {
  byId("model").textContent = `${stats.model} · ${stats.method} on ${stats.arch}`;
  document.title = `${stats.model} · exitkit`;
  const rows = Object.entries(stats.exits).map(([exit, count]) => {
    const share = stats.images ? count / stats.images : 0;
    if (!fills.has(exit)) fills.set(exit, element("i"));
    const text = stats.images ? `${percent(share)} · ${count.toLocaleString("en")}` : "–";
    return element("li", "", `exit ${exit}`, bar(share, fills.get(exit)), element("span", "count", text));
  });
  byId("shares").replaceChildren(...rows);
  const ms = (value) => (value === null ? "–" : `${value.toFixed(1)} ms`);
  const numbers = {
    "images answered": stats.images.toLocaleString("en"),
    "images per second": stats.images_per_s.toFixed(1),
    "median latency": ms(stats.latency_ms.p50),
    "95th percentile": ms(stats.latency_ms.p95),
    "compute saved": stats.images ? percent(stats.compute_saved) : "–",
    "waiting": String(stats.queue),
  };
  byId("numbers").replaceChildren(...Object.entries(numbers).map(([name, value]) =>
    element("div", "", element("dt", "", name), element("dd", "", value))));
}

function state(text, kind) {
  const place = byId("state");
  if (place.textContent !== text) place.textContent = text;
  place.className = `state ${kind}`;
}

async function poll() {
  if (document.hidden) return;
  try {
    const stats = await read("/stats");
    live(stats);
    state(stats.ready ? "ready" : "stopping", stats.ready ? "on" : "off");
    if (!tradeoff) await drawCurve();
  } catch {
    state("no connection", "off");
  }
}

byId("origin").textContent = location.host;
listen();
poll();
setInterval(poll, EVERY_MS);
document.addEventListener("visibilitychange", poll);
