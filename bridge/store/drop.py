"""Dropping realizations and objects by name: `rm`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from bridge.formats.store_path import STORE_DIR, base_name

from .catalogue import Entry
from .errors import StoreError
from .gc import load_graph, rooted
from .holds import collecting, held_paths
from .layout import Store
from .needs import Graph
from .roots import Named, Root, delete_root, roots
from .sweep import Sweep, in_order, remove, take_out
from .trace import find_record

__all__ = ["Dropped", "drop"]


@dataclass(frozen=True, slots=True)
class Dropped:
    """What came of it.

    Parameters
    ----------
    dependents
        What stands against it, in words; where there is something and it was not forced, nothing was done.
    realizations
        Those that are dropped.
    kept
        Store paths of their outputs whose bytes stay, since others need them.
    freed
        Bytes of the disk.
    """

    dependents: tuple[str, ...]
    realizations: tuple[Entry, ...] = ()
    kept: tuple[str, ...] = ()
    freed: int = 0


def drop(store: Store, realizations: Collection[Named], objects: Sequence[str], *, force: bool = False) -> Dropped:
    """Drop realizations with their logs, and what only they need; and objects that are no realization's.

    Parameters
    ----------
    objects
        Store paths.
    force
        Whether they go even if others were made from them, or a root names them. Bytes that others need stay.

    Raises
    ------
    StoreError
        If one is of a store below, or a record, an info file or a root can not be read.
    DiskError
        If the disk refuses.
    """
    for drv, identity in realizations:
        if store.lower and find_record(store.own, drv, identity) is None:
            raise StoreError(f"the realization {identity} is of a store below {store.root}, which is only read")
    store = store.own
    # Caches are made before anybody has to wait for us.
    load_graph(store)
    with collecting(store):
        graph = load_graph(store, exact=True)
        names = zip(graph.entries.column("drv"), graph.entries.column("id"), strict=True)
        named = [number for number, name in enumerate(names) if name in realizations]
        found = roots(store)
        held, _ = held_paths(store)
        against = tuple(dict.fromkeys(_against(graph, named, objects, found, held)))
        if against and not force:
            return Dropped(against)
        for root in found:
            if root.kind == "tag" and not set(root.realizations).isdisjoint(realizations):
                delete_root(store, "tag", root.name)
        sweep = _sweep(store, graph, named, objects, found, held)
        trees = take_out(store, sweep)
    outputs = [path for number in named for path in graph.entries[number].outputs.values()]
    gone = {f"{STORE_DIR}/{name}" for name in sweep.objects}
    stays = [path for path in (*outputs, *objects) if path not in gone and store.is_valid(path)]
    entries = tuple(graph.entries[number] for number in named)
    return Dropped(against, entries, tuple(dict.fromkeys(stays)), remove(trees))


def _against(
    graph: Graph, named: Sequence[int], objects: Sequence[str], found: Sequence[Root], held: set[str]
) -> Iterator[str]:
    """What stands against it that these go."""
    goes = set(named)
    went_on = {number: graph.previous_of(number) for number in range(len(graph.entries)) if number not in goes}
    for number in named:
        one = graph.entries[number]
        for path in one.outputs.values():
            name = base_name(path)
            if goes.issuperset(graph.by_output[name]):
                users = [graph.entries[user] for user in graph.used_by(name) if user not in goes]
                yield from (f"{user.stage} {user.id} was made from {one.id}" for user in users)
                yield from (f"the {root} leads to {path}" for root in found if path in root.objects)
            if name in held:
                yield f"a running process uses {path}"
        later = [graph.entries[user] for user, before in went_on.items() if before == number]
        yield from (f"{user.stage} {user.id} went on from {one.id}" for user in later)
        yield from (f"the {root} keeps {one.id}" for root in found if (one.drv, one.id) in root.realizations)
    for path in objects:
        users = [graph.entries[user] for user in graph.used_by(base_name(path))]
        yield from (f"{user.stage} {user.id} needs {path}" for user in users)
        yield from (f"the {root} leads to {path}" for root in found if path in root.objects)


def _sweep(
    store: Store, graph: Graph, named: Sequence[int], objects: Sequence[str], found: Sequence[Root], held: set[str]
) -> Sweep:
    goes = set(named)
    kept, pinned = rooted(graph, found)
    everything = set(range(len(graph.entries)))
    before = graph.needed(everything, pinned | held)
    after = graph.needed((everything | kept) - goes, pinned | held, without=goes)
    rows = graph.inventory.rows
    wanted = {rows[base_name(path)] for path in objects if base_name(path) in graph.inventory}
    sweep = Sweep(objects=in_order(graph.inventory, (before.objects | wanted) - after.objects))
    for number in named:
        one = graph.entries[number]
        folder = f"{store.trace}/{base_name(one.drv)}"
        sweep.records.append(f"{folder}/{one.id}.json")
        sweep.folders.append(folder)
        if one.log is not None:
            sweep.files.append(f"{store.logs}/{one.log}")
        if one.runner == "nix":
            names = map(base_name, one.outputs.values())
            sweep.files += [f"{store.roots}/nix-{name}" for name in names if goes.issuperset(graph.by_output[name])]
    return sweep
