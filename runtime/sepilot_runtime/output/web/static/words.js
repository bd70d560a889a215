// Values as words.

export const GETS = {
  waiting: "The car gets: straight ahead, throttle 0",
  driving: "The car gets: steering and throttle",
  degraded: "The car gets: steering, less throttle",
  neutral: "The car gets: straight ahead, throttle 0",
  stopped: "The car gets: straight ahead, throttle 0",
};

export const SHOWN = "What the model says is shown; nothing drives by it";

export const UNSUPERVISED = "The frames of a recording, one by one";

export const REASONS = { driving: "all is well", running: "all is well" };

export function ms(value) {
  if (value < 1) return `${Math.round(value * 1000)} µs`;
  return value < 9.95 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}

export function ago(value) {
  const s = value / 1000;
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  return s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
}

export function angle(degrees) {
  if (Math.abs(degrees) < 0.05) return "0.0° straight";
  return `${Math.abs(degrees).toFixed(1)}° ${degrees > 0 ? "right" : "left"}`;
}

export const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
export const count = (value) => value.toLocaleString("en").replaceAll(",", " ");

const OUTPUTS = { JsonLinesSink: "JSON lines", RotatingLinesSink: "JSON lines", TubRecorder: "recording", Guarded: "servo" };

/** An output by what people call it. */
export const output = (name) => OUTPUTS[name] || name.replace(/Sink$/, "");

export function lost(counts) {
  return Object.entries(counts).filter(([why]) => why !== "dropped").map(([why, n]) => `${count(n)} ${why}`).join(", ");
}

/** An output of a model that does not steer. */
const answer = (output) => [output.name, (output.names || []).slice(0, 12).join(", ")].filter(Boolean).join(": ");

/** The model card: [[name, value], …]. */
export function card(model) {
  const { picture, validation: v } = model;
  const cut = picture.crop.map((part, i) => part && `${Math.round(part * 100)} % cut off the ${["top", "bottom", "left", "right"][i]}`);
  const deg = (value) => model.steers ? ` (${(value * model.full_scale_deg).toFixed(1)}°)` : "";
  const rows = [
    ["Recipe", `${model.recipe}, ${model.precision}${model.sparsity ? `, ${Math.round(model.sparsity * 100)} % sparse` : ""}`],
    ["Runs on", `${model.engine}, ${model.threads} thread${model.threads > 1 ? "s" : ""}`],
    ["File", `${model.file}${model.bytes ? `, ${count(Math.round(model.bytes / 1000))} kB` : ""}`],
    ["SHA-256", model.sha256 || "the file cannot be read any more"],
    ["Picture", [`${picture.width}×${picture.height} ${picture.color}`, ...cut.filter(Boolean)].join(", ")],
    ...(model.steers ? [["Full scale", `±${model.full_scale_deg}°`]] : model.outputs.map((o) => ["Says", answer(o)])),
    ["Trained on", model.drives.join(", ") || "not said"],
    ["Judged on", model.validation_drives.join(", ") || "parts of the same drives"],
  ];
  if (v.mae !== undefined) {
    const constant = v.constant_mae === undefined ? "" : `; a constant: ${v.constant_mae.toFixed(3)}${deg(v.constant_mae)}`;
    rows.push(["Mean error", `${v.mae.toFixed(3)}${deg(v.mae)}${constant}`]);
  }
  if (v.r2 !== undefined) rows.push(["R²", `${v.r2.toFixed(3)}; a constant: 0${v.frames ? `, over ${count(v.frames)} frames` : ""}`]);
  rows.push(["Proof at load", `${model.golden} golden frames within ${model.tolerance}`]);
  if (model.created) rows.push(["Made", model.created.replace("T", " ").replace("Z", " UTC")]);
  return rows;
}
