// A user's behaviours by category and time, and what the candidates attended to among them.

import { byId, day, make, named, summed, whole } from "./elements.js";

const SHOWN = 14; // categories, until somebody asks for all
let all = false;

// `candidate`: its index, or null for all of them together.
export function showMap(map, found, candidate) {
  const [section, summary, place, more] = ["tree", "tree-summary", "map", "more"].map(byId);
  section.hidden = false;
  for (const below of [place, more, byId("legend")]) below.hidden = !map.total;
  if (!map.total) {
    summary.textContent = map.failed
      ? `They cannot be shown: ${map.failed}. Scores come from items and context alone, and say so.`
      : "This user has none. Scores come from the items and the context alone.";
    return;
  }
  const [first, last] = [map.edges[0], map.edges.at(-1)];
  summary.textContent = `${whole(map.total)} behaviours from ${day(first)} to ${day(last)}`
    + (map.bad_records ? `; ${map.bad_records} values could not be read` : "");
  const rows = rowsOf(map);
  place.replaceChildren(table(map, rows, marksOf(map, found, candidate, new Set(rows.map((row) => row.category)))));
  more.hidden = map.categories.length <= SHOWN;
  more.textContent = all ? `Only the largest ${SHOWN} categories` : `All ${map.categories.length} largest categories`;
  more.onclick = () => { all = !all; showMap(map, found, candidate); };
  showLegend(found, candidate);
}

function rowsOf(map) {
  const rows = all ? map.categories : map.categories.slice(0, SHOWN);
  const rest = [...map.categories.slice(rows.length).map((row) => row.counts), map.others.counts];
  const others = map.categories.length - rows.length + map.others.categories;
  const sum = rest.reduce((total, counts) => total.map((count, bin) => count + counts[bin]));
  return others ? [...rows, { others, counts: sum }] : rows;
}

// Letter of a model -> "category|bin" -> share of its attention. What is in no row counts to the others.
function marksOf(map, found, candidate, shown) {
  const bins = map.edges.length - 1;
  const span = map.edges[bins] - map.edges[0];
  const binOf = (ts) => Math.min(Math.max(Math.floor(((ts - map.edges[0]) / span) * bins), 0), bins - 1);
  return found.filter((one) => one.content?.explanations).map(({ letter, content }) => {
    const picked = candidate === null ? content.explanations.flat() : content.explanations[candidate];
    const sums = summed(picked, ({ category, ts }) => `${shown.has(category) ? category : undefined}|${binOf(ts)}`);
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
      return make("td", { class: "cell", "--share": share, title: `${name}, from ${day(map.edges[bin])}: ${whole(count)}` }, ...dots);
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
  const marks = found.filter((one) => one.content?.explanations).flatMap(({ letter, content }) => {
    const picked = candidate === null ? content.explanations.flat() : content.explanations[candidate];
    const named = picked.length ? `${content.model} attends to` : `${content.model} attends to nothing here`;
    return [make("span", { class: `mark ${letter}` }), named];
  });
  byId("legend").replaceChildren("few", make("span", { class: "swatch" }), make("span", { class: "swatch many" }), "many", ...marks);
}
