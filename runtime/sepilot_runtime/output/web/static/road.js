// The picture, and on it the path that a steering angle leads along: the arc of a bicycle model, seen by a pinhole camera.
// The same figures as in roadpath.py.

const WHEELBASE = 2.2, HALF_WIDTH = 0.4, LENGTH = 9, FOCAL = 0.6, LARGEST_TURN = Math.PI * 80 / 180, POINTS = 40;

/** Left and right edge of the strip that the car would cover, nearest first: [[x, y], …] in pixels. */
function edges(degrees, width, height, horizon, halfWidth) {
  const curvature = Math.tan(Math.max(-60, Math.min(60, degrees)) * Math.PI / 180) / WHEELBASE;
  const focal = FOCAL * width, horizonY = horizon * height;
  const nearest = 0.75 * focal / (height - horizonY);
  const longest = Math.abs(curvature) > 1e-6 ? Math.min(LENGTH, LARGEST_TURN / Math.abs(curvature)) : LENGTH;
  const far = Math.max(longest, 1.5 * nearest);
  return [-halfWidth, halfWidth].map((side) => {
    const line = [];
    for (let i = 0; i < POINTS; i++) {
      const along = 1 / (1 / nearest + (1 / far - 1 / nearest) * i / (POINTS - 1));
      const heading = curvature * along;
      const straight = Math.abs(curvature) < 1e-6;
      const x = (straight ? 0 : (1 - Math.cos(heading)) / curvature) + side * Math.cos(heading);
      const z = Math.max((straight ? along : Math.sin(heading) / curvature) - side * Math.sin(heading), 0.3 * nearest);
      line.push([width / 2 + focal * x / z, horizonY + focal / z]);
    }
    return line;
  });
}

function trace(context, points) {
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
}

function drawPath(context, width, height, horizon, degrees, steers) {
  const [left, right] = edges(degrees, width, height, horizon, HALF_WIDTH);
  const top = Math.min(left[POINTS - 1][1], right[POINTS - 1][1]);
  const color = steers ? "255, 176, 60" : "255, 90, 90";
  const fade = context.createLinearGradient(0, top, 0, top + 0.3 * height);
  fade.addColorStop(0, `rgba(${color}, 0)`);
  fade.addColorStop(1, `rgba(${color}, 1)`);
  context.save();
  context.lineWidth = Math.max(2, width / 220);
  context.lineJoin = "round";
  context.strokeStyle = fade;
  if (steers) {
    context.globalAlpha = 0.34;
    context.fillStyle = fade;
    context.beginPath();
    trace(context, [...left, ...[...right].reverse()]);
    context.fill();
    context.globalAlpha = 0.95;
  } else {
    // What the model says and the car does not get.
    context.setLineDash([width / 60, width / 60]);
  }
  for (const edge of [left, right]) {
    context.beginPath();
    trace(context, edge);
    context.stroke();
  }
  context.restore();
}

function drawRecorded(context, width, height, horizon, degrees) {
  const middle = edges(degrees, width, height, horizon, 0)[0];
  context.save();
  context.strokeStyle = "rgba(245, 245, 245, 0.85)";
  context.lineWidth = Math.max(1.5, width / 320);
  context.setLineDash([width / 90, width / 70]);
  context.beginPath();
  trace(context, middle);
  context.stroke();
  context.restore();
}

/**
 * Draw a frame with its path.
 * @param shot {deg, recorded, steers} as the server sends it with the picture; deg and recorded may be null.
 * @param about {horizon, model: {full_scale_deg}}.
 */
export function drawPicture(canvas, bitmap, shot, about) {
  const ratio = `${bitmap.width} / ${bitmap.height}`;
  if (canvas.style.aspectRatio !== ratio) canvas.style.aspectRatio = ratio;
  const width = Math.round(Math.max(320, canvas.clientWidth) * Math.min(2, window.devicePixelRatio || 1));
  const height = Math.round(width * bitmap.height / bitmap.width);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  if (shot.recorded !== null) drawRecorded(context, width, height, about.horizon, shot.recorded * about.model.full_scale_deg);
  if (shot.deg !== null) drawPath(context, width, height, about.horizon, shot.deg, shot.steers);
}
