// The page: what is on screen and what people do there. The engine does the work.

import { Engine } from "./engine.js";
import { text, translate } from "./strings.js";

const $ = (id) => document.getElementById(id);
const MAX_PIXELS = 16.7e6; // larger photos are reduced first: phones have no larger canvas
const STEPS_BACK = 5; // pictures kept for undo
const engine = new Engine();
let filters = [], ready, faces = [], chosen = new Set(), history = [], camera = null, busy = false, wanted = false, locked = false, current = 0; // the photo's number

translate();
start();

function start() {
  say(text.loading);
  const runtime = new URLSearchParams(location.search).get("runtime"); // "wasm" or "webgpu", to compare them
  ready = engine.call("init", { base: document.baseURI, runtime }).then(({ filters: all, runtime }) => {
    document.body.dataset.runtime = runtime;
    navigator.serviceWorker?.register(`sw.js?runtime=${runtime}`).catch(() => {});
    filters = all;
    for (const filter of filters) $("dials").append(dial(filter));
    say(text.ready);
  });
  ready.catch(() => say(text.engineFailed));
  for (let n = 1; n <= 3; n++) $("samples").append(sample(n));
  listen();
}

function listen() {
  $("choose").onclick = () => agreed() && $("file").click();
  $("take").onclick = () => agreed() && $("camera").click();
  $("live").onclick = () => agreed() && startCamera("user");
  for (const id of ["file", "camera"]) $(id).onchange = ({ target }) => { open(target.files[0]); target.value = ""; };
  $("divider").oninput = () => split(Number($("divider").value));
  $("again").onclick = again;
  $("undo").onclick = undo;
  $("reset").onclick = () => { setDials({}); update(); };
  $("save").onclick = () => save($("format").value);
  $("share").onclick = share;
  $("another").onclick = welcome;
  $("strip").onclick = showStrip;
  $("strip-close").onclick = () => $("strip-dialog").close();
  $("strip-save").onclick = () => download($("strip-canvas"), "image/png", "strip");
  $("snap").onclick = () => stopCamera(true);
  $("stop").onclick = () => stopCamera(false);
  $("flip").onclick = () => startCamera(camera.facing === "user" ? "environment" : "user");
  addEventListener("paste", ({ clipboardData }) => given(clipboardData?.files[0]));
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", () => document.body.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    given(event.dataTransfer.files[0]);
  });
}

const given = (file) => file && agreed() && open(file);

function say(words) {
  $("status").textContent = words;
}

/** Photos of people need their consent; the generated faces do not. */
function agreed() {
  const yes = $("consent").checked;
  document.querySelector(".consent").classList.toggle("missing", !yes);
  if (!yes) {
    say(text.consentFirst);
    $("consent").focus();
  }
  return yes;
}

function sample(n) {
  const item = document.createElement("li"), button = document.createElement("button"), image = new Image();
  image.src = `samples/face-${n}.jpg`;
  image.alt = `${text.sample} ${n}`;
  button.append(image);
  button.onclick = async () => open(await (await fetch(image.src)).blob());
  item.append(button);
  return item;
}

function dial(filter) {
  const box = document.createElement("div"), label = document.createElement("label"), output = document.createElement("output");
  const range = Object.assign(document.createElement("input"), {
    type: "range", id: `dial-${filter.name}`, min: filter.low, max: filter.high, step: (filter.high - filter.low) / 40, value: 0,
  });
  const [low, high] = text.ends[filter.name] ?? ["−", "+"], ends = document.createElement("div");
  box.className = "dial";
  label.htmlFor = output.htmlFor = range.id;
  label.append(Object.assign(document.createElement("span"), { textContent: text[filter.name] ?? filter.name }), output);
  ends.className = "ends";
  ends.append(...[low, high].map((words) => Object.assign(document.createElement("span"), { textContent: words })));
  ends.setAttribute("aria-hidden", "true");
  const show = () => {
    const value = Number(range.value);
    output.textContent = !value ? text.unchanged : filter.unit === "years" ? text.years(Math.round(value)) : `${value < 0 ? low : high} ${Math.abs(value).toFixed(1)}`;
    range.setAttribute("aria-valuetext", output.textContent);
  };
  range.oninput = () => { show(); update(); };
  range.show = show;
  show();
  box.append(label, range, ends);
  return box;
}

const ranges = () => filters.map((filter) => [filter.name, $(`dial-${filter.name}`)]);
const dials = () => Object.fromEntries(ranges().map(([name, range]) => [name, Number(range.value)]));

function setDials(values) {
  for (const [name, range] of ranges()) {
    range.value = values[name] ?? 0;
    range.show();
  }
}

async function open(file) {
  if (!file) return;
  endCamera();
  const mine = ++current;
  let bitmap;
  try {
    const whole = await createImageBitmap(file, { imageOrientation: "from-image" });
    const factor = Math.sqrt(MAX_PIXELS / (whole.width * whole.height));
    const size = { resizeWidth: Math.floor(whole.width * factor), resizeHeight: Math.floor(whole.height * factor), resizeQuality: "high" };
    bitmap = factor < 1 ? await createImageBitmap(whole, size) : whole;
    if (bitmap !== whole) whole.close();
  } catch {
    return say(text.broken);
  }
  if (mine !== current) return bitmap.close(); // another photo came in between
  setDials({});
  forgetHistory();
  studio(bitmap.width, bitmap.height, false);
  draw($("before"), bitmap);
  draw($("after"), bitmap);
  await look(bitmap);
  await update();
}

/** Hand a picture to the engine and show its faces. Those that `left` lists by their centers stay as they are. */
async function look(bitmap, left = []) {
  const mine = current;
  say(text.searching);
  faces = [], chosen = new Set();
  showFaces();
  try {
    await ready;
    const found = await engine.call("photo", { bitmap }, [bitmap]);
    if (mine !== current) return;
    faces = found.faces;
    chosen = new Set([...faces.keys()].filter((index) => !left.some((one) => near(one, faces[index]))));
    showFaces();
    say(faces.length === 0 ? text.noFace : faces.length === 1 ? text.oneFace : text.manyFaces(faces.length));
  } catch {
    if (mine === current) say(text.failed);
  }
  $("undo").disabled = !history.length;
  for (const id of ["again", "strip", "reset"]) $(id).disabled = !faces.length;
}

const centerOf = ({ box }) => [box[0] + box[2] / 2, box[1] + box[3] / 2];
const near = (a, b) => Math.hypot(centerOf(a)[0] - centerOf(b)[0], centerOf(a)[1] - centerOf(b)[1]) < a.box[2] / 2;
const leftOut = () => faces.filter((_, index) => !chosen.has(index));

function showFaces() {
  const { width, height } = $("before");
  $("faces").replaceChildren(...(faces.length < 2 ? [] : faces.map(({ box }, index) => {
    const button = document.createElement("button");
    const percent = (value, of) => `${(100 * value) / of}%`;
    Object.assign(button.style, { left: percent(box[0], width), top: percent(box[1], height), width: percent(box[2], width), height: percent(box[3], height) });
    button.setAttribute("aria-label", text.face(index + 1));
    button.setAttribute("aria-pressed", String(chosen.has(index)));
    button.onclick = () => {
      chosen.has(index) ? chosen.delete(index) : chosen.add(index);
      button.setAttribute("aria-pressed", String(chosen.has(index)));
      update();
    };
    return button;
  })));
}

/** Edit by the dials as they are now; while one edit runs, only the newest wish is kept. */
async function update() {
  if (camera || !faces.length) return;
  wanted = true;
  if (busy) return;
  busy = true;
  $("stage").setAttribute("aria-busy", "true");
  while (wanted) {
    wanted = false;
    const mine = current;
    try {
      const result = await engine.call("apply", { dials: dials(), chosen: [...chosen] });
      if (mine === current) show($("after"), result);
    } catch {
      if (mine === current) say(text.failed);
    }
  }
  busy = false;
  $("stage").setAttribute("aria-busy", "false");
}

/** Pass the result through once more: it becomes the photo. */
async function again() {
  if (busy || locked || !faces.length) return;
  locked = true;
  const [before, after] = [$("before"), $("after")];
  history.push({ picture: await createImageBitmap(before), dials: dials() });
  if (history.length > STEPS_BACK) history.shift().picture.close();
  draw(before, after);
  await look(await createImageBitmap(after), leftOut());
  locked = false;
  await update();
}

async function undo() {
  if (busy || locked || !history.length) return;
  locked = true;
  const last = history.pop(), left = leftOut();
  draw($("before"), last.picture);
  setDials(last.dials);
  await look(last.picture, left); // which hands the picture over
  locked = false;
  await update();
}

function forgetHistory() {
  for (const { picture } of history) picture.close();
  history = [];
}

async function showStrip() {
  const filter = filters.find(({ name }) => name === "age") ?? filters[0];
  const values = [filter.low, filter.low / 2, 0, filter.high / 2, filter.high];
  say(text.working);
  try {
    const sheet = await engine.call("strip", { dial: filter.name, values, face: [...chosen][0] ?? 0 });
    const canvas = $("strip-canvas");
    [canvas.width, canvas.height] = [sheet.width, sheet.height];
    show(canvas, sheet);
    const words = values.map((value) => (value === 0 ? text.unchanged : filter.unit === "years" ? text.years(value) : value.toFixed(1)));
    $("strip-words").replaceChildren(...words.map((word) => Object.assign(document.createElement("span"), { textContent: word })));
    say("");
    $("strip-dialog").showModal();
  } catch {
    say(text.failed);
  }
}

async function startCamera(facing) {
  if (locked) return;
  locked = true;
  const running = Boolean(camera);
  camera?.stream.getTracks().forEach((track) => track.stop());
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { facingMode: facing, width: { ideal: 640 }, height: { ideal: 480 } } });
    const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
    await video.play();
    current++;
    camera = { stream, video, facing, frames: 0, since: performance.now() };
    studio(video.videoWidth, video.videoHeight, true);
    $("faces").replaceChildren();
    await ready;
    if (!running) loop();
  } catch {
    stream?.getTracks().forEach((track) => track.stop());
    endCamera();
    await welcome();
    say(text.cameraRefused);
  }
  locked = false;
}

async function loop() {
  while (camera) {
    const mine = camera, { video } = mine;
    try {
      const bitmap = await createImageBitmap(video);
      if (camera) draw($("before"), bitmap);
      const picture = await engine.call("frame", { bitmap, dials: dials(), time: performance.now() }, [bitmap]);
      if (camera !== mine) continue;
      show($("after"), picture);
      mine.frames++;
      const passed = performance.now() - mine.since;
      if (passed > 1000) {
        const fps = (1000 * mine.frames) / passed;
        Object.assign(document.body.dataset, { fps: fps.toFixed(1), find: picture.ms.find.toFixed(0), edit: picture.ms.edit.toFixed(0) });
        say(`${picture.faces ? "" : text.noFace + " "}${fps.toFixed(0)} fps`);
        Object.assign(mine, { frames: 0, since: performance.now() });
      }
    } catch {
      if (camera !== mine) continue;
      await welcome();
      say(text.failed);
    }
  }
}

function endCamera() {
  camera?.stream.getTracks().forEach((track) => track.stop());
  camera = null;
}

/** Keep the camera's last picture as the photo, or go back to the first screen. */
async function stopCamera(keep) {
  if (!camera || !keep) return welcome();
  const frame = await createImageBitmap($("before")), before = dials();
  endCamera();
  current++;
  forgetHistory();
  studio(frame.width, frame.height, false);
  draw($("before"), frame);
  draw($("after"), frame);
  await look(frame);
  setDials(before);
  await update();
}

function studio(width, height, live) {
  for (const id of ["before", "after"]) Object.assign($(id), { width, height });
  $("welcome").hidden = true;
  $("studio").hidden = false;
  document.querySelector(".live-only").hidden = !live;
  for (const id of ["again", "undo", "strip"]) $(id).hidden = live;
  $("share").hidden = !navigator.canShare?.({ files: [new File([""], "face.png", { type: "image/png" })] });
  $("stage").style.setProperty("--ratio", width / height);
  split(live ? 0 : Number($("divider").value));
}

async function welcome() {
  endCamera();
  current++;
  wanted = false;
  forgetHistory();
  faces = [], chosen = new Set();
  $("studio").hidden = true;
  $("welcome").hidden = false;
  await engine.call("forget");
  say("");
  $("choose").focus();
}

function split(percent) {
  $("divider").value = percent;
  $("stage").style.setProperty("--split", `${percent}%`);
}

function draw(canvas, picture) {
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
}

function show(canvas, { width, height, data, left = 0, top = 0 }) {
  if (width && height) canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(data), width, height), left, top);
}

async function fileOf(canvas, type, name) {
  const blob = await new Promise((done) => canvas.toBlob(done, type, 0.95)); // a canvas carries no place, date or name
  if (!blob) throw new Error("the picture is too large for this browser");
  return new File([blob], `${name}-${text.edited}.${type === "image/png" ? "png" : "jpg"}`, { type });
}

async function download(canvas, type, name) {
  try {
    const file = await fileOf(canvas, type, name), link = document.createElement("a");
    Object.assign(link, { href: URL.createObjectURL(file), download: file.name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch {
    say(text.failed);
  }
}

const save = (type) => download($("after"), type, "face");

async function share() {
  try {
    await navigator.share({ files: [await fileOf($("after"), $("format").value, "face")] });
  } catch (error) {
    if (error.name !== "AbortError") say(text.failed);
  }
}
