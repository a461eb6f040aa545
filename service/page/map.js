// A user's behaviours by category and time, and what the candidates attended to among them.

import { byId, day, make, named, summed, whole } from "./elements.js";
import { walkable } from "./grid.js";
import { pickedFor } from "./picked.js";

const ATTENDED = 8; // categories with most attention: they come first
const SHOWN = 14; // categories in all, until somebody asks for more
let all = false;

// `candidate`: the index of the one that was chosen; nothing was `found` yet, or by no model.
export function showMap(map, found, candidate) {
  const [section, summary, place, more] = ["tree", "tree-summary", "map", "more"].map(byId);
  section.hidden = false;
  for (const below of [place, byId("cell"), byId("below-map")]) below.hidden = !map.total;
  if (!map.total) {
    summary.textContent = map.failed
      ? `They could not be read: ${map.failed.replace(/\.$/, "")}. Scores come from items and context alone, and say so.`
      : "This user has none. Scores come from the items and the context alone.";
    return;
  }
  const [first, last] = [map.edges[0], map.edges.at(-1)];
  summary.textContent = `${whole(map.total)} behaviours from ${day(first)} to ${day(last)}`
    + (map.at <= last ? `; those from ${day(map.at)} on are later than what was asked` : "")
    + (map.bad_records ? `; ${map.bad_records} values could not be read` : "");
  const models = pickedBy(map, found, candidate);
  const rows = rowsOf(map, models.filter((one) => !one.state).flatMap(({ picked }) => picked));
  place.replaceChildren(table(map, rows, marksOf(map, models, new Set(rows.map((row) => row.category)))));
  walkable(place, byId("cell"));
  more.hidden = map.categories.length <= SHOWN;
  more.textContent = all ? "Fewer categories" : `${map.others.categories ? "The largest" : "All"} ${map.categories.length} categories`;
  more.onclick = () => { all = !all; showMap(map, found, candidate); };
  showLegend(models);
}

// What each model picked for a candidate. A state is of everything that was before: of how much in each cell, the map knows.
function pickedBy(map, found, candidate) {
  return found.filter((one) => one.content).map(({ letter, content }) =>
    ({ letter, model: content.model, weighs: Boolean(content.picked.weights), state: content.picked.state, picked: content.picked.state ? before(map) : pickedFor(content, candidate) }));
}

const before = (map) => [...map.categories, map.others].flatMap(({ category, counts }) =>
  counts.flatMap((size, bin) => (size && map.edges[bin] < map.at ? [{ category, ts: map.edges[bin], size, share: size / map.total }] : [])));

// First the categories that were attended to most, then the largest, then the others as one.
function rowsOf(map, picked) {
  const place = new Map(summed(picked, ({ category }) => category).slice(0, ATTENDED).map(([category], at) => [category, at]));
  const sorted = map.categories.toSorted((one, other) => (place.get(one.category) ?? ATTENDED) - (place.get(other.category) ?? ATTENDED));
  const rows = all ? sorted : sorted.slice(0, SHOWN);
  const rest = [...sorted.slice(rows.length).map((row) => row.counts), map.others.counts];
  const others = sorted.length - rows.length + map.others.categories;
  const sum = rest.reduce((total, counts) => total.map((count, bin) => count + counts[bin]));
  return others ? [...rows, { others, counts: sum }] : rows;
}

// The bin of a time, as the server counts.
export const binOf = (edges, ts) => Math.min(Math.max(edges.findLastIndex((edge) => edge <= ts), 0), edges.length - 2);

// For each model: "category|bin" -> how many behaviours and which share. What is in no row counts to the others.
function marksOf(map, models, shown) {
  return models.map(({ letter, model, picked }) => {
    const cells = new Map();
    for (const { category, ts, size, share } of picked) {
      const key = `${shown.has(category) ? category : undefined}|${binOf(map.edges, ts)}`;
      const cell = cells.get(key) ?? { times: 0, share: 0 };
      cells.set(key, { times: cell.times + size, share: cell.share + share });
    }
    return { letter, model, cells, most: Math.max(...[...cells.values()].map(({ share }) => share)) || 1 };
  });
}

function table(map, rows, marks) {
  const bins = map.edges.length - 1;
  const most = Math.max(...rows.filter((row) => !row.others).flatMap((row) => row.counts));
  const body = rows.map((row) => {
    const name = row.others ? `${row.others} other categories` : named(row.category);
    const total = row.counts.reduce((sum, count) => sum + count, 0);
    const cells = row.counts.map((count, bin) => {
      const own = marks.flatMap(({ cells, ...mark }) => (cells.has(`${row.category}|${bin}`) ? [{ ...mark, ...cells.get(`${row.category}|${bin}`) }] : []));
      const dots = own.map(({ letter, share, most: largest }) => make("span", { class: `dot ${letter}`, "--share": Math.sqrt(share / largest) }));
      const share = count ? 0.15 + 0.85 * Math.sqrt(Math.min(count / most, 1)) : 0;
      const later = map.edges[bin] >= map.at;
      const words = `${name}, ${day(map.edges[bin])} to ${day(map.edges[bin + 1] - 1)}: ${whole(count)}${later ? ", later than asked" : ""}`
        + own.map(({ model, times }) => `; ${model} picked ${whole(times)}`).join("");
      return make("td", { class: `cell${later ? " later" : ""}`, "--share": share, tabindex: -1, "aria-label": words }, ...dots);
    });
    return make("tr", row.others ? { class: "others" } : {}, make("th", { scope: "row", title: name }, name), make("td", { class: "total" }, whole(total)), ...cells);
  });
  const columns = make("colgroup", {}, make("col", { class: "name" }), make("col", { class: "count" }), make("col", { span: bins }));
  const caption = { role: "grid", "aria-label": "Behaviours by category and time; arrow keys go from cell to cell" };
  return make("table", caption, columns, make("thead", {}, axis(map, bins)), make("tbody", {}, ...body));
}

// Six dates above the columns.
function axis(map, bins) {
  const step = Math.max(Math.round(bins / 6), 1);
  const dates = [];
  for (let bin = 0; bin < bins; bin += step) dates.push(make("th", { scope: "col", colspan: Math.min(step, bins - bin) }, day(map.edges[bin])));
  return make("tr", {}, make("td", {}), make("td", {}), ...dates);
}

function showLegend(models) {
  const marks = models.map(({ letter, model, picked, weighs, state }) => make("span", {}, make("span", { class: `mark ${letter}` }),
    `${model} ${!picked.length ? "picked nothing" : state ? "has these in its state" : weighs ? "attends to these" : "picked these"}`));
  const shades = make("span", {}, "few ", make("span", { class: "swatch" }), make("span", { class: "swatch many" }), " many behaviours");
  byId("legend").replaceChildren(shades, ...marks);
}
