// The latent map: drag a point over the plane and see what the decoder makes of it. Decoding runs here, in the page, without a kernel.
// One plain module for two places: anywidget calls render(), an exported page calls mount() with the data written beside it.

const LIGHT = {
  paper: "#ffffff", ink: "#1d2125", quiet: "#5c5c5c", line: "#d9dce0", accent: "#0067a3", head: "#d55e00",
  labels: ["#332288", "#2f93c4", "#44aa99", "#117733", "#8a8a2b", "#b99a1f", "#cc6677", "#882255", "#aa4499", "#555555"],
};
const DARK = {
  paper: "#15181c", ink: "#f1f3f5", quiet: "#aab1b8", line: "#3a4047", accent: "#6cc0ff", head: "#ffab5e",
  labels: ["#8fa8ff", "#99ddff", "#44bb99", "#7ee08a", "#c9cc4a", "#eedd88", "#ff9d9d", "#ee8866", "#e7a6f0", "#dddddd"],
}; // both after Paul Tol's schemes, distinct with any colour vision; the pictures themselves say it a second time

const FRAMES = 12, STEP = 0.02; // pictures of the strip; what an arrow key moves, as a fraction of the width

// ---- the decoder ----

function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out.buffer;
}

function readLayer({ inputs, outputs, bits, weight, scale, bias }) {
  const whole = bits === 8 ? new Int8Array(bytes(weight)) : new Int16Array(bytes(weight)); // [outputs, inputs]
  const scales = new Float32Array(bytes(scale)), real = new Float32Array(whole.length);
  for (let o = 0, at = 0; o < outputs; o++) for (let i = 0; i < inputs; i++, at++) real[at] = whole[at] * scales[o];
  return { inputs, outputs, weight: real, bias: new Float32Array(bytes(bias)), result: new Float32Array(outputs) };
}

// Linear layers with SiLU between them; the last one's numbers are logits of ink.
function decode(layers, code) {
  let x = code;
  for (let l = 0; l < layers.length; l++) {
    const { inputs, outputs, weight, bias, result } = layers[l], last = l === layers.length - 1;
    for (let o = 0, at = 0; o < outputs; o++) {
      let sum = bias[o];
      for (let i = 0; i < inputs; i++, at++) sum += weight[at] * x[i];
      const gate = 1 / (1 + Math.exp(-sum));
      result[o] = last ? gate : sum * gate;
    }
    x = result;
  }
  return x; // [channels * side * side] from 0 to 1
}

// ---- light or dark ----

function isDark(element) {
  for (let at = element; at; at = at.parentElement) {
    const [r, g, b, a = 1] = (getComputedStyle(at).backgroundColor.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
    if (a > 0.5) return 0.3 * r + 0.6 * g + 0.1 * b < 110;
  }
  return false;
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function make(kind, parent, options = {}, words = "") {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(options)) element.setAttribute(name, value);
  element.textContent = words;
  parent.append(element);
  return element;
}

const pressed = (button) => button.getAttribute("aria-pressed") === "true";
const press = (button, down) => button.setAttribute("aria-pressed", String(down));

// ---- the widget ----

export function mount(root, data, tell = () => {}) {
  const layers = data.layers.map(readLayer), { side, channels, names } = data;
  const [left, right, bottom, top] = data.window;
  const codes = new Float32Array(bytes(data.codes)), labels = new Uint8Array(bytes(data.labels)); // [point, 2], [point]
  const point = Float32Array.from(data.start);
  let colors = LIGHT, path = [], drawing = false, film = null, size = 0, ratio = 1, sprite = null, manifold = null, spoken = 0;

  root.textContent = "";
  const box = make("div", root, { class: "dvmap", role: "group", "aria-label": data.title }), row = make("div", box, { class: "dvmap-row" });
  const plane = make("div", row, {
    class: "dvmap-plane", tabindex: "0", role: "application", "aria-roledescription": "map",
    "aria-label": `${data.title}. Arrow keys move the point, with Shift faster; Home goes to the middle; Enter adds the point to the path; Space plays the film.`,
  });
  const [back, front] = [0, 1].map(() => make("canvas", plane, { "aria-hidden": "true" }));
  const aside = make("div", row, { class: "dvmap-side" });
  const picture = make("canvas", aside, { class: "dvmap-picture", role: "img", "aria-label": "the decoded picture", width: 300, height: 300 });
  const where = make("p", aside, { class: "dvmap-where", "aria-hidden": "true" });
  const live = make("div", aside, { class: "dvmap-hidden", "aria-live": "polite", role: "status" });
  const buttons = make("div", aside, { class: "dvmap-buttons" });
  const button = (words, act, options = {}) => Object.assign(make("button", buttons, { type: "button", ...options }, words), { onclick: act });
  const pen = button("Draw a path", () => press(pen, !pressed(pen)), { "aria-pressed": "false" });
  const play = button("Play the film", () => (film ? stop() : start()));
  const clear = button("Clear", () => setPath([]));
  const everywhere = button("Decode everywhere", () => { press(everywhere, !pressed(everywhere)); paintBack(); }, { "aria-pressed": "false" });
  make("p", aside, { class: "dvmap-help" }, "Drag over the map, or use the arrow keys.");
  const strip = make("canvas", box, { class: "dvmap-strip", role: "img", "aria-label": "pictures along the path", hidden: "" });
  const small = Object.assign(document.createElement("canvas"), { width: side, height: side });

  const toX = (x) => ((x - left) / (right - left)) * size, toY = (y) => ((top - y) / (top - bottom)) * size;
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

  function paintCode(code, context, x, y, width) {
    const values = decode(layers, code), brush = small.getContext("2d"), image = brush.createImageData(side, side), area = side * side;
    const paper = rgb(colors.paper), ink = rgb(colors.ink);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = channels === 3 ? 255 * values[c * area + i] : paper[c] + values[i] * (ink[c] - paper[c]);
      image.data[4 * i + 3] = 255;
    }
    brush.putImageData(image, 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(small, x, y, width, width);
  }

  function nearest() {
    let best = -1, least = Infinity;
    for (let i = 0; i < labels.length; i++) {
      const gap = (codes[2 * i] - point[0]) ** 2 + (codes[2 * i + 1] - point[1]) ** 2;
      if (gap < least) [best, least] = [i, gap];
    }
    return { label: labels[best], far: Math.sqrt(least) > 0.06 * (right - left) };
  }

  function described() {
    const number = (x) => x.toFixed(2).replace("-", "\u2212"), code = `(${number(point[0])}, ${number(point[1])})`;
    if (!names.length) return [code, ""];
    const { label, far } = nearest();
    return [code, far ? "far from any picture of the data" : `nearest in the data: ${names[label]}`];
  }

  function moved() {
    paintCode(point, picture.getContext("2d"), 0, 0, picture.width);
    paintFront();
    const [code, beside] = described();
    where.innerHTML = "";
    make("b", where, {}, code);
    where.append(document.createElement("br"), beside);
    clearTimeout(spoken);
    spoken = setTimeout(() => {
      live.textContent = `${code} ${beside}`;
      picture.setAttribute("aria-label", `the picture decoded at ${code}${beside ? `, ${beside}` : ""}`);
      tell([...point]);
    }, film ? 1500 : 250);
    root.dispatchEvent(new CustomEvent("dvmap-painted"));
  }

  function moveTo(x, y) {
    point[0] = clamp(x, left, right);
    point[1] = clamp(y, bottom, top);
    moved();
  }

  function paintFront() {
    const brush = front.getContext("2d"), [x, y] = [toX(point[0]), toY(point[1])];
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    brush.clearRect(0, 0, size, size);
    Object.assign(brush, { lineJoin: "round", lineCap: "round" });
    const stroke = (shape, width, color) => {
      for (const [thick, ink] of [[width + 4, colors.paper], [width, color]]) { // a rim, so that it shows on anything
        brush.beginPath();
        shape();
        Object.assign(brush, { lineWidth: thick, strokeStyle: ink });
        brush.stroke();
      }
    };
    if (path.length) stroke(() => path.forEach(([px, py]) => brush.lineTo(toX(px), toY(py))), 4.5, colors.head);
    stroke(() => brush.arc(x, y, 11, 0, 2 * Math.PI), 3, colors.accent);
    stroke(() => brush.arc(x, y, 1, 0, 2 * Math.PI), 3, colors.accent);
  }

  function paintBack() {
    const brush = back.getContext("2d");
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    brush.fillStyle = colors.paper;
    brush.fillRect(0, 0, size, size);
    if (pressed(everywhere)) {
      manifold = manifold || drawManifold();
      brush.globalAlpha = 0.8;
      brush.drawImage(manifold, 0, 0, size, size);
      brush.globalAlpha = 1;
      return;
    }
    brush.fillStyle = colors.line;
    for (let at = Math.ceil(left); at <= right; at++) brush.fillRect(toX(at), 0, 1, size);
    for (let at = Math.ceil(bottom); at <= top; at++) brush.fillRect(0, toY(at), size, 1);
    brush.globalAlpha = 0.35;
    for (let i = 0; i < labels.length; i++) {
      brush.fillStyle = names.length ? colors.labels[labels[i] % 10] : colors.quiet;
      brush.beginPath();
      brush.arc(toX(codes[2 * i]), toY(codes[2 * i + 1]), 2, 0, 2 * Math.PI);
      brush.fill();
    }
    const thumb = (data.thumb * size) / (right - left);
    brush.globalAlpha = channels === 3 ? 0.95 : 0.8;
    if (sprite) for (let i = 0; i < data.thumbs; i++) {
      const [column, line] = [i % data.columns, Math.floor(i / data.columns)];
      brush.drawImage(sprite, column * data.cell, line * data.cell, data.cell, data.cell, toX(codes[2 * i]) - thumb / 2, toY(codes[2 * i + 1]) - thumb / 2, thumb, thumb);
    }
    brush.globalAlpha = 1;
  }

  function drawManifold() {
    const count = 18, cell = 56, canvas = Object.assign(document.createElement("canvas"), { width: count * cell, height: count * cell });
    for (let i = 0; i < count; i++) for (let j = 0; j < count; j++) {
      const code = [left + ((i + 0.5) / count) * (right - left), top - ((j + 0.5) / count) * (top - bottom)];
      paintCode(code, canvas.getContext("2d"), i * cell, j * cell, cell);
    }
    return canvas;
  }

  // The thumbnails: faces as they are, digits as ink in the colour of their label.
  function tint(image) {
    const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
    const brush = canvas.getContext("2d", { willReadFrequently: true });
    brush.drawImage(image, 0, 0);
    if (channels === 1) {
      const pixels = brush.getImageData(0, 0, image.width, image.height), inks = colors.labels.map(rgb);
      for (let y = 0, at = 0; y < image.height; y++) for (let x = 0; x < image.width; x++, at += 4) {
        const which = Math.floor(y / data.cell) * data.columns + Math.floor(x / data.cell);
        const ink = names.length && which < data.thumbs ? inks[labels[which] % 10] : rgb(colors.ink);
        pixels.data[at + 3] = pixels.data[at];
        for (let c = 0; c < 3; c++) pixels.data[at + c] = ink[c];
      }
      brush.putImageData(pixels, 0, 0);
    }
    return canvas;
  }

  // ---- the path and its film ----

  const lengths = () => path.reduce((sums, [x, y], i) => [...sums, i ? sums[i - 1] + Math.hypot(x - path[i - 1][0], y - path[i - 1][1]) : 0], []);

  function along(sums, t) { // the point at a fraction t of the length
    const reach = t * sums[sums.length - 1];
    const next = clamp(sums.findIndex((sum) => sum >= reach), 1, path.length - 1);
    const fraction = (reach - sums[next - 1]) / (sums[next] - sums[next - 1] || 1);
    return [0, 1].map((c) => path[next - 1][c] + fraction * (path[next][c] - path[next - 1][c]));
  }

  function setPath(stops) {
    stop();
    path = stops;
    const ready = path.length > 1;
    play.disabled = !ready;
    clear.disabled = !path.length;
    strip.hidden = !ready;
    if (ready) paintStrip();
    paintFront();
  }

  function paintStrip() {
    const cell = 120, gap = 6, sums = lengths(), brush = strip.getContext("2d");
    [strip.width, strip.height] = [FRAMES * (cell + gap) - gap, cell];
    for (let i = 0; i < FRAMES; i++) paintCode(along(sums, i / (FRAMES - 1)), brush, i * (cell + gap), 0, cell);
  }

  function start() {
    if (path.length < 2) return;
    const sums = lengths(), seconds = clamp((6 * sums[sums.length - 1]) / (right - left), 2.5, 9), begun = performance.now();
    const frame = (now) => {
      const t = (now - begun) / 1000 / seconds;
      if (!root.isConnected || t >= 1) { moveTo(...along(sums, 1)); stop(); return; }
      moveTo(...along(sums, Math.max(t, 0)));
      film = requestAnimationFrame(frame);
    };
    film = requestAnimationFrame(frame);
    play.textContent = "Stop the film";
  }

  function stop() {
    if (film) cancelAnimationFrame(film);
    film = null;
    play.textContent = "Play the film";
  }

  // ---- hands ----

  function at(event) {
    const frame = plane.getBoundingClientRect();
    const x = clamp((event.clientX - frame.left) / frame.width, 0, 1), y = clamp((event.clientY - frame.top) / frame.height, 0, 1);
    return [left + x * (right - left), top - y * (top - bottom)];
  }

  plane.addEventListener("pointerdown", (event) => {
    plane.setPointerCapture(event.pointerId);
    stop();
    drawing = true;
    if (pressed(pen)) setPath([at(event)]);
    moveTo(...at(event));
  });
  plane.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    const goal = at(event), last = path[path.length - 1];
    if (pressed(pen) && (!last || Math.hypot(goal[0] - last[0], goal[1] - last[1]) > 0.01 * (right - left))) path.push(goal);
    moveTo(...goal);
  });
  const lifted = () => {
    if (drawing && pressed(pen)) { setPath(path); press(pen, false); }
    drawing = false;
  };
  for (const end of ["pointerup", "pointercancel"]) plane.addEventListener(end, lifted);
  plane.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = (event.shiftKey ? 5 : 1) * STEP * (right - left);
    const way = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] }[event.key];
    const goal = way ? [point[0] + way[0], point[1] + way[1]] : event.key === "Home" ? data.start : null;
    if (goal) { stop(); moveTo(...goal); }
    else if (event.key === "Enter") setPath([...path, [...point]]);
    else if (event.key === " ") film ? stop() : start();
    else return;
    event.preventDefault();
    event.stopPropagation(); // the notebook has plans for these keys too
  });

  // ---- light, dark, and size ----

  const image = new Image();
  function dress() {
    colors = isDark(root.parentElement || document.body) ? DARK : LIGHT;
    for (const name of ["paper", "ink", "quiet", "line", "accent"]) box.style.setProperty(`--${name}`, colors[name]);
    manifold = null;
    sprite = image.complete && image.naturalWidth ? tint(image) : null;
    if (size) { paintBack(); moved(); }
    if (path.length > 1) paintStrip();
  }
  function fit() {
    const wide = plane.clientWidth;
    if (!wide) return;
    size = wide;
    ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [back, front]) canvas.width = canvas.height = Math.round(size * ratio);
    paintBack();
    moved();
  }
  image.onload = dress;
  image.src = data.sprite;
  const resized = new ResizeObserver(fit), themed = new MutationObserver(dress);
  resized.observe(plane);
  themed.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-jp-theme-name", "style", "theme"] });
  setPath([]);
  dress();
  fit();
  return () => { stop(); clearTimeout(spoken); resized.disconnect(); themed.disconnect(); };
}

export default {
  render: ({ model, el }) => mount(el, model.get("_data"), (code) => { model.set("code", code); model.save_changes(); }),
};
