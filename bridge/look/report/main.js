// The page: which stage is selected, which of its realizations are listed, which one is open; and what comes live.

const page = JSON.parse(byId("data").textContent);
const rows = new Map(page.realizations.map((row) => [row.id, row]));
const selection = { stage: null, search: "" };

const graph = new Graph(byId("canvas"), (at) => select(at));
const table = new Table(byId("table"), (id) => open(id));
const plots = new Plots(byId("plots"), (id) => open(id));
const detail = new Detail(byId("detail"), {
  find: (id) => rows.get(id),
  config: (row) => page.drvs[row.drv]?.config,
  ask: async (id) => {
    if (!page.live) return page.details[id];
    const answer = await fetch(`details/${id}`);
    if (!answer.ok) throw new Error(answer.statusText);
    return answer.json();
  },
  onOpen: (id) => open(id),
  onClose: (id) => {
    table.select(null);
    table.focus(id);
    remember();
  },
});

// ------------------------------------------------------------------------------------------ stages

// The first stage with the derivation of this one: two that differ in policy only have the same realizations.
function same(at) {
  const path = page.stages[at].path;
  return path === null ? at : page.stages.findIndex((one) => one.path === path);
}

const STATES = ["done", "running", "failed", "missing", "source"];

function summaries() {
  const sums = page.stages.map(() => ({ count: 0, whole: 0, seconds: 0 }));
  for (const row of rows.values()) {
    if (row.stage === null) continue;
    const sum = sums[row.stage];
    sum.count += 1;
    if (row.result === "done") {
      sum.whole += 1;
      sum.seconds += row.stopped - row.started;
    }
  }
  return sums.map((sum, at) => sums[same(at)]);
}

function note(stage, sum) {
  if (stage.state === "source") return "source";
  const took = sum.whole ? `${sum.whole > 1 ? `${sum.whole} × ` : ""}${duration(sum.seconds / sum.whole)}` : "";
  const missing = stage.wanted ? `${stage.wanted} missing` : "";
  if (stage.state === "running") return [`running for ${duration(Date.now() / 1000 - stage.running.since)}`, took].filter(Boolean).join(" · ");
  return [stage.state === "failed" ? "failed" : "", took, missing].filter(Boolean).join(" · ") || stage.kind;
}

function showStages() {
  const sums = summaries();
  graph.show(page.stages, page.stages.map((one, at) => note(one, sums[at])));
  const counts = new Map(STATES.map((state) => [state, page.stages.filter((one) => one.state === state).length]));
  const several = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;
  byId("counts").replaceChildren(
    ...STATES.filter((state) => state !== "source" && counts.get(state)).map((state) =>
      el("span", { class: "count", "data-state": state }, dot(state), `${counts.get(state)} ${state}`),
    ),
    el("span", { class: "count" }, several(rows.size, "realization")),
  );
  byId("legend").replaceChildren(
    ...STATES.filter((state) => counts.get(state)).map((state) => el("span", null, dot(state), state)),
  );
  byId("facts").replaceChildren(el("bdi", null, visible(page.store)), ` · ${page.live ? "live" : "as of"} ${moment(page.made)}`);
}

function select(at, { keep = false } = {}) {
  selection.stage = at;
  graph.select(at);
  if (!keep) {
    const many = variantsOf(at).length > 1;
    byId("variants").checked = many;
    byId("older").checked = false;
    byId("search").value = selection.search = "";
  }
  showStage();
  remember();
}

const variantsOf = (at) => page.stages.filter((one) => one.state !== "source" && one.name === page.stages[at].name);

// ----------------------------------------------------------------------------------- realizations

function listed() {
  const at = selection.stage;
  const stage = page.stages[at];
  const family = [...rows.values()].filter((row) => row.name === stage.name && stage.state !== "source");
  const older = family.filter((row) => row.stage === null);
  const variants = variantsOf(at);
  byId("variants-label").hidden = variants.length < 2;
  byId("variants-label").querySelector("span").textContent = `all ${variants.length} variants`;
  byId("older-label").hidden = !older.length;
  byId("older-label").querySelector("span").textContent = `also ${older.length} of other derivations`;
  const all = byId("variants").checked && variants.length > 1;
  return family.filter((row) => (row.stage === null ? byId("older").checked : all || row.stage === same(at)));
}

const config = (row) => page.drvs[row.drv]?.config ?? {};

function varied(found) {
  const seen = new Map();
  const drvs = new Set(found.map((row) => row.drv));
  for (const drv of drvs) {
    for (const [name, value] of Object.entries(page.drvs[drv]?.config ?? {})) {
      if (!seen.has(name)) seen.set(name, new Map());
      const text = JSON.stringify(value);
      seen.get(name).set(text, (seen.get(name).get(text) ?? 0) + 1);
    }
  }
  const differs = (values) => values.size > 1 || [...values.values()][0] < drvs.size;
  return [...seen].filter(([, values]) => differs(values)).map(([name]) => name);
}

function fieldsOf(found) {
  const names = new Set();
  for (const row of found) for (const name of Object.keys(row.metrics)) names.add(name);
  const values = (group, name, of) => ({
    key: `${group}.${name}`,
    title: name,
    group,
    value: (row) => of(row)[name],
    text: (row) => shown(of(row)[name]),
    number: found.every((row) => of(row)[name] === undefined || finite(of(row)[name])),
  });
  return {
    metrics: [...names].map((name) => values("metric", name, (row) => row.metrics)),
    config: varied(found).map((name) => values("config", name, config)),
  };
}

const took = { key: "duration", title: "took", number: true, up: true, value: (row) => row.stopped - row.started, text: (row) => duration(row.stopped - row.started) };
const started = { key: "started", title: "when", across: true, time: true, plain: true, value: (row) => row.started, text: (row) => age(row.started), hint: (row) => moment(row.started) };
const size = { key: "size", title: "size", number: true, value: (row) => row.size, text: (row) => bytes(row.size) };
const index = { key: "index", title: "#", number: true, across: true, value: (row) => row.index, text: (row) => String(row.index) };

function columnsOf(found, fields) {
  const several = new Set(found.map((row) => row.stage)).size > 1 && !fields.config.length;
  const label = (row) => (row.stage === null ? "other" : visible(page.stages[row.stage].label));
  return [
    { key: "chosen", title: "chosen", mark: true, value: (row) => (row.chosen ? 0 : 1), text: (row) => (row.chosen ? "→" : ""), hint: (row) => (row.chosen ? "chosen" : null) },
    { key: "id", title: "id", value: (row) => row.id, text: (row) => row.id },
    index,
    ...(several ? [{ key: "stage", title: "stage", value: label, text: label }] : []),
    ...fields.config,
    ...fields.metrics,
    took,
    started,
    size,
    { key: "runner", title: "by", value: (row) => row.runner, text: (row) => visible(row.runner) },
    { key: "result", title: "result", value: (row) => row.result, text: (row) => row.result, bad: (row) => row.result !== "done" },
    ...(found.some((row) => row.note) ? [{ key: "note", title: "note", value: (row) => row.note, text: (row) => visible(row.note ?? "") }] : []),
  ];
}

function showStage() {
  const stage = page.stages[selection.stage];
  if (!stage) return;
  byId("stage-name").replaceChildren(dot(stage.state), named(byId("variants").checked ? stage.name : stage.label));
  const facts = [stage.kind, stage.match, stage.place, stage.note, stage.path].filter(Boolean);
  byId("stage-facts").replaceChildren(...facts.flatMap((fact, at) => [at ? " · " : "", named(fact)]));
  const found = listed();
  const fields = fieldsOf(found);
  const columns = columnsOf(found, fields);
  const words = selection.search.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = (row) => {
    const text = columns.map((one) => one.text(row)).join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const left = words.length ? found.filter(matches) : found;
  byId("filters").hidden = !found.length && byId("older-label").hidden && byId("variants-label").hidden;
  byId("shown").textContent = left.length === found.length ? `${found.length}` : `${left.length} of ${found.length}`;
  plots.show(left, fields.metrics, [took, started, index], fields.config);
  if (left.length) table.show(columns, left);
  else byId("table").replaceChildren(el("p", { class: "empty" }, found.length ? "Nothing has that." : stage.state === "source" ? "A source: it is what it is." : "No realizations yet."));
  watch();
}

// -------------------------------------------------------------------------------------------- open

function open(id) {
  const row = rows.get(id);
  if (!row) return;
  if (row.stage !== null && page.stages[row.stage]?.name !== page.stages[selection.stage]?.name) {
    select(row.stage);
    graph.reveal(row.stage);
  }
  table.select(id);
  detail.open(row);
  remember();
}

function remember() {
  const stage = page.stages[selection.stage];
  const parts = new URLSearchParams({ ...(stage && { stage: stage.label }), ...(detail.id && { id: detail.id }) });
  history.replaceState(null, "", `#${parts}`);
}

function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const there = page.stages.findIndex((one) => one.label === parts.get("stage"));
  const row = rows.get(parts.get("id"));
  if (there >= 0) select(there);
  else if (row && row.stage !== null) select(row.stage);
  else select(first());
  if (row) open(row.id);
}

// What somebody comes for: what runs, else the last stage that has several results, else the last one.
function first() {
  const running = page.stages.findIndex((one) => one.state === "running");
  if (running >= 0) return running;
  const counts = summaries();
  const last = (test) => page.stages.reduce((found, one, at) => (test(one, at) ? at : found), -1);
  const many = last((one, at) => counts[at].count > 1 && one.state !== "source");
  if (many < 0) return Math.max(0, last((one) => one.state !== "source"));
  return page.stages.findIndex((one) => one.name === page.stages[many].name);
}

// -------------------------------------------------------------------------------------------- live

let source = null;
let watching = null;

function listen() {
  // A hidden tab would hold one of the few connections that a browser has.
  if (document.hidden) {
    source?.close();
    source = null;
  } else if (source === null) {
    source = new EventSource(`events?version=${page.version}`);
    source.addEventListener("whole", (event) => take(JSON.parse(event.data), true));
    source.addEventListener("change", (event) => take(JSON.parse(event.data), false));
    source.onerror = () => document.body.classList.add("lost");
    source.onopen = () => document.body.classList.remove("lost");
  }
}

function take(news, whole) {
  const label = page.stages[selection.stage]?.label;
  if (whole) {
    rows.clear();
    page.drvs = {};
  }
  page.made = news.made;
  page.stages = news.stages;
  Object.assign(page.drvs, news.drvs);
  for (const row of news.realizations) rows.set(row.id, row);
  for (const id of news.gone ?? []) rows.delete(id);
  showStages();
  if (!page.stages.length) return;
  const there = page.stages.findIndex((one) => one.label === label);
  if (there >= 0) select(there, { keep: true });
  else select(first());
}

// The logs of the selected stage while it runs.
async function watch() {
  clearTimeout(watching);
  const stage = page.stages[selection.stage];
  const host = byId("live");
  host.hidden = !(page.live && stage?.running);
  if (host.hidden) return;
  try {
    const answers = await Promise.all(stage.running.drvs.slice(0, 4).map((drv) => fetch(`running/${drv}`)));
    const logs = (await Promise.all(answers.filter((one) => one.ok).map((one) => one.json()))).flat();
    if (page.stages[selection.stage] !== stage) return;
    const by = `process ${stage.running.pid} on ${visible(stage.running.host)}, since ${moment(stage.running.since)}`;
    host.replaceChildren(el("p", { class: "dim" }, by), ...logs.map((text) => el("pre", null, text)));
    host.lastElementChild.scrollTop = 1e9;
  } catch {
    // The server has ended; what it said last stays.
  }
  watching = setTimeout(watch, 1500);
}

// ------------------------------------------------------------------------------------------- start

byId("title").append(named(page.title));
byId("zoom-in").addEventListener("click", () => graph.scale(graph.zoom * 1.25));
byId("zoom-out").addEventListener("click", () => graph.scale(graph.zoom / 1.25));
byId("zoom-fit").addEventListener("click", () => graph.scale(graph.fitting(0.05)));
byId("variants").addEventListener("change", showStage);
byId("older").addEventListener("change", showStage);
byId("search").addEventListener("input", (event) => {
  selection.search = event.target.value;
  showStage();
});
showStages();
if (page.stages.length) {
  recall();
  if (selection.stage !== null) graph.reveal(selection.stage);
} else {
  byId("table").append(el("p", { class: "empty" }, "There are no realizations yet."));
}
if (page.live) {
  document.addEventListener("visibilitychange", listen);
  listen();
  setInterval(() => {
    if (page.stages.some((one) => one.running)) showStages();
  }, 1000);
}
document.body.dataset.drawn = performance.now().toFixed(0);
