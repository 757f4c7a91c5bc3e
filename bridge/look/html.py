"""Results as HTML, for notebooks: tables, and a small graph as inline SVG. Whatever comes from outside is escaped."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from .text import number

if TYPE_CHECKING:
    from .realized import Realized
    from .results import Results
    from .several import Family, Realizations

__all__ = ["family_html", "realizations_html", "realized_html", "results_html"]

_MOST_ROWS = 50
_MOST_NODES = 60
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 110, 24, 30, 12
_LONGEST_LABEL = 16
_COLOURS = {"chosen": "#d5ecd4", "pending": "#fbe3b9", "source": "#e4e4ee"}


def results_html(results: Results) -> str:
    """The graph of a plan, and what was chosen of each stage."""
    rows = []
    for node in results.nodes()[:_MOST_ROWS]:
        if node.source is not None:
            rows.append([node.label, "source", "", ""])
            continue
        found = results[node.label]
        if not found:
            rows.append([node.label, "to be made", "", ""])
        for one in found:
            rows.append([node.label, *_cells(one)])
    title = f"{len(results)} stage{'' if len(results) == 1 else 's'}"
    return f"<div><b>{title}</b>{_graph(results)}{_table(('stage', 'id', '#', 'metrics', 'when'), rows)}</div>"


def family_html(family: Family) -> str:
    rows = [[name, *_cells(one)] for name, found in family.items() for one in found]
    return f"<div><b>{escape(family._title)}</b>{_table(('name', 'id', '#', 'metrics', 'when'), rows)}</div>"


def realizations_html(found: Realizations) -> str:
    if not found:
        return f"<div><b>{escape(found._title)}</b>: {escape(found._missing)}</div>"
    rows = [[str(at), *_cells(one)] for at, one in enumerate(found)]
    return f"<div><b>{escape(found._title)}</b>{_table(('', 'id', '#', 'metrics', 'when'), rows)}</div>"


def realized_html(one: Realized) -> str:
    """A realization: its fields, what it was given and what came out."""
    from bridge.formats.errors import BridgeError

    rows = [["id", one.id], ["when", _when(one.started)], ["result", one.result]]
    rows += [[f"metric {name}", number(value)] for name, value in one.metrics.items()]
    try:
        rows += [[f"config {name}", number(value)] for name, value in one.config.items()]
        rows += [[f"input {name}", ", ".join(map(repr, found))] for name, found in one.inputs.items()]
        rows += [[f"output {name}", str(one[name])] for name in one._names()]
    except BridgeError as error:
        rows.append(["", error.message])
    return f"<div><b>{escape(one.stage)}</b>{_table(('', ''), rows)}</div>"


def _cells(one: object) -> list[str]:
    from .realized import Realized

    if not isinstance(one, Realized):
        return [repr(one), "", "", ""]
    metrics = " ".join(f"{name}={number(value)}" for name, value in one.metrics.items())
    return [one.id, str(one.index), metrics if one.result == "done" else one.result, _when(one.started)]


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _table(header: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[:_MOST_ROWS])
    more = f"<p>and {len(rows) - _MOST_ROWS} more</p>" if len(rows) > _MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{more}"


def _graph(results: Results) -> str:
    """The plan's graph, sources at the left; nothing where it would be too large to read."""
    nodes = results.nodes()
    if len(nodes) > _MOST_NODES:
        return ""
    layer = dict.fromkeys(nodes, 0)
    for node in nodes:
        for used in node.inputs:
            layer[node] = max(layer[node], layer[used] + 1)
    place: dict[object, tuple[int, int]] = {}
    filled: dict[int, int] = {}
    for node in nodes:
        row = filled.get(layer[node], 0)
        filled[layer[node]] = row + 1
        place[node] = (layer[node] * (_WIDTH + _GAP_X) + 1, row * (_HEIGHT + _GAP_Y) + 1)
    width = max(x for x, _ in place.values()) + _WIDTH + 1
    height = max(y for _, y in place.values()) + _HEIGHT + 1
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-size="11">']
    for node in nodes:
        x, y = place[node]
        for used in node.inputs:
            from_x, from_y = place[used]
            ends = f'x1="{from_x + _WIDTH}" y1="{from_y + _HEIGHT // 2}" x2="{x}" y2="{y + _HEIGHT // 2}"'
            parts.append(f'<line {ends} stroke="#888"/>')
    for node in nodes:
        x, y = place[node]
        state = "source" if node.source is not None else "chosen" if node in results.outcome.choices else "pending"
        label = node.label if len(node.label) <= _LONGEST_LABEL else node.label[: _LONGEST_LABEL - 1] + "…"
        parts.append(
            f'<g><title>{escape(node.label)}: {state}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}"'
            f' rx="4" fill="{_COLOURS[state]}" stroke="#888"/><text x="{x + 6}" y="{y + 16}" fill="#222">'
            f"{escape(label)}</text></g>"
        )
    return "".join([*parts, "</svg>"])
