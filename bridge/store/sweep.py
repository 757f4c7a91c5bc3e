"""Taking things out of a store, so that whoever is killed in between leaves a clean one.

    first     records: what they name need not be there any more
    second    objects become invalid, what refers before what is referred to, and their bytes are moved to tmp/
    then      with the lock given back, whatever lies in tmp/ is removed

Each step is made durable before the next. What is left in tmp/ is that of a dead process.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bridge.formats.store_path import STORE_DIR

from .durable import disk_errors, sync_tree, temporary
from .inventory import Inventory
from .layout import Store
from .objects import remove_tree

__all__ = ["Sweep", "in_order", "reclaimable", "remove", "set_aside", "take_out"]


@dataclass(slots=True)
class Sweep:
    """What goes.

    Parameters
    ----------
    records
        Files in the trace.
    objects
        Base names of valid objects, those that refer before those that are referred to.
    trees
        Files and folders of which nothing else knows.
    files
        Small files and links: logs, roots, caches.
    folders
        Of the trace, which go if they are empty.
    """

    records: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    trees: list[Path] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)


def in_order(inventory: Inventory, rows: Iterable[int]) -> list[str]:
    """Base names of objects, those that refer before those that are referred to."""
    left = set(rows)
    users = dict.fromkeys(left, 0)
    for row in left:
        for other in inventory.references[row]:
            if other in users and other != row:
                users[other] += 1
    ready = [row for row, count in users.items() if not count]
    order = []
    while ready:
        row = ready.pop()
        order.append(row)
        left.discard(row)
        for other in inventory.references[row]:
            if other in users and other != row:
                users[other] -= 1
                if not users[other]:
                    ready.append(other)
    # Outputs of one derivation may refer to each other.
    return [inventory.names[row] for row in (*order, *left)]


def take_out(store: Store, sweep: Sweep) -> list[Path]:
    """Make all of it invalid, while `collecting`; gives what is to be removed then.

    Raises
    ------
    DiskError
        If the disk refuses; the store is clean then, and the rest is still there.
    """
    with disk_errors(f"{store.root} can not be swept"):
        folders = [folder for folder in {os.path.dirname(file) for file in sweep.records} if os.path.isdir(folder)]
        for file in sweep.records:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
        sync_tree(store.trace, folders, len(folders))
        for name in sweep.objects:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{store.root}/info/{name}.json")
        sync_tree(store.info, [store.info], 1)
        left = []
        for place in (*(store.real_path(f"{STORE_DIR}/{name}") for name in sweep.objects), *sweep.trees):
            moved = set_aside(store, place)
            if moved is not None:
                left.append(moved)
        for file in sweep.files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
        for folder in sweep.folders:
            # Somebody's temporary may be in it.
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    return left


def set_aside(store: Store, place: Path) -> Path | None:
    """Where something was moved to in tmp/; None if it is not there."""
    if place.parent == store.tmp:
        return place
    target = temporary(store)
    try:
        if stat.S_ISDIR(place.lstat().st_mode):
            # Moving a folder changes its `..`, which takes the right to write it.
            os.chmod(place, 0o755)
        os.rename(place, target)
    except FileNotFoundError:
        return None
    return target


def remove(trees: Iterable[Path]) -> int:
    """Remove what was taken out; gives the bytes that the disk has got back."""
    trees = list(trees)
    freed = reclaimable(trees)
    for tree in trees:
        remove_tree(tree)
    return freed


def reclaimable(places: Iterable[Path | str]) -> int:
    """Bytes of the disk that are free once these are gone: a file counts once, and only if all its names go."""
    total = 0
    linked: dict[tuple[int, int], list[int]] = {}
    pending: list[Path | str] = list(places)
    while pending:
        path = pending.pop()
        try:
            status = os.lstat(path)
            is_folder = stat.S_ISDIR(status.st_mode)
            if is_folder:
                pending += [os.path.join(path, name) for name in os.listdir(path)]
        except OSError:
            continue
        used = status.st_blocks * 512
        if is_folder or status.st_nlink == 1:
            total += used
        else:
            names = linked.setdefault((status.st_dev, status.st_ino), [status.st_nlink, used])
            names[0] -= 1
    return total + sum(used for left, used in linked.values() if not left)
