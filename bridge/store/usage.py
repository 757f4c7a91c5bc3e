"""How much room results take, and who shares it: `du`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.formats.store_path import base_name

from .gc import collect, load_graph
from .layout import Store

__all__ = ["Share", "Usage", "measure"]


@dataclass(frozen=True, slots=True)
class Share:
    """What one stage, or one realization, takes: its outputs with all that they refer to, in bytes of archives.

    Parameters
    ----------
    count
        Realizations.
    alone
        Bytes that nothing else in the store needs.
    shared
        Bytes that others need as well.
    """

    name: str
    stage: str
    count: int
    alone: int
    shared: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store takes.

    Parameters
    ----------
    total
        Bytes of the archives of all objects, each once.
    rest
        Bytes that are no result's: sources, code, derivations.
    garbage
        Bytes of the disk that `gc` would give back without dropping any realization.
    """

    shares: tuple[Share, ...]
    total: int
    rest: int
    garbage: int


def measure(
    store: Store,
    *,
    each: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, count: None,
) -> Usage:
    """Measure stages, or with `each` realizations; the largest first; of the stores below nothing."""
    store = store.own
    graph = load_graph(store, on_progress=on_progress)
    inventory = graph.inventory
    owner: list[int | None] = [None] * len(inventory.sizes)
    several: set[int] = set()
    groups: dict[tuple[str, str], tuple[set[int], list[int]]] = {}
    for one in graph.entries:
        key = (one.id, one.stage) if each else (one.stage, one.stage)
        rows, count = groups.setdefault(key, (set(), [0]))
        rows |= inventory.closure([base_name(path) for path in one.outputs.values()])
        count[0] += 1
    for number, (rows, _) in enumerate(groups.values()):
        for row in rows:
            if owner[row] is None:
                owner[row] = number
            else:
                several.add(row)
    shares = []
    for (name, stage), (rows, count) in groups.items():
        shared = sum(inventory.sizes[row] for row in rows & several)
        shares.append(Share(name, stage, count[0], sum(inventory.sizes[row] for row in rows) - shared, shared))
    shares.sort(key=lambda one: (-one.alone - one.shared, one.name))
    rest = sum(size for size, of in zip(inventory.sizes, owner, strict=True) if of is None)
    return Usage(tuple(shares), sum(inventory.sizes), rest, collect(store, dry_run=True).freed)
