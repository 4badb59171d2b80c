// --- What is under the pointer ---

function under(panel, event) {
  const scale = scaleOf(panel.canvas) / devicePixelRatio, area = panel.canvas.getBoundingClientRect();
  const x = view.x - (event.clientY - area.top - area.height / 2) / scale;
  const y = view.y - (event.clientX - area.left - area.width / 2) / scale;
  const inside = boxes(data.frames[shown], panel.student()).filter(({values: v}) => {
    const dx = x - v[BOX.x], dy = y - v[BOX.y], cosine = Math.cos(v[BOX.yaw]), sine = Math.sin(v[BOX.yaw]);
    return Math.abs(cosine * dx + sine * dy) <= v[BOX.length] / 2 + 0.3 && Math.abs(cosine * dy - sine * dx) <= v[BOX.width] / 2 + 0.3;
  });
  return inside.sort((a, b) => (a.annotated ?? false) - (b.annotated ?? false) || (b.score ?? 0) - (a.score ?? 0))[0];
}

function words(box) {
  const v = box.values, name = box.class.replaceAll("_", " "), said = [];
  said.push(box.annotated ? `${name}, annotated${box.made ? " by a model" : ""}${box.state === "annotated" ? "" : `: ${box.state === "hidden" ? "hidden, no LiDAR point in it" : box.state}`}`
                          : `${name} ${box.score.toFixed(2)}${box.state === "found" ? "" : `: ${box.state === "turned" ? "hit, but turned" : box.state}`}`);
  said.push(`${Math.hypot(v[BOX.x], v[BOX.y]).toFixed(1)} m away, ${v[BOX.length].toFixed(1)} × ${v[BOX.width].toFixed(1)} × ${v[BOX.height].toFixed(1)} m`);
  if (v[BOX.vx] !== null && v[BOX.vx] !== undefined) said.push(`${speed(v).toFixed(1)} m/s`);
  if (box.turned !== null && box.turned !== undefined) said.push(`heading off by ${box.turned.toFixed(0)}°`);
  if (box.of) said.push(`centre off by ${Math.hypot(v[BOX.x] - box.of.values[BOX.x], v[BOX.y] - box.of.values[BOX.y]).toFixed(2)} m`);
  return said.join("\n");
}

function tip(panel, event) {
  const box = under(panel, event), note = $("tip");
  note.style.display = box ? "block" : "none";
  if (!box) return;
  note.textContent = words(box);
  note.style.left = `${Math.min(event.clientX + 14, innerWidth - note.offsetWidth - 4)}px`;
  note.style.top = `${Math.min(event.clientY + 14, innerHeight - note.offsetHeight - 4)}px`;
}

// --- Moving about ---

const fingers = new Map();  // pointers that are down, by id
function moved(panel, event) {
  const before = fingers.get(event.pointerId), metres = view.metres / Math.min(panel.canvas.clientWidth, panel.canvas.clientHeight);
  if (!before) return tip(panel, event);
  $("tip").style.display = "none";
  const apart = () => { const [a, b] = [...fingers.values()]; return b ? Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) : 0; };
  const span = apart();
  fingers.set(event.pointerId, event);
  if (fingers.size > 1) zoom(span / Math.max(apart(), 1));
  else {
    view.x += (event.clientY - before.clientY) * metres;
    view.y += (event.clientX - before.clientX) * metres;
  }
  draw();
}

function zoom(factor) { view.metres = Math.max(10, Math.min(300, view.metres * factor)); }

function addPanel(student) {
  const frame = document.createElement("div"), head = document.createElement("div"), canvas = document.createElement("canvas");
  const select = document.createElement("select"), caption = document.createElement("span"), sums = document.createElement("small");
  data.students.forEach((name, number) => select.add(new Option(name, number)));
  select.value = student;
  select.hidden = !data.students.length;
  select.ariaLabel = "student";
  frame.className = "view";
  canvas.ariaLabel = "the scene from above, the vehicle's front is up";
  head.append(select, caption, sums);
  frame.append(head, canvas);
  $("views").append(frame);
  const panel = {canvas, caption, sums, student: () => Number(select.value)};
  select.oninput = draw;
  canvas.onwheel = event => { event.preventDefault(); zoom(Math.exp(event.deltaY / 800)); draw(); };
  canvas.onpointerdown = event => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, event); };
  canvas.onpointermove = event => moved(panel, event);
  canvas.onpointerup = canvas.onpointercancel = event => fingers.delete(event.pointerId);
  canvas.onpointerleave = () => { $("tip").style.display = "none"; };
  panels.push(panel);
}

// --- The page ---

function counted(frame, student) {
  const count = {}, both = judged(frame, student);
  for (const box of both.found) count[box.state] = (count[box.state] ?? 0) + 1;
  for (const box of both.truth) if (box.state !== "hit") count[box.state] = (count[box.state] ?? 0) + 1;
  return {...count, detections: both.found.length, annotations: both.truth.length};
}

function caption(frame, panel) {
  const student = panel.student(), answer = frame.answers[student], n = counted(frame, student);
  const right = (n.hit ?? 0) + (n.turned ?? 0), parts = [];
  if (answer) parts.push(`${n.detections} detections`);
  else if (data.students.length) parts.push("no answer at this moment");
  if (frame.has_truth && !answer) parts.push(`${n.annotations} annotated in range`);
  if (frame.has_truth && answer) parts.push(`${right} hits${n.turned ? ` (${n.turned} turned)` : ""}`,
    `${n["false alarm"] ?? 0} false alarms`, `${n.missed ?? 0} missed`, `${n.hidden ?? 0} hidden`);
  if (answer && answer.latency_ms !== null) parts.push(`${answer.latency_ms.toFixed(0)} ms`);
  panel.caption.textContent = parts.join(", ");
  const whole = totals(student);
  panel.sums.textContent = whole ? `all moments: precision ${whole[0].toFixed(2)}, recall ${whole[1].toFixed(2)}` : "";
}

const summed = new Map();  // by threshold and student
function totals(student) {
  const key = `${$("card").checked} ${$("threshold").value} ${student}`;
  if (!summed.has(key)) {
    let hits = 0, found = 0, truth = 0;
    for (const frame of data.frames) {
      if (!frame.has_truth || !frame.answers[student]) continue;
      const n = counted(frame, student);
      hits += (n.hit ?? 0) + (n.turned ?? 0);
      found += n.detections;
      truth += n.annotations;
    }
    summed.set(key, found && truth ? [hits / found, hits / truth] : null);
  }
  return summed.get(key);
}

function legend() {
  const entries = $("colours").value === "match"
    ? {"hit": HIT, [`hit, turned by more than ${TURNED_DEGREES}°`]: TURNED, "false alarm": FALSE_ALARM, "missed": MISS,
       "hidden: annotated, no LiDAR point": HIDDEN, "annotated (dashed)": TRUTH}
    : {...(data.has_truth ? {"annotated (dashed)": TRUTH} : {}), ...(data.students.length ? data.class_colours : {})};
  const all = Object.entries($("map").value ? {...entries, ...data.map_colours} : entries);
  if (data.frames.some(frame => frame.points)) all.push(["points −0.3 … 2.5 m high", null]);
  $("legend").replaceChildren(...all.map(([name, colour]) => {
    const entry = document.createElement("span"), swatch = document.createElement("span");
    swatch.className = colour ? "swatch" : "swatch bar";
    if (colour) swatch.style.background = colour;
    entry.append(swatch, name.replaceAll("_", " "));
    return entry;
  }));
}

function draw() {
  const frame = data.frames[shown];
  $("score").value = Number($("threshold").value).toFixed(2);
  $("time").textContent = `${frame.scene === data.title ? "" : `${frame.scene}, `}moment ${shown + 1} of ${data.frames.length}, ${frame.seconds.toFixed(1)} s`;
  legend();
  for (const panel of panels) {
    caption(frame, panel);
    drawAbove(frame, panel);
  }
  drawCameras(frame);
}

function show(number) {
  shown = Math.max(0, Math.min(data.frames.length - 1, number));
  $("slider").value = shown;
  draw();
}

function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => show((shown + 1) % data.frames.length), 500) : null;
  $("play").textContent = on ? "Pause" : "Play";
}

function markScenes() {
  let before = null;
  data.frames.forEach((frame, number) => {
    if (frame.scene === before) return;
    before = frame.scene;
    const mark = document.createElement("span");
    mark.textContent = frame.scene;
    mark.style.left = `${100 * number / Math.max(1, data.frames.length - 1)}%`;
    mark.onclick = () => show(number);
    $("scenes").append(mark);
  });
}

function start() {
  const cameras = data.frames.some(frame => frame.cameras.length), two = data.students.length > 1;
  $("title").textContent = data.title;
  $("notes").textContent = data.notes.join("\n");
  $("notes").hidden = !data.notes.length;
  $("slider").max = data.frames.length - 1;
  for (let i = 0; i < (two ? 2 : 1); i++) addPanel(i);
  document.querySelector("main").className = (two ? "two" : "one") + (cameras ? "" : " no-cameras");
  if (data.has_true_map) $("map").add(new Option("true", "true"));
  if (data.frames.some(frame => frame.answers.some(answer => answer?.map))) $("map").value = "student";
  $("colours").disabled = !(data.has_truth && data.students.length);
  if (!$("colours").disabled) $("colours").value = "match";
  $("own").hidden = !data.thresholds.some(own => own);
  markScenes();
  show(Number(location.hash.slice(1)) || 0);
}

$("slider").oninput = event => show(Number(event.target.value));
$("play").onclick = () => play(!timer);
$("reset").onclick = () => { Object.assign(view, {x: 0, y: 0, metres: WHOLE}); draw(); };
for (const id of ["points", "truth", "found", "card", "colours", "map"]) $(id).oninput = draw;
$("threshold").oninput = () => { $("card").checked = false; draw(); };
addEventListener("resize", draw);
addEventListener("keydown", event => {
  if (event.target.tagName === "SELECT" || event.target.type === "range") return;
  if (event.key === "ArrowRight") show(shown + 1);
  if (event.key === "ArrowLeft") show(shown - 1);
  if (event.key === " " && event.target.tagName !== "BUTTON") { event.preventDefault(); play(!timer); }
});
start();
