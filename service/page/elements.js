// Elements. Texts from the outside are set as text, never as markup.

export const byId = (id) => document.getElementById(id);

// An element; `on...` are listeners, `--...` properties of its style, false leaves an attribute out.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export const whole = (number) => number.toLocaleString("en");
export const day = (ts) => new Date(ts * 1000).toISOString().slice(0, 10);
export const percent = (share) => `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`;
export const named = (name) => name ?? "(unknown)";

// Sums of shares by a key, the largest first.
export function summed(picked, keyOf) {
  const sums = new Map();
  for (const one of picked) sums.set(keyOf(one), (sums.get(keyOf(one)) ?? 0) + one.share);
  return [...sums].sort((one, other) => other[1] - one[1]);
}
