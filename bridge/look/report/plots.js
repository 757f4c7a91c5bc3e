// Metrics over config values, time or each other; and parallel coordinates where several config values differ.

const PLOT = { width: 520, height: 250, left: 62, right: 14, top: 12, bottom: 34 };
const BUCKETS = 6;
const MOST_AXES = 9;
const SPAN = 20; // Numbers of which the largest is so many times the smallest are drawn by their logarithm.
const FEW = 7; // Up to so many different numbers are ticks themselves.
const REACH = 18; // Pixels from the pointer to a point.

// From values to places from 0 to 1: by number, by the logarithm where config values span much, by name else.
function scaleOf(values, { time = false, group = null } = {}) {
  const numbers = values.every(finite);
  if (!numbers) {
    const names = [...new Set(values.map(shown))].sort();
    const step = Math.ceil(names.length / 7);
    const place = new Map(names.map((name, at) => [name, (at + 0.5) / names.length]));
    return {
      place: (value) => place.get(shown(value)),
      ticks: names.filter((_, at) => at % step === 0).map((name) => [place.get(name), shorten(name, 12)]),
    };
  }
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const log = group === "config" && low > 0 && high / low >= SPAN;
  const to = log ? Math.log10 : (value) => value;
  let [from, until] = [to(low), to(high)];
  const pad = (until - from) * 0.05 || Math.abs(from) * 0.05 || 0.5;
  [from, until] = [from - pad, until + pad];
  const place = (value) => (to(value) - from) / (until - from);
  const few = time ? [] : different(values);
  const ticks = few.length ? few.map((one) => [one, number(one)]) : log ? powers(low, high) : steps(from, until, time);
  return { place, ticks: apart(ticks.map(([at, text]) => [place(at), text])) };
}

// The different numbers, in order, if there are few of them.
function different(values) {
  const found = new Set();
  for (const value of values) {
    found.add(value);
    if (found.size > FEW) return [];
  }
  return [...found].sort((a, b) => a - b);
}

// Without those that would be written over each other.
function apart(ticks) {
  let last = -1;
  return ticks.filter(([place]) => place - last > 0.06 && ((last = place), true));
}

function powers(low, high) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power += 1) {
    found.push([10 ** power, number(10 ** power)]);
  }
  const step = Math.ceil(found.length / 6);
  return found.filter((_, at) => at % step === 0);
}

function steps(from, until, time) {
  const rough = (until - from) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const times = [1, 5, 15, 60, 300, 900, 3600, 10800, 21600, 86400, 172800, 604800, 2592000, 31536000];
  const step = (time && times.find((one) => one >= rough)) || power * [1, 2, 5, 10].find((one) => one * power >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(from / step); at * step <= until && found.length < 9; at += 1) {
    found.push([at * step, time ? clock(at * step, step) : number(at * step)]);
  }
  return found;
}

function clock(seconds, step) {
  const when = new Date(seconds * 1000);
  if (step >= 86400) return when.toLocaleDateString(undefined, { month: "short", day: "numeric" });
  return when.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined });
}

class Plots {
  constructor(host, onOpen) {
    this.host = host;
    this.onOpen = onOpen;
    this.picked = { x: null, y: null };
  }

  // Fields have a key, title, value(row); `varied` are the config values that differ.
  show(rows, metrics, others, varied) {
    this.rows = rows;
    const drawable = metrics.filter((one) => rows.some((row) => finite(one.value(row))));
    const ups = [...drawable, ...others.filter((one) => one.up)];
    const acrosses = [...varied, ...others.filter((one) => one.across), ...drawable];
    if (rows.length < 2 || !ups.length) {
      this.host.replaceChildren();
      this.redraw = () => {};
      return;
    }
    this.redraw = () => {
      const y = ups.find((one) => one.key === this.picked.y) ?? ups[0];
      const x = acrosses.find((one) => one.key === this.picked.x) ?? acrosses[0];
      const axes = [...varied, ...drawable].slice(0, MOST_AXES);
      const both = varied.length > 0 && axes.length > 2;
      PLOT.width = Math.max(400, (this.host.clientWidth || 1000) / (both ? 2 : 1) - 30);
      const plots = [this.scatter(x, y, ups, acrosses)];
      if (both) plots.push(this.parallel(axes, y));
      this.host.replaceChildren(...plots);
    };
    this.redraw();
  }

  choice(name, fields, now) {
    const options = fields.map((one) => el("option", { value: one.key, selected: one === now }, visible(one.title)));
    const change = (event) => {
      this.picked[name] = event.target.value;
      this.redraw();
      this.host.querySelector(`select[name="${name}"]`)?.focus();
    };
    return el("select", { name, change, "aria-label": name === "y" ? "Upwards" : "Across" }, options);
  }

  scatter(x, y, ups, acrosses) {
    const rows = this.rows.filter((row) => finite(y.value(row)) && x.value(row) !== undefined && x.value(row) !== null);
    const pick = el("div", { class: "pick" }, this.choice("y", ups, y), "over", this.choice("x", acrosses, x));
    const host = el("div", { class: "plot", id: "scatter" }, pick);
    if (!rows.length) return fill(host, null, [el("p", { class: "empty" }, "Nothing to draw.")]);
    const [across, up] = [scaleOf(rows.map(x.value), x), scaleOf(rows.map(y.value), y)];
    const [wide, high] = [PLOT.width - PLOT.left - PLOT.right, PLOT.height - PLOT.top - PLOT.bottom];
    const points = rows.map((row) => ({
      row,
      x: PLOT.left + wide * across.place(x.value(row)),
      y: PLOT.top + high * (1 - up.place(y.value(row))),
    }));
    const drawing = svg("svg", {
      viewBox: `0 0 ${PLOT.width} ${PLOT.height}`,
      role: "img",
      "aria-label": `${visible(y.title)} over ${visible(x.title)}, ${rows.length} realizations`,
    });
    for (const [at, text] of across.ticks) {
      const left = PLOT.left + wide * at;
      drawing.append(svg("path", { class: "axis", d: `M${left} ${PLOT.top}v${high}` }));
      drawing.append(svg("text", { x: left, y: PLOT.height - 14, "text-anchor": "middle" }, text));
    }
    for (const [at, text] of up.ticks) {
      const top = PLOT.top + high * (1 - at);
      drawing.append(svg("path", { class: "axis", d: `M${PLOT.left} ${top}h${wide}` }));
      drawing.append(svg("text", { x: PLOT.left - 6, y: top + 4, "text-anchor": "end" }, text));
    }
    // All points are one path: a round cap on a line without length is a dot, and ten thousand are drawn at once.
    for (const chosen of [false, true]) {
      const dots = points.filter((one) => one.row.chosen === chosen).map((one) => `M${one.x.toFixed(1)} ${one.y.toFixed(1)}h0`);
      if (dots.length) drawing.append(svg("path", { class: chosen ? "points chosen" : "points", d: dots.join("") }));
    }
    const text = (row) => `${row.id}: ${visible(y.title)} ${shown(y.value(row))}, ${visible(x.title)} ${x.text?.(row) ?? shown(x.value(row))}`;
    const ring = svg("circle", { class: "ring", r: 7, visibility: "hidden" });
    drawing.append(ring);
    this.pointed(host, drawing, (at) => {
      const near = nearest(points, at);
      ring.setAttribute("visibility", near ? "visible" : "hidden");
      if (near) fill(ring, { cx: near.x, cy: near.y }, []);
      return near && { row: near.row, text: text(near.row) };
    });
    host.append(drawing);
    return host;
  }

  parallel(axes, y) {
    const rows = this.rows.filter((row) => axes.every((one) => one.value(row) !== undefined && one.value(row) !== null));
    const host = el("div", { class: "plot", id: "parallel" }, el("div", { class: "pick" }, `${visible(y.title)} by colour, ${rows.length} realizations`));
    if (!rows.length) return fill(host, null, [el("p", { class: "empty" }, "Nothing has all of these values.")]);
    const [left, right, top, high] = [44, 44, 26, PLOT.height - 44];
    const scales = axes.map((one) => scaleOf(rows.map(one.value), one));
    const placeX = (at) => left + ((PLOT.width - left - right) * at) / (axes.length - 1);
    const placeY = (at, value) => top + high * (1 - scales[at].place(value));
    const colour = scaleOf(rows.map(y.value));
    const lines = rows.map((row) => ({ row, ys: axes.map((one, at) => placeY(at, one.value(row))) }));
    const path = (line) => line.ys.map((at, axis) => `${axis ? "L" : "M"}${placeX(axis).toFixed(1)} ${at.toFixed(1)}`).join("");
    const drawing = svg("svg", {
      viewBox: `0 0 ${PLOT.width} ${PLOT.height}`,
      role: "img",
      "aria-label": `Parallel coordinates of ${axes.map((one) => visible(one.title)).join(", ")}`,
    });
    const buckets = Array.from({ length: BUCKETS }, () => []);
    for (const line of lines) {
      const place = y.value(line.row) === undefined ? 0 : colour.place(y.value(line.row));
      buckets[Math.max(0, Math.min(BUCKETS - 1, Math.floor(place * BUCKETS)))].push(path(line));
    }
    buckets.forEach((paths, at) => {
      if (paths.length) drawing.append(svg("path", { class: "lines", style: `stroke:var(--c${at})`, d: paths.join("") }));
    });
    axes.forEach((one, at) => {
      drawing.append(svg("path", { class: "axis", d: `M${placeX(at)} ${top}v${high}`, style: "stroke:var(--dim)" }));
      drawing.append(svg("text", { x: placeX(at), y: 16, "text-anchor": "middle" }, shorten(visible(one.title), 14)));
      for (const [place, text] of scales[at].ticks) {
        drawing.append(svg("text", { x: placeX(at) + 5, y: top + high * (1 - place) + 4 }, text));
      }
    });
    const strong = svg("path", { class: "lines strong", visibility: "hidden" });
    drawing.append(strong);
    const said = (row) => axes.map((one) => `${visible(one.title)} ${shown(one.value(row))}`).join(", ");
    this.pointed(host, drawing, (at) => {
      const near = nearestLine(lines, placeX, at);
      strong.setAttribute("visibility", near ? "visible" : "hidden");
      if (near) strong.setAttribute("d", path(near));
      return near && { row: near.row, text: `${near.row.id}: ${said(near.row)}` };
    });
    host.append(drawing);
    return host;
  }

  // A tip beside the pointer, and what it points at opened by a click.
  pointed(host, drawing, find) {
    const tip = el("div", { class: "tip", hidden: true });
    host.append(tip);
    const place = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
      return find(at);
    };
    drawing.addEventListener("mousemove", (event) => {
      const found = place(event);
      tip.hidden = !found;
      drawing.style.cursor = found ? "pointer" : "";
      if (!found) return;
      tip.textContent = found.text;
      const box = host.getBoundingClientRect();
      const x = Math.max(0, Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth - 4));
      tip.style.left = `${x}px`;
      tip.style.top = `${event.clientY - box.top + 16}px`;
    });
    drawing.addEventListener("mouseleave", (event) => {
      tip.hidden = true;
      find({ x: -1e6, y: -1e6 });
    });
    drawing.addEventListener("click", (event) => {
      const found = place(event);
      if (found) this.onOpen(found.row.id);
    });
  }
}

function nearest(points, at) {
  let [found, least] = [null, REACH ** 2];
  for (const one of points) {
    const far = (one.x - at.x) ** 2 + (one.y - at.y) ** 2;
    if (far < least) [found, least] = [one, far];
  }
  return found;
}

function nearestLine(lines, placeX, at) {
  let [found, least] = [null, 10];
  for (const line of lines) {
    for (let axis = 0; axis + 1 < line.ys.length; axis += 1) {
      const [from, until] = [placeX(axis), placeX(axis + 1)];
      if (at.x < from || at.x > until) continue;
      const y = line.ys[axis] + ((line.ys[axis + 1] - line.ys[axis]) * (at.x - from)) / (until - from);
      if (Math.abs(y - at.y) < least) [found, least] = [line, Math.abs(y - at.y)];
    }
  }
  return found;
}
