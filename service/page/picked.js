// What a model's search picked for a candidate, in one form for all models.

import { whole } from "./elements.js";

// Behaviours {item_id, category, ts, size, share}, the heaviest first; without weights the newest first, and all weigh the same.
export function pickedFor({ picked: { behaviours, lists, list_of, weights } }, candidate) {
  const own = weights?.[candidate];
  const picked = lists[list_of[candidate]].map((at, place) => ({
    item_id: behaviours.item_id[at], category: behaviours.category[at], ts: behaviours.ts[at], size: behaviours.size[at],
    share: own ? own[place] : behaviours.size[at],
  }));
  const total = picked.reduce((sum, { share }) => sum + share, 0) || 1;
  for (const one of picked) one.share /= total;
  return own ? picked.sort((one, other) => other.share - one.share) : picked.reverse();
}

// The same by item, the heaviest first: {item_id, category, share, times, first, last, each}.
export function byItem(picked) {
  const items = new Map();
  for (const one of picked) {
    const key = one.item_id ?? `unknown, of ${one.category}`;
    const { share, times, first, last, each } = items.get(key) ?? { share: 0, times: 0, first: Infinity, last: -Infinity, each: [] };
    items.set(key, {
      item_id: one.item_id, category: one.category, share: share + one.share, times: times + one.size,
      first: Math.min(first, one.ts), last: Math.max(last, one.ts), each: [...each, one],
    });
  }
  return [...items.values()].sort((one, other) => other.share - one.share || other.last - one.last);
}

const many = (number, one) => `${whole(number)} ${one}${number === 1 ? "" : "s"}`;

// In words: what a model looked at for a candidate.
export function inWords({ behaviours: searched, degraded, picked: { search, sessions, state, recent, weights } }, picked) {
  if (!searched) return `It looks at no behaviours: ${degraded.some((word) => word.startsWith("store_")) ? "none could be read" : "there are none"}.`;
  if (state) {
    const { snapshot, folded } = state;
    const how = snapshot ? `${whole(snapshot)} in a snapshot, ${whole(folded)} folded after it` : `${whole(folded)} folded for this request, none in a snapshot`;
    return `Its state is of ${snapshot + folded === searched ? "all " : ""}${many(snapshot + folded, "behaviour")}: ${how}. It has no weight for each of them.`;
  }
  const behaviours = picked.reduce((sum, { size }) => sum + size, 0);
  const clusters = picked.filter(({ size }) => size > 1).length;
  const what = !picked.length ? `none of the ${many(searched, "behaviour")} that were searched`
    : search === "newest" ? `the newest ${many(behaviours, "behaviour")}`
    : search === "sessions" ? `${many(behaviours, "behaviour")}, those of the newest ${many(sessions, "session")}`
    : clusters ? `${whole(picked.length)} of what was searched, ${many(clusters, "cluster")} among them: ${whole(behaviours)} of ${many(searched, "behaviour")}`
    : `${whole(behaviours)} of the ${many(searched, "behaviour")} that were searched`;
  return `It ${weights ? "attends to" : "reads"} ${what}.${weights ? "" : " It has no weight for each of them."}${recent ? ` A short branch reads the newest ${recent} as well.` : ""}`;
}

// In words: how much of what two models picked for a candidate is the same; clusters are no behaviours that others could have.
export function inCommon([one, other], candidate) {
  const [states, others] = [[one, other].filter(({ content }) => content.picked.state), [one, other].filter(({ content }) => !content.picked.state)];
  if (states.length === 2) return "Both models are of a state of all behaviours.";
  if (states.length) {
    const { content } = others[0];
    return `What ${content.model} picked is in the state of ${states[0].content.model} with everything else.`;
  }
  const [mine, theirs] = others.map(({ content }) => new Set(pickedFor(content, candidate).filter(({ size }) => size === 1).map(({ item_id, ts }) => `${ts} ${item_id}`)));
  const common = [...mine].filter((key) => theirs.has(key)).length;
  const clusters = others.some(({ content }) => content.picked.behaviours.size.some((size) => size > 1)) ? " Clusters are not compared." : "";
  const of = mine.size === theirs.size ? `of ${whole(mine.size)} in common` : `in common, of ${whole(mine.size)} (${one.content.model}) and ${whole(theirs.size)} (${other.content.model})`;
  return `${whole(common)} ${of}.${clusters}`;
}
