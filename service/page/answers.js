// What the models answered: candidates by score, why the chosen one has its score, and where the time went.

import { byId, day, make, named, percent, summed, whole } from "./elements.js";
import { byItem, inCommon, inWords, pickedFor } from "./picked.js";

const LISTED = 10; // items, the heaviest
const CATEGORIES = 5;
const PROMISE_MS = 30;
const SCALE_MS = 2 * PROMISE_MS; // the bars' whole width, if nothing takes longer
const WRITTEN = 0.06; // of the width: what is shorter has its milliseconds below alone

// `found`: an answer for each model; `choose(index)` is told which candidate was chosen.
export function showAnswers(found, choose) {
  const answered = found.filter((one) => one.content);
  byId("answers").hidden = !found.length;
  byId("candidates").hidden = byId("times").hidden = !answered.length;
  if (!answered.length) {
    byId("reasons").replaceChildren(...found.map((one) => reason(one)));
    return;
  }
  const pick = (candidate) => {
    const words = answered.length === 2 && answered.some(({ content }) => content.behaviours) ? inCommon(answered, candidate) : "";
    const common = words ? [make("p", { class: "common" }, make("b", {}, "Overlap of what they picked: "), words)] : [];
    byId("reasons").replaceChildren(...common, ...found.map((one) => reason(one, candidate)));
    const ranks = answered.map((one) => `number ${ranksOf(one)[candidate]} by ${one.content.model}`);
    byId("chosen").textContent = `${answered[0].items[candidate]}: ${ranks.join(", ")}. ${words}`;
    choose(candidate);
  };
  byId("ranking").style.setProperty("--rows", answered[0].items.length);
  byId("ranking").replaceChildren(ranking(answered, pick));
  byId("stages").replaceChildren(...stages(answered));
  pick(orderOf(answered[0])[0]);
}

const orderOf = ({ content: { scores } }) => scores.map((_, i) => i).sort((one, other) => scores[other] - scores[one] || one - other);

function ranksOf(answer) {
  const ranks = [];
  orderOf(answer).forEach((candidate, rank) => { ranks[candidate] = rank + 1; });
  return ranks;
}

function ranking(answered, pick) {
  const order = orderOf(answered[0]);
  const columns = answered.map((one) => ({ ...one, ranks: ranksOf(one), best: Math.max(...one.content.scores) || 1 }));
  const head = make("tr", {}, make("th", { scope: "col" }, "item"), ...columns.map(({ content }) => make("th", { scope: "col", class: "score" }, content.model)));
  const { items, content: { categories } } = answered[0];
  const rows = order.map((candidate, place) => make("tr", {},
    make("td", {}, make("label", {},
      make("input", { type: "radio", name: "candidate", checked: place ? false : "", onchange: () => pick(candidate) }),
      make("span", {}, `${items[candidate]} `, make("small", {}, named(categories[candidate]).toLowerCase())))),
    ...columns.map(({ letter, content: { scores }, ranks, best }) => make("td", { class: `score ${letter}`, "--share": scores[candidate] / best },
      scores[candidate].toFixed(4), make("small", { title: "rank" }, ` ${ranks[candidate]}.`)))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

function reason({ letter, model, items, content, failed }, candidate) {
  const box = make("section", { class: `reason ${letter}`, "aria-label": model }, make("h2", {}, model));
  if (failed) {
    box.append(make("p", { class: "warning" }, failed));
    return box;
  }
  box.firstChild.replaceChildren(`${content.model} `, make("small", {}, content.version));
  for (const word of content.degraded) box.append(make("p", { class: "warning" }, `degraded: ${word}`));
  if (content.unknown_items) box.append(make("p", { class: "warning" }, `${content.unknown_items} candidates are unknown to this model`));
  const rank = orderOf({ content }).indexOf(candidate) + 1;
  box.append(make("p", { class: "verdict" }, make("b", {}, items[candidate]), ` is number ${rank} of ${items.length} with ${content.scores[candidate].toFixed(4)}.`));
  const picked = pickedFor(content, candidate);
  box.append(make("p", { class: "faint" }, inWords(content, picked)));
  if (picked.length) box.append(...attention(picked, content.picked));
  return box;
}

// By category and by item: shares of the attention, or how many times where nothing is weighed.
function attention(picked, { weights, state }) {
  const all = picked.reduce((sum, { size }) => sum + size, 0);
  const amount = (share) => (weights ? percent(share) : whole(Math.round(share * all)));
  const categories = summed(picked, ({ category }) => category);
  const items = byItem(picked);
  const left = items.slice(LISTED).reduce((sum, { share }) => sum + share, 0);
  const newest = state ? `, the newest ${whole(picked.length)} folded` : "";
  return [
    make("h3", {}, weights ? "Attention by category" : `Picked by category${newest}`),
    make("ol", {}, ...categories.slice(0, CATEGORIES).map(([name, share]) =>
      make("li", { "--share": share }, make("span", {}, named(name).toLowerCase()), make("b", {}, amount(share))))),
    make("h3", {}, weights ? "Heaviest items" : `Items picked${newest}`),
    make("ol", { class: "items" }, ...items.slice(0, LISTED).map((item) => line(item, items[0].share || 1, amount))),
    ...(items.length > LISTED ? [make("p", { class: "faint" }, `and ${whole(items.length - LISTED)} more items with ${amount(left)}`)] : []),
  ];
}

// One item; opened, each of its behaviours.
function line({ item_id, category, share, times, first, last, each }, most, amount) {
  const days = day(first) === day(last) ? day(first) : `${day(first)} to ${day(last)}`;
  const one = ({ ts, size, share: own }) => make("li", {}, make("span", {}, `${day(ts)}${size > 1 ? `, a cluster of ${size}` : ""}`), make("span", {}, amount(own)));
  return make("li", { "--share": share / most }, make("details", {},
    make("summary", {}, make("span", {}, named(item_id), make("small", {}, ` ${named(category).toLowerCase()}`)), make("b", {}, amount(share)),
      make("small", { class: "when" }, `${times === 1 ? "once" : `${whole(times)} times`}, ${days}`)),
    make("ol", {}, ...each.map(one))));
}

function stages(answered) {
  const timed = answered.map(({ content, timing }) => {
    const parts = timing.split(", ").filter(Boolean).map((part) => part.split(";dur=")).map(([name, ms]) => [name, Number(ms)]);
    return { model: content.model, parts: parts.filter(([name]) => name !== "total"), total: parts.find(([name]) => name === "total")?.[1] ?? 0 };
  });
  const scale = Math.max(SCALE_MS, ...timed.map(({ total }) => total));
  const rows = timed.map(({ model, parts, total }) => make("tr", {}, make("th", { scope: "row" }, model),
    make("td", { class: "scale", "--promise": PROMISE_MS / scale }, make("div", { class: "bar", "--share": total / scale, role: "img", "aria-label": parts.map(([name, ms]) => `${name} ${ms.toFixed(2)} ms`).join(", ") },
      ...parts.map(([name, ms]) => make("span", { class: name, "--ms": ms, title: `${name}: ${ms.toFixed(2)} ms` }, ms / scale < WRITTEN ? "" : ms.toFixed(1))))),
    make("td", { class: "ms" }, `${total.toFixed(1)} ms`)));
  const keys = timed[0].parts.map(([name], stage) => make("span", {}, make("span", { class: `key ${name}` }),
    `${name} ${timed.map(({ parts }) => parts[stage][1].toFixed(1)).join(" | ")}`));
  return [
    make("table", { class: "stages" }, make("tbody", {}, ...rows)), make("p", { class: "legend" }, ...keys),
    make("p", { class: "faint" }, `The line is at ${PROMISE_MS} ms. Here the last stage names all that was picked; /score does so for what explain asks for.`),
  ];
}
