// Makes elements. Text goes in as text, never as markup: class names and file names are strangers'.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...inside) {
  return fill(document.createElement(name), attributes, inside);
}

// The same inside an <svg>.
export function node(name, attributes = {}, ...inside) {
  return fill(document.createElementNS(SVG, name), attributes, inside);
}

function fill(made, attributes, inside) {
  for (const [key, value] of Object.entries(attributes))
    if (value !== null) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

// Writes only what is new, so that screen readers and selections are left in peace.
export function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// A bar that is filled to a share; `mark` draws a line at another one.
export function bar(share, mark = null) {
  const inside = element("i");
  inside.style.width = `${(100 * share).toFixed(2)}%`;
  const made = element("span", { class: "bar", "aria-hidden": "true" }, inside);
  if (mark !== null) {
    const line = element("b");
    line.style.left = `${(100 * mark).toFixed(2)}%`;
    made.append(line);
  }
  return made;
}

// Puts rows of texts into a table's body, its first column as headings; cells that stay the same
// are left alone.
export function rows(body, table) {
  if (body.rows.length !== table.length || body.rows[0]?.cells.length !== table[0]?.length)
    body.replaceChildren(...table.map((texts) => element("tr", {},
      ...texts.map((_, k) => (k ? element("td") : element("th", { scope: "row" }))))));
  table.forEach((texts, r) => texts.forEach((text, c) => write(body.rows[r].cells[c], text)));
}
