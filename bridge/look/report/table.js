// A table that is sorted by a click, of which only the lines in view are drawn.

const SPARE = 12; // Lines beyond what is in view.
const PRINTED = 500;

// Numbers before texts before anything else, as the command line sorts; nothing comes last either way.
function compare(a, b) {
  const rank = (value) => (typeof value === "number" ? 0 : typeof value === "string" ? 1 : 2);
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (typeof a === "number") return a - b;
  const [left, right] = typeof a === "string" ? [a, b] : [JSON.stringify(a), JSON.stringify(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

class Table {
  constructor(host, onOpen) {
    this.host = host;
    this.onOpen = onOpen;
    this.sort = { key: "started", down: true };
    this.active = 0;
    this.height = 28;
    this.selected = null;
    host.addEventListener("scroll", () => this.later());
    host.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("resize", () => this.later());
    window.addEventListener("beforeprint", () => this.render(PRINTED));
    window.addEventListener("afterprint", () => this.render());
  }

  // A column has a key, title, value(row) to sort by, text(row), and maybe `number`, `mark`, `group`, `hint(row)`.
  show(columns, rows) {
    this.columns = columns;
    if (!columns.some((one) => one.key === this.sort.key)) this.sort = { key: "started", down: true };
    this.rows = rows;
    this.order();
    this.heads = columns.map((one) =>
      el(
        "th",
        { scope: "col", class: one.number ? "number" : null, style: `min-width:${this.wide(one)}px`, "data-key": one.key },
        el(
          "button",
          { type: "button", title: `Sort by ${one.title}`, click: () => this.by(one.key) },
          one.group ? el("small", null, one.group) : null,
          one.mark ? "" : visible(one.title),
        ),
      ),
    );
    this.body = el("tbody");
    const head = el("thead", null, el("tr", null, this.heads));
    this.table = el("table", { "aria-rowcount": rows.length + 1 }, head, this.body);
    const left = this.host.scrollLeft;
    this.host.replaceChildren(this.table);
    this.host.scrollLeft = left;
    this.heading();
    this.render();
  }

  wide(column) {
    let longest = column.title.length + (column.group ?? "").length + 3;
    for (const row of this.rows) longest = Math.max(longest, column.text(row).length);
    return column.mark ? 30 : Math.min(320, Math.round(longest * 7.2) + 22);
  }

  by(key) {
    const down = this.sort.key === key ? !this.sort.down : false;
    this.sort = { key, down };
    this.order();
    this.heading();
    this.host.scrollTop = 0;
    this.active = 0;
    this.render();
  }

  order() {
    const column = this.columns.find((one) => one.key === this.sort.key);
    const having = [];
    const without = [];
    for (const row of this.rows) {
      const value = column.value(row);
      if (value === null || value === undefined) without.push(row);
      else having.push([value, row]);
    }
    const turn = this.sort.down ? -1 : 1;
    having.sort((a, b) => turn * compare(a[0], b[0]) || (a[1].id < b[1].id ? -1 : 1));
    this.ordered = [...having.map((pair) => pair[1]), ...without];
  }

  heading() {
    this.columns.forEach((one, at) => {
      const sorted = one.key === this.sort.key;
      this.heads[at].setAttribute("aria-sort", sorted ? (this.sort.down ? "descending" : "ascending") : "none");
    });
  }

  later() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = undefined;
      this.render(0, true);
    });
  }

  // `most` lines from the first one if it is not 0; nothing if what is drawn may be `kept`, as it is what is in view.
  render(most = 0, kept = false) {
    if (!this.table) return;
    const focused = this.body.contains(document.activeElement);
    const count = this.ordered.length;
    const inView = Math.ceil((this.host.clientHeight || 600) / this.height);
    const first = most ? 0 : Math.max(0, Math.min(Math.floor(this.host.scrollTop / this.height) - SPARE, count - inView));
    const last = Math.min(count, most || first + inView + 2 * SPARE);
    if (kept && first === this.first && last === this.last) return;
    [this.first, this.last] = [first, last];
    const space = (lines) =>
      lines > 0
        ? [el("tr", { class: "space", "aria-hidden": "true" }, el("td", { colspan: this.columns.length, style: `height:${lines * this.height}px` }))]
        : [];
    const drawn = [];
    for (let at = first; at < last; at += 1) drawn.push(this.line(this.ordered[at], at));
    this.body.replaceChildren(...space(first), ...drawn, ...space(count - last));
    if (drawn.length) this.height = drawn[0].getBoundingClientRect().height || this.height;
    if (focused) this.at(this.active)?.focus({ preventScroll: true });
  }

  line(row, at) {
    const cells = this.columns.map((one) => {
      const text = one.text(row);
      const kind = [one.number ? "number" : "", one.bad?.(row) ? "bad" : ""].filter(Boolean).join(" ");
      const hint = one.hint?.(row) ?? (text.length > 30 ? text : null);
      return el("td", { class: kind || null, title: hint }, one.plain ? text : el("bdi", null, text));
    });
    const classes = [row.chosen ? "chosen" : "", row.id === this.selected ? "selected" : ""].filter(Boolean).join(" ");
    return el(
      "tr",
      {
        class: classes || null,
        tabindex: at === this.active ? 0 : -1,
        "data-id": row.id,
        "data-at": at,
        "aria-rowindex": at + 2,
        click: () => {
          this.active = at;
          this.onOpen(row.id);
        },
      },
      cells,
    );
  }

  at(number) {
    return this.body.querySelector(`tr[data-at="${number}"]`);
  }

  select(id) {
    this.selected = id;
    this.render();
  }

  // Back to the line of a realization, if it is listed.
  focus(id) {
    const at = this.ordered.findIndex((row) => row.id === id);
    if (at >= 0) this.go(at);
  }

  go(to) {
    this.active = Math.max(0, Math.min(this.ordered.length - 1, to));
    const top = this.active * this.height;
    const room = this.host.clientHeight - 2 * this.height;
    if (top < this.host.scrollTop) this.host.scrollTop = top;
    else if (top > this.host.scrollTop + room) this.host.scrollTop = top - room;
    this.render();
    this.at(this.active)?.focus({ preventScroll: true });
  }

  key(event) {
    if (!this.body?.contains(document.activeElement)) return;
    const page = Math.max(1, Math.floor(this.host.clientHeight / this.height) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) this.go(this.active + steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") this.onOpen(this.ordered[this.active].id);
    else return;
    event.preventDefault();
  }
}
