// The form and its calls. What is shown is in views.js.

import { showAnswer, showMap } from "./views.js";

const EXPLAIN = 20;
const byId = (id) => document.getElementById(id);
const [form, message, answers] = ["ask", "message", "answers"].map(byId);
let asked = 0; // calls so far: an answer that comes after a newer one is dropped

function say(text, wrong = false) {
  message.textContent = text;
  message.classList.toggle("wrong", wrong);
}

async function call(path, body) {
  const headers = { "content-type": "application/json" };
  if (byId("key").value) headers.authorization = `Bearer ${byId("key").value}`;
  const response = await fetch(path, { headers, method: body ? "POST" : "GET", body: body && JSON.stringify(body) });
  const content = await response.json();
  if (response.status === 401) byId("key-label").hidden = false;
  if (!response.ok) throw new Error(content.detail ?? content.error ?? response.statusText);
  return { content, timing: response.headers.get("server-timing") ?? "" };
}

async function listModels() {
  const { content } = await call("v2/health/ready");
  const given = new URLSearchParams(location.search);
  for (const [id, none] of [["model-a", null], ["model-b", "no other"]]) {
    const choice = byId(id);
    choice.replaceChildren();
    if (none !== null) choice.add(new Option(none, ""));
    for (const model of content.models) choice.add(new Option(model, model));
    choice.value = given.get(id.slice(-1)) ?? choice.options[0]?.value ?? "";
  }
  for (const name of ["user", "items", "at"]) byId(name).value = given.get(name) ?? "";
}

async function mapOf(user) {
  try {
    return (await call(`ui/users/${encodeURIComponent(user)}`)).content;
  } catch (error) {
    return { failed: error.message }; // scores come without the store, the map does not
  }
}

async function score() {
  const mine = ++asked;
  const user = byId("user").value.trim();
  say("Asking ...");
  const map = await mapOf(user);
  const typed = byId("items").value.split(/[\s,]+/).filter(Boolean);
  const items = typed.length ? typed : map.suggested ?? [];
  if (!items.length) throw new Error(`no candidates, and none can be suggested${map.failed ? `: ${map.failed}` : ""}`);
  const at = byId("at").value.trim();
  const models = [byId("model-a").value, byId("model-b").value].filter(Boolean);
  const found = await Promise.all(models.map(async (model) => {
    const body = { user_id: user, item_ids: items, model, explain: EXPLAIN };
    if (at) body.at = Number(at);
    try {
      return { model, items, ...(await call("score", body)) };
    } catch (error) {
      return { model, items, failed: error.message };
    }
  }));
  if (mine !== asked) return;
  const choose = (picked) => showMap(byId("tree"), map, picked);
  choose(found.flatMap((one) => (one.content?.explanations ?? []).flat()));
  answers.replaceChildren(...found.map((one) => showAnswer(one, choose)));
  say(`${items.length} candidates${typed.length ? "" : ", suggested"}; ${found.length === 1 ? "one model" : "two models"}`);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const shown = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  history.replaceState(null, "", `?${shown}`);
  score().catch((error) => say(error.message, true));
});

listModels()
  .then(() => byId("user").value && form.requestSubmit())
  .catch((error) => say(`the scorer does not answer: ${error.message}`, true));
