"""How much room results take, and who shares it: `du`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.formats.store_path import STORE_DIR

from .catalogue import no_cycle_search
from .gc import preview
from .layout import Store
from .needs import Graph
from .policy import Policy

__all__ = ["Share", "Usage", "measure"]

_PREFIX = len(f"{STORE_DIR}/")


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
    entries = graph.entries
    groups: dict[tuple[str, str], list[int]] = {}
    stages = entries.column("stage")
    names = entries.column("id") if each else stages
    for number, key in enumerate(zip(names, stages, strict=True)):
        groups.setdefault(key, []).append(number)
    outputs = entries.column("outputs")
    # How many groups need each object.
    users = [0] * len(sizes)
    closures = []
    for numbers in groups.values():
        rows = inventory.closure([path[_PREFIX:] for number in numbers for path in outputs[number].values()])
        closures.append(rows)
        for row in rows:
            users[row] += 1
    shares = []
    for ((name, stage), numbers), rows in zip(groups.items(), closures, strict=True):
        alone = sum(sizes[row] for row in rows if users[row] == 1)
        shares.append(Share(name, stage, len(numbers), alone, sum(map(sizes.__getitem__, rows)) - alone))
    shares.sort(key=lambda one: (-one.alone - one.shared, one.name))
    rest = sum(size for size, count in zip(sizes, users, strict=True) if not count)
    return Usage(tuple(shares), sum(sizes), rest, garbage)
