// What the models answered: candidates by score, why the chosen one has its score, and where the time went.

import { byId, day, make, named, percent, summed, whole } from "./elements.js";

const LISTED = 10; // behaviours, the heaviest
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
    byId("reasons").replaceChildren(...found.map((one) => reason(one, candidate)));
    choose(candidate);
  };
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
      make("span", {}, items[candidate], make("small", {}, named(categories[candidate]).toLowerCase())))),
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
  const picked = content.explanations?.[candidate];
  if (!picked) {
    box.append(make("p", { class: "faint" }, `Searched: ${whole(content.behaviours)} behaviours. This model has no weight for each of them.`));
    return box;
  }
  const searched = content.behaviours ? `the ${whole(content.behaviours)} behaviours that were searched` : "no behaviours: there are none to search";
  const attends = picked.length ? `It attends to ${whole(picked.length)} of ${searched}.` : `It attends to ${content.behaviours ? "none of " : ""}${searched}.`;
  box.append(make("p", { class: "faint" }, attends));
  if (picked.length) box.append(...attention(picked));
  return box;
}

function attention(picked) {
  const total = picked.reduce((sum, { weight }) => sum + weight, 0) || 1;
  const categories = summed(picked, ({ category }) => category);
  const listed = picked.slice(0, LISTED);
  const left = picked.slice(LISTED).reduce((sum, { weight }) => sum + weight, 0);
  const line = (weight, most, ...texts) => make("li", { "--share": weight / most }, make("span", {}, ...texts), make("b", {}, percent(weight / total)));
  return [
    make("h3", {}, "Attention by category"),
    make("ol", {}, ...categories.slice(0, CATEGORIES).map(([name, weight]) => line(weight, total, named(name).toLowerCase()))),
    make("h3", {}, "Heaviest behaviours"),
    make("ol", {}, ...listed.map(({ item_id, category, ts, weight }) => line(weight, picked[0].weight || 1, `${day(ts)} `, named(item_id), make("small", {}, ` ${named(category).toLowerCase()}`)))),
    ...(picked.length > LISTED ? [make("p", { class: "faint" }, `and ${whole(picked.length - LISTED)} more with ${percent(left / total)}`)] : []),
  ];
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
    make("p", { class: "faint" }, `The line is at ${PROMISE_MS} ms. Here the last stage names every behaviour that was attended to; /score does so for those that explain asks for.`),
  ];
}
