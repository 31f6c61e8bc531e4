// Renders /openapi.json: one foldable part per route, grouped by tag.

import { element as make } from "/page/element.js";
import { read } from "/page/server.js";

const element = (name, kind, ...inside) => make(name, kind ? { class: kind } : {}, ...inside);

// A schema as a short text: {"label": string, "exit": integer}
function shape(schema, depth = 0) {
  const pad = "  ".repeat(depth + 1), end = "  ".repeat(depth);
  if (schema.oneOf) return schema.oneOf.map((s) => shape(s, depth)).join("\n" + end + "or ");
  if (schema.anyOf) return [...new Set(schema.anyOf.map((s) => shape(s, depth)))].join(" or ");
  if (schema.type === "array") return `[${shape(schema.items ?? {}, depth)}, ...]`;
  if (schema.type === "object" && schema.properties) {
    const required = schema.required ?? [];
    const rows = Object.entries(schema.properties).map(([name, value]) => {
      const mark = required.includes(name) ? "" : "?";
      return `${pad}${name}${mark}: ${shape(value, depth + 1)}`;
    });
    return rows.length ? `{\n${rows.join(",\n")}\n${end}}` : "{}";
  }
  if (schema.format === "binary") return "file";
  const { minimum: least, maximum: most } = schema;
  const range = least === undefined ? "" : most === undefined ? ` from ${least}` : ` ${least} to ${most}`;
  return (schema.type ?? "any") + range;
}

// Paragraphs of a description, with `code` in its own type.
function prose(text) {
  return text.split(/\n\s*\n/).map((paragraph) => element("p", "",
    ...paragraph.split("`").map((part, k) => (k % 2 ? element("code", "", part) : part))));
}

function bodies(content) {
  const all = Object.entries(content ?? {});
  const files = all.filter(([, { schema }]) => schema?.format === "binary").map(([type]) => type);
  const found = all.filter(([type]) => !files.includes(type)).flatMap(([type, { schema = {} }]) =>
    [element("p", "", type), ...(Object.keys(schema).length ? [element("pre", "", shape(schema))] : [])]);
  if (files.length) found.push(element("p", "", `or the file itself as the body: ${files.join(", ")}`));
  return found;
}

function route(path, verb, about) {
  const inside = element("div", "inside", ...prose(about.description ?? ""));
  const parameters = about.parameters ?? [];
  if (parameters.length) inside.append(element("h3", "", "Parameters"));
  for (const { name, in: where, schema } of parameters)
    inside.append(...prose(`\`${name}\` (${where}): ${[shape(schema), schema.description].filter(Boolean).join(", ")}`));
  if (about.requestBody) inside.append(element("h3", "", "Body"), ...bodies(about.requestBody.content));
  inside.append(element("h3", "", "Answers"));
  for (const [status, answer] of Object.entries(about.responses ?? {}))
    inside.append(...prose(`${status}: ${answer.description}`),
      ...(status.startsWith("2") ? bodies(answer.content) : []));
  const head = element("summary", "", element("b", "", verb.toUpperCase()), ` ${path} `);
  return element("details", "card", head, inside);
}

const summary = document.getElementById("summary");
const table = await read("/openapi.json").catch((error) => {
  summary.textContent = `The API's description did not come (${error.message}). Load this page again.`;
  throw error;
});
summary.textContent = `${table.info.summary} Version ${table.info.version}.`;
const groups = new Map();
for (const [path, verbs] of Object.entries(table.paths))
  for (const [verb, about] of Object.entries(verbs)) {
    const tag = about.tags?.[0] ?? "other";
    if (!groups.has(tag)) groups.set(tag, []);
    groups.get(tag).push(route(path, verb, about));
  }
for (const [tag, routes] of groups)
  document.getElementById("routes").append(element("h2", "", tag), ...routes);
document.querySelector("details")?.setAttribute("open", "");
