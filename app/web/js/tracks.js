// Faces followed from picture to picture: a steady square, and an edit that fades in and out instead of flashing.

const KEEP_MS = 400; // a face that is not seen for so long is gone
const FADE_MS = 250; // how long an edit takes to appear

export class Tracks {
  constructor() {
    this.known = [];
    this.time = null;
  }

  /** The faces of the last picture, where they were. */
  faces() {
    return this.known.filter((track) => track.weight > 0 && !track.missed);
  }

  /** Match the faces of this picture to those of before; returns squares with a weight from 0 to 1. */
  follow(found, time) {
    const passed = this.time === null ? 0 : Math.max(time - this.time, 0);
    this.time = time;
    const free = [...found];
    for (const track of this.known) {
      let best = -1, nearest = 0.35 * sideOf(track.quad);
      free.forEach((face, index) => {
        const distance = Math.hypot(...minus(centerOf(face.quad), centerOf(track.quad)));
        if (distance < nearest) [best, nearest] = [index, distance];
      });
      if (best >= 0) {
        track.quad = steady(track.quad, free.splice(best, 1)[0].quad, passed);
        track.missed = 0;
        track.weight = Math.min(1, track.weight + passed / FADE_MS);
      } else {
        track.missed += passed;
        track.weight = Math.max(0, track.weight - passed / KEEP_MS);
      }
    }
    this.known = this.known.filter((track) => track.missed < KEEP_MS);
    this.known.push(...free.map((face) => ({ quad: face.quad, weight: this.known.length || passed ? 0.3 : 1, missed: 0 })));
    return this.known.filter((track) => track.weight > 0);
  }
}

/** Slow movements are smoothed strongly, quick ones hardly (Casiez et al. 2012, the one euro filter's idea). */
function steady(before, now, passed) {
  const moved = Math.hypot(...minus(centerOf(now), centerOf(before))) / sideOf(before);
  const follow = Math.min(1, 0.25 + 12 * moved) ** (33 / Math.max(passed, 1));
  return before.map((corner, i) => corner.map((at, axis) => at + follow * (now[i][axis] - at)));
}

const sideOf = (quad) => Math.hypot(...minus(quad[3], quad[0]));
const centerOf = (quad) => [(quad[0][0] + quad[2][0]) / 2, (quad[0][1] + quad[2][1]) / 2];
const minus = (a, b) => [a[0] - b[0], a[1] - b[1]];
