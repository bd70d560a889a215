// The page: shows what it hears, and says so plainly when it hears nothing.

import { Samples, drawCharts } from "./charts.js";
import * as controls from "./controls.js";
import * as link from "./link.js";
import { drawPicture } from "./road.js";
import * as words from "./words.js";

const $ = (id) => document.getElementById(id);
const LOST_MS = 1400, SILENT_MS = 1200, OLD_PICTURE_MS = 800, LINK_WORDS = {
  none: "connecting", locked: "locked", live: "live", silent: "drive silent", lost: "no connection", ended: "ended",
};

let said = [], about = null, now = null, madeAt = 0, state = "none", shotAt = -Infinity, shotSeen = false;
const samples = new Samples(), changeTimes = new Map();

function text(id, value) { if ($(id).textContent !== value) $(id).textContent = value; }

async function heard(answer, made) {
  if (about === null || about.drive !== answer.drive || about.model.sha256 !== answer.model) {
    if (about?.drive !== answer.drive) { samples.clear(); changeTimes.clear(); }
    about = await link.about();
    showModel();
    await controls.learn(about);
  }
  [now, madeAt, state] = [answer, made, "live"];
  samples.add(answer.samples, about.shown_s * 1000 / about.bucket_ms + 20);
  controls.follow(answer);
  show();
}

async function refused(error) {
  if (error.status !== 401) return;
  state = "locked";
  show();
  await controls.demand(error);
  state = "none";
}

/** How the page stands with the car, from what was heard last and how long ago that is. */
function judge() {
  const old = performance.now() - madeAt;
  if (state === "locked" || now === null) return state;
  if (now.ended) return "ended";
  if (old > LOST_MS) return "lost";
  return about.supervised && now.silent_ms !== null && now.silent_ms + old > SILENT_MS ? "silent" : "live";
}

function show() {
  const found = judge(), old = performance.now() - madeAt;
  document.body.dataset.link = found;
  document.body.dataset.state = now ? now.state : "waiting";
  text("link", LINK_WORDS[found]);
  if (found === "lost") {
    say("No connection", `nothing heard for ${words.ago(old)}; last: ${now.state}`, "What the car does now is not known here");
  } else if (found === "silent") {
    say("Drive silent", `no step for ${words.ago(now.silent_ms + old)}; last: ${now.state}`, "Its outputs go neutral by their own time-outs");
  } else if (found === "ended") {
    say(now.state === "stopped" ? "Stopped" : "Ended", `the drive is over: ${now.ended}`, gets("stopped"));
  } else if (found === "live") {
    say(now.state, now.reason || words.REASONS[now.state] || "", gets(now.state));
  } else {
    say(found === "locked" ? "Locked" : "…", found === "locked" ? "enter the token of this drive" : "connecting to the car", "");
  }
  document.title = `${$("state").textContent} – sepilot`;
  showPicture(found);
  showFigures(found === "live");
  if (now) { showOutputs(); showChanges(); }
  controls.render(found);
}

function gets(name) {
  if (!about.model.steers) return words.SHOWN;
  return about.supervised ? words.GETS[name] : words.UNSUPERVISED;
}

function say(name, reason, gets) {
  text("state", name);
  text("reason", reason);
  text("gets", gets);
}

function showPicture(found) {
  const old = performance.now() - shotAt;
  const stale = shotSeen && (found !== "live" || old > OLD_PICTURE_MS);
  document.body.classList.toggle("old-picture", stale);
  text("picture-note", !shotSeen ? "no picture yet" : found === "ended" ? "the last picture" : stale ? `picture from ${words.ago(old)} ago` : "");
}

function showFigures(live) {
  const value = (id, known, make) => text(id, live && known !== null && known !== undefined ? make(known) : "–");
  if (about && !about.model.steers) showSaid(live);
  else showSteering(live, value);
  value("age", now?.age_ms, words.ms);
  value("age-p", now?.ages_ms, (p) => `p50 ${words.ms(p.p50)}, p99 ${words.ms(p.p99)}`);
  value("total", now?.total_us, (p) => words.ms(p.p50 / 1000));
  value("total-p", now?.total_us, (p) => `p99 ${words.ms(p.p99 / 1000)}, worst ${words.ms(p.max / 1000)}`);
  value("rate", now?.rate_hz, (hz) => `${hz.toFixed(hz < 100 ? 1 : 0)}/s`);
  value("frames", now?.frames, (n) => `${words.count(n)} so far`);
  value("late", now?.late, words.count);
  text("late-ago", live ? (now.late ? `last ${words.ago(now.late_ago_ms)} ago` : `over ${words.ms(about.deadline_ms)}`) : "–");
  value("dropped", now?.lost, (counts) => words.count(counts.dropped || 0));
  text("lost", live ? words.lost(now.lost) || about.model.steers ? "never steered by" : "never answered to" : "–");
  const machine = now?.machine;
  text("temperature", !live ? "–" : machine.temperature_c !== null ? `${Math.round(machine.temperature_c)} °C` : machine.load !== null ? `load ${machine.load.toFixed(1)}` : "–");
  text("load", live && machine.load !== null ? (machine.temperature_c !== null ? `load ${machine.load.toFixed(1)}, ` : "") + `${machine.cores} cores` : "–");
  $("late").classList.toggle("alarm", live && now.late > 0 && now.late_ago_ms < 5000);
}

function showSteering(live, value) {
  value("angle", now?.model_deg, words.angle);
  const servo = live && now.steering !== null ? `to the car ${words.signed(now.steering)}, throttle ${now.throttle.toFixed(2)}` : "–";
  text("servo", servo);
  $("wheel").style.transform = live && now.model_deg !== null ? `rotate(${110 * Math.max(-1, Math.min(1, now.model_deg / about.model.full_scale_deg))}deg)` : "";
}

/** What a model says that does not steer: of its first output large, with what was recorded; then of the others. */
function showSaid(live) {
  const [first, ...others] = live ? said : [];
  text("angle", first ? first[1] : "–");
  text("servo", first && first[2] !== null ? `recorded: ${first[2]}` : "");
  $("servo").classList.toggle("wrong", Boolean(first && first[3]));
  text("further", others.map(([name, says]) => `${name}: ${says}`).join(", "));
}

function replace(list, items) {
  const key = JSON.stringify(items.map(([key]) => key));
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...items.map(([, make]) => make()));
}

function element(tag, content, className) {
  const made = document.createElement(tag);
  made.textContent = content;
  if (className) made.className = className;
  return made;
}

function showOutputs() {
  replace($("outputs"), now.outputs.map(({ name, failure, dropped }) => {
    const said = failure || (dropped ? `${words.count(dropped)} steps missing` : "");
    return [name + said, () => element("li", `${words.output(name)}: ${said || "fine"}`, said ? "failed" : "")];
  }));
}

function showChanges() {
  const rows = now.changes.map(([number, msAgo, name, reason]) => {
    // The moment is fixed when it is first heard of, or it would flicker with the network.
    if (!changeTimes.has(number)) changeTimes.set(number, new Date(Date.now() - msAgo).toTimeString().slice(0, 8));
    return [number, () => {
      const item = document.createElement("li");
      item.append(element("time", changeTimes.get(number)), element("b", name), element("span", reason || words.REASONS[name] || ""));
      return item;
    }];
  });
  replace($("changes"), rows);
}

function showModel() {
  const { steers, reading } = about.model;
  document.body.classList.toggle("shows", !steers);
  text("total-name", steers ? "Frame to angle" : "Frame to answer");
  text("key-total", steers ? "frame to angle" : "frame to answer");
  text("chart-name", steers ? "Steering" : `How sure of ${reading.name}`);
  text("title", `${about.model.recipe} ${about.model.precision}, ${about.model.engine}`);
  replace($("card"), words.card(about.model).map(([name, value]) => [`${name} ${value}`, () => {
    const pair = document.createDocumentFragment();
    const dd = document.createElement("dd");
    dd.append(name === "SHA-256" ? element("code", value) : value);
    pair.append(element("dt", name), dd);
    return pair;
  }]));
}

function showShot(shot, sent) {
  if (about === null) return;
  shotSeen = true;
  // Its age when it was sent counts too: a camera that hangs shows as an old picture.
  shotAt = sent - shot.age_ms;
  drawPicture($("picture"), shot.bitmap, shot, about);
  text("picture-number", `frame ${shot.id}, ${shot.time_s.toFixed(1)} s`);
  if (shot.said) said = shot.said;
  else text("further", shot.further ? `model: ${shot.further}` : "");
}

function draw() {
  if (about === null || now === null || document.hidden) return;
  const present = now.ended ? now.bucket : now.bucket + (performance.now() - madeAt) / about.bucket_ms;
  $("key-recorded").hidden = !samples.hasRecorded;
  drawCharts($("steering-chart"), $("time-chart"), samples, about, present);
}

link.follow(() => ({ count: now?.count ?? 0, bucket: samples.newest }), heard, refused);
link.watch(() => about !== null && state === "live" && !now.ended, showShot);
setInterval(show, 100);
setInterval(draw, 100);
