// Keeps the page live. The server alone decides what it says: this fetches the page anew and swaps what has changed.
"use strict";

const POLL_MILLISECONDS = 2000;
const TOGETHER_MILLISECONDS = 120; // events that come together cause one look
const LOOK_MILLISECONDS = 4000;
const ANSWER_MILLISECONDS = 5000; // longer than the server waits for its journal
const RETRY_MILLISECONDS = 3000;
const SELECTED_MILLISECONDS = 10000; // a part in which text is selected stays as it is for so long
const NEWS = ["switch", "circuit", "would_trip", "probe", "override", "override_expiring", "config"];

const element = (id) => document.getElementById(id);
let token = null; // in memory alone: it is gone with the page
let clockAhead = 0; // of the server's clock, in milliseconds
let seenAt = new Date();
let looking = false;
let again = false;
let soon = null;
let feed = null;
let heldSince = null; // since when a part that has changed is not swapped

function clock(date) {
  return date.toISOString().slice(11, 19) + " UTC";
}

function show(state, text) {
  const connection = element("connection");
  connection.className = state;
  document.body.classList.toggle("stale", state === "lost");
  if (connection.textContent !== text) connection.textContent = text;
}

function showLive() {
  if (heldSince === null) show("live", "Live");
  else show("held", "Live, but for what you have selected");
}

function showLost() {
  show("lost", "Not live since " + clock(seenAt) + ": the proxy does not answer");
}

function selected(part) {
  const selection = document.getSelection();
  return !selection.isCollapsed && selection.containsNode(part, true);
}

function count() {
  const now = Date.now() + clockAhead;
  for (const shown of document.querySelectorAll("[data-until]")) {
    if (selected(shown)) continue;
    const seconds = Math.ceil((Number(shown.dataset.until) - now) / 1000);
    const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
    const parts = hours > 0 ? hours + " h " + minutes + " min" : seconds >= 60 ? minutes + " min " + (seconds % 60) + " s" : seconds + " s";
    shown.textContent = seconds > 0 ? "in " + parts : "now";
  }
}

function swap(fresh) {
  clockAhead = Number(fresh.getElementById("now").dataset.now) - Date.now();
  const before = element("headline-text").textContent;
  let holds = false;
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(part.id);
    if (part.dataset.shown === other.innerHTML) continue;
    // What is selected can be copied before it goes, but is not kept so long that the page would lie.
    if (selected(part) && (heldSince === null || Date.now() - heldSince < SELECTED_MILLISECONDS)) {
      holds = true;
      continue;
    }
    part.className = other.className;
    part.dataset.shown = other.innerHTML;
    part.replaceChildren(...other.childNodes);
  }
  heldSince = holds ? heldSince ?? Date.now() : null;
  element("release-button").disabled = fresh.getElementById("release-button").disabled;
  document.title = fresh.title;
  const after = element("headline-text").textContent;
  // Only what has become another matter is read out, not each tick.
  if (after !== before) element("announcement").textContent = after;
  count();
}

async function look() {
  if (document.hidden) return;
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  try {
    const response = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(LOOK_MILLISECONDS) });
    if (!response.ok) throw new Error(String(response.status));
    swap(new DOMParser().parseFromString(await response.text(), "text/html"));
    seenAt = new Date(Date.now() + clockAhead);
    if (!document.hidden) showLive();
  } catch {
    showLost();
  } finally {
    looking = false;
    if (again) {
      again = false;
      look();
    }
  }
}

function lookSoon() {
  if (soon === null) soon = setTimeout(() => { soon = null; look(); }, TOGETHER_MILLISECONDS);
}

function listen() {
  if (feed !== null || document.hidden) return;
  feed = new EventSource("/events");
  for (const name of NEWS) feed.addEventListener(name, lookSoon);
  feed.addEventListener("open", lookSoon);
  feed.addEventListener("error", () => {
    lookSoon();
    // A browser comes back by itself only to what broke off; a refusal, of one reader too many, is final to it.
    if (feed.readyState === EventSource.CLOSED) {
      hangUp();
      setTimeout(listen, RETRY_MILLISECONDS);
    }
  });
}

function hangUp() {
  if (feed !== null) feed.close();
  feed = null;
}

// A browser has six connections to one host, for all of its tabs: those that nobody sees must not hold them.
function onVisibility() {
  if (document.hidden) {
    hangUp();
    show("", "As of " + clock(seenAt));
  } else {
    look();
    listen();
  }
}

function say(text, right) {
  const said = element("said");
  said.className = right ? "right" : "wrong";
  said.textContent = text;
}

function signed(inside) {
  const login = element("login");
  if (!login) return;
  login.hidden = inside;
  element("set").hidden = !inside;
  element("logout").hidden = !inside;
  if (!inside) token = null;
}

async function ask(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  if (token !== null) headers.Authorization = "Bearer " + token;
  try {
    const signal = AbortSignal.timeout(ANSWER_MILLISECONDS);
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
    const answer = response.status === 204 ? {} : await response.json();
    if (response.status === 401) signed(false);
    return { status: response.status, message: response.ok ? "" : answer.error.message, said: answer };
  } catch {
    showLost();
    return { status: 0, message: "the proxy does not answer" };
  }
}

function sayUnchanged(answer) {
  if (answer.status === 0) say("No answer came. Whether anything has changed, this page tells when it is live again.", false);
  else say("Nothing was changed: " + answer.message, false);
}

function seconds(text) {
  const units = { s: 1, m: 60, h: 3600, d: 86400 };
  const parts = [...text.trim().toLowerCase().matchAll(/(\d+)\s*([smhd]?)/g)];
  if (parts.map((part) => part[0]).join("").replace(/\s/g, "") !== text.trim().toLowerCase().replace(/\s/g, "")) return NaN;
  return parts.reduce((sum, part) => sum + Number(part[1]) * (units[part[2]] || 1), 0);
}

async function setOverride(event) {
  event.preventDefault();
  const form = event.target, fields = form.elements;
  const length = seconds(fields.ttl.value);
  if (!(length > 0)) {
    say("“Ends after” is no length of time: write it as 90s, 30m, 2h or 1d", false);
    fields.ttl.focus();
    return;
  }
  const force = element("force");
  const answer = await ask("PUT", "/override", {
    mode: fields.mode.value,
    reason: fields.reason.value,
    actor: fields.actor.value || null,
    ttl_seconds: length,
    percent: Number(fields.percent.value),
    force: !force.hidden && force.querySelector("input").checked,
  });
  if (answer.status === 200) {
    force.hidden = true;
    force.querySelector("input").checked = false;
    const lasts = answer.said.outlives_restart ? "" : " A restart ends it: it is in no journal file.";
    say("The override is set." + lasts, true);
  } else {
    if (answer.status === 409 && answer.message.includes("proven dead")) force.hidden = false;
    sayUnchanged(answer);
  }
  look();
}

function stillInForce(said) {
  if (said.mode !== "auto") return " A stronger one stays in force.";
  return said.outlives_restart || said.cleared === null ? "" : " A restart may bring it back: the journal file does not know of it.";
}

async function release(event) {
  event.preventDefault();
  if (element("login") && token === null) {
    element("desk").open = true;
    element("login").elements.token.focus();
    say("Log in to release the override.", false);
    return;
  }
  const answer = await ask("DELETE", "/override", { actor: element("set").elements.actor.value || null });
  if (answer.status === 200) say("The override is released." + stillInForce(answer.said), true);
  else sayUnchanged(answer);
  look();
}

async function logIn(event) {
  event.preventDefault();
  const field = event.target.elements.token;
  token = field.value;
  field.value = "";
  const answer = await ask("POST", "/login");
  if (answer.status === 204) {
    signed(true);
    say("", true);
    element("set").elements.reason.focus();
  } else {
    token = null;
    say(answer.message, false);
    field.focus();
  }
}

element("set").addEventListener("submit", setOverride);
element("release").addEventListener("submit", release);
if (element("login")) {
  element("login").addEventListener("submit", logIn);
  element("logout").addEventListener("click", () => { signed(false); say("Logged out.", true); });
  signed(false);
}
setInterval(look, POLL_MILLISECONDS);
setInterval(count, 1000);
document.addEventListener("visibilitychange", onVisibility);
clockAhead = Number(element("now").dataset.now) - Date.now();
seenAt = new Date(Number(element("now").dataset.now));
showLive();
count();
onVisibility();
