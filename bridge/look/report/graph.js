// The graph of stages. Places are computed before: a layer from the left, a row from the top.

const NODE = { width: 176, height: 42, across: 236, down: 56, margin: 14 };

// The label with the values alone of the config that tells variants apart.
const short = (stage) =>
  stage.label === stage.name ? stage.name : stage.name + stage.label.slice(stage.name.length).replace(/([(,] ?)[^=(),]+=/g, "$1");

class Graph {
  constructor(host, onSelect) {
    this.host = host;
    this.onSelect = onSelect;
    this.zoom = null;
    this.nodes = [];
    this.selected = null;
    host.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    host.addEventListener("keydown", (event) => this.key(event));
  }

  // `notes` are the second lines of the nodes.
  show(stages, notes) {
    const shape = JSON.stringify(stages.map((one) => [one.label, one.layer, one.row, one.uses]));
    if (shape !== this.shape) this.draw(stages, shape);
    this.stages = stages;
    stages.forEach((one, at) => {
      const node = this.nodes[at];
      node.group.setAttribute("class", `node ${one.state}${at === this.selected ? " selected" : ""}`);
      node.group.setAttribute("aria-label", `${visible(one.label)}: ${one.state}, ${notes[at]}`);
      node.group.dataset.state = one.state;
      node.note.textContent = notes[at];
      node.title.textContent = [visible(one.label), one.state, notes[at], one.note ?? ""].filter(Boolean).join("\n");
    });
  }

  draw(stages, shape) {
    this.shape = shape;
    const place = (one) => [NODE.margin + one.layer * NODE.across, NODE.margin + one.row * NODE.down];
    this.width = Math.max(0, ...stages.map((one) => place(one)[0])) + NODE.width + NODE.margin;
    this.height = Math.max(0, ...stages.map((one) => place(one)[1])) + NODE.height + NODE.margin;
    this.edges = [];
    const edges = svg("g", { "aria-hidden": "true" });
    stages.forEach((one, at) => {
      const [x, y] = place(one);
      for (const used of one.uses) {
        const [fromX, fromY] = place(stages[used]).map((value, axis) => value + (axis ? NODE.height / 2 : NODE.width));
        const [toX, toY] = [x, y + NODE.height / 2];
        const bend = Math.max(30, Math.abs(toX - fromX) / 2);
        const path = `M${fromX} ${fromY}C${fromX + bend} ${fromY} ${toX - bend} ${toY} ${toX} ${toY}`;
        const drawn = svg("path", { class: "edge", d: path });
        edges.append(drawn);
        this.edges.push({ from: used, to: at, drawn });
      }
    });
    const nodes = svg("g", { role: "listbox", "aria-label": "Stages" });
    this.nodes = stages.map((one, at) => {
      const [x, y] = place(one);
      const note = svg("text", { class: "sub", x: 14, y: 33 });
      const title = svg("title");
      const group = svg(
        "g",
        { transform: `translate(${x} ${y})`, tabindex: at === 0 ? 0 : -1, role: "option", click: () => this.onSelect(at) },
        title,
        svg("rect", { class: "box", width: NODE.width, height: NODE.height, rx: 7 }),
        svg("rect", { class: "side", width: 5, height: NODE.height, rx: 2.5 }),
        svg("text", { x: 14, y: 17 }, shorten(visible(short(one)), 25)),
        note,
      );
      nodes.append(group);
      return { group, note, title, x, y };
    });
    this.drawing = svg("svg", { viewBox: `0 0 ${this.width} ${this.height}` }, edges, nodes);
    this.host.replaceChildren(this.drawing);
    this.scale(this.zoom ?? this.fitting(0.75));
    if (this.selected !== null && this.selected < this.nodes.length) this.select(this.selected);
  }

  fitting(least) {
    const room = this.host.getBoundingClientRect();
    const high = Math.max(200, window.innerHeight * 0.46);
    return Math.max(least, Math.min(1, (room.width - 4) / this.width, (high - 4) / this.height));
  }

  scale(zoom) {
    this.zoom = Math.min(3, Math.max(0.05, zoom));
    this.drawing.setAttribute("width", this.width * this.zoom);
    this.drawing.setAttribute("height", this.height * this.zoom);
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = this.drawing.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / this.zoom, (event.clientY - box.top) / this.zoom];
    this.scale(this.zoom * Math.exp(-event.deltaY / 300));
    const now = this.drawing.getBoundingClientRect();
    this.host.scrollBy(now.left + x * this.zoom - event.clientX, now.top + y * this.zoom - event.clientY);
  }

  select(at) {
    this.selected = at;
    this.nodes.forEach((node, each) => {
      node.group.classList.toggle("selected", each === at);
      node.group.setAttribute("aria-selected", String(each === at));
      node.group.setAttribute("tabindex", each === (at ?? 0) ? 0 : -1);
    });
    for (const edge of this.edges) edge.drawn.classList.toggle("near", edge.from === at || edge.to === at);
  }

  reveal(at) {
    const { x, y } = this.nodes[at];
    const [left, top] = [(x + NODE.width / 2) * this.zoom, (y + NODE.height / 2) * this.zoom];
    this.host.scrollTo(left - this.host.clientWidth / 2, top - this.host.clientHeight / 2);
  }

  // Arrows go to the nearest node in their direction, Enter selects.
  key(event) {
    const at = this.nodes.findIndex((node) => node.group === document.activeElement);
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.onSelect(at);
      return;
    }
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    const here = this.nodes[at];
    let [next, least] = [null, Infinity];
    for (const node of this.nodes) {
      const [x, y] = [node.x - here.x, node.y - here.y];
      const along = x * way[0] + y * way[1];
      const aside = Math.abs(x * way[1]) + Math.abs(y * way[0]);
      if (along > 0 && along + 3 * aside < least) [next, least] = [node, along + 3 * aside];
    }
    if (next === null) return;
    here.group.setAttribute("tabindex", -1);
    next.group.setAttribute("tabindex", 0);
    next.group.focus();
  }
}
