"""What a page shows, as a value and as JSON that browsers read.

    title, store, made, live
    stages          the graph's nodes: state, inputs (numbers of nodes), place
    drvs            digest of a resolved derivation → its path and config
    realizations    a line of a table each; `stage` is the number of a node
    details         id → what `detail` tells of one; in a file only, the live page asks

JSON has no numbers that browsers do not: those that are not finite, or lose digits there, are texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.formats.store_path import hash_part
from bridge.store.catalogue import Entry

__all__ = ["Page", "Row", "Stage", "State", "difference", "plain"]

State = Literal["source", "done", "running", "failed", "missing"]

_EXACT = 2**53
"""Above it a browser's numbers skip whole ones."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Stage:
    """A node of the graph.

    Parameters
    ----------
    kind
        What runs it: python, shell, nix, fetch …
    path
        Of the derivation before resolution, or of the source; None where the node stands for several.
    uses
        Numbers of the nodes that it uses.
    layer, row
        Where it is drawn: columns from the left, lines from the top.
    wanted
        How many realizations are missing, if that is known.
    match
        How one is chosen, in words.
    place
        Where it is written: file and line.
    note
        What there is to say of its state.
    running
        Who realizes it: `pid`, `host`, `since`, `drvs` (digests).
    """

    name: str
    label: str
    kind: str
    state: State
    path: str | None
    uses: tuple[int, ...]
    layer: int = 0
    row: float = 0.0
    wanted: int = 0
    match: str | None = None
    place: str | None = None
    note: str | None = None
    running: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": plain(self.name),
            "label": plain(self.label),
            "kind": self.kind,
            "state": self.state,
            "path": self.path,
            "uses": self.uses,
            "layer": self.layer,
            "row": self.row,
            "wanted": self.wanted,
            "match": plain(self.match),
            "place": plain(self.place),
            "note": plain(self.note),
            "running": plain(self.running),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """A realization in a table.

    Parameters
    ----------
    stage
        The number of the first node with its derivation; None for one of what the stage was before it changed.
    """

    entry: Entry
    stage: int | None
    chosen: bool
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        one = self.entry
        return {
            "id": one.id,
            "stage": self.stage,
            "name": plain(one.stage),
            "drv": hash_part(one.drv),
            "index": one.index,
            "result": one.result,
            "runner": one.runner,
            "started": one.started,
            "stopped": one.stopped,
            "size": one.size,
            "chosen": self.chosen,
            "note": plain(self.note),
            "metrics": plain(one.metrics),
        }


@dataclass(frozen=True, slots=True)
class Page:
    """A plan or a store at a moment.

    Parameters
    ----------
    made
        Seconds since the epoch.
    configs
        Path of a resolved derivation to its config.
    details
        By the realization's id.
    live
        Whether the page is served, and follows.
    """

    title: str
    store: str
    made: float
    stages: tuple[Stage, ...]
    rows: tuple[Row, ...]
    configs: Mapping[str, Mapping[str, Any]]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    live: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "title": plain(self.title),
            "store": plain(self.store),
            "made": self.made,
            "live": self.live,
            "stages": [one.to_json() for one in self.stages],
            "drvs": {hash_part(drv): {"path": drv, "config": plain(config)} for drv, config in self.configs.items()},
            "realizations": [one.to_json() for one in self.rows],
            "details": plain(self.details),
        }


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a browser that shows one page's JSON must be told to show another's; None if that is nothing.

    The stages come whole, realizations where they are new or not as they were, ids of those that are `gone`.
    """
    before = {one["id"]: one for one in old["realizations"]}
    ids = {one["id"] for one in new["realizations"]}
    changed = [one for one in new["realizations"] if before.get(one["id"]) != one]
    gone = [identity for identity in before if identity not in ids]
    if not changed and not gone and old["stages"] == new["stages"]:
        return None
    drvs = {digest: one for digest, one in new["drvs"].items() if digest not in old["drvs"]}
    return {"made": new["made"], "stages": new["stages"], "drvs": drvs, "realizations": changed, "gone": gone}


def plain(value: Any) -> Any:
    """A value as JSON that every browser reads as it is."""
    if isinstance(value, str):
        return value if value.isprintable() else _SURROGATE.sub(_escaped, value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -_EXACT <= value <= _EXACT else str(value)
    if isinstance(value, dict | Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value]


def _escaped(found: re.Match[str]) -> str:
    """A byte of a file's name that is no UTF-8; anything else that is no character."""
    byte = ord(found[0]) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else "\ufffd"
