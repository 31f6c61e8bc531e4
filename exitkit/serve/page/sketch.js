// A canvas to draw on: with mouse, finger or pen, or with the arrow keys.

import { byId, write } from "/page/element.js";

const SIDE = 280; // pixels of the drawing, whatever its size on the screen
const WIDTH = 28; // of a stroke
const STEP = SIDE / 20; // of an arrow key; with Shift a third of it
const PAUSE_MS = 350; // after the last stroke, before the drawing is sent
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const AS_DRAWN = [1, 0, 0];

let strokes = []; // of points [x, y]
let pen = null; // the stroke that is being drawn
let at = [SIDE / 2, SIDE / 2]; // where the keyboard's pen is
let down = false; // whether it draws
let timer = 0;
let give = null, forget = null;

// Calls `given` with a file when a stroke has ended, `cleared` when nothing is left.
export function setup(given, cleared) {
  [give, forget] = [given, cleared];
  const canvas = byId("sketch");
  canvas.width = canvas.height = SIDE;
  canvas.addEventListener("pointerdown", begin);
  canvas.addEventListener("pointermove", move);
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end);
  canvas.addEventListener("keydown", key);
  canvas.addEventListener("blur", lift);
  byId("clear").addEventListener("click", () => remove(strokes.length));
  byId("undo").addEventListener("click", () => remove(1));
  for (const id of ["light", "fit"]) byId(id).addEventListener("change", () => { paint(); send(); });
  paint();
}

// Light strokes on a dark ground, or the other way round: as the network's training images are.
export function convention(mean) {
  const brightness = mean.reduce((sum, value) => sum + value, 0) / mean.length;
  byId("light").checked = brightness < 0.4;
  paint();
}

function place(event) {
  const box = event.target.getBoundingClientRect();
  return [(event.clientX - box.left) * (SIDE / box.width), (event.clientY - box.top) * (SIDE / box.height)];
}

function begin(event) {
  if (event.button !== 0) return;
  event.target.setPointerCapture(event.pointerId);
  clearTimeout(timer);
  pen = [place(event)];
  strokes.push(pen);
  paint();
}

function move(event) {
  if (!pen) return;
  const all = event.getCoalescedEvents?.() ?? [];
  for (const one of all.length ? all : [event])
    pen.push(place({ target: event.target, clientX: one.clientX, clientY: one.clientY }));
  paint();
}

function end() {
  if (!pen) return;
  pen = null;
  send();
}

function key(event) {
  if (event.key in ARROWS) {
    const [x, y] = ARROWS[event.key], step = event.shiftKey ? STEP / 3 : STEP;
    const inside = (value) => Math.min(SIDE - WIDTH / 2, Math.max(WIDTH / 2, value));
    at = [inside(at[0] + x * step), inside(at[1] + y * step)];
    if (down) {
      strokes.at(-1).push(at);
      send();
    }
  } else if (event.key === " " || event.key === "Enter") {
    if (down) return lift(event);
    down = true;
    strokes.push([at]);
    write(byId("pen"), "The pen is down: arrow keys draw.");
    send();
  } else if (event.key === "Delete" || event.key === "Backspace") {
    remove(1);
  } else return;
  event.preventDefault();
  paint();
}

function lift(event) {
  if (!down) return;
  down = false;
  write(byId("pen"), "The pen is up: arrow keys move.");
  if (event.type === "keydown") event.preventDefault();
  paint();
}

function remove(count) {
  down = false;
  strokes.splice(strokes.length - count, count);
  paint();
  clearTimeout(timer);
  if (strokes.length) return send();
  write(byId("pen"), "The drawing is empty.");
  forget();
}

function send() {
  clearTimeout(timer);
  if (!strokes.length) return;
  timer = setTimeout(() => {
    const sheet = document.createElement("canvas");
    sheet.width = sheet.height = SIDE;
    draw(sheet, byId("fit").checked ? fitted() : AS_DRAWN);
    sheet.toBlob((file) => give([file]), "image/png");
  }, PAUSE_MS);
}

function paint() {
  draw(byId("sketch"), AS_DRAWN);
  const ring = byId("ring"), invite = byId("invite");
  invite.hidden = strokes.length > 0;
  invite.style.color = byId("light").checked ? "#fff" : "#000";
  [ring.style.left, ring.style.top] = at.map((value) => `${(100 * value) / SIDE}%`);
  ring.classList.toggle("down", down);
}

// How a drawing comes to fill the frame: [scale, right, down]. A dot does not become a page.
function fitted() {
  const points = strokes.flat();
  const [[left, right], [top, bottom]] = [0, 1].map((k) => {
    const values = points.map((point) => point[k]);
    return [Math.min(...values), Math.max(...values)];
  });
  const scale = (SIDE - WIDTH) / Math.max(right - left, bottom - top, SIDE / 4);
  return [scale, (SIDE - scale * (left + right)) / 2, (SIDE - scale * (top + bottom)) / 2];
}

function draw(canvas, [scale, right, down]) {
  const context = canvas.getContext("2d", { alpha: false });
  const [ground, ink] = byId("light").checked ? ["#000", "#fff"] : ["#fff", "#000"];
  context.fillStyle = ground;
  context.fillRect(0, 0, SIDE, SIDE);
  context.strokeStyle = ink;
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = WIDTH; // of any drawing: fitting moves points, and keeps the pen
  for (const stroke of strokes) {
    const [first, ...others] = stroke.map(([x, y]) => [scale * x + right, scale * y + down]);
    context.beginPath();
    context.moveTo(...first);
    context.lineTo(...first); // a single point becomes a dot
    for (const point of others) context.lineTo(...point);
    context.stroke();
  }
}
