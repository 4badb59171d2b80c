const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const TRUTH = "#2e9e44", HIT = "#009e73", TURNED = "#e69f00", FALSE_ALARM = "#d53e00", MISS = "#0072b2",
      HIDDEN = "#9aa5b1", INK = "#20262e";
const HEIGHTS = ["#a6b0bc", "#8b97a6", "#6d7c90", "#526885", "#384f72", "#1f3a5f"];  // of points, −0.3 … 2.5 m
const BOX = {x: 0, y: 1, z: 2, length: 3, width: 4, height: 5, yaw: 6, vx: 7, vy: 8};
const TURNED_DEGREES = 30;  // a hit whose heading is further off is no good hit
const WHOLE = 104;  // metres across the smaller side: the range of the metrics, and a margin
const view = {x: 0, y: 0, metres: WHOLE};  // what the middle of every view shows
const panels = [];  // {canvas, select, caption}: one view from above a shown student
let shown = 0, timer = null;

// --- What a frame holds ---

const decoded = new Map();  // points of the frames last shown, as Int16Array of x, y, z [cm]
function points(number) {
  if (!decoded.has(number)) {
    const bytes = Uint8Array.from(atob(data.frames[number].points), c => c.charCodeAt(0));
    decoded.set(number, new Int16Array(bytes.buffer));
    if (decoded.size > 30) decoded.delete(decoded.keys().next().value);
  }
  return decoded.get(number);
}

const pictures = new Map();
function picture(url) {
  if (!pictures.has(url)) {
    const image = new Image();
    image.onload = draw;
    image.src = url;
    pictures.set(url, image);
    if (pictures.size > 200) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(url);
}

function threshold(student, name) {
  const own = $("card").checked && data.thresholds[student];
  return own ? own[name] : Number($("threshold").value);
}

function judged(frame, student) {
  // Boxes of a frame with what they are: annotated ones hit, missed or hidden (no LiDAR point in them), found ones hits,
  // turned hits or false alarms.
  const answer = frame.answers[student];
  const found = (answer ? answer.found : []).filter(box => box.score >= threshold(student, box.class));
  const hit = new Map(found.filter(box => box.hit >= 0).map(box => [box.hit, box]));
  return {
    truth: frame.truth.map((box, j) => ({...box, state: !answer || !frame.has_truth ? "annotated" :
      hit.has(j) ? "hit" : box.points === 0 ? "hidden" : "missed"})),
    found: found.map(box => ({...box, of: frame.truth[box.hit], state: !frame.has_truth ? "found" :
      box.hit < 0 ? "false alarm" : box.turned > TURNED_DEGREES ? "turned" : "hit"})),
  };
}

function dashes(box) { return box.made ? [1.5, 3] : [5, 3]; }  // dotted: annotated by a model

const COLOURS = {annotated: TRUTH, hit: HIT, turned: TURNED, "false alarm": FALSE_ALARM, missed: MISS, hidden: HIDDEN};
function boxes(frame, student) {
  const byMatch = $("colours").value === "match", both = judged(frame, student), list = [];
  if ($("truth").checked)
    for (const box of both.truth)
      list.push({...box, annotated: true, dashed: true, thin: box.state === "hit",
                 colour: byMatch && box.state !== "hit" ? COLOURS[box.state] : TRUTH});
  if ($("found").checked)
    for (const box of both.found)
      list.push({...box, colour: byMatch ? COLOURS[box.state] ?? data.class_colours[box.class] : data.class_colours[box.class]});
  return list;
}

// --- From above: the vehicle's front is up, its left is left ---

function scaleOf(canvas) { return Math.min(canvas.width, canvas.height) / view.metres; }
function place(canvas, x, y) {
  const scale = scaleOf(canvas);
  return [canvas.width / 2 - (y - view.y) * scale, canvas.height / 2 - (x - view.x) * scale];
}

function drawAbove(frame, panel) {
  const canvas = panel.canvas, student = panel.student();
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = canvas.clientHeight * devicePixelRatio;
  const context = canvas.getContext("2d");
  drawMap(context, $("map").value === "true" ? frame.true_map : $("map").value && frame.answers[student]?.map);
  drawRings(context);
  if ($("points").checked) drawPoints(context);
  outline(context, {values: [1, 0, 0.8, 4.1, 1.8, 1.6, 0], colour: INK, filled: true});
  for (const box of boxes(frame, student)) outline(context, box);
}

function drawMap(context, map) {
  if (!map) return;
  const canvas = context.canvas;
  const [left, top] = place(canvas, map.x_max, map.y_max), [right, bottom] = place(canvas, map.x_min, map.y_min);
  const image = picture(map.url);
  context.imageSmoothingEnabled = false;
  context.globalAlpha = 0.55;
  if (image.complete) context.drawImage(image, left, top, right - left, bottom - top);
  context.globalAlpha = 1;
}

function drawRings(context) {
  context.strokeStyle = "#c3cad3";
  context.fillStyle = "#5a6572";
  context.lineWidth = 1;
  context.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  const [x, y] = place(context.canvas, 0, 0), scale = scaleOf(context.canvas);
  for (let radius = 10; radius <= 60; radius += 10) {
    context.beginPath();
    context.arc(x, y, radius * scale, 0, 2 * Math.PI);
    context.stroke();
    context.fillText(`${radius} m`, x + 3, y - radius * scale - 3);
  }
}

function drawPoints(context) {
  const xyz = points(shown), size = Math.max(1, 0.12 * scaleOf(context.canvas));
  const bands = HEIGHTS.map(() => []);
  for (let i = 0; i < xyz.length; i += 3) {
    const band = Math.floor((xyz[i + 2] / 100 + 0.3) / 2.8 * HEIGHTS.length);
    bands[Math.max(0, Math.min(HEIGHTS.length - 1, band))].push(i);
  }
  bands.forEach((band, number) => {
    context.fillStyle = HEIGHTS[number];
    for (const i of band) {
      const [x, y] = place(context.canvas, xyz[i] / 100, xyz[i + 1] / 100);
      context.fillRect(x, y, size, size);
    }
  });
}

function footprint(v) {
  const cosine = Math.cos(v[BOX.yaw]), sine = Math.sin(v[BOX.yaw]);
  return [[1, 1], [-1, 1], [-1, -1], [1, -1]].map(([a, b]) => {
    const along = a * v[BOX.length] / 2, across = b * v[BOX.width] / 2;
    return [v[BOX.x] + cosine * along - sine * across, v[BOX.y] + sine * along + cosine * across];
  });
}

function outline(context, box) {
  const v = box.values, canvas = context.canvas, centre = place(canvas, v[BOX.x], v[BOX.y]);
  const corners = footprint(v).map(([x, y]) => place(canvas, x, y));
  context.strokeStyle = context.fillStyle = box.colour;
  context.lineWidth = (box.thin ? 1 : 2) * devicePixelRatio;
  context.setLineDash(box.dashed ? dashes(box).map(length => length * devicePixelRatio) : []);
  context.beginPath();
  corners.forEach(([x, y], i) => i ? context.lineTo(x, y) : context.moveTo(x, y));
  context.closePath();
  box.filled ? context.fill() : context.stroke();
  context.setLineDash([]);
  const reach = v[BOX.length] / 2 + 0.8;
  line(context, centre, place(canvas, v[BOX.x] + reach * Math.cos(v[BOX.yaw]), v[BOX.y] + reach * Math.sin(v[BOX.yaw])));
  if (speed(v) > 0.5) {
    context.lineWidth = devicePixelRatio;
    arrow(context, centre, place(canvas, v[BOX.x] + v[BOX.vx], v[BOX.y] + v[BOX.vy]));
  }
}

function speed(v) { return Math.hypot(v[BOX.vx] ?? 0, v[BOX.vy] ?? 0); }

function line(context, from, to) {
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

function arrow(context, from, to) {
  line(context, from, to);
  const angle = Math.atan2(to[1] - from[1], to[0] - from[0]), size = 6 * devicePixelRatio;
  for (const side of [2.6, -2.6]) line(context, to, [to[0] + size * Math.cos(angle + side), to[1] + size * Math.sin(angle + side)]);
}

// --- Through the cameras: with the boxes of the first view ---

const EDGES = [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]];
const NEAREST = 0.3;  // metres in front of the camera; what is nearer is cut off

function drawCameras(frame) {
  for (const camera of frame.cameras) {
    const canvas = cameraFigure(camera.name).querySelector("canvas"), image = picture(camera.url);
    canvas.width = camera.width;
    canvas.height = camera.height;
    const context = canvas.getContext("2d");
    if (image.complete && image.naturalWidth) context.drawImage(image, 0, 0);
    if (camera.projection)
      for (const box of boxes(frame, panels[0].student())) if (!box.thin) project(context, camera.projection, box);
  }
}

function cameraFigure(name) {
  let figure = $("camera-" + name);
  if (!figure) {
    figure = document.createElement("figure");
    figure.id = "camera-" + name;
    figure.append(document.createElement("canvas"), document.createElement("figcaption"));
    figure.lastChild.textContent = name;
    figure.onclick = () => { figure.classList.toggle("large"); draw(); };
    $("cameras").append(figure);
  }
  return figure;
}

function project(context, p, box) {
  const v = box.values, low = v[BOX.z] - v[BOX.height] / 2, high = v[BOX.z] + v[BOX.height] / 2;
  const corners = [low, high].flatMap(z => footprint(v).map(([x, y]) =>
    [0, 4, 8].map(row => p[row] * x + p[row + 1] * y + p[row + 2] * z + p[row + 3])));
  context.strokeStyle = box.colour;
  context.lineWidth = Math.max(1.5, context.canvas.width / 400);
  context.setLineDash(box.dashed ? dashes(box) : []);
  for (const [a, b] of EDGES) {
    const ends = cut(corners[a], corners[b]);
    if (ends) line(context, ...ends.map(([u, w, depth]) => [u / depth, w / depth]));
  }
}

function cut(a, b) {
  if (a[2] < NEAREST && b[2] < NEAREST) return null;
  const at = (from, to) => {
    const share = (NEAREST - from[2]) / (to[2] - from[2]);
    return from.map((value, i) => value + share * (to[i] - value));
  };
  return [a[2] < NEAREST ? at(a, b) : a, b[2] < NEAREST ? at(b, a) : b];
}
