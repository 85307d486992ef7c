// Small drawings of what ended over time.

import { count, h, number, svg } from "./dom.js";

const [WIDTH, HEIGHT, GAP] = [240, 44, 1];

// Bars of what was delivered, and on top of it what was given up, stretch by stretch; what it says, as a text, too.
export function bars({ plot, delivered, dead_lettered: dead }, label) {
  const most = Math.max(1, ...plot.map(([good, bad]) => good + bad));
  const wide = WIDTH / plot.length;
  const scaled = (value) => (value ? Math.max(1.5, (value / most) * (HEIGHT - 2)) : 0);
  const text = delivered + dead ? `${label}: ${number(delivered)} delivered and ${number(dead)} given up, at most ${count(most, "record")} in ${number(plot.length)} parts` : `${label}: nothing`;
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "plot", role: "img", "aria-label": text, preserveAspectRatio: "none" },
    svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5, class: "base" }),
    plot.map(([good, bad], place) => {
      const [low, high] = [scaled(good), scaled(bad)];
      const [x, width] = [(place * wide).toFixed(2), Math.max(1, wide - GAP).toFixed(2)];
      return [low && svg("rect", { x, width, y: HEIGHT - low, height: low, class: "good" }), high && svg("rect", { x, width, y: HEIGHT - low - high, height: high, class: "bad" })];
    }));
}

// How much of something is done, as a bar.
export function progressBar(done, of, label) {
  return h("progress", { max: Math.max(1, of), value: Math.min(done, of), "aria-label": label });
}
