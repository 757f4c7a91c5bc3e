"""Realizations as lines of text, for people who look at values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from bridge.store.catalogue import Entry

__all__ = ["lines_of", "number", "printable", "shown_entry"]

_LONGEST = 40
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Without what a terminal would obey."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def number(value: Any) -> str:
    """A metric or a config value, short."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return printable(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")


def shown_entry(one: Entry) -> list[str]:
    """A realization in cells: stage, id, number, metrics, and what is wrong with it."""
    metrics = " ".join(f"{printable(name)}={number(value)}" for name, value in one.metrics.items())
    told = [one.stage, one.id, f"#{one.index}", metrics, "" if one.result == "done" else one.result]
    return [cell for cell in told if cell]


def lines_of(rows: Iterable[Sequence[str]]) -> list[str]:
    """Indented lines with aligned columns."""
    listed = list(rows)
    count = max(map(len, listed), default=0)
    widths = [max((len(row[at]) for row in listed if at < len(row)), default=0) for at in range(count)]
    return ["  " + "  ".join(cell.ljust(widths[at]) for at, cell in enumerate(row)).rstrip() for row in listed]
