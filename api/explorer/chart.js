// A step chart of amounts over time, in SVG.

import { amount } from "./amounts.js";
import { h, moment, svg } from "./dom.js";

const WIDTH = 1000;
const HEIGHT = 100;
const SCALE = 1_000_000n;

// The chart of points in the order of time, each [time, amount], up to now. The caption says the same in words.
export function stepChart(what, points, note) {
  if (points.length === 0) return null;
  const times = points.map(([time]) => Date.parse(time));
  const values = points.map(([, value]) => BigInt(value));
  const begin = times[0];
  const end = Math.max(Date.now(), times.at(-1));
  const least = values.reduce((a, b) => (b < a ? b : a));
  const most = values.reduce((a, b) => (b > a ? b : a));
  // From 0, unless all that happens would be lost in the line.
  const floor = most > least && most - least < most / 20n ? least - (most - least) / 4n : 0n;
  const x = (time) => ((WIDTH * (time - begin)) / Math.max(end - begin, 1)).toFixed(1);
  const y = (value) => {
    const share = most === floor ? 0 : Number(((value - floor) * SCALE) / (most - floor)) / Number(SCALE);
    return (HEIGHT * (1 - share)).toFixed(2);
  };
  let line = `M0 ${y(values[0])}`;
  for (let next = 1; next < points.length; next++) line += `H${x(times[next])}V${y(values[next])}`;
  line += `H${WIDTH}`;
  const drawing = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", focusable: "false" };
  return h(
    "figure",
    { class: "chart" },
    h(
      "div",
      { class: "plot", "aria-hidden": "true" },
      h("span", {}, amount(most)),
      svg("svg", drawing, svg("path", { class: "area", d: `${line}V${HEIGHT}H0Z` }), svg("path", { class: "line", d: line })),
      h("span", {}, moment(points[0][0]), floor > 0n && [", from ", amount(floor)], h("span", { class: "now" }, "now")),
    ),
    h(
      "figcaption",
      {},
      `${what}: from `, amount(values[0]), " on ", moment(points[0][0]), " to ", amount(values.at(-1), { withUnit: true }),
      " now, between ", amount(least), " and ", amount(most), `. ${note}`,
    ),
  );
}
