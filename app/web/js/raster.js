// Arithmetic on pictures, step for step what the Python library does, so that a photo gives the same result in both.
// A raster is { width, height, data }: data holds the red plane, then green, then blue, as 32-bit floats in [-1, 1].

export function raster(width, height, channels = 3) {
  return { width, height, channels, data: new Float32Array(channels * width * height) };
}

/** A window of RGBA bytes as a raster: byte 0 becomes -1, byte 255 becomes 1. */
export function fromBytes(bytes, width, { left, top, right, bottom }) {
  const out = raster(right - left, bottom - top), size = out.width * out.height;
  for (const plane of [0, 1, 2]) {
    const { data } = planeOf(bytes, width, { left, top, right, bottom }, plane);
    for (let i = 0; i < size; i++) out.data[plane * size + i] = data[i] / 127.5 - 1;
  }
  return out;
}

/** The same window made smaller, one color after the other and from bytes: a face of a large photo would fill much memory. */
export function shrunkBytes(bytes, width, window, height, wide) {
  const out = raster(wide, height), size = wide * height;
  for (const plane of [0, 1, 2]) {
    const { data } = shrink(planeOf(bytes, width, window, plane), height, wide);
    for (let i = 0; i < size; i++) out.data[plane * size + i] = data[i] / 127.5 - 1;
  }
  return out;
}

function planeOf(bytes, width, { left, top, right, bottom }, plane) {
  const out = { width: right - left, height: bottom - top, channels: 1, data: new Uint8Array((right - left) * (bottom - top)) };
  for (let y = top, at = 0; y < bottom; y++) {
    for (let x = left, from = 4 * (y * width + left) + plane; x < right; x++, at++, from += 4) out.data[at] = bytes[from];
  }
  return out;
}

/** A resize to [height, width] as `images.resize` shrinks: areas for whole factors, otherwise a triangle filter with antialiasing. */
export function shrink(image, height, width) {
  if (height === image.height && width === image.width) return image;
  const whole = image.height % height === 0 && image.width % width === 0;
  const kernel = whole ? boxTaps : triangleTaps;
  return separable(image, kernel(image.width, width), kernel(image.height, height));
}

/** A resize to [height, width] as `images.resize` enlarges: bicubic, and within the range of the picture. */
export function enlarge(image, height, width) {
  const out = separable(image, cubicTaps(image.width, width), cubicTaps(image.height, height));
  let low = Infinity, high = -Infinity;
  for (const value of image.data) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  for (let i = 0; i < out.data.length; i++) out.data[i] = Math.min(Math.max(out.data[i], low), high);
  return out;
}

/** A resize by Lanczos' filter with three lobes, as Pillow does it. */
export function lanczos(image, height, width) {
  return separable(image, lanczosTaps(image.width, width), lanczosTaps(image.height, height));
}

function boxTaps(from, to) {
  const each = from / to;
  return Array.from({ length: to }, (_, i) => ({ first: i * each, weights: new Array(each).fill(1 / each) }));
}

function triangleTaps(from, to) {
  return taps(from, to, 1, (x) => Math.max(0, 1 - Math.abs(x)));
}

function cubicTaps(from, to) {
  const inner = (x) => (1.5 * x - 2.5) * x * x + 1, outer = (x) => ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return taps(from, to, 2, (x) => (Math.abs(x) < 1 ? inner(Math.abs(x)) : Math.abs(x) < 2 ? outer(Math.abs(x)) : 0));
}

function lanczosTaps(from, to) {
  const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
  return taps(from, to, 3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0));
}

function taps(from, to, reach, filter) {
  const scale = Math.max(from / to, 1);
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * (from / to);
    const first = Math.max(Math.trunc(center - reach * scale + 0.5), 0);
    const last = Math.min(Math.trunc(center + reach * scale + 0.5), from);
    const weights = [];
    for (let x = first; x < last; x++) weights.push(filter((x - center + 0.5) / scale));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

function separable(image, across, down) {
  const wide = raster(across.length, image.height, image.channels);
  for (let row = 0; row < image.channels * image.height; row++) {
    const base = row * image.width;
    for (let x = 0; x < across.length; x++) {
      const { first, weights } = across[x];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * image.data[base + first + k];
      wide.data[row * across.length + x] = sum;
    }
  }
  const out = raster(across.length, down.length, image.channels);
  for (let c = 0; c < image.channels; c++) {
    for (let y = 0; y < down.length; y++) {
      const { first, weights } = down[y];
      const at = (c * down.length + y) * out.width;
      for (let k = 0; k < weights.length; k++) {
        const from = (c * image.height + first + k) * out.width;
        const weight = weights[k];
        for (let x = 0; x < out.width; x++) out.data[at + x] += weight * wide.data[from + x];
      }
    }
  }
  return out;
}

/** The square `quad` (upper left, lower left, lower right, upper right; pixel centers are whole numbers) as size x size pixels. */
export function sampleQuad(image, quad, size) {
  const out = raster(size, size, image.channels);
  const { width, height } = image;
  const [[x0, y0], [xs, ys], , [xe, ye]] = quad;
  const [ax, ay, bx, by] = [(xe - x0) / size, (ye - y0) / size, (xs - x0) / size, (ys - y0) / size];
  const plane = width * height;
  for (let row = 0, at = 0; row < size; row++) {
    for (let column = 0; column < size; column++, at++) {
      const x = x0 + ax * (column + 0.5) + bx * (row + 0.5);
      const y = y0 + ay * (column + 0.5) + by * (row + 0.5);
      if (x < -0.5 || y < -0.5 || x >= width - 0.5 || y >= height - 0.5) continue; // outside: 0
      const left = Math.floor(x), top = Math.floor(y), dx = x - left, dy = y - top;
      const l = Math.max(left, 0), r = Math.min(left + 1, width - 1);
      const t = Math.max(top, 0) * width, b = Math.min(top + 1, height - 1) * width;
      for (let c = 0, from = 0, to = at; c < image.channels; c++, from += plane, to += size * size) {
        const upper = image.data[from + t + l] * (1 - dx) + image.data[from + t + r] * dx;
        const lower = image.data[from + b + l] * (1 - dx) + image.data[from + b + r] * dx;
        out.data[to] = upper * (1 - dy) + lower * dy;
      }
    }
  }
  return out;
}

/** Mirrored at its edges, blurred more and more outward, and fading into the median color. `pad` is left, top, right, bottom. */
export function extend(image, pad, side) {
  const [left, top, right, bottom] = pad;
  const width = image.width + left + right, height = image.height + top + bottom;
  const wide = raster(width, height);
  const columns = Int32Array.from({ length: width }, (_, x) => mirror(x - left, image.width));
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < height; y++) {
      const from = (c * image.height + mirror(y - top, image.height)) * image.width, to = (c * height + y) * width;
      for (let x = 0; x < width; x++) wide.data[to + x] = image.data[from + columns[x]];
    }
  }
  const away = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    const down = 1 - Math.min(y / Math.max(top, 1), (height - 1 - y) / Math.max(bottom, 1));
    for (let x = 0; x < width; x++) {
      const across = 1 - Math.min(x / Math.max(left, 1), (width - 1 - x) / Math.max(right, 1));
      away[y * width + x] = Math.max(across, down);
    }
  }
  const soft = blur(wide, 0.02 * side);
  for (let c = 0; c < 3; c++) {
    const base = c * width * height;
    for (let i = 0; i < width * height; i++) {
      wide.data[base + i] += (soft.data[base + i] - wide.data[base + i]) * Math.min(Math.max(3 * away[i] + 1, 0), 1);
    }
    const sample = [];
    for (let y = 0; y < height; y += 4) for (let x = 0; x < width; x += 4) sample.push(wide.data[base + y * width + x]);
    const median = middleOf(Float32Array.from(sample).sort());
    for (let i = 0; i < width * height; i++) wide.data[base + i] += (median - wide.data[base + i]) * Math.min(Math.max(away[i], 0), 1);
  }
  return wide;
}

function mirror(at, length) {
  if (length === 1) return 0;
  const period = 2 * (length - 1);
  const inside = ((at % period) + period) % period;
  return inside < length ? inside : period - inside;
}

function middleOf(sorted) {
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** A Gaussian blur; a wide one is computed on a smaller picture. */
function blur(image, sigma) {
  const factor = Math.max(Math.trunc(sigma / 4), 1);
  const height = Math.ceil(image.height / factor), width = Math.ceil(image.width / factor);
  const small = factor > 1 ? separable(image, areaTaps(image.width, width), areaTaps(image.height, height)) : image;
  const reach = Math.ceil((3 * sigma) / factor) || 1, deviation = Math.max(sigma / factor, 1e-3);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-0.5 * ((i - reach) / deviation) ** 2));
  const sum = weights.reduce((a, b) => a + b, 0);
  const clamped = (from) =>
    Array.from({ length: from }, (_, i) => {
      const first = Math.max(i - reach, 0), last = Math.min(i + reach, from - 1);
      const gathered = new Array(last - first + 1).fill(0);
      weights.forEach((weight, k) => (gathered[Math.min(Math.max(i + k - reach, first), last) - first] += weight / sum));
      return { first, weights: gathered };
    });
  const soft = separable(small, clamped(width), clamped(height));
  return factor > 1 ? separable(soft, linearTaps(width, image.width), linearTaps(height, image.height)) : soft;
}

function areaTaps(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const first = Math.floor((i * from) / to), last = Math.ceil(((i + 1) * from) / to);
    return { first, weights: new Array(last - first).fill(1 / (last - first)) };
  });
}

function linearTaps(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const at = Math.max(((i + 0.5) * from) / to - 0.5, 0), first = Math.min(Math.floor(at), from - 1);
    return first + 1 < from ? { first, weights: [1 - (at - first), at - first] } : { first, weights: [1] };
  });
}
