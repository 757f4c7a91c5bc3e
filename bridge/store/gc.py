"""Collecting garbage: mark what is needed, sweep the rest.

    needed      what roots keep, what running processes hold (see `holds`), and every realization that nobody asked
                to drop, each with what it was made from (see `needs`)
    always      what dead processes left, bytes that are no objects, objects that nothing needs, what was left of
                runs that were finished since, roots that lead nowhere
    on request  realizations (see `policy`), with their logs and what only they need

Nothing that took a run to make goes unless it is asked for. Where a record or an info file is damaged nobody knows
what it needs, so that nothing is collected before it is repaired.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from bridge.formats.store_path import STORE_DIR, base_name

from .beside import inventory_beside
from .catalogue import Catalogue, catalogue, no_cycle_search
from .errors import StoreError
from .holds import collecting, held_paths
from .inventory import take_inventory
from .layout import Store
from .locks import left_locks, try_lock
from .needs import Graph, Needed
from .optimise import finish_optimising
from .policy import Policy, droppable, fitted
from .roots import Root, roots
from .rubbish import RubbishKind, Situation, rubbish
from .sweep import Sweep, in_order, reclaimable, remove, take_out
from .trace import ids_of, record_names

__all__ = ["Collected", "Item", "collect", "load_graph", "preview", "rooted", "wanted_by"]

Kind = Literal["realization", "object"] | RubbishKind


class Item(NamedTuple):
    """Something that goes.

    Parameters
    ----------
    size
        Of an object's archive, or of a realization's outputs; None where it is not known.
    """

    kind: Kind
    name: str
    size: int | None = None
    stage: str | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """What went, or would go.

    Parameters
    ----------
    freed
        Bytes of the disk.
    live
        Bytes of the archives of all objects that stay.
    """

    items: tuple[Item, ...]
    freed: int
    live: int


def collect(
    store: Store,
    policy: Policy | None = None,
    *,
    dry_run: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, count: None,
) -> Collected:
    """Collect garbage, beside any number of running processes; not of the stores below.

    Raises
    ------
    StoreError
        If a record, an info file or a root can not be read.
    DiskError
        If the disk refuses.
    """
    policy = policy or Policy()
    if dry_run:
        return preview(store, policy, on_progress=on_progress)[0]
    store = store.own
    finish_optimising(store)
    # Caches are made before anybody has to wait for us.
    load_graph(store, on_progress=on_progress)
    with no_cycle_search(), collecting(store):
        found = _find(store, policy, lambda: load_graph(store, exact=True))
        sweep = _sweep(store, found)
        size = reclaimable(sweep.files)
        trees = take_out(store, sweep)
    for name in left_locks(store):
        # Whoever gives a lock back removes its file.
        with contextlib.suppress(StoreError), try_lock(store, name):
            pass
    return _collected(found, size + remove(trees))


def preview(
    store: Store, policy: Policy, *, on_progress: Callable[[int, int], object] = lambda done, count: None
) -> tuple[Collected, Graph]:
    """What `collect` would do, and the graph of all that is there.

    Raises
    ------
    StoreError
        If a record, an info file or a root can not be read.
    """
    store = store.own
    finish_optimising(store)
    with no_cycle_search():
        found = _find(store, policy, lambda: load_graph(store, on_progress=on_progress))
        names = found.graph.inventory.names
        objects = str(store.objects)
        places = [f"{objects}/{names[row]}" for row in found.objects]
        places += _logs(store, found.realizations)
        return _collected(
            found, reclaimable([*places, *found.dead, *(place for _, place in found.rubbish)])
        ), found.graph


def load_graph(
    store: Store, *, exact: bool = False, on_progress: Callable[[int, int], object] = lambda done, count: None
) -> Graph:
    """All realizations and objects of a store.

    Parameters
    ----------
    exact
        Whether no cache is believed about what is there: for who is about to delete something.

    Raises
    ------
    StoreError
        If a record or an info file can not be read.
    """
    bad: list[StoreError] = []
    with inventory_beside(store):
        found = catalogue(store, on_damaged=bad.append, on_progress=on_progress)
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise StoreError(
            f"a record can not be read, and nobody knows what it needs{more}: {bad[0].message}",
            hint="nixbridge verify --repair drops what is damaged; a record of a newer nixbridge needs that one",
        )
    if exact:
        found = _as_on_disk(store, found)
    return Graph(found, take_inventory(store, exact=exact, on_progress=on_progress))


def _as_on_disk(store: Store, found: Catalogue) -> Catalogue:
    """The realizations, held against the names in the trace: a cache must not decide what is deleted."""
    there = {
        (f"{STORE_DIR}/{folder}", identity)
        for folder in _folders(store)
        for identity in ids_of(record_names(f"{store.trace}/{folder}"))
    }
    names = list(zip(found.column("drv"), found.column("id"), strict=True))
    unlisted = there.difference(names)
    if unlisted:
        raise StoreError(
            f"{len(unlisted)} records are not in the catalogue, such as {min(unlisted)[1]}",
            hint=f"delete {store.root}/cache, which is made again, or run nixbridge verify",
        )
    return found.only([row for row, name in enumerate(names) if name in there])


def rooted(graph: Graph, found: Iterable[Root]) -> tuple[set[int], set[str]]:
    """What roots keep: numbers of realizations, and base names of objects."""
    named = {one for root in found for one in root.realizations}
    numbers = (graph.by_id.get(identity) for _, identity in named)
    kept = {number for number in numbers if number is not None}
    drvs, ids = graph.entries.column("drv"), graph.entries.column("id")
    kept = {number for number in kept if (drvs[number], ids[number]) in named}
    return kept, {base_name(path) for root in found for path in root.objects}


@dataclass(frozen=True, slots=True)
class _Found:
    """What goes.

    Parameters
    ----------
    realizations
        Oldest first.
    objects
        Rows of the inventory.
    dead
        Files of processes that are gone.
    """

    graph: Graph
    needed: Needed
    realizations: Catalogue
    objects: list[int]
    rubbish: list[tuple[RubbishKind, Path]]
    dead: list[Path]


def _find(store: Store, policy: Policy, load: Callable[[], Graph]) -> _Found:
    """What goes. Bytes are listed before the objects: what is registered meanwhile is no rubbish."""
    held, dead = held_paths(store)
    lying = os.listdir(store.objects)
    graph = load()
    kept, objects = rooted(graph, roots(store))
    for name in held:
        kept.update(graph.by_output.get(name, ()))
    needed = wanted_by(graph, policy, kept, objects | held, time.time())
    gone = graph.entries.only(sorted(set(range(len(graph.entries))) - needed.realizations))
    rows = sorted(set(range(len(graph.inventory.sizes))) - needed.objects)
    others = list(rubbish(Situation(store, graph, needed, lying, held, policy.older_than)))
    return _Found(graph, needed, gone, rows, others, dead)


def _sweep(store: Store, found: _Found) -> Sweep:
    stays = set(map(base_name, map(found.graph.entries.column("drv").__getitem__, found.needed.realizations)))
    gone = zip(found.realizations.column("drv"), found.realizations.column("id"), strict=True)
    sweep = Sweep(
        [f"{store.trace}/{base_name(drv)}/{identity}.json" for drv, identity in gone],
        in_order(found.graph.inventory, found.objects),
        files=[*map(str, found.dead), *_logs(store, found.realizations)],
        folders=[f"{store.trace}/{name}" for name in _folders(store) if name not in stays],
    )
    for kind, place in found.rubbish:
        if kind in ("log", "root", "cache"):
            sweep.files.append(str(place))
        else:
            sweep.trees.append(place)
    return sweep


def _logs(store: Store, realizations: Catalogue) -> list[str]:
    return [f"{store.root}/logs/{log}" for log in realizations.column("log") if log is not None]


def _collected(found: _Found, freed: int) -> Collected:
    inventory = found.graph.inventory
    names, sizes = inventory.names, inventory.sizes
    ids, outputs, stages = map(found.realizations.column, ("id", "outputs", "stage"))
    known = inventory.by_name()
    totals = (sum([known.get(name, 0) for name in set(map(base_name, one.values()))]) for one in outputs)
    items = [Item("realization", *one) for one in zip(ids, totals, stages, strict=True)]
    items += [Item("object", names[row], sizes[row]) for row in found.objects]
    items += [Item(kind, place.name) for kind, place in found.rubbish]
    return Collected(tuple(items), freed, sum(map(sizes.__getitem__, found.needed.objects)))


def wanted_by(graph: Graph, policy: Policy, kept: set[int], objects: set[str], now: float) -> Needed:
    """What a policy leaves, with what it needs; realizations and objects (base names) that roots keep among it."""
    listed = graph.entries
    may_go = droppable(policy, listed, now)
    every = set(range(len(listed))).difference(_superseded(listed))

    def without(numbers: Iterable[int]) -> Needed:
        return graph.needed(kept | every.difference(numbers), objects)

    if policy.max_size is None:
        return without(may_go)
    sizes = graph.inventory.sizes

    def size_without(numbers: Iterable[int]) -> int:
        return sum(sizes[row] for row in without(numbers).objects)

    return without(fitted(may_go, size_without, policy.max_size))


def _superseded(listed: Catalogue) -> list[int]:
    """What is left of interrupted runs that have been finished since."""
    results = listed.column("result")
    partial = [number for number, result in enumerate(results) if result == "partial"]
    if not partial:
        return []
    runs = list(zip(listed.column("drv"), listed.column("index"), strict=True))
    done = {run for run, result in zip(runs, results, strict=True) if result == "done"}
    return [number for number in partial if runs[number] in done]


def _folders(store: Store) -> list[str]:
    with os.scandir(store.trace) as found:
        return [one.name for one in found if one.is_dir()]
