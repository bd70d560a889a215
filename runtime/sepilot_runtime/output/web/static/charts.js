// Strip charts over the last seconds. Time runs on while nothing comes: a gap is what a lost connection looks like.

const BUCKET = 0, STEERING = 1, MODEL = 2, RECORDED = 3, AGE = 4, TOTAL = 5, LATE = 6, STATE = 7;
const LEFT = 50, RIGHT = 8, TOP = 8, BOTTOM = 18;
const TOGETHER = 5;  // Buckets that follow each other within so many belong together.
const TICKS_MS = [[0.1, "0.1 ms"], [1, "1 ms"], [10, "10 ms"], [100, "100 ms"]];
const LOWEST_MS = 0.03, HIGHEST_MS = 400;

export class Samples {
  constructor() { this.clear(); }

  clear() { this.rows = []; this.newest = 0; }

  /** Take in rows of the server; those that are not whole yet come again. */
  add(rows, keep) {
    for (const row of rows) {
      while (this.rows.length && this.rows.at(-1)[BUCKET] >= row[BUCKET]) this.rows.pop();
      this.rows.push(row);
      this.newest = row[BUCKET];
    }
    if (this.rows.length > keep) this.rows.splice(0, this.rows.length - keep);
  }

  get hasRecorded() { return this.rows.some((row) => row[RECORDED] !== null); }
}

function color(name) { return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); }

function prepare(canvas) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  return { context, width, height };
}

function frame({ context, width, height }, seconds, levels, yOf) {
  context.strokeStyle = color("grid");
  context.fillStyle = color("soft");
  context.lineWidth = 1;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const [value, words] of levels) {
    const y = Math.round(yOf(value)) + 0.5;
    context.beginPath();
    context.moveTo(LEFT, y);
    context.lineTo(width - RIGHT, y);
    context.stroke();
    context.fillText(words, LEFT - 6, y);
  }
  context.textBaseline = "bottom";
  for (let s = 0; s <= seconds; s += 5) {
    context.textAlign = s ? "center" : "right";
    context.fillText(s ? `−${s} s` : "now", s ? xOf(width, s, seconds) : width - RIGHT, height);
  }
}

function xOf(width, ago, seconds) { return width - RIGHT - (width - LEFT - RIGHT) * ago / seconds; }

function line({ context }, rows, index, place, style) {
  context.strokeStyle = style.color;
  context.lineWidth = style.width;
  context.lineJoin = "round";
  context.setLineDash(style.dash || []);
  context.beginPath();
  let last = null;
  for (const row of rows) {
    if (row[index] === null) { last = null; continue; }
    const [x, y] = place(row, row[index]);
    if (last !== null && row[BUCKET] - last <= TOGETHER) context.lineTo(x, y);
    else context.moveTo(x, y);
    last = row[BUCKET];
  }
  context.stroke();
  context.setLineDash([]);
}

/** Shade the times in which the car did not get what the model says. */
function shade({ context, height }, rows, xAt, step) {
  context.globalAlpha = 0.16;
  for (let i = 0; i < rows.length;) {
    const begin = rows[i], state = begin[STATE];
    let end = begin;
    while (++i < rows.length && rows[i][STATE] === state && rows[i][BUCKET] - end[BUCKET] <= TOGETHER) end = rows[i];
    if (state === "driving" || state === "running") continue;
    // A state holds until the next row says otherwise.
    const until = i < rows.length && rows[i][BUCKET] - end[BUCKET] <= TOGETHER ? xAt(rows[i]) : xAt(end) + step;
    context.fillStyle = color(state);
    context.fillRect(xAt(begin), TOP, Math.max(1, until - xAt(begin)), height - TOP - BOTTOM);
  }
  context.globalAlpha = 1;
}

/** @param now the bucket that is the present, with a fraction. */
export function drawCharts(steering, time, samples, about, now) {
  const seconds = about.shown_s, perSecond = 1000 / about.bucket_ms;
  const rows = samples.rows.filter((row) => now - row[BUCKET] < seconds * perSecond);
  for (const [canvas, kind] of [[steering, "steering"], [time, "time"]]) {
    const area = prepare(canvas);
    const xAt = (row) => xOf(area.width, Math.max(0, now - row[BUCKET]) / perSecond, seconds);
    const inner = area.height - TOP - BOTTOM;
    shade(area, rows, xAt, (area.width - LEFT - RIGHT) / seconds / perSecond);
    if (kind === "steering" && !about.model.steers) drawReading(area, rows, xAt, inner, seconds, about.model.reading);
    else if (kind === "steering") drawSteering(area, rows, xAt, inner, seconds);
    else drawTimes(area, rows, xAt, inner, seconds, about.deadline_ms);
  }
}

function drawSteering(area, rows, xAt, inner, seconds) {
  const yOf = (value) => TOP + inner / 2 - Math.max(-1, Math.min(1, value)) * inner / 2;
  const place = (row, value) => [xAt(row), yOf(value)];
  frame(area, seconds, [[1, "right"], [0, "0"], [-1, "left"]], yOf);
  line(area, rows, RECORDED, place, { color: color("faint"), width: 1.2, dash: [3, 3] });
  line(area, rows, MODEL, place, { color: color("second"), width: 1.2 });
  line(area, rows, STEERING, place, { color: color("accent"), width: 2 });
}

/** How much a model that does not steer says of what it says, such as the probability of the class. */
function drawReading(area, rows, xAt, inner, seconds, { span: [low, high] }) {
  const yOf = (value) => TOP + inner * (1 - (value - low) / (high - low));
  frame(area, seconds, [high, (low + high) / 2, low].map((value) => [value, `${value}`]), yOf);
  line(area, rows, MODEL, (row, value) => [xAt(row), yOf(value)], { color: color("second"), width: 2 });
}

function drawTimes(area, rows, xAt, inner, seconds, deadlineMs) {
  const low = Math.log(LOWEST_MS), high = Math.log(HIGHEST_MS);
  const yOf = (ms) => TOP + inner * (1 - (Math.log(Math.max(LOWEST_MS, Math.min(HIGHEST_MS, ms))) - low) / (high - low));
  const { context } = area;
  frame(area, seconds, TICKS_MS, yOf);
  context.strokeStyle = color("bad");
  context.lineWidth = 1;
  context.setLineDash([4, 4]);
  context.beginPath();
  context.moveTo(LEFT, yOf(deadlineMs));
  context.lineTo(area.width - RIGHT, yOf(deadlineMs));
  context.stroke();
  context.setLineDash([]);
  for (const row of rows) {
    if (!row[LATE]) continue;
    context.fillStyle = color("bad");
    context.fillRect(xAt(row) - 1, TOP, 2, inner);
  }
  line(area, rows, TOTAL, (row, us) => [xAt(row), yOf(us / 1000)], { color: color("second"), width: 1.4 });
  line(area, rows, AGE, (row, ms) => [xAt(row), yOf(ms)], { color: color("accent"), width: 1.8 });
}
