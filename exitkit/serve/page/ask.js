// Asks about images and hands what comes to those who show it: the rows of exits, the gallery.

import { byId, write } from "/page/element.js";
import * as exits from "/page/exits.js";
import * as gallery from "/page/gallery.js";
import { query, Refused, stream } from "/page/server.js";

let wishes = null; // () => { model, threshold, thresholds }
let files = []; // asked about last
let chosen = 0; // the one whose way through the exits is shown
let seen = []; // events of the exits, for each file
let answers = []; // the last word, for each file
let running = null; // the request that is on its way; a new one takes its place

export const setup = (tell) => { wishes = tell; };

// New images: all are asked about in one request.
export function give(list) {
  if (!list.length) return;
  [files, chosen] = [list, 0];
  if (files.length > 1) gallery.open(files, choose);
  else gallery.close();
  gallery.mark(chosen);
  preview();
  ask(true);
}

// The same images once more, because the threshold or the model is another one.
export function again() {
  if (files.length) ask(false);
}

export function forget() {
  running?.abort();
  files = [];
  gallery.close();
  exits.begin(wishes().thresholds);
  preview();
}

function choose(k) {
  chosen = k;
  gallery.mark(k);
  preview();
  exits.begin(wishes().thresholds);
  seen[k].forEach(exits.arrive);
  if (answers[k]) conclude(answers[k], true, true);
}

async function ask(fresh) {
  running?.abort();
  const mine = (running = new AbortController());
  const { model, threshold, thresholds } = wishes();
  seen = files.map(() => []);
  answers = [];
  if (fresh) exits.begin(thresholds);
  const form = new FormData();
  for (const file of files) form.append("file", file, file.name ?? "image.png");
  try {
    const path = query("/predict", { stream: 1, model, threshold });
    for await (const { event, data } of stream(path, form, mine.signal)) {
      if (mine !== running) return;
      if (event === "error") throw new Refused(data.error, data.status);
      if (event === "exit") arrive(data, fresh);
      if (event === "answer") await finish(data, thresholds, fresh);
    }
    if (!answers.length) throw new Refused("The server's answer broke off. Ask again.", 0);
  } catch (error) {
    if (error.name !== "AbortError" && mine === running) fail(error);
  }
}

function arrive(event, fresh) {
  seen[event.image].push(event);
  if (files.length > 1) gallery.arrive(event);
  if (fresh && event.image === chosen) exits.arrive(event);
}

async function finish(found, thresholds, fresh) {
  answers = files.length > 1 ? found : [found];
  if (files.length > 1) gallery.finish(answers);
  const answer = answers[chosen];
  if (!fresh && !("error" in answer)) exits.replace(thresholds, seen[chosen], answer);
  await conclude(answer, fresh, files.length === 1);
}

// Ends the way of the chosen image; `alone`: it is the one to be spoken of.
async function conclude(answer, fresh, alone) {
  if ("error" in answer) exits.fail(answer.error);
  else if (fresh) await exits.finish(answer);
  if (!alone) write(byId("said"), byId("summary").textContent);
  else write(byId("said"), "error" in answer ? answer.error : exits.sentence());
}

function fail(error) {
  const text = error instanceof Refused ? error.message : "The server cannot be reached.";
  answers = files.map(() => ({ error: text }));
  exits.fail(text);
  if (files.length > 1) gallery.fail(text);
  write(byId("said"), text);
}

function preview() {
  const image = byId("preview"), sent = byId("sent"), file = files[chosen];
  URL.revokeObjectURL(image.src);
  image.hidden = sent.hidden = byId("again").hidden = !file;
  byId("hint").hidden = Boolean(file);
  if (!file) return image.removeAttribute("src");
  sent.src = image.src = URL.createObjectURL(file);
  image.alt = file.name ? `the image ${file.name}` : "the drawing as it was sent";
  image.onload = () => image.classList.toggle("tiny", image.naturalWidth < 128);
}
