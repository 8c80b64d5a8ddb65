// Where a face lies in a photo, how it is cut out, and how the change is laid over the photo: the Python library's `faces/align.py`.

import { extend, fromBytes, lanczos, sampleQuad, shrink, shrunkBytes } from "./raster.js";

// The mesh points that stand where dlib's 68 landmarks 36-47 (eyes) and 48, 54 (corners of the mouth) do.
const LEFT_EYE = [33, 160, 158, 133, 153, 144];
const RIGHT_EYE = [362, 385, 387, 263, 373, 380];
const MOUTH = [61, 291];

/** The FFHQ square around a face mesh: upper left, lower left, lower right, upper right corner (Karras et al. 2019, section A). */
export function squareOfMesh(mesh) {
  const mean = (indices) => [0, 1].map((axis) => indices.reduce((sum, i) => sum + mesh[i][axis], 0) / indices.length);
  return square(mean(LEFT_EYE), mean(RIGHT_EYE), mean(MOUTH));
}

export function square(left, right, mouth) {
  const middle = [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2];
  const across = [right[0] - left[0], right[1] - left[1]];
  const down = [mouth[0] - middle[0], mouth[1] - middle[1]];
  let x = [across[0] + down[1], across[1] - down[0]];
  const half = Math.max(2 * Math.hypot(...across), 1.8 * Math.hypot(...down)) / Math.hypot(...x);
  x = [x[0] * half, x[1] * half];
  const y = [-x[1], x[0]];
  const center = [middle[0] + 0.1 * down[0], middle[1] + 0.1 * down[1]];
  return [[-1, -1], [-1, 1], [1, 1], [1, -1]].map(([u, v]) => [0, 1].map((axis) => center[axis] + u * x[axis] + v * y[axis]));
}

export const sideOf = (quad) => Math.hypot(quad[0][0] - quad[3][0], quad[0][1] - quad[3][1]);

/** The aligned face as a raster of size x size. `photo` is { width, height, data } with RGBA bytes; `quick` samples once a pixel. */
export function crop(photo, quad, size, quick = false) {
  let side = sideOf(quad), border = Math.max(Math.round(0.1 * side), 3);
  const { left, top, right, bottom } = boxAround(photo, [quad]);
  if (right - left < 2 || bottom - top < 2) return null;
  let canvas, corners = quad.map(([x, y]) => [x - left, y - top]);
  const factor = Math.floor(side / size / 2);
  if (factor > 1) {
    const width = Math.ceil((right - left) / factor), height = Math.ceil((bottom - top) / factor);
    canvas = shrunkBytes(photo.data, photo.width, { left, top, right, bottom }, height, width);
    const ratio = [width / (right - left), height / (bottom - top)];
    corners = corners.map(([x, y]) => [(x + 0.5) * ratio[0] - 0.5, (y + 0.5) * ratio[1] - 0.5]);
    side /= factor;
    border = Math.max(Math.round(0.1 * side), 3);
  } else {
    canvas = fromBytes(photo.data, photo.width, { left, top, right, bottom });
  }
  const low = [0, 1].map((axis) => Math.min(...corners.map((corner) => corner[axis])));
  const high = [0, 1].map((axis) => Math.max(...corners.map((corner) => corner[axis])));
  const outside = [
    ...low.map((edge) => Math.ceil(-edge + border)),
    Math.ceil(high[0] + border - canvas.width), Math.ceil(high[1] + border - canvas.height),
  ];
  if (Math.max(...outside) > border - 4) {
    const pad = outside.map((edge) => Math.max(edge, Math.round(0.3 * side)));
    canvas = extend(canvas, pad, side);
    corners = corners.map(([x, y]) => [x + pad[0], y + pad[1]]);
  }
  const face = quick ? sampleQuad(canvas, corners, size) : lanczos(sampleQuad(canvas, corners, 4 * size), size, size);
  for (let i = 0; i < face.data.length; i++) face.data[i] = Math.min(Math.max(face.data[i], -1), 1);
  return face;
}

/** The part of the photo, in whole pixels, that cutting out these squares looks at. Changes laid over them stay within. */
export function boxAround({ width, height }, quads) {
  const boxes = quads.map((quad) => {
    const xs = quad.map(([x]) => x), ys = quad.map(([, y]) => y), border = Math.max(Math.round(0.1 * sideOf(quad)), 3);
    return [Math.floor(Math.min(...xs)) - border, Math.floor(Math.min(...ys)) - border, Math.ceil(Math.max(...xs)) + border, Math.ceil(Math.max(...ys)) + border];
  });
  const [left, top, right, bottom] = [0, 1, 2, 3].map((side) => Math[side < 2 ? "min" : "max"](...boxes.map((box) => box[side])));
  return { left: Math.max(left, 0), top: Math.max(top, 0), right: Math.min(right, width), bottom: Math.min(bottom, height) };
}

/** How much of the change is laid on: 1 in the middle, falling to 0 along all four sides. */
export function softMask(size = 256, edge = 0.15) {
  const ramp = Float32Array.from({ length: size }, (_, i) => {
    const middle = (i + 0.5) / size;
    const t = Math.min(Math.max((Math.min(middle, 1 - middle) - 0.02) / edge, 0), 1);
    return t * t * (3 - 2 * t);
  });
  return Float32Array.from({ length: size * size }, (_, i) => ramp[Math.floor(i / size)] * ramp[i % size]);
}

const EVERY = 29; // one pixel of so many tells whether a photo is toned
const TONED = 0.15; // of their distance from gray: a photo is toned where its colors follow from its brightness up to so much

/**
 * The change; for a gray or toned face (sepia) the part of it that keeps the tone: no colors come that the photo lacks.
 * The tone is each color as a cubic function of the brightness (the Python library's `filter.in_tone`).
 */
export function inTone(face, change, every = EVERY) {
  const size = face.width * face.height, mean = ({ data }, i) => (data[i] + data[size + i] + data[2 * size + i]) / 3;
  const normal = Array.from({ length: 4 }, () => new Float64Array(4)), colors = Array.from({ length: 4 }, () => new Float64Array(3));
  let spread = 0, low = Infinity, high = -Infinity;
  for (let i = 0; i < size; i += every) {
    const gray = mean(face, i), powers = powersOf(gray), [red, green, blue] = [face.data[i], face.data[size + i], face.data[2 * size + i]];
    spread = Math.max(spread, Math.max(red, green, blue) - Math.min(red, green, blue));
    low = Math.min(low, gray);
    high = Math.max(high, gray);
    for (let j = 0; j < 4; j++) {
      for (let k = 0; k < 4; k++) normal[j][k] += powers[j] * powers[k];
      [red, green, blue].forEach((color, c) => (colors[j][c] += powers[j] * color));
    }
  }
  const toned = { ...change, data: new Float32Array(3 * size) };
  if (spread < 1e-4 && every === 1) {
    for (let i = 0; i < 3 * size; i++) toned.data[i] = mean(change, i % size);
    return toned;
  }
  const tone = solved(normal, colors), at = (level, c) => tone[0][c] + level * (tone[1][c] + level * (tone[2][c] + level * tone[3][c]));
  let left = 0, all = 0;
  for (let i = 0; i < size; i += every) {
    const gray = mean(face, i);
    for (let c = 0; c < 3; c++) {
      left += (face.data[c * size + i] - at(gray, c)) ** 2;
      all += (face.data[c * size + i] - gray) ** 2;
    }
  }
  const count = 3 * Math.ceil(size / every);
  if (Math.sqrt(left / count) > Math.max(TONED * Math.sqrt(all / count), 1 / 127.5)) return change;
  if (every > 1) return inTone(face, change, 1); // it is: now every pixel counts
  for (let i = 0; i < size; i++) {
    const gray = mean(face, i), lighter = mean(change, i), bright = Math.min(Math.max(gray + lighter, low), high);
    for (let c = 0; c < 3; c++) toned.data[c * size + i] = at(bright, c) - at(gray, c) + gray + lighter - bright;
  }
  return toned;
}

const powersOf = (level) => [1, level, level ** 2, level ** 3];

/** The solution of a small system of equations with several right sides, by elimination. */
function solved(matrix, right) {
  const rows = matrix.map((row, i) => [...row, ...right[i]]), count = rows.length;
  for (let i = 0; i < count; i++) rows[i][i] += 1e-9 * rows[0][0]; // of a picture of one brightness there are many solutions
  for (let i = 0; i < count; i++) {
    const best = rows.reduce((most, row, j) => (j > i && Math.abs(row[i]) > Math.abs(rows[most][i]) ? j : most), i);
    [rows[i], rows[best]] = [rows[best], rows[i]];
    for (let j = 0; j < count; j++) {
      const times = j === i ? 0 : rows[j][i] / rows[i][i];
      if (times) for (let k = i; k < rows[j].length; k++) rows[j][k] -= times * rows[i][k];
    }
  }
  return rows.map((row, i) => row.slice(count).map((value) => value / row[i]));
}

const MASK_PX = 256;
const MASK = softMask(MASK_PX);

/** Lay a change (a raster of what is added, -2 to 2) over the photo's bytes, in place. Where the mask is 0 every byte stays. */
export function layOver(photo, change, quad) {
  const side = Math.max(Math.round(sideOf(quad)), 1);
  const face = side < change.width ? shrink(change, side, side) : change;
  const { left, top, right, bottom } = boxAround(photo, [quad]); // a little more than the square
  const [a, b] = [quad[3][0] - quad[0][0], quad[1][0] - quad[0][0]];
  const [c, d] = [quad[3][1] - quad[0][1], quad[1][1] - quad[0][1]];
  const det = a * d - b * c;
  const n = face.width, plane = n * n, rows = new Int32Array(4), columns = new Int32Array(4);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const dx = x - quad[0][0], dy = y - quad[0][1];
      const u = (d * dx - b * dy) / det, v = (a * dy - c * dx) / det; // 0 to 1 across and down the square
      const weight = bilinearMask(u * MASK_PX - 0.5, v * MASK_PX - 0.5);
      if (!(weight > 0)) continue;
      const fx = u * n - 0.5, fy = v * n - 0.5, ix = Math.floor(fx), iy = Math.floor(fy);
      const wx = cubic(fx - ix), wy = cubic(fy - iy);
      for (let k = 0; k < 4; k++) {
        columns[k] = Math.min(Math.max(ix + k - 1, 0), n - 1);
        rows[k] = Math.min(Math.max(iy + k - 1, 0), n - 1) * n;
      }
      const to = 4 * (y * photo.width + x);
      for (let channel = 0; channel < 3; channel++) {
        const base = channel * plane;
        let sum = 0;
        for (let j = 0; j < 4; j++) {
          const row = base + rows[j];
          sum += wy[j] * (wx[0] * face.data[row + columns[0]] + wx[1] * face.data[row + columns[1]] +
            wx[2] * face.data[row + columns[2]] + wx[3] * face.data[row + columns[3]]);
        }
        const added = weight * Math.min(Math.max(sum, -2), 2);
        if (added === 0) continue;
        const value = Math.min(Math.max(photo.data[to + channel] / 127.5 - 1 + added, -1), 1);
        photo.data[to + channel] = Math.round((value + 1) * 127.5);
      }
    }
  }
}

function bilinearMask(x, y) {
  const left = Math.floor(x), top = Math.floor(y), dx = x - left, dy = y - top;
  const at = (column, row) => (column < 0 || row < 0 || column >= MASK_PX || row >= MASK_PX ? 0 : MASK[row * MASK_PX + column]);
  return (at(left, top) * (1 - dx) + at(left + 1, top) * dx) * (1 - dy) + (at(left, top + 1) * (1 - dx) + at(left + 1, top + 1) * dx) * dy;
}

const A = -0.75; // PyTorch's bicubic

function cubic(t) {
  const near = (x) => ((A + 2) * x - (A + 3)) * x * x + 1;
  const far = (x) => ((A * x - 5 * A) * x + 8 * A) * x - 4 * A;
  return [far(t + 1), near(t), near(1 - t), far(2 - t)];
}
