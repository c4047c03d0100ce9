"use strict";
// Everything that comes from the pool is put in as text, never as HTML.
const SVG = "http://www.w3.org/2000/svg";
const RETRY_MS = 2000, SILENT_MS = 6000, MOST_RATES = 120, LEAST_RATES = 30;
const byId = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 680px)");
const STATES = {
  ready: ["good", "ready"], inline: ["good", "in this process"], running: ["good", "running"],
  spawned: ["busy", "starting"], starting: ["busy", "starting"], loading: ["busy", "loading"],
  initializing: ["busy", "initializing"], draining: ["busy", "draining"], stopping: ["busy", "stopping"],
  closing: ["busy", "closing"], backoff: ["busy", "waits to restart"], exited: ["bad", "ended"],
  failed: ["bad", "failed"], broken: ["bad", "broken"],
};
const stateOf = (name) => STATES[name] || ["", name];

// -- figures for people

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const rate = (n) => (n >= 1000 ? whole : tenths).format(n);
const millis = (us) => (us / 1e3).toFixed(us < 1e5 ? 2 : 0);
const plural = (n, word) => `${whole.format(n)} ${word}${n === 1 ? "" : "s"}`;

function size(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < 4; unit++) bytes /= 1000;
  return `${unit ? tenths.format(bytes) : whole.format(bytes)} ${units[unit]}`;
}

function duration(seconds) {
  const s = Math.floor(seconds), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  if (s < 60) return `${s} s`;
  if (h === 0) return `${m} min ${s % 60} s`;
  return d === 0 ? `${h} h ${m % 60} min` : `${d} d ${h % 24} h`;
}

// -- elements: made once, changed only where something has changed

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draw(parent, tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function show(element, [kind, word], base = "state") {
  const name = kind ? `${base} ${kind}` : base;
  if (element.getAttribute("class") !== name) element.setAttribute("class", name);
  say(element, word);
}

function fill(bar, part) {
  bar.firstChild.style.width = `${Math.round(Math.min(1, part) * 100)}%`;
  bar.classList.toggle("full", part >= 0.8);
}

const newBar = () => make("div", { class: "bar", "aria-hidden": "true" }, make("i"));

// -- totals

let last = null, rates = [];

function throughput(pool) {
  if (last && last.pool_id !== pool.pool_id) last = null;
  if (!last) rates = [];
  const seconds = last ? pool.uptime_s - last.uptime_s : 0;
  if (seconds > 0) rates.push(Math.max(0, pool.frames_out - last.frames_out) / seconds);
  rates = rates.slice(-MOST_RATES);
  last = pool;
  return rates.length ? rates[rates.length - 1] : null;
}

const totals = {};

function total(name, value, unit = "", wide = false) {
  let cell = totals[name];
  if (!cell) {
    const number = make("span"), small = make("small"), dd = make("dd", {}, number, " ", small);
    const box = make("div", wide ? { class: "wide" } : {}, make("dt", {}, name), dd);
    cell = totals[name] = { box, dd, number, small };
    byId("totals").append(box);
  }
  say(cell.number, value);
  say(cell.small, unit);
  return cell;
}

function showTotals(pool) {
  const now = throughput(pool), sum = (field) => pool.workers.reduce((all, worker) => all + worker[field], 0);
  spark(total("Throughput", now === null ? "–" : rate(now), "frames/s", true));
  total("Frames in", whole.format(pool.frames_in));
  total("Frames out", whole.format(pool.frames_out));
  total("Under way", whole.format(pool.frames_in - pool.frames_out), pool.sessions ? plural(pool.sessions, "session") : "");
  const memory = total("Shared memory", size(pool.shm_bytes), `of ${size(pool.shm_bytes + pool.shm_free_bytes)}`, true);
  if (!memory.bar) memory.box.append((memory.bar = newBar()));
  fill(memory.bar, pool.shm_bytes / (pool.shm_bytes + pool.shm_free_bytes));
  total("Restarts", whole.format(sum("restarts")));
  total("Failed frames", whole.format(sum("errors")), pool.drops + sum("drops") ? `${whole.format(pool.drops + sum("drops"))} dropped` : "");
  total("Running for", duration(pool.uptime_s));
}

function spark(cell) {
  if (!cell.line) {
    cell.box.replaceChild(make("div", { class: "pair" }), cell.dd);
    cell.box.lastChild.append(cell.dd);
    const svg = draw(cell.box.lastChild, "svg", { class: "spark", preserveAspectRatio: "none", "aria-hidden": "true" });
    cell.svg = svg;
    cell.line = draw(svg, "path", {});
  }
  const top = Math.max(...rates, 1e-9), room = Math.max(rates.length, LEAST_RATES), start = room - rates.length;
  cell.svg.setAttribute("viewBox", `0 0 ${room - 1} 30`);
  cell.line.setAttribute("d", rates.map((r, i) => `${i ? "L" : "M"}${start + i} ${(28 - 26 * (r / top)).toFixed(1)}`).join(""));
}

// -- the graph

const WIDTH = 196, HEIGHT = 112;
let drawn = "", nodes = [];

function showGraph(pool) {
  const key = JSON.stringify([pool.workers.map((worker) => worker.node), pool.layout, narrow.matches]);
  if (key !== drawn) {
    drawn = key;
    drawGraph(pool, narrow.matches);
  }
  pool.workers.forEach((worker, i) => {
    const node = nodes[i], [kind, word] = stateOf(worker.state), part = worker.queue / worker.queue_frames;
    node.group.setAttribute("class", `node ${kind}${part >= 0.8 ? " full" : ""}`);
    say(node.word, worker.restarts ? `${word} · ${plural(worker.restarts, "restart")}` : word);
    say(node.rate, `${rate(worker.fps)} frames/s`);
    say(node.times, `p50 ${millis(worker.p50_us)} · p99 ${millis(worker.p99_us)} ms`);
    say(node.queue, `queue ${worker.queue}`);
    node.fill.setAttribute("width", (WIDTH - 100) * Math.min(1, part));
  });
}

function drawGraph(pool, down) {
  const gap = down ? [16, 34] : [52, 18];
  const step = [WIDTH + gap[0], HEIGHT + gap[1]];
  const places = [...pool.layout.places, ...pool.layout.paths.flat()];
  const top = Math.min(...places.map((place) => place[1]), 0), bottom = Math.max(...places.map((place) => place[1]), 0);
  const columns = 1 + Math.max(...places.map((place) => place[0]));
  const at = ([column, row]) => (down ? [(row - top) * step[0] + 1, column * step[1] + 1] : [column * step[0] + 1, (row - top) * step[1] + 1]);
  const across = bottom - top + 1;
  const width = (down ? across : columns) * step[0] - gap[0] + 2, height = (down ? columns : across) * step[1] - gap[1] + 2;
  const names = pool.workers.map((worker) => worker.node);
  const told = names.map((name, i) => {
    const next = pool.edges.filter((edge) => edge[0] === i).map((edge) => names[edge[1]]);
    return next.length ? `${name} feeds ${next.join(" and ")}` : `${name} is the end`;
  });
  byId("graph").replaceChildren();
  const svg = draw(byId("graph"), "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told.join("; ") });
  svg.style.width = `${width}px`;
  svg.style.maxWidth = `max(100%, ${0.75 * width}px)`; // a little smaller if that makes it fit, and still legible
  for (const path of pool.layout.paths) drawEdge(svg, path.map(at), down);
  nodes = pool.workers.map((worker, i) => drawNode(svg, worker, pool.kinds[i], at(pool.layout.places[i])));
  if (down) byId("graph").scrollLeft = (byId("graph").scrollWidth - byId("graph").clientWidth) / 2;
}

function drawEdge(svg, points, down) {
  const leave = ([x, y]) => (down ? [x + WIDTH / 2, y + HEIGHT] : [x + WIDTH, y + HEIGHT / 2]);
  const enter = ([x, y]) => (down ? [x + WIDTH / 2, y] : [x, y + HEIGHT / 2]);
  let line = "";
  for (let i = 1; i < points.length; i++) {
    const a = leave(points[i - 1]), b = enter(points[i]), isLast = i === points.length - 1;
    const end = !isLast ? b : down ? [b[0], b[1] - 7] : [b[0] - 7, b[1]];
    const middle = down ? [[a[0], (a[1] + b[1]) / 2], [b[0], (a[1] + b[1]) / 2]] : [[(a[0] + b[0]) / 2, a[1]], [(a[0] + b[0]) / 2, b[1]]];
    line += `${i === 1 ? "M" : "L"}${a} C${middle[0]} ${middle[1]} ${end} `;
    if (isLast) {
      const wings = down ? [[b[0] - 4.5, b[1] - 8], [b[0] + 4.5, b[1] - 8]] : [[b[0] - 8, b[1] - 4.5], [b[0] - 8, b[1] + 4.5]];
      draw(svg, "path", { class: "arrow", d: `M${b} L${wings[0]} L${wings[1]} Z` });
    }
  }
  draw(svg, "path", { class: "edge", d: line });
}

const short = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

function drawNode(svg, worker, kind, [x, y]) {
  const group = draw(svg, "g", { class: "node", transform: `translate(${x} ${y})` });
  draw(group, "title", {}, `${worker.node} (${kind})`);
  draw(group, "rect", { width: WIDTH, height: HEIGHT, rx: 9 });
  draw(group, "rect", { class: "stripe", x: 10, y: 15, width: 4, height: HEIGHT - 30, rx: 2 });
  const line = (name, at, text) => draw(group, "text", { class: name, x: 24, y: at }, text);
  line("name", 26, short(worker.node, 21));
  const node = { group, word: line("word", 44), rate: line("", 63), times: line("small", 80), queue: line("small", 99) };
  draw(group, "rect", { class: "track", x: 86, y: 93, width: WIDTH - 100, height: 5, rx: 2.5 });
  node.fill = draw(group, "rect", { class: "fill", x: 86, y: 93, width: 0, height: 5, rx: 2.5 });
  return node;
}

// -- the workers

const HEADS = ["Node", "State", "Pid", "Generation", "Frames", "Frames/s", "p50 ms", "p99 ms", "Queue", "CPU %", "Memory", "Errors", "Drops"];
let rows = [];

function newRow() {
  const cells = HEADS.map((head) => make("td", { role: "cell", "data-label": head }));
  const row = { cells, name: make("span"), kind: make("small"), state: make("span", { class: "state" }), bar: newBar(), queue: make("span") };
  cells[0].append(row.name, row.kind);
  cells[1].append(row.state);
  cells[8].append(make("span", {}, row.bar, row.queue));
  byId("workers").append((row.element = make("tr", { role: "row" }, ...cells)));
  return row;
}

function showWorkers(pool) {
  while (rows.length < pool.workers.length) rows.push(newRow());
  while (rows.length > pool.workers.length) rows.pop().element.remove();
  pool.workers.forEach((worker, i) => {
    const row = rows[i], none = "–";
    say(row.name, worker.node);
    say(row.kind, pool.kinds[i] === worker.node ? "" : pool.kinds[i]);
    show(row.state, stateOf(worker.state));
    fill(row.bar, worker.queue / worker.queue_frames);
    say(row.queue, String(worker.queue));
    const figures = {
      2: worker.pid === null ? none : String(worker.pid), 3: worker.pid === null ? none : String(worker.generation),
      4: whole.format(worker.frames), 5: rate(worker.fps), 6: millis(worker.p50_us), 7: millis(worker.p99_us),
      9: worker.pid === null ? none : whole.format(worker.cpu_percent),
      10: worker.pss_bytes === null ? none : size(worker.pss_bytes),
      11: whole.format(worker.errors), 12: whole.format(worker.drops),
    };
    for (const [column, text] of Object.entries(figures)) say(row.cells[column], text);
    row.cells[11].classList.toggle("marked", worker.errors > 0);
  });
}

// -- events and errors

function showList(list, happenings, nothing) {
  const items = happenings.map((event) => {
    const words = event.kind.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
    const who = event.node ? ` ${event.node}` : "", times = event.count > 1 ? ` (${whole.format(event.count)} times)` : "";
    const process = event.pid === null || event.text.includes(`pid ${event.pid}`) ? "" : `pid ${event.pid}, generation ${event.generation}`;
    const body = make("div", {}, make("p", {}, make("b", {}, words), `${who}${times}`));
    const text = [process, event.text].filter(Boolean).join("\n");
    if (text) body.append(make("p", { class: "text" }, text));
    return make("li", {}, make("span", {}, `${duration(event.age_s)} ago`), body);
  });
  const key = JSON.stringify(happenings.map((event) => [event.kind, event.node, event.pid, event.text, event.count]));
  if (list.dataset.key === key && items.length) { // only the ages: what somebody has selected stays
    items.forEach((item, i) => say(list.children[i].firstChild, item.firstChild.textContent));
  } else {
    list.replaceChildren(...(items.length ? items : [make("li", { class: "none" }, nothing)]));
    list.dataset.key = key;
  }
}

// -- all of it

function render(pool) {
  const problem = pool.problem || pool.error || "";
  say(byId("problem"), problem);
  byId("problem").hidden = !problem;
  if (!pool.workers) return;
  document.title = `${stateOf(pool.state)[1]} · remotemedia ${pool.pool_id.slice(0, 6)}`;
  say(byId("pool"), `pool ${pool.pool_id} · pid ${pool.pid}`);
  show(byId("state"), stateOf(pool.state));
  byId("state").hidden = byId("main").hidden = false;
  showTotals(pool);
  showGraph(pool);
  showWorkers(pool);
  showList(byId("events"), pool.events, "nothing has happened");
  showList(byId("errors"), pool.errors, "none");
  say(byId("footer"), `remotemedia ${pool.package_version} · once per second · times of process(): median and 99th percentile since the start`);
}

// -- the connection

let source = null, silence = 0;

function linked(isThere) {
  show(byId("link"), isThere ? ["good", "live"] : ["bad", "connection lost, trying again"]);
  document.body.classList.toggle("lost", !isThere);
  if (!isThere && last) show(byId("state"), ["", `last seen ${stateOf(last.state)[1]}`]);
}

function connect() {
  source = new EventSource("/events");
  source.onmessage = (message) => {
    clearTimeout(silence);
    silence = setTimeout(() => linked(false), SILENT_MS);
    linked(true);
    render(JSON.parse(message.data));
  };
  source.onerror = () => {
    linked(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MS); // refused: it tries no more by itself
  };
}

byId("heads").append(...HEADS.map((head) => make("th", { role: "columnheader", scope: "col" }, head)));
narrow.addEventListener("change", () => last && showGraph(last));
connect();
