"""How much room results take, and who shares it: `du`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.formats.store_path import base_name

from .catalogue import Entry, no_cycle_search
from .gc import preview
from .layout import Store
from .needs import Graph
from .policy import Policy

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
    with no_cycle_search():
        found, graph = preview(store, Policy(), on_progress=on_progress)
        return _measured(graph, each, found.freed)


def _measured(graph: Graph, each: bool, garbage: int) -> Usage:
    inventory = graph.inventory
    sizes = inventory.sizes
    groups: dict[tuple[str, str], list[Entry]] = {}
    for one in graph.entries:
        groups.setdefault((one.id if each else one.stage, one.stage), []).append(one)
    # How many groups need each object.
    users = [0] * len(sizes)
    closures = []
    for members in groups.values():
        rows = inventory.closure({base_name(path) for one in members for path in one.outputs.values()})
        closures.append(rows)
        for row in rows:
            users[row] += 1
    shares = []
    for ((name, stage), members), rows in zip(groups.items(), closures, strict=True):
        alone = sum(sizes[row] for row in rows if users[row] == 1)
        shares.append(Share(name, stage, len(members), alone, sum(map(sizes.__getitem__, rows)) - alone))
    shares.sort(key=lambda one: (-one.alone - one.shared, one.name))
    rest = sum(size for size, count in zip(sizes, users, strict=True) if not count)
    return Usage(tuple(shares), sum(sizes), rest, garbage)
