// The form and its calls. What is shown is in map.js and answers.js.

import { showAnswers } from "./answers.js";
import { showMap } from "./map.js";
import { byId, make } from "./elements.js";

const [form, message] = ["ask", "message"].map(byId);
let unserved = []; // models that the link names
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
  if (!response.ok) throw new Error(content.detail ?? response.statusText);
  return { content, timing: response.headers.get("server-timing") ?? "" };
}

async function begin() {
  const { content } = await call("ui/start");
  const given = new URLSearchParams(location.search);
  byId("serving").textContent = content.data ? `serving ${content.data}` : "";
  const defaults = { a: content.default, b: "" };
  for (const [letter, none] of [["a", null], ["b", "no other"]]) {
    const choice = byId(`model-${letter}`);
    choice.replaceChildren(...(none === null ? [] : [new Option(none, "")]), ...content.models.map((name) => new Option(name, name)));
    const wanted = given.get(letter) ?? defaults[letter];
    const served = [...choice.options].some(({ value }) => value === wanted);
    choice.value = served ? wanted : defaults[letter];
    if (!served && wanted) unserved.push(`${wanted} is not served${choice.value ? `, ${choice.value} is shown` : ""}. `);
  }
  for (const name of ["user", "items", "at"]) byId(name).value = given.get(name) ?? "";
  showUsers(content.users);
  say("");
  if (!content.models.length) say("No model is loaded.", true);
  else if (byId("user").value) form.requestSubmit();
}

function showUsers(users) {
  const links = users.map(({ user_id, total }) => make("button", {
    type: "button", class: "plain", title: `${total.toLocaleString("en")} behaviours`,
    onclick: () => { byId("user").value = user_id; byId("items").value = ""; form.requestSubmit(); },
  }, user_id));
  byId("users").hidden = !users.length;
  byId("users").replaceChildren("From long lives to short ones:", ...links);
}

async function mapOf(user, at) {
  try {
    const { content } = await call(`ui/users/${encodeURIComponent(user)}${at && `?at=${at}`}`);
    return { ...content, at: at ? Number(at) : Infinity };
  } catch (error) {
    return { failed: error.message }; // scores come without the store, the map does not
  }
}

async function score() {
  const mine = ++asked;
  const user = byId("user").value.trim();
  say("Asking ...");
  const at = byId("at").value.trim();
  const map = await mapOf(user, at);
  const typed = byId("items").value.split(/[\s,]+/).filter(Boolean);
  const items = typed.length ? typed : map.suggested ?? [];
  const models = [["a", byId("model-a").value], ["b", byId("model-b").value]].filter(([, model]) => model);
  const found = [];
  for (const [letter, model] of items.length ? models : []) { // one after the other: together they would wait for each other
    const body = { user_id: user, item_ids: items, model, ...(at && { at: Number(at) }) };
    try {
      found.push({ letter, model, items, ...(await call("ui/score", body)) });
    } catch (error) {
      found.push({ letter, model, items, failed: error.message });
    }
  }
  if (mine !== asked) return;
  showMap(map, []);
  showAnswers(found, (candidate) => showMap(map, found, candidate));
  const why = map.total ? "the user's newest items and others like them" : "any items, since nothing is known of the user";
  if (items.length) say(`${unserved.join("")}${items.length} candidates${typed.length ? "" : `, suggested: ${why}`}`);
  else say(map.failed ? "Without the store no candidates can be suggested: name some." : "There is nothing to suggest: name candidates.", true);
}

form.addEventListener("change", () => { unserved = []; });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  history.replaceState(null, "", `?${new URLSearchParams([...new FormData(form)].filter(([, value]) => value))}`);
  if (byId("model-a").options.length) score().catch((error) => say(error.message, true));
  else begin().catch((error) => say(error.message, true)); // the key was wrong before
});

begin().catch((error) => say(error.message, true));
