// A user's behaviours by category and time, and what the candidates attended to among them.

import { byId, day, make, named, summed, whole } from "./elements.js";

const ATTENDED = 8; // categories with most attention: they come first
const SHOWN = 14; // categories in all, until somebody asks for more
let all = false;

// `candidate`: the index of the one that was chosen; nothing was `found` yet, or by no model.
export function showMap(map, found, candidate) {
  const [section, summary, place, more] = ["tree", "tree-summary", "map", "more"].map(byId);
  section.hidden = false;
  for (const below of [place, byId("below-map")]) below.hidden = !map.total;
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
  const rows = rowsOf(map, pickedBy(found, candidate).flatMap(([, picked]) => picked));
  place.replaceChildren(table(map, rows, marksOf(map, found, candidate, new Set(rows.map((row) => row.category)))));
  more.hidden = map.categories.length <= SHOWN;
  more.textContent = all ? "Fewer categories" : `${map.others.categories ? "The largest" : "All"} ${map.categories.length} categories`;
  more.onclick = () => { all = !all; showMap(map, found, candidate); };
  showLegend(found, candidate);
}

// What each model attended to for a candidate. A model without a weight for each behaviour is left out.
function pickedBy(found, candidate) {
  return found.filter((one) => one.content?.explanations).map(({ letter, content: { explanations, model } }) =>
    [letter, explanations[candidate], model]);
}

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

// Letter of a model -> "category|bin" -> share of its attention. What is in no row counts to the others.
function marksOf(map, found, candidate, shown) {
  return pickedBy(found, candidate).map(([letter, picked]) => {
    const sums = summed(picked, ({ category, ts }) => `${shown.has(category) ? category : undefined}|${binOf(map.edges, ts)}`);
    const most = sums[0]?.[1] || 1;
    return [letter, new Map(sums.map(([key, weight]) => [key, weight / most]))];
  });
}

function table(map, rows, marks) {
  const bins = map.edges.length - 1;
  const most = Math.max(...rows.filter((row) => !row.others).flatMap((row) => row.counts));
  const body = rows.map((row) => {
    const name = row.others ? `${row.others} other categories` : named(row.category);
    const total = row.counts.reduce((sum, count) => sum + count, 0);
    const cells = row.counts.map((count, bin) => {
      const dots = marks.flatMap(([letter, shares]) => {
        const share = shares.get(`${row.category}|${bin}`);
        return share === undefined ? [] : [make("span", { class: `dot ${letter}`, "--share": Math.sqrt(share) })];
      });
      const share = count ? 0.15 + 0.85 * Math.sqrt(Math.min(count / most, 1)) : 0;
      const later = map.edges[bin] >= map.at ? " later" : "";
      return make("td", { class: `cell${later}`, "--share": share, title: `${name}, from ${day(map.edges[bin])}: ${whole(count)}` }, ...dots);
    });
    return make("tr", row.others ? { class: "others" } : {}, make("th", { scope: "row", title: name }, name), make("td", { class: "total" }, whole(total)), ...cells);
  });
  const columns = make("colgroup", {}, make("col", { class: "name" }), make("col", { class: "count" }), make("col", { span: bins }));
  const caption = { "aria-label": "Behaviours by category and time" };
  return make("table", caption, columns, make("thead", {}, axis(map, bins)), make("tbody", {}, ...body));
}

// Six dates above the columns.
function axis(map, bins) {
  const step = Math.max(Math.round(bins / 6), 1);
  const dates = [];
  for (let bin = 0; bin < bins; bin += step) dates.push(make("th", { scope: "col", colspan: Math.min(step, bins - bin) }, day(map.edges[bin])));
  return make("tr", {}, make("td", {}), make("td", {}), ...dates);
}

function showLegend(found, candidate) {
  const marks = pickedBy(found, candidate).map(([letter, picked, model]) =>
    make("span", {}, make("span", { class: `mark ${letter}` }), `${model} attends to ${picked.length ? "these" : "nothing"}`));
  const shades = make("span", {}, "few ", make("span", { class: "swatch" }), make("span", { class: "swatch many" }), " many behaviours");
  byId("legend").replaceChildren(shades, ...marks);
}
