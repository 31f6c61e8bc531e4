// Everything that is asked of the server: JSON, a stream of events, the token on the way.

import { bearer, refused, wanted } from "/page/token.js";

const PATIENCE_MS = 10000; // for one answer of numbers; images have their own deadlines

// The server understood, and said no in words.
export class Refused extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

// `path` with the parameters that have a value.
export function query(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

// Asks until there is an answer that is no 401: the token is asked for in between.
async function ask(path, make) {
  for (;;) {
    const sent = bearer();
    const response = await fetch(path, { ...make(), headers: sent ? { Authorization: `Bearer ${sent}` } : {} });
    if (response.status === 401) {
      refused(sent);
      await wanted();
      continue;
    }
    if (!response.ok) throw new Refused(await reason(response), response.status);
    return response;
  }
}

async function reason(response) {
  try {
    return (await response.json()).error ?? response.statusText;
  } catch {
    return `the server answered ${response.status} ${response.statusText}`;
  }
}

export async function read(path) {
  const response = await ask(path, () => ({ signal: AbortSignal.timeout(PATIENCE_MS) }));
  return response.json();
}

// Yields { event, data } as the server sends them (server-sent events over POST).
export async function* stream(path, body, signal) {
  const response = await ask(path, () => ({ method: "POST", body, signal }));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).replaceAll("\r\n", "\n").split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const found = event(part);
      if (found) yield found;
    }
  }
}

function event(text) {
  let name = "message";
  const data = [];
  for (const line of text.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "event") name = value;
    if (field === "data") data.push(value);
  }
  return data.length ? { event: name, data: JSON.parse(data.join("\n")) } : null;
}
