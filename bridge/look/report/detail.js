// What went into a realization, what came out of it, and what it printed.

class Detail {
  // `find(id)` gives the line of a realization; `ask(id)` a promise of its details, or null where there are none.
  constructor(host, { find, ask, config, onOpen, onClose }) {
    Object.assign(this, { host, find, ask, config, onOpen, onClose });
    host.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
  }

  async open(row) {
    this.id = row.id;
    this.host.hidden = false;
    document.body.classList.add("open");
    this.host.dataset.id = row.id;
    this.host.setAttribute("aria-busy", "true");
    this.host.replaceChildren(...this.head(row), el("p", { class: "dim" }, "…"));
    this.host.scrollTop = 0;
    this.host.focus({ preventScroll: true });
    let told;
    try {
      told = await this.ask(row.id);
    } catch (error) {
      told = { problem: `the details can not be had: ${error.message}` };
    }
    if (this.id !== row.id) return;
    this.host.replaceChildren(...this.head(row), ...this.body(row, told));
    this.host.setAttribute("aria-busy", "false");
  }

  close() {
    if (this.host.hidden) return;
    const id = this.id;
    this.id = null;
    this.host.hidden = true;
    this.host.replaceChildren();
    document.body.classList.remove("open");
    this.onClose(id);
  }

  head(row) {
    const state = row.result === "done" ? (row.chosen ? "chosen" : "not chosen") : row.result;
    return [
      el(
        "div",
        { class: "head" },
        el("h2", null, named(row.name), " ", el("code", null, row.id)),
        el("span", { class: "dim" }, state),
        el("button", { type: "button", "aria-label": "Close", title: "Close (Escape)", click: () => this.close() }, "✕"),
      ),
      row.note ? el("p", null, "“", el("bdi", null, row.note), "”") : null,
      this.facts("metrics", row.metrics),
      this.facts("config", this.config(row)),
    ].filter(Boolean).flat();
  }

  facts(title, values) {
    const pairs = Object.entries(values ?? {}).filter(([, value]) => value !== null && value !== undefined);
    if (!pairs.length) return null;
    const lines = pairs.map(([name, value]) => [el("dt", null, named(name)), el("dd", null, this.value(value))]);
    return [el("h3", null, title), el("dl", null, lines)];
  }

  value(value) {
    return value instanceof Node ? value : el("bdi", null, typeof value === "number" ? String(value) : shown(value));
  }

  link(id, text) {
    return this.find(id)
      ? el("button", { type: "button", class: "link", click: () => this.onOpen(id) }, text)
      : el("span", null, text);
  }

  body(row, told) {
    if (!told) {
      const how = `nixbridge ui shows all of it; nixbridge log ${row.id}, nixbridge ls ${row.id}`;
      return [el("p", { class: "dim" }, "The files and the log of this one are not in this page. "), el("p", null, el("code", null, how))];
    }
    if (told.problem) return [el("p", { class: "problem" }, visible(told.problem))];
    const error = told.error;
    const took = duration(row.stopped - row.started);
    const run = {
      started: `${moment(row.started)}, took ${took}`,
      by: row.runner,
      index: row.index,
      seed: told.seed,
      attempts: told.attempts > 1 ? told.attempts : null,
      "processor time": told.usage.cpu ? duration(told.usage.cpu) : null,
      memory: told.usage.memory ? bytes(told.usage.memory) : null,
      "went on from": told.previous ? this.link(told.previous, told.previous) : null,
      "adopted from": told.adopted ? `${told.adopted.id}: ${told.adopted.why}` : null,
      derivation: el("code", null, told.path),
    };
    return [
      error ? [el("h3", null, error.reason ?? "error"), el("p", { class: "problem" }, el("bdi", null, shown(error.message)))] : null,
      error?.file ? el("p", { class: "dim" }, named(`${error.file}:${error.line}`)) : null,
      this.inputs(told.inputs),
      told.outputs.map((output) => this.output(output)),
      this.log(told.log),
      this.facts("run", run),
      this.facts("host", told.host),
    ].flat(2).filter(Boolean);
  }

  inputs(inputs) {
    if (!inputs.length) return null;
    const lines = inputs.map((one) => {
      const made = one.maker ? [this.link(one.maker.id, `${visible(one.maker.stage)} ${one.maker.id}`), el("br")] : [];
      return [el("dt", null, named(one.name)), el("dd", null, made, el("code", null, visible(one.path)))];
    });
    return [el("h3", null, "inputs"), el("dl", null, lines)];
  }

  output(output) {
    const parts = [
      el("h3", null, output.name === "out" ? "output" : `output ${visible(output.name)}`),
      el("p", null, el("code", null, visible(output.path))),
    ];
    if (output.hash) parts.push(el("p", { class: "dim" }, el("code", null, output.hash)));
    if (output.gone) parts.push(el("p", { class: "problem" }, "Its bytes are gone."));
    if (output.problem) parts.push(el("p", { class: "problem" }, visible(output.problem)));
    const few = output.files.filter((file) => file.text !== undefined).length <= 3;
    parts.push(...output.files.map((file) => this.file(file, few)));
    if (output.more) parts.push(el("p", { class: "dim" }, "and more files: ", el("code", null, `nixbridge tree ${this.id}`)));
    return parts;
  }

  file(file, open) {
    const told = [named(file.path, { class: "mono" }), el("span", { class: "dim" }, bytes(file.size), file.executable ? ", executable" : "")];
    if (file.target !== undefined) return el("div", { class: "file" }, named(file.path, { class: "mono" }), " → ", named(file.target, { class: "mono" }));
    if (file.image) {
      return el("details", { open: true }, el("summary", null, told), el("img", { src: file.image, alt: visible(file.path), loading: "lazy" }));
    }
    if (file.text !== undefined) {
      const cut = file.cut ? el("p", { class: "file dim" }, `and ${bytes(file.cut)} more`) : null;
      return el("details", { open }, el("summary", null, told), el("pre", { tabindex: 0 }, file.text), cut);
    }
    const hash = file.sha256 ? el("span", { class: "dim mono" }, `sha256 ${file.sha256}`) : null;
    return el("div", { class: "file" }, told, file.left ? el("span", { class: "dim" }, "not in this page") : hash);
  }

  log(log) {
    if (!log) return null;
    if (log.left) return [el("h3", null, "log"), el("p", { class: "dim" }, "not in this page")];
    const cut = log.cut ? `the last of it; ${bytes(log.cut)} before` : "";
    return [
      el("h3", null, "log"),
      el("details", { open: true }, el("summary", null, "what it printed ", el("span", { class: "dim" }, cut)), el("pre", { id: "log", tabindex: 0 }, log.text)),
    ];
  }
}
