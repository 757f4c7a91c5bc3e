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
from dataclasses import dataclass, replace
from typing import Literal

from bridge.formats.store_path import STORE_DIR, base_name

from .catalogue import Entry, entries
from .errors import StoreError
from .holds import collecting, held_paths
from .inventory import Inventory, take_inventory
from .layout import Store
from .locks import left_locks, try_lock
from .needs import Graph, Needed
from .optimise import finish_optimising
from .policy import Policy, droppable, fitted
from .roots import Root, roots
from .rubbish import RubbishKind, Situation, rubbish
from .sweep import Sweep, in_order, reclaimable, remove, take_out
from .trace import ids_of, record_names

__all__ = ["Collected", "Item", "collect", "load_graph", "rooted"]

Kind = Literal["realization", "object"] | RubbishKind


@dataclass(frozen=True, slots=True)
class Item:
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
    store = store.own
    policy = policy or Policy()
    finish_optimising(store)
    if dry_run:
        sweep, found = _find(store, policy, lambda: load_graph(store, on_progress=on_progress))
        places = [store.real_path(f"{STORE_DIR}/{name}") for name in sweep.objects]
        return replace(found, freed=reclaimable([*places, *sweep.trees, *sweep.files]))
    # Caches are made before anybody has to wait for us.
    load_graph(store, on_progress=on_progress)
    with collecting(store):
        sweep, found = _find(store, policy, lambda: load_graph(store, exact=True))
        size = reclaimable(sweep.files)
        trees = take_out(store, sweep)
    for name in left_locks(store):
        # Whoever gives a lock back removes its file.
        with contextlib.suppress(StoreError), try_lock(store, name):
            pass
    return replace(found, freed=size + remove(trees))


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
    found = entries(store, on_damaged=bad.append, on_progress=on_progress)
    if bad:
        raise StoreError(
            f"{len(bad)} records can not be read, and nobody knows what they need; the first: {bad[0].message}",
            hint="nixbridge verify --repair drops what is damaged; a record of a newer nixbridge needs that one",
        )
    if exact:
        found = _as_on_disk(store, found)
    return Graph(found, take_inventory(store, exact=exact, on_progress=on_progress))


def _as_on_disk(store: Store, found: list[Entry]) -> list[Entry]:
    """The realizations, held against the names in the trace: a cache must not decide what is deleted."""
    there = {
        (f"{STORE_DIR}/{folder}", identity)
        for folder in _folders(store)
        for identity in ids_of(record_names(f"{store.trace}/{folder}"))
    }
    listed = [one for one in found if (one.drv, one.id) in there]
    unlisted = there.difference((one.drv, one.id) for one in listed)
    if unlisted:
        raise StoreError(
            f"{len(unlisted)} records are not in the catalogue, such as {min(unlisted)[1]}",
            hint=f"delete {store.root}/cache, which is made again, or run nixbridge verify",
        )
    return listed


def rooted(graph: Graph, found: Iterable[Root]) -> tuple[set[int], set[str]]:
    """What roots keep: numbers of realizations, and base names of objects."""
    numbers = {(one.drv, one.id): number for number, one in enumerate(graph.entries)}
    kept = {numbers[named] for root in found for named in root.realizations if named in numbers}
    return kept, {base_name(path) for root in found for path in root.objects}


def _find(store: Store, policy: Policy, load: Callable[[], Graph]) -> tuple[Sweep, Collected]:
    """What goes. Bytes are listed before the objects: what is registered meanwhile is no rubbish."""
    held, dead = held_paths(store)
    lying = os.listdir(store.objects)
    graph = load()
    kept, objects = rooted(graph, roots(store))
    for name in held:
        kept.update(graph.by_output.get(name, ()))
    needed = _needed(graph, policy, kept, objects | held)
    inventory = graph.inventory
    gone = [one for number, one in enumerate(graph.entries) if number not in needed.realizations]
    rows = [row for row in range(len(inventory.sizes)) if row not in needed.objects]
    stays = {base_name(graph.entries[number].drv) for number in needed.realizations}
    sweep = Sweep(
        [store.trace / base_name(one.drv) / f"{one.id}.json" for one in gone],
        in_order(inventory, rows),
        files=[*dead, *(store.logs / one.log for one in gone if one.log is not None)],
        folders=[store.trace / name for name in _folders(store) if name not in stays],
    )
    items = [Item("realization", one.id, _size(inventory, one), one.stage) for one in gone]
    items += [Item("object", name, inventory.sizes[inventory.rows[name]]) for name in sweep.objects]
    for kind, place in rubbish(Situation(store, graph, needed, lying, held, policy.older_than)):
        (sweep.files if kind in ("log", "root", "cache") else sweep.trees).append(place)
        items.append(Item(kind, place.name))
    return sweep, Collected(tuple(items), 0, sum(inventory.sizes[row] for row in needed.objects))


def _needed(graph: Graph, policy: Policy, kept: set[int], objects: set[str]) -> Needed:
    listed = graph.entries
    superseded = {number for number in _superseded(listed) if number not in kept}
    may_go = droppable(policy, listed, time.time())
    every = frozenset(range(len(listed))) - superseded

    def without(numbers: Iterable[int]) -> Needed:
        return graph.needed(sorted(kept | every.difference(numbers)), objects)

    if policy.max_size is None:
        return without(may_go)
    sizes = graph.inventory.sizes

    def size_without(numbers: Iterable[int]) -> int:
        return sum(sizes[row] for row in without(numbers).objects)

    return without(fitted(may_go, size_without, policy.max_size))


def _superseded(listed: Iterable[Entry]) -> list[int]:
    """What is left of interrupted runs that have been finished since."""
    done = {(one.drv, one.index) for one in listed if one.result == "done"}
    return [number for number, one in enumerate(listed) if one.result == "partial" and (one.drv, one.index) in done]


def _size(inventory: Inventory, one: Entry) -> int:
    names = {base_name(path) for path in one.outputs.values()}
    return sum(inventory.sizes[inventory.rows[name]] for name in names if name in inventory)


def _folders(store: Store) -> list[str]:
    with os.scandir(store.trace) as found:
        return [one.name for one in found if one.is_dir()]
