// What is shown: a user's tree, and a model's answer. Texts from the outside are set as text, never as markup.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "share" || name === "ms") element.style.setProperty(`--${name}`, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const day = (ts) => new Date(ts * 1000).toISOString().slice(0, 10);
const named = (name) => name ?? "(unknown)";

// Categories by time; `picked`: behaviours {category, ts} that were attended to.
export function showMap(section, map, picked) {
  section.hidden = false;
  const [summary, place] = [section.querySelector("#tree-summary"), section.querySelector("#map")];
  place.replaceChildren();
  if (map.failed) {
    summary.textContent = `The behaviours cannot be shown: ${map.failed}`;
    return;
  }
  if (!map.total) {
    summary.textContent = "This user has no behaviours: scores come from the items and the context alone.";
    return;
  }
  const others = map.other_categories ? `, and ${map.other_categories} smaller categories` : "";
  summary.textContent = `${map.total.toLocaleString("en")} behaviours from ${day(map.edges[0])} to ${day(map.edges.at(-1))}${others}`;
  const bins = map.edges.length - 1;
  const span = map.edges[bins] - map.edges[0] || 1;
  const binOf = (ts) => Math.min(Math.max(Math.floor(((ts - map.edges[0]) / span) * bins), 0), bins - 1);
  const marked = new Set(picked.map(({ category, ts }) => `${category}|${binOf(ts)}`));
  const most = Math.max(...map.categories.flatMap((row) => row.counts));
  const body = make("tbody");
  for (const row of map.categories) {
    const line = make("tr", {}, make("th", { scope: "row", title: named(row.category) }, `${named(row.category)} ${row.total}`));
    row.counts.forEach((count, bin) => {
      const cell = make("td", { share: count ? 0.12 + 0.88 * Math.sqrt(count / most) : 0, title: `${named(row.category)}, ${day(map.edges[bin])}: ${count}` });
      if (marked.has(`${row.category}|${bin}`)) cell.className = "picked";
      line.append(cell);
    });
    body.append(line);
  }
  const half = Math.floor(bins / 2);
  const foot = make("tfoot", {}, make("tr", {}, make("th"), make("td", { colspan: half }, day(map.edges[0])), make("td", { colspan: bins - half }, day(map.edges[half]))));
  place.append(make("table", { "aria-label": "Behaviours by category and time" }, body, foot));
}

// One model's candidates, the best first; `choose(picked)` is told what the chosen one attended to.
export function showAnswer({ model, items, content, timing, failed }, choose) {
  const box = make("section", { class: "answer", "aria-label": model }, make("h2", {}, model));
  if (failed) {
    box.append(make("p", { class: "warning" }, failed));
    return box;
  }
  box.firstChild.textContent = `${content.model} ${content.version}`;
  for (const word of content.degraded) box.append(make("p", { class: "warning" }, `degraded: ${word}`));
  if (content.unknown_items) box.append(make("p", { class: "warning" }, `${content.unknown_items} candidates are unknown to this model`));
  box.append(...stages(timing), make("p", { class: "stage-list" }, `searched ${content.behaviours.toLocaleString("en")} behaviours`));
  const order = content.scores.map((_, i) => i).sort((a, b) => content.scores[b] - content.scores[a] || a - b);
  const best = content.scores[order[0]] || 1;
  const detail = make("div", { "aria-live": "polite" });
  const rows = order.map((i, rank) => make("tr", {},
    make("td", { class: "number" }, String(rank + 1)),
    make("td", {}, make("button", { type: "button", onclick: () => pick(rank) }, items[i])),
    make("td", { class: "number bar", share: content.scores[i] / best }, content.scores[i].toFixed(4))));
  const pick = (rank) => {
    rows.forEach((row, at) => row.setAttribute("aria-current", String(at === rank)));
    const found = content.explanations?.[order[rank]];
    detail.replaceChildren(...why(items[order[rank]], found));
    choose(found ?? []);
  };
  const head = make("tr", {}, make("th", { scope: "col" }, "rank"), make("th", { scope: "col" }, "item"), make("th", { scope: "col" }, "score"));
  const list = make("table", { class: "scores" }, make("thead", {}, head), make("tbody", {}, ...rows));
  box.append(make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Scores of ${model}; scrolls` }, list), detail);
  return box;
}

function stages(timing) {
  const parts = timing.split(", ").filter(Boolean).map((part) => part.split(";dur="));
  const own = parts.filter(([name]) => name !== "total");
  if (!own.length) return [];
  const bar = make("div", { class: "stages", role: "img", "aria-label": "Time of each stage" });
  for (const [name, ms] of own) bar.append(make("span", { ms, title: `${name}: ${ms} ms` }));
  const total = parts.find(([name]) => name === "total")?.[1] ?? "";
  const texts = own.map(([name, ms]) => `${name} ${Number(ms).toFixed(2)}`);
  return [bar, make("p", { class: "stage-list" }, `${Number(total).toFixed(2)} ms: ${texts.join(", ")}`)];
}

function why(item, found) {
  const title = make("h2", {}, `Why ${item}?`);
  if (found === undefined) return [title, make("p", {}, "This model has no weight for each behaviour.")];
  if (!found.length) return [title, make("p", {}, "It attended to no behaviour: there is none that its search would find.")];
  const most = found[0].weight || 1;
  const lines = found.map(({ item_id, category, ts, weight }) => make("li", { class: "bar", share: weight / most },
    make("span", {}, `${named(item_id)}, ${named(category)}, ${day(ts)}`), make("span", {}, weight.toFixed(3))));
  return [title, make("ol", { class: "picked-list" }, ...lines)];
}
