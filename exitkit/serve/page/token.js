// The server's token: asked for when a route wants one, kept until the tab is closed.

import { element, write } from "/page/element.js";

const KEY = "exitkit-token";
let waiting = null; // for the form: { promise, go }

const field = element("input", { type: "password", id: "token", autocomplete: "off", required: "",
  "aria-describedby": "gate-error gate-note" });
const complaint = element("p", { id: "gate-error", class: "error", role: "alert" });
const form = element("form", { id: "gate", class: "card gate", "aria-labelledby": "gate-title", hidden: "" },
  element("h2", { id: "gate-title" }, "This server asks for a token"),
  element("label", { for: "token" }, "Token"),
  field,
  element("button", { type: "submit", class: "strong" }, "Go on"),
  complaint,
  element("p", { id: "gate-note", class: "quiet" }, "It stays in this tab and is forgotten when you close it."));

export const bearer = () => sessionStorage.getItem(KEY);

// A route did not take `sent` (null: there was none).
export function refused(sent) {
  if (sent !== bearer()) return; // another request has brought a new one since
  sessionStorage.removeItem(KEY);
  write(complaint, sent ? "The server did not accept this token. Try another one." : "");
}

// Shows the form; resolves when a token was given. All who wait share one form.
export function wanted() {
  if (bearer()) return Promise.resolve();
  if (!waiting) {
    let go;
    const promise = new Promise((resolve) => { go = resolve; });
    waiting = { promise, go };
    show(true);
  }
  return waiting.promise;
}

function show(open) {
  form.hidden = !open;
  document.body.classList.toggle("locked", open);
  if (open) field.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = field.value.trim();
  field.value = "";
  if (!given || !waiting) return;
  // The browser would not even send it.
  if (!/^[!-~]+$/.test(given)) return write(complaint, "A token is of ASCII characters without spaces. Try another one.");
  sessionStorage.setItem(KEY, given);
  const { go } = waiting;
  waiting = null;
  show(false);
  go();
});
document.querySelector("header").after(form);
