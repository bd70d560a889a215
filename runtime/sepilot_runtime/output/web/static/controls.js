// Stop, start, record, and the token that they need.

import { Refused, control, sleep, token } from "./link.js";

const $ = (id) => document.getElementById(id);
const SURE_MS = 3000, UNCONFIRMED_MS = 1500;

let last = "none", about = null, drive = null, unlocked = false, stopping = null, sureUntil = 0, waiting = null;
let sending = Promise.resolve(), unheardUntil = 0;

const allowed = () => about !== null && about.control && unlocked;

/** What the drive can do; with a token from before, this tries it. */
export async function learn(found) {
  about = found;
  if (about.control && token.get() && !unlocked) await unlock(token.get());
  render();
}

/** The server wants a token before it says anything. Resolves when one was given. */
export function demand(error) {
  about = about || { control: true, supervised: false, recorder: false };
  unlocked = false;
  showGate(error.message === "wrong token" ? "Wrong token. Try again:" : "To look at this drive, enter its token:");
  return new Promise((done) => { waiting = done; });
}

export function follow(now) {
  drive = now;
  if (stopping && (now.ended || now.state === "stopped")) stopping = null;
}

function showGate(words) {
  $("gate").hidden = false;
  $("gate-words").textContent = words;
}

async function unlock(text) {
  token.set(text);
  try {
    await control("check");
    unlocked = true;
    $("gate").hidden = true;
    $("token").value = "";
    waiting?.();
    waiting = null;
  } catch (error) {
    if (!(error instanceof Refused)) { showGate("No connection. Try again:"); return; }
    token.set("");
    showGate(error.status === 401 ? "Wrong token. Try again:" : error.message);
  }
}

/** Says stop until the car has heard it. */
export async function stop() {
  if (!allowed() || !about.supervised || stopping) { if (!allowed()) $("token").focus(); return; }
  const mine = stopping = { since: performance.now(), refused: "" };
  sureUntil = 0;
  while (stopping === mine) {
    render();
    try {
      await (sending = control("stop"));
      // The car has heard it; until it says that it stands, this goes on.
      await sleep(500);
    } catch (error) {
      if (error instanceof Refused) {
        stopping = null;
        if (error.status === 401) { unlocked = false; token.set(""); showGate("Wrong token. Try again:"); }
      }
      await sleep(100);
    }
  }
  render();
}

async function start() {
  if (performance.now() > sureUntil) {
    sureUntil = performance.now() + SURE_MS;
    setTimeout(render, SURE_MS + 20);
  } else {
    sureUntil = 0;
    stopping = null;
    // A stop that is still on its way must not come after this.
    await sending.catch(() => {});
    await control("start").catch(() => {
      unheardUntil = performance.now() + SURE_MS;
      setTimeout(render, SURE_MS + 20);
    });
  }
  render();
}

async function record() {
  await control(drive?.recording ? "pause" : "record").catch(() => {});
}

/** @param link how the page stands with the car; what is not known to hold now is not claimed. */
export function render(link = last) {
  last = link;
  const ended = Boolean(drive?.ended), known = link === "live", stopped = known && drive?.state === "stopped";
  const supervised = Boolean(about?.supervised);
  $("stop").disabled = !(allowed() && supervised) || ended;
  $("stop").hidden = about !== null && (!about.control || !supervised) && !waiting;
  const unconfirmed = stopping && performance.now() - stopping.since > UNCONFIRMED_MS;
  $("stop").firstElementChild.textContent = ended ? "The drive is over" : unconfirmed ? "Not confirmed!" : stopping ? "Stopping…" : stopped ? "Stopped" : "Emergency stop";
  const hint = allowed() && !ended && !unconfirmed;
  $("stop-note").textContent = unconfirmed ? "use the switch on the car" : ended ? "" : hint ? "space bar" : "needs the token";
  $("stop-note").classList.toggle("key-hint", hint);
  $("start").hidden = !(allowed() && stopped && !ended);
  const sure = performance.now() < sureUntil;
  $("start").textContent = sure ? "Tap again: the car will drive" : performance.now() < unheardUntil ? "Not heard. Start again" : "Start again";
  $("start").classList.toggle("sure", sure);
  $("record").hidden = !(allowed() && about.recorder && known);
  $("record").textContent = drive?.recording ? "Stop recording" : "Record";
  $("record").classList.toggle("on", Boolean(drive?.recording));
  $("recording").hidden = !(known && drive.recording && about.recorder);
  if (about === null || waiting) return;
  if (about.control && !unlocked && $("gate").hidden && (supervised || about.recorder)) showGate("To stop, start or record, enter the token of this drive:");
  $("read-only").hidden = about.control && supervised;
  $("read-only").textContent = about.model && !about.model.steers
    ? "Nothing drives here: there is nothing to stop."
    : about.control
    ? "This recording is gone through frame by frame: there is nothing to stop."
    : "Only to look at: the drive was started without a token, so this page cannot stop it.";
}

$("stop").addEventListener("click", stop);
$("start").addEventListener("click", start);
$("record").addEventListener("click", record);
$("gate").addEventListener("submit", async (event) => {
  event.preventDefault();
  await unlock($("token").value.trim());
  render();
});
for (const kind of ["keydown", "keyup"]) {
  document.addEventListener(kind, (event) => {
    if (event.code !== "Space" || event.target instanceof HTMLInputElement) return;
    // Whatever has the focus, the space bar stops; it never starts.
    event.preventDefault();
    if (kind === "keydown" && !event.repeat) stop();
  });
}
