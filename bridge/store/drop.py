"""Dropping realizations and objects by name: `rm`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bridge.formats.store_path import STORE_DIR, base_name

from .catalogue import Entry
from .gc import load_graph, log_file, rooted
from .holds import collecting, held_paths
from .layout import Store
from .roots import Named, delete_root, roots
from .sweep import Sweep, in_order, remove, take_out

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
    """
    load_graph(store)
    with collecting(store):
        graph = load_graph(store, exact=True)
        named = [number for number, one in enumerate(graph.entries) if (one.drv, one.id) in realizations]
        found = roots(store)
        held, _ = held_paths(store)
        against: list[str] = []
        for number in named:
            one = graph.entries[number]
            for path in one.outputs.values():
                name = base_name(path)
                if set(graph.by_output[name]) <= set(named):
                    users = [user for user in graph.used_by(name) if user not in named]
                    against += [
                        f"{graph.entries[user].stage} {graph.entries[user].id} was made from {one.id}" for user in users
                    ]
                    against += [f"the {root} leads to {path}" for root in found if path in root.objects]
                if name in held:
                    against.append(f"a running process uses {path}")
            against += [f"the {root} keeps {one.id}" for root in found if (one.drv, one.id) in root.realizations]
        for path in objects:
            users = graph.used_by(base_name(path))
            against += [f"{graph.entries[user].stage} {graph.entries[user].id} needs {path}" for user in users]
            against += [f"the {root} leads to {path}" for root in found if path in root.objects]
        against = list(dict.fromkeys(against))
        if against and not force:
            return Dropped(tuple(against))
        for root in found:
            if root.kind == "tag" and not set(root.realizations).isdisjoint(realizations):
                delete_root(store, "tag", root.name)
        kept, pinned = rooted(graph, found)
        everything = set(range(len(graph.entries)))
        before = graph.needed(everything, pinned | held)
        after = graph.needed((everything | kept) - set(named), pinned | held, without=named)
        rows = before.objects - after.objects
        wanted = {graph.inventory.rows[base_name(path)] for path in objects if base_name(path) in graph.inventory}
        rows |= wanted - after.objects
        sweep = Sweep(objects=in_order(graph.inventory, rows))
        for number in named:
            one = graph.entries[number]
            folder = store.trace / base_name(one.drv)
            sweep.records.append(folder / f"{one.id}.json")
            sweep.files += log_file(store, one)
            sweep.folders.append(folder)
            if one.runner == "nix":
                names = set(map(base_name, one.outputs.values()))
                left = [name for name in names if set(graph.by_output[name]) <= set(named)]
                sweep.files += [store.roots / f"nix-{name}" for name in left]
        gone = {f"{STORE_DIR}/{name}" for name in sweep.objects}
        trees = take_out(store, sweep)
    outputs = [path for number in named for path in graph.entries[number].outputs.values()]
    stays = [path for path in (*outputs, *objects) if path not in gone and store.is_valid(path)]
    entries = tuple(graph.entries[number] for number in named)
    return Dropped(tuple(against), entries, tuple(dict.fromkeys(stays)), remove(trees))
