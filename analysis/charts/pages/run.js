"use strict";
// The charts of a run. The plotting library lies packed in the page; it is unpacked, and the page's
// policy lets it run because it knows its hash. All text from the data is escaped before the library
// has it, which reads a little HTML in labels; what is told of an attempt is set as text.
const byId = (id) => document.getElementById(id);
const D = JSON.parse(byId("data").textContent);
const L = D.lanes;
const TEXT = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
const esc = (text) => String(text).replace(/[&<>]/g, (one) => TEXT[one]);
// A name in a legend; a phone has room for two lines.
const legend = (text) => esc(narrow() ? String(text).replace(/^(.{20,34}) (?=.{6})/, "$1\n") : text)
  .replace("\n", "<br>");
const MARKS = { o: "circle", s: "square", "^": "triangle-up", v: "triangle-down", D: "diamond",
  d: "diamond-tall", P: "cross", X: "x", x: "x-thin-open", "*": "star", h: "hexagon", p: "pentagon" };
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
const narrow = () => window.innerWidth < 600;
const WHOLE = [0, D.edges[D.edges.length - 1] || 1];

async function unpack() {
  const packed = Uint8Array.from(atob(byId("library").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  if (typeof Plotly === "undefined") throw new Error("the plotting library did not run");
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function layout(more) {
  const [ink, line] = [css("--ink"), css("--line")];
  const axis = { gridcolor: line, linecolor: css("--soft"), zeroline: false, automargin: true,
    tickcolor: line, fixedrange: true };
  const made = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height: 240,
    font: { family: css("--fonts"), size: 12, color: ink }, margin: { l: 58, r: 14, t: 10, b: 42 },
    hovermode: "x unified", hoverlabel: { bgcolor: css("--box"), bordercolor: css("--soft"),
      font: { color: ink } }, showlegend: true, dragmode: narrow() ? false : "pan",
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" } };
  Object.assign(made, more);
  made.xaxis = Object.assign({}, axis, more.xaxis);
  made.yaxis = Object.assign({}, axis, more.yaxis);
  return made;
}

// --- along the run -----------------------------------------------------------------------------

let span = WHOLE.slice();

function along(id, traces, y) {
  const off = [];
  const shade = css("--soft");
  for (const [from, to] of [[WHOLE[0], D.counted[0]], [D.counted[1], WHOLE[1]]]) {
    if (to - from > 1e-6 * (WHOLE[1] - WHOLE[0])) {
      off.push({ type: "rect", xref: "x", yref: "paper", x0: from, x1: to, y0: 0, y1: 1,
        fillcolor: shade, opacity: 0.15, line: { width: 0 }, layer: "below",
        label: { text: "not counted", textposition: "top left", font: { size: 10 } } });
    }
  }
  return Plotly.react(byId(id), traces, layout({ shapes: off,
    xaxis: { title: { text: "s", standoff: 4 }, range: span.slice(), fixedrange: narrow() },
    yaxis: Object.assign({ rangemode: "tozero" }, y) }), CONFIG);
}

function steps(series, unit) {
  return series.map((one) => ({ type: "scatter", mode: "lines+markers", name: legend(one.name),
    x: D.edges, y: one.per_s.concat(one.per_s.slice(-1)),
    line: { color: one.colour, width: 1.8, shape: "hv", dash: one.dash },
    marker: { symbol: MARKS[one.mark] || "circle", color: one.colour, size: 6, maxdisplayed: 14 },
    hovertemplate: `%{y:,.4~g} ${unit}` }));
}

function drawTime() {
  const drawn = [along("committed", steps(D.committed, "a second"),
    { title: { text: "tx / s", standoff: 6 } })];
  if (D.refused.length) {
    drawn.push(along("refused", steps(D.refused, "a second"),
      { title: { text: "attempts / s", standoff: 6 } }));
  }
  if (byId("log")) {
    const mib = D.log.bytes.map((one) => one / 1048576);
    const top = Math.max(...mib, 0.001);
    const colour = D.committed.length ? D.committed[0].colour : D.faint;
    const traces = [{ type: "scatter", mode: "lines", name: "size of the log", x: D.log.s, y: mib,
      line: { color: colour, width: 1.8, shape: "hv" }, hovertemplate: "%{y:.3~g} MiB" },
    { type: "scatter", mode: "markers", name: "checkpoint seen", x: D.log.seen_s,
      y: D.log.seen_s.map(() => -0.08 * top), hovertemplate: "a checkpoint was seen to have ended",
      marker: { symbol: "line-ns-open", size: 9, color: D.faint, line: { width: 1.4 } } }];
    if (D.log.made_s.length) {
      const x = [], y = [];
      D.log.made_s.forEach((at, i) => {
        x.push(at, at + Math.max(D.log.took_s[i], WHOLE[1] / 600), null);
        y.push(-0.2 * top, -0.2 * top, null);
      });
      traces.push({ type: "scatter", mode: "lines", name: "a checkpointer's", x, y, hoverinfo: "skip",
        line: { color: css("--soft"), width: 5 } });
    }
    drawn.push(along("log", traces, { title: { text: "log, MiB", standoff: 6 },
      rangemode: "normal", range: [-0.3 * top, 1.1 * top], tickvals: upTo(top) }));
  }
  return Promise.all(drawn);
}

// The least of 1, 2, 5, 10, 20, ... that is not below; and ticks from 0 on.
function nice(raw) {
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw * 0.999);
}

function upTo(top) {
  const step = nice(top / 4);
  return Array.from({ length: Math.floor(top / step) + 1 }, (_, n) => n * step);
}

const timeCharts = () => ["committed", "refused", "log"].map(byId)
  .filter((one) => one && one.classList.contains("js-plotly-plot"));

function setSpan(range) {
  span = clamp(range);
  for (const one of timeCharts()) Plotly.relayout(one, { "xaxis.range": span.slice() });
}

function clamp([a, b]) {
  const most = WHOLE[1] - WHOLE[0];
  const wide = Math.min(Math.max(b - a, 2e-7), most);
  const from = Math.min(Math.max(a, WHOLE[0]), WHOLE[1] - wide);
  return [from, from + wide];
}

function moved([a, b], what) {
  const wide = b - a, middle = (a + b) / 2;
  if (what === "left") return [a - wide / 4, b - wide / 4];
  if (what === "right") return [a + wide / 4, b + wide / 4];
  if (what === "in") return [middle - wide / 4, middle + wide / 4];
  if (what === "out") return [middle - wide, middle + wide];
  return WHOLE.slice();
}

// --- latency -----------------------------------------------------------------------------------

let tail = false;

function drawLatency() {
  const traces = D.latency.filter((one) => one.many).map((one) => ({ type: "scatter",
    mode: "lines+markers", name: legend(`${one.name} (${one.many.toLocaleString("en")})`), x: one.ns,
    y: tail ? one.share.map((share) => Math.max(1 - share, 0.3 / one.many)) : one.share,
    line: { color: one.colour, width: 1.8, dash: one.dash, shape: "hv" },
    marker: { symbol: MARKS[one.mark] || "circle", color: one.colour, size: 6, maxdisplayed: 12 },
    customdata: one.ns.map(time), hovertemplate: tail ? "%{y:.3~g} were slower than %{customdata}"
      : "%{y:.5~p} within %{customdata}" }));
  const all = traces.flatMap((one) => one.x).filter((one) => one > 0);
  const [low, high] = all.length ? [Math.min(...all), Math.max(...all)] : [1e3, 1e9];
  const ticks = [];
  for (let at = Math.floor(Math.log10(low)); at <= Math.ceil(Math.log10(high)); at++) ticks.push(10 ** at);
  const x = { type: "log", tickvals: ticks, ticktext: ticks.map(time), title: { text: "time (log)" },
    range: [Math.log10(low) - 0.1, Math.log10(high) + 0.1], minor: { ticks: "inside", dtick: "D1" } };
  const y = tail ? { type: "log", title: { text: "share that was slower (log)" }, dtick: 1,
    tickformat: ".4~p" } : { title: { text: "share within" }, tickformat: ".0%", range: [0, 1.03] };
  return Plotly.react(byId("latency"), traces,
    layout({ xaxis: x, yaxis: y, height: 340, hovermode: "closest", dragmode: false }), CONFIG);
}

function time(ns) {
  const [size, unit] = ns >= 1e9 ? [1e9, "s"] : ns >= 1e6 ? [1e6, "ms"] : ns >= 1e3 ? [1e3, "µs"] : [1, "ns"];
  return `${Number((ns / size).toPrecision(3)).toLocaleString("en")} ${unit}`;
}

// --- lanes -------------------------------------------------------------------------------------

const MOST_SINGLE = 3000;
let view = WHOLE.slice(), lane = 0, chosen = null;

// Each lane's kept attempts, as start and end in seconds.
for (const one of L.lanes) {
  let at = one.first;
  one.s = one.start.map((more) => (at += more) / 1e9);
  one.e = one.s.map((s, i) => s + (one.begin[i] + one.work[i] + one.commit[i]) / 1e9);
}

const keptHere = ([a, b]) => L.whole || L.windows.some(([, from, to]) => a >= from && b <= to);

function visible([a, b]) {
  let many = 0;
  const found = L.lanes.map((one) => {
    const mine = [];
    for (let i = 0; i < one.s.length && one.s[i] <= b; i++) if (one.e[i] >= a) mine.push(i);
    many += mine.length;
    return mine;
  });
  return [found, many];
}

function rectangles() {
  const made = new Map();
  return [made, (key, x0, x1, y0, y1) => {
    if (!made.has(key)) made.set(key, [[], []]);
    const [x, y] = made.get(key);
    x.push(x0, x1, x1, x0, x0, null);
    y.push(y0, y0, y1, y1, y0, null);
  }];
}

function trace(key, [x, y]) {
  const [outcome, phase] = key.split(" ");
  const [colour, shape] = D.outcomes[outcome] || D.outcomes.unknown;
  const strength = { begin: 0.35, work: 0.65, commit: 1, count: 0.9 }[phase];
  return { type: "scatter", mode: "lines", x, y, fill: "toself", fillcolor: fade(colour, strength),
    line: { color: colour, width: phase === "count" ? 0 : 0.7 }, hoverinfo: "skip", showlegend: false,
    fillpattern: shape ? { shape, fgcolor: css("--page"), bgcolor: fade(colour, strength), size: 7,
      solidity: 0.3 } : undefined };
}

function fade(colour, strength) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${r},${g},${b},${strength})`;
}

function singleTraces(found) {
  const [made, add] = rectangles();
  const [low, middle, high] = [0.14, 0.27, 0.4];
  L.lanes.forEach((one, n) => {
    for (const i of found[n] || []) {
      const outcome = L.outcomes[one.outcome[i]] || "unknown";
      let at = one.s[i];
      for (const [phase, half] of [["begin", low], ["work", middle], ["commit", high]]) {
        const until = at + one[phase][i] / 1e9;
        if (until > at) add(`${outcome} ${phase}`, at, until, -n - half, -n + half);
        at = until;
      }
    }
  });
  return [...made].map(([key, xy]) => trace(key, xy));
}

function countTraces() {
  const [made, add] = rectangles();
  const parts = (L.lanes.find((one) => Object.keys(one.counts).length) || { counts: { a: [0] } }).counts;
  const many = Object.values(parts)[0].length;
  const join = Math.max(1, Math.ceil(many / Math.min(many, narrow() || L.lanes.length > 12 ? 80 : 240)));
  const bins = Math.ceil(many / join), wide = L.window_s / bins;
  const sums = L.lanes.map((one) => Object.entries(one.counts).map(([outcome, each]) => {
    const sum = new Array(bins).fill(0);
    each.forEach((count, i) => { sum[Math.floor(i / join)] += count; });
    return [outcome, sum];
  }));
  let top = 1;
  for (const each of sums) for (let i = 0; i < bins; i++) {
    top = Math.max(top, each.reduce((so, [, sum]) => so + sum[i], 0));
  }
  sums.forEach((each, n) => {
    for (let i = 0; i < bins; i++) {
      let y = -n - 0.4;
      for (const outcome of ["committed", "conflict", "failed", "unknown"]) {
        const sum = (each.find(([name]) => name === outcome) || [0, []])[1][i] || 0;
        // What did not commit is seen even where it is rare.
        const high = sum ? Math.max(sum / top * 0.8, outcome === "committed" ? 0 : 0.05) : 0;
        if (high) add(`${outcome} count`, i * wide, (i + 1) * wide, y, y + high);
        y += high;
      }
    }
  });
  return [...made].map(([key, xy]) => trace(key, xy));
}

function ticks([a, b]) {
  const wide = b - a;
  const [size, unit] = wide >= 1 ? [1, "s"] : wide >= 1e-3 ? [1e-3, "ms"] : wide >= 1e-6 ? [1e-6, "µs"] : [1e-9, "ns"];
  const step = nice(wide / size / (narrow() ? 3 : 7));
  const base = wide >= 1 ? 0 : Number((Math.floor(a / (step * size)) * step * size).toPrecision(12));
  const vals = [], text = [];
  for (let i = wide >= 1 ? Math.ceil(a / step) : 0; vals.length < 12; i++) {
    const at = base + i * step * size;
    if (at > b) break;
    if (at >= a - wide / 1e6) {
      vals.push(at);
      text.push(`${Number((i * step).toPrecision(6))}`);
    }
  }
  const title = wide >= 1 ? "s" : `${unit} after ${Number(base.toFixed(9))} s`;
  return { tickvals: vals, ticktext: text, title: { text: title, standoff: 4 } };
}

function drawLanes() {
  const [found, many] = visible(view);
  const single = keptHere(view) && many <= MOST_SINGLE;
  const shapes = [];
  if (!L.whole && !single) {
    for (const [, from, to] of L.windows) {
      shapes.push({ type: "rect", xref: "x", yref: "paper", x0: from, x1: to, y0: 0, y1: 1,
        fillcolor: css("--focus"), opacity: 0.18, line: { width: 1, color: css("--focus") }, layer: "below" });
    }
  }
  if (chosen) {
    const one = L.lanes[chosen.lane];
    shapes.push({ type: "rect", x0: one.s[chosen.i], x1: one.e[chosen.i], y0: -chosen.lane - 0.46,
      y1: -chosen.lane + 0.46, line: { color: css("--focus"), width: 2.5 } });
  }
  shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, y0: -lane - 0.5, y1: -lane + 0.5,
    fillcolor: css("--box"), opacity: 0.7, line: { width: 0 }, layer: "below" });
  const rows = L.lanes.length, high = Math.max(34, Math.min(64, 420 / Math.max(rows, 1)));
  const more = { shapes, showlegend: false, height: 70 + high * Math.max(rows, 1), hovermode: false,
    margin: { l: 30, r: 14, t: 6, b: 46 }, dragmode: narrow() ? false : "pan",
    xaxis: Object.assign({ range: view.slice(), fixedrange: narrow(), showgrid: true }, ticks(view)),
    yaxis: { tickvals: L.lanes.map((_, n) => -n), ticktext: L.lanes.map((one) => esc(one.name)),
      range: [-rows + 0.45, 0.55], showgrid: false } };
  byId("lanes").dataset.shows = single ? "single" : "counts";
  byId("lanes").dataset.many = many;
  const traces = single ? singleTraces(found) : countTraces();
  // One that reaches out of what is kept singly stands before the counts, which it would else hide.
  if (!single && chosen) traces.push(...singleTraces({ [chosen.lane]: [chosen.i] }));
  return Plotly.react(byId("lanes"), traces, layout(more), CONFIG)
    .then(() => {
      if (chosen) return;
      if (!single && !keptHere(view) && view[1] - view[0] < L.window_s / 20) {
        say("Single attempts of this time are not in the page. Choose one of the windows under “Go to”.");
      } else if (!single && view[1] - view[0] < WHOLE[1] - WHOLE[0]) {
        say(`${many.toLocaleString("en")} attempts: zoom in to see single ones.`);
      }
    });
}

function setView(range) {
  view = clamp(range);
  return drawLanes();
}

function say(text) {
  byId("said").textContent = text;
}

function tell(n, i) {
  const one = L.lanes[n];
  const kind = one.kinds[one.kind[i]], message = one.messages[one.message[i]];
  say(`${one.name}, transaction ${one.txn[i].toLocaleString("en")}${kind ? ` (${kind})` : ""}, `
    + `try ${one.attempt[i]}: ${one.whys[one.why[i]]}. Began at ${one.s[i].toFixed(6)} s; `
    + `BEGIN ${time(one.begin[i])}, work ${time(one.work[i])}, COMMIT ${time(one.commit[i])}, `
    + `in all ${time(one.begin[i] + one.work[i] + one.commit[i])}.`
    + (message ? ` The engine: ${message}` : ""));
}

// The attempt before or after the chosen one in its lane; `ok` says which ones count.
function choose(step, ok) {
  const one = L.lanes[lane];
  if (!one || !one.s.length) return say("No single attempt of this worker is in the page.");
  let i = chosen && chosen.lane === lane ? chosen.i + step : one.e.findIndex((end) => end >= view[0]);
  while (i >= 0 && i < one.s.length && !ok(one, i)) i += step;
  if (i < 0 || i >= one.s.length) return say(`${one.name}: there is no other one that way in the page.`);
  chosen = { lane, i };
  const wide = Math.max(one.e[i] - one.s[i], 1e-7), middle = (one.s[i] + one.e[i]) / 2;
  const seen = byId("lanes").dataset.shows === "single" && one.s[i] >= view[0] && one.e[i] <= view[1]
    && wide > (view[1] - view[0]) / 200;
  const around = L.windows.find(([, from, to]) => one.s[i] >= from && one.e[i] <= to) || ["", ...WHOLE];
  const near = [Math.max(middle - 6 * wide, around[1]), Math.min(middle + 6 * wide, around[2])];
  const shown = seen ? drawLanes() : setView(near);
  return shown.then(() => tell(lane, i));
}

function at(event) {
  const gd = byId("lanes"), full = gd._fullLayout;
  const box = gd.getBoundingClientRect();
  const x = full.xaxis.p2d(event.clientX - box.left - full._size.l);
  const n = Math.round(-full.yaxis.p2d(event.clientY - box.top - full._size.t));
  const one = L.lanes[n];
  if (!one || gd.dataset.shows !== "single") return null;
  const slack = (view[1] - view[0]) / 300;
  const i = one.s.findIndex((s, k) => s - slack <= x && one.e[k] + slack >= x);
  return i < 0 ? null : { lane: n, i };
}

// --- hands -------------------------------------------------------------------------------------

const ANY = () => true;
const ACTS = {
  before: () => choose(-1, ANY), next: () => choose(1, ANY),
  refused: () => choose(1, (one, i) => L.outcomes[one.outcome[i]] !== "committed"),
};

function act(where, what) {
  if (ACTS[what]) return ACTS[what]();
  if (what === "tail") {
    tail = !tail;
    const button = document.querySelector("[data-do=tail]");
    button.setAttribute("aria-pressed", String(tail));
    button.textContent = tail ? "show all" : "show the slowest";
    return drawLatency();
  }
  return where === "lanes" ? setView(moved(view, what)) : setSpan(moved(span, what));
}

const KEYS = { ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", _: "out",
  0: "whole", Home: "whole" };
const LANE_KEYS = { ",": "before", ".": "next", x: "refused" };

function onKey(where, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  let what = KEYS[event.key] || (where === "lanes" ? LANE_KEYS[event.key] : undefined);
  if (where === "lanes" && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    lane = Math.min(Math.max(lane + (event.key === "ArrowDown" ? 1 : -1), 0), L.lanes.length - 1);
    chosen = null;
    say(`${L.lanes[lane].name} is chosen.`);
    drawLanes();
    event.preventDefault();
    return;
  }
  if (!what) return;
  event.preventDefault();
  act(where, what);
}

function wire() {
  for (const tools of document.querySelectorAll(".tools")) {
    tools.hidden = false;
    for (const button of tools.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => act(tools.dataset.for, button.dataset.do));
    }
  }
  for (const one of timeCharts()) {
    one.addEventListener("keydown", (event) => onKey("time", event));
    one.on("plotly_relayout", (changed) => {
      const [a, b] = [changed["xaxis.range[0]"], changed["xaxis.range[1]"]];
      if (a !== undefined) setSpan([Number(a), Number(b)]);
    });
    one.on("plotly_click", (event) => {
      const x = event.points[0].x, wide = (span[1] - span[0]) / 60;
      setView([x - wide, x + wide]);
    });
  }
  const gd = byId("lanes");
  gd.addEventListener("keydown", (event) => onKey("lanes", event));
  gd.on("plotly_relayout", (changed) => {
    const [a, b] = [changed["xaxis.range[0]"], changed["xaxis.range[1]"]];
    if (a !== undefined) setView([Number(a), Number(b)]);
  });
  gd.addEventListener("pointermove", (event) => {
    const found = event.buttons ? null : at(event);
    if (found) tell(found.lane, found.i);
  });
  gd.addEventListener("click", (event) => {
    const found = at(event);
    if (!found) return;
    [chosen, lane] = [found, found.lane];
    drawLanes().then(() => tell(found.lane, found.i));
  });
  gd.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    setView(moved(view, event.deltaY < 0 ? "in" : "out"));
  }, { passive: false });
  const select = byId("windows");
  const choices = L.whole ? [["the whole run", ...WHOLE]] : [["the whole run", ...WHOLE], ...L.windows];
  for (const [why, a, b] of choices) {
    const when = why === "the whole run" ? "" : `, ${a.toFixed(4)} s to ${b.toFixed(4)} s`;
    select.append(new Option(why + when, `${a} ${b}`));
  }
  select.addEventListener("change", () => setView(select.value.split(" ").map(Number)));
  for (const [name, [colour, shape]] of Object.entries(D.outcomes)) {
    const key = document.createElement("span"), swatch = document.createElement("span");
    swatch.className = "swatch";
    const page = css("--page");
    const stripes = { "/": `repeating-linear-gradient(135deg,${page} 0 1.5px,transparent 1.5px 5px),`,
      x: `repeating-linear-gradient(45deg,${page} 0 1.5px,transparent 1.5px 5px),repeating-linear-gradient(135deg,${page} 0 1.5px,transparent 1.5px 5px),`,
      ".": `radial-gradient(${page} 22%,transparent 24%) 0 0/5px 5px,` }[shape] || "";
    swatch.style.background = `${stripes}${colour}`;
    key.append(swatch, name);
    byId("outcomes").append(key);
  }
}

async function draw() {
  await Promise.all([drawTime(), drawLatency(), drawLanes()]);
}

(async () => {
  await unpack();
  await draw();
  wire();
  byId("no-charts").remove();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.documentElement.dataset.drawn = "yes";
})().catch((error) => { byId("no-charts").append(` (${error.message})`); throw error; });
