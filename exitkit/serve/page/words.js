// Numbers as people read them, each with its unit.

const SPACE = "\u00a0"; // keeps a number and its unit on one line

export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}${SPACE}%`;

export const number = (value) => value.toLocaleString("en");

export const plural = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;

// At most three digits: 0.42 ms, 3.14 ms, 31.4 ms, 314 ms, 3.14 s.
export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${(value / 1000).toPrecision(3)}${SPACE}s`;
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)}${SPACE}ms`;
}

export const rate = (value) => (value < 10 ? value.toFixed(1) : number(Math.round(value)));

// +0.6, −1.2, 0.0: with a real minus sign.
export function change(value, digits = 1) {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return (value < 0 ? "−" : "+") + text;
}

// A threshold as it is shown, and as it is sent. Close to 1 many lie side by side: 0.99998 has to
// be told from 0.99996, and from 1.
export function threshold(value) {
  const digits = value < 1 ? Math.max(4, 1 + Math.ceil(-Math.log10(1 - value))) : 0;
  return String(Number(value.toFixed(digits)));
}
