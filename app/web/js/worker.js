// The engine, in a worker so that the page stays quick: finds faces, runs the filters, lays the change over the photo.

import { Human } from "../vendor/human/human.esm.js";
import { boxAround, crop, inTone, layOver, sideOf, squareOfMesh } from "./align.js";
import { enlarge, shrink } from "./raster.js";
import { Tracks } from "./tracks.js";

const SEARCH_PX = 1280; // the longer side of the picture in which faces are searched
const SURE = 0.5; // how sure the detector must be of a face

let ort, providers, human, filters, sessions = {}, photo = null, place, faces = [], crops = [], tracks = new Tracks(), turn = 0;

const handlers = {
  /** Load the runtime, the detector and the list of filters. `runtime` "wasm" or "webgpu" is asked for, otherwise chosen. */
  async init({ base, runtime }) {
    providers = (runtime ? runtime === "webgpu" : await hasGpu()) ? ["webgpu", "wasm"] : ["wasm"];
    if (providers.length > 1) ort = await import("../vendor/ort/ort.jspi.min.mjs").catch(() => { providers = ["wasm"]; });
    ort ??= await import("../vendor/ort/ort.wasm.min.mjs");
    ort.env.wasm.wasmPaths = new URL("vendor/ort/", base).href;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
    ort.env.logLevel = "error";
    filters = JSON.parse(new TextDecoder().decode(await bytesOf(new URL("filters/filters.json", base))));
    for (const filter of filters) filter.folder = new URL("filters/", base).href;
    const off = { enabled: false };
    human = new Human({
      backend: "wasm", wasmPath: new URL("vendor/tfjs/", base).href, modelBasePath: new URL("vendor/human/models/", base).href,
      debug: false, async: false, warmup: "none", cacheSensitivity: 0, filter: off, segmentation: off, body: off, hand: off, object: off, gesture: off,
      face: {
        enabled: true, mesh: { enabled: true }, detector: { rotation: true, maxDetected: 8, minConfidence: SURE, skipFrames: 0, skipTime: 0 },
        iris: off, emotion: off, description: off, antispoof: off, liveness: off, attention: off,
      },
    });
    await human.load();
    await session(filters[0], false);
    return { result: { filters, runtime: providers[0], threads: ort.env.wasm.numThreads } };
  },

  /** Take a photo and find its faces. Only the part of it around them is kept: a large photo fills much memory. */
  async photo({ bitmap }) {
    const { width, height } = bitmap, found = await find(bitmap);
    place = boxAround(bitmap, found.map(({ quad }) => quad));
    photo = found.length ? pixelsOf(bitmap, place) : null;
    bitmap.close();
    faces = found.map(({ quad }) => quad.map(([x, y]) => [x - place.left, y - place.top]));
    crops = [];
    return { result: { faces: found, width, height } };
  },

  /** That part of the photo, with the dials' edits on the chosen faces, as RGBA bytes; and where it lies. */
  async apply({ dials, chosen }) {
    const result = { ...photo, data: new Uint8ClampedArray(photo.data) };
    for (const index of used(dials).length ? chosen : []) {
      const before = cropOf(index, Math.max(...used(dials).map((filter) => sizeFor(filter, faces[index]))));
      await edit(result, before, faces[index], dials);
    }
    return answer(result, { left: place.left, top: place.top });
  },

  /** One face at several strengths, side by side: `values` are strengths of the filter `dial`. */
  async strip({ dial, values, face }) {
    const chosen = filters.find((filter) => filter.name === dial), size = sizeFor(chosen, faces[face]), before = cropOf(face, size);
    const sheet = { width: size * values.length, height: size, data: new Uint8ClampedArray(4 * size * size * values.length) };
    for (const [i, value] of values.entries()) {
      const after = value ? await run(chosen, before, value) : before;
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          const to = 4 * (y * sheet.width + i * size + x);
          for (let c = 0; c < 3; c++) sheet.data[to + c] = (after.data[c * size * size + y * size + x] + 1) * 127.5;
          sheet.data[to + 3] = 255;
        }
      }
    }
    return answer(sheet);
  },

  /** One picture of the camera, edited; faces are followed from picture to picture. */
  async frame({ bitmap, dials, time }) {
    const began = performance.now();
    const picture = pixelsOf(bitmap);
    const known = turn++ % 2 ? tracks.faces() : [];
    const found = known.length ? known : tracks.follow(await find(bitmap), time); // a followed face is looked for every other time
    bitmap.close();
    const seen = performance.now();
    for (const { quad, weight } of found) {
      const eased = Object.fromEntries(Object.entries(dials).map(([name, value]) => [name, value * weight]));
      if (used(eased).length) await edit(picture, crop(picture, quad, used(eased)[0].size_px, true), quad, eased);
    }
    return answer(picture, { faces: found.length, ms: { find: seen - began, edit: performance.now() - seen } });
  },

  async forget() {
    photo = null, faces = [], crops = [], tracks = new Tracks();
    return { result: null };
  },
};

/** Whether the device has a graphics processor that WebGPU may use, and the browser what its runtime needs. */
async function hasGpu() {
  if (!("Suspending" in WebAssembly)) return false;
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter.info?.isFallbackAdapter;
}

function answer(picture, more = {}) {
  const { width, height, data } = picture;
  return { result: { width, height, data: data.buffer, ...more }, transfer: [data.buffer] };
}

/** The pixels of a part of a bitmap, at another size if asked. */
function pixelsOf(bitmap, { left, top, right, bottom } = wholeOf(bitmap), width = right - left, height = bottom - top) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, left, top, right - left, bottom - top, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  canvas.width = canvas.height = 0; // its memory is free at once
  return { width, height, data };
}

const wholeOf = ({ width, height }) => ({ left: 0, top: 0, right: width, bottom: height });

/** Every face of a picture, the largest first: its mesh's square, and its box for the page. */
async function find(bitmap) {
  const scale = Math.min(1, SEARCH_PX / Math.max(bitmap.width, bitmap.height));
  const { width, height, data } = pixelsOf(bitmap, undefined, Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  const image = new ImageData(data, width, height), ratio = [bitmap.width / width, bitmap.height / height];
  const { face: found } = await human.detect(image);
  return found
    .filter((one) => one.mesh.length >= 468)
    .map((one) => {
      const mesh = one.mesh.map(([x, y]) => [(x + 0.5) * ratio[0] - 0.5, (y + 0.5) * ratio[1] - 0.5]);
      const [left, top, width, height] = one.box.map((side, i) => side * ratio[i % 2]);
      return { quad: squareOfMesh(mesh), box: [left, top, width, height], score: one.boxScore };
    })
    .sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]);
}

const used = (dials) => filters.filter((filter) => dials[filter.name]);

/** The size at which a face of a photo is worked on: twice the filter's own where it can, for lines and hair are cleaner there. */
const sizeFor = ({ large, size_px }, quad) => (large && sideOf(quad) >= 0.5 * size_px ? 2 * size_px : size_px);

/** A face of the photo, cut out once. */
function cropOf(index, size) {
  if (crops[index]?.width !== size) crops[index] = crop(photo, faces[index], size);
  return crops[index];
}

async function edit(picture, before, quad, dials) {
  if (!before) return;
  let now = before;
  for (const filter of used(dials)) now = await run(filter, now, dials[filter.name]);
  layOver(picture, inTone(before, differenceOf(now, before)), quad);
}

/** A face after a filter. One network knows small faces only: it works on a smaller copy, and what it adds is enlarged. */
async function run(filter, face, strength) {
  const large = Boolean(filter.large) && face.width === 2 * filter.size_px, size = large ? face.width : filter.size_px;
  const small = shrink(face, size, size), network = await session(filter, large);
  const image = new ort.Tensor("float32", small.data, [1, 3, size, size]);
  const { edited } = await network.run({ image, strength: new ort.Tensor("float32", [strength], [1]) });
  const after = { ...small, data: edited.data.map((value) => Math.min(Math.max(value, -1), 1)) };
  edited.dispose?.();
  if (size === face.width) return after;
  const change = enlarge(differenceOf(after, small), face.height, face.width);
  return { ...face, data: face.data.map((value, i) => Math.min(Math.max(value + change.data[i], -1), 1)) };
}

const differenceOf = (after, before) => ({ ...after, data: after.data.map((value, i) => value - before.data[i]) });

function session(filter, large) {
  const name = large ? filter.large : filter.file;
  sessions[name] ??= begin(filter, name).catch((error) => {
    delete sessions[name]; // so that the next try asks again
    throw error;
  });
  return sessions[name];
}

/** The network of a filter. Its weights come in 8 and 16 bits and are widened here: a quarter of the way over the wire, all the speed. */
async function begin({ folder, weights, parts }, file) {
  const [graph, narrow] = await Promise.all([file, weights].map((name) => bytesOf(folder + name)));
  const options = { executionProviders: providers, graphOptimizationLevel: "all", logSeverityLevel: 3 };
  return ort.InferenceSession.create(new Uint8Array(graph), { ...options, externalData: [{ path: weights, data: widened(narrow, parts) }] });
}

async function bytesOf(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} could not be loaded (${response.status})`);
  return response.arrayBuffer();
}

/** The weights as floats of 32 bits, in bytes. `parts` lists how many there are, and how many of them share a scale (0: they are 16 bits). */
function widened(narrow, parts) {
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  const halves = floats(new Uint16Array(narrow, 0, sum(parts.map(([count, shared]) => (shared ? count / shared : count)))));
  const bytes = new Int8Array(narrow, 2 * halves.length), wide = new Float32Array(sum(parts.map(([count]) => count)));
  let half = 0, byte = 0, at = 0;
  for (const [count, shared] of parts) {
    for (let i = 0; i < count; i++) wide[at++] = shared ? bytes[byte++] * halves[half + Math.floor(i / shared)] : halves[half + i];
    half += shared ? count / shared : count;
  }
  return new Uint8Array(wide.buffer);
}

/** Floats of 16 bits (IEEE 754) as floats of 32 bits. */
function floats(narrow) {
  const bits = new Uint32Array(narrow.length), wide = new Float32Array(bits.buffer);
  for (let i = 0; i < narrow.length; i++) {
    const sign = (narrow[i] & 0x8000) << 16, exponent = (narrow[i] >> 10) & 31, fraction = narrow[i] & 0x3ff;
    if (exponent) bits[i] = sign | ((exponent + 112) << 23) | (fraction << 13);
    else wide[i] = (sign ? -1 : 1) * fraction * 2 ** -24;
  }
  return wide;
}

let last = Promise.resolve(); // one job after the other

self.onmessage = ({ data: { id, name, ...message } }) => {
  last = last.then(async () => {
    try {
      const { result, transfer = [] } = await handlers[name](message);
      self.postMessage({ id, result }, transfer);
    } catch (error) {
      self.postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};
