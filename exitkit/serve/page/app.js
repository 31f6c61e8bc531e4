// The page: asks the server each second, and hands what it says to the parts of the page.

import * as ask from "/page/ask.js";
import * as choose from "/page/choose.js";
import { byId, element, write } from "/page/element.js";
import * as exits from "/page/exits.js";
import * as live from "/page/live.js";
import { query, read, Refused } from "/page/server.js";
import * as sketch from "/page/sketch.js";
import * as threshold from "/page/threshold.js";
import { bearer } from "/page/token.js";

const EVERY_MS = 1000;

let model = null; // chosen by hand; null: the server's first
let tradeoff = null; // of the model that is shown
let stats = null;
let lost = false; // whether the server did not answer lately
let shown = null; // name of the model that the page was set up for
let moved = null; // the slider's threshold as a text; null: the server's

// --- what the server says, each second ---------------------------------------------------------

async function turn() {
  const before = stats, asked = model;
  stats = await read(query("/stats", { model }));
  if (asked !== model) return;
  // A server that was away may be another one, and a model that was loaded anew another network.
  const other = !tradeoff || lost || identity(before) !== identity(stats);
  if (other || String(stats.thresholds) !== String(before?.thresholds)) await network(other);
  lost = false;
  about();
  live.show(stats);
  threshold.live(stats);
  state(stats.ready ? "ready" : "not ready: it loads a model or stops", stats.ready ? "on" : "off");
}

const identity = ({ model, arch, method, exits }) => JSON.stringify([model, arch, method, Object.keys(exits)]);

// Reads the sweep again: of another model, or because other thresholds are in force.
async function network(other) {
  tradeoff = await read(query("/tradeoff", { model }));
  if (other) {
    moved = null;
    exits.reset(tradeoff, stats.thresholds);
    const { properties, inputs } = await read(`/v2/models/${encodeURIComponent(stats.model)}`);
    const [, , height, width] = inputs[0].shape;
    write(byId("size"), `The network sees ${width} × ${height} pixels.`);
    if (shown !== stats.model) sketch.convention(JSON.parse(properties.mean));
    shown = stats.model;
    ask.again();
  }
  threshold.network(tradeoff, other);
}

function about() {
  write(byId("about"), `${stats.method} on ${stats.arch}, exits ${tradeoff.exits.join(", ")}`);
  document.title = `${stats.model} · exitkit`;
  const select = byId("model"), names = stats.models;
  if ([...select.options].map((option) => option.value).join() !== names.join())
    select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  select.value = stats.model;
  byId("models").hidden = names.length < 2;
  byId("name").hidden = names.length > 1;
  write(byId("name"), stats.model);
}

function state(text, kind) {
  write(byId("state"), text);
  byId("state").className = `state ${kind}`;
}

function trouble(error) {
  lost = true;
  if (error instanceof Refused) {
    if (error.status === 404) model = null; // another server, which has no such model
    state(error.message, "off");
  } else if (error instanceof TypeError || error.name === "TimeoutError") {
    state("no connection, trying again", "off");
  } else {
    state("this page failed, see its console", "off");
    reportError(error);
  }
}

async function watch() {
  for (;;) {
    if (!document.hidden)
      try {
        await turn();
      } catch (error) {
        trouble(error);
      }
    await pause();
  }
}

// A second, or until the page is looked at again.
const pause = () => new Promise((resolve) => {
  const timer = setTimeout(done, EVERY_MS);
  document.addEventListener("visibilitychange", done);
  function done() {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", done);
    resolve();
  }
});

// --- what people do ----------------------------------------------------------------------------

function commands(served, asked) {
  const token = bearer() ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const path = query("/predict", { model, threshold: asked });
  return {
    serve: `exitkit serve ${quoted(stats?.model ?? "")}${served === null ? "" : ` --threshold ${served}`}`,
    ask: `curl${token} -F file=@image.png '${location.origin}${path}'`,
  };
}

// A name as one word for a shell, whatever stands in it.
const quoted = (name) => (/^[\w.-]*$/.test(name) ? name : `'${name.replaceAll("'", `'\\''`)}'`);

function tab() {
  const drawing = byId("by-drawing").checked;
  byId("drop").hidden = drawing;
  byId("draw").hidden = !drawing;
}

for (const id of ["by-file", "by-drawing"]) byId(id).addEventListener("change", tab);
byId("model").addEventListener("change", (event) => {
  model = event.target.value;
  tradeoff = null;
  state("another model", "");
});
ask.setup(() => ({
  model,
  threshold: moved,
  thresholds: moved === null ? (stats?.thresholds ?? []) : (tradeoff?.thresholds ?? []).map(() => Number(moved)),
}));
choose.setup((files) => {
  byId("by-file").checked = true;
  tab();
  ask.give(files);
});
sketch.setup(ask.give, ask.forget);
threshold.setup((value) => {
  moved = value;
  ask.again();
}, commands);
live.setup();
tab();
watch();
