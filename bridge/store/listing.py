"""The trace of one store as columns, oldest first, with what is known of it in a cache.

    cache/catalogue.columns       of the trace's folders the names, inodes and times as they were when they were listed;
                                  of the records in them the fields
    cache/catalogue-….columns     the same of a lower store, which is not written

Truth are the files in the trace. Only folders that have changed are listed again, and only records that are new are
read: a record never changes. Few that are new are read each time; the cache is written again when they have become
many, whole, so that it always is what somebody saw at one time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from bridge.formats.store_path import STORE_DIR

from .columns import Columns, cache_name, load, save
from .errors import RecordError
from .harvest import FIELDS, Told, read_columns
from .layout import Store
from .trace import record_names

__all__ = ["Listing", "list_trace"]

_VERSION = 3
"""Whoever changes what a column means counts it up."""

_FOLDERS = ("folders", "inodes", "times")
_RECURRING = ("drv", "stage_drv", "stage", "runner", "result", "previous", "log")

_FEW = 64
"""So many new records are read, and so many folders listed, each time: that is less than writing all again."""

_PREFIX = len(f"{STORE_DIR}/")

_JUST_NOW = 2 * 10**9
"""Nanoseconds in which a folder may change once more without its time telling."""

_UNKNOWN = 0
"""The time of a folder that is to be listed again."""

Folder = tuple[int, int]
"""A folder's inode, and when it changed in nanoseconds: copying may set the time of modification, not this one."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The records of a trace.

    Parameters
    ----------
    count
        How many.
    column
        Gives one of `FIELDS` of all of them.
    bad
        What is wrong with those that can not be read.
    """

    count: int
    column: Callable[[str], list[Any]]
    bad: list[RecordError] = field(default_factory=list)


def list_trace(store: Store, layer: Store, on_progress: Told) -> Listing:
    """The records of `layer`, which is the store itself or one below it; the cache is the store's."""
    file = cache_name("catalogue", store, layer)
    known = load(f"{store.root}/cache/{file}", _VERSION, (*_FOLDERS, *FIELDS))
    now = time.time_ns()
    seen = _scanned(layer)
    told: list[list[Any]] = [[], [], []] if known is None else [known.column(name) for name in _FOLDERS]
    if known is not None and seen == told:
        return Listing(known.rows("id"), known.column)
    before, there = _by_name(*told), _by_name(*seen)
    # As they are before they are listed, so that a later change is seen the next time.
    ids = {
        name: _ids(f"{layer.root}/trace/{name}")
        for name, at in there.items()
        if before.get(name) != at
    }  # fmt: skip
    rows = [] if known is None else _kept(known, there, ids)
    bad: dict[str, list[RecordError]] = {}
    read = read_columns(layer, ids, bad, on_progress)
    found = _merged(known, rows, read, [error for errors in bad.values() for error in errors])
    # What was young, or is damaged, is listed again: so it is told of each time.
    again = {name for name in ids if name in bad or now - there[name][1] <= _JUST_NOW}
    there.update((name, (there[name][0], _UNKNOWN)) for name in again)
    changed = len(read["id"]) + (0 if known is None else known.rows("id") - len(rows))
    if max(changed, sum(before.get(name) != there[name] for name in ids)) > _FEW:
        columns: list[list[Any]] = [list(there), [at[0] for at in there.values()], [at[1] for at in there.values()]]
        columns += map(found.column, FIELDS)
        save(store, file, _VERSION, dict(zip((*_FOLDERS, *FIELDS), columns, strict=True)), _RECURRING)
    return found


def _by_name(names: list[str], inodes: list[int], times: list[int]) -> dict[str, Folder]:
    return dict(zip(names, zip(inodes, times, strict=True), strict=True))


def _scanned(store: Store) -> list[list[Any]]:
    """Names, inodes and times of the trace's folders."""
    names: list[str] = []
    inodes: list[int] = []
    times: list[int] = []
    trace = os.open(store.trace, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        # By its descriptor each name is found at once, and not along the whole path.
        with os.scandir(trace) as found:
            for one in found:
                name = one.name
                if name[-4:] == ".drv" and name.isascii() and one.is_dir():
                    try:
                        status = one.stat()
                    except FileNotFoundError:
                        continue
                    names.append(name)
                    inodes.append(status.st_ino)
                    times.append(status.st_ctime_ns)
    finally:
        os.close(trace)
    return [names, inodes, times]


def _ids(folder: str) -> set[str]:
    # Others than ours, such as a copy's temporaries, are for `verify`.
    names = record_names(folder)
    return {one for name in names if name.endswith(".json") and (one := name[:-5]).isalnum() and one.isascii()}


def _kept(known: Columns, there: Mapping[str, Folder], ids: Mapping[str, set[str]]) -> list[int]:
    """The rows of records that are still there; they are taken from the ids, which are the new ones then."""
    rows = []
    for row, (drv, identity) in enumerate(zip(known.column("drv"), known.column("id"), strict=True)):
        name = drv[_PREFIX:]
        listed = ids.get(name)
        if listed is None:
            if name in there:
                rows.append(row)
        elif identity in listed:
            listed.discard(identity)
            rows.append(row)
    return rows


def _merged(known: Columns | None, rows: list[int], read: Mapping[str, list[Any]], bad: list[RecordError]) -> Listing:
    """What was known and is there, and what was read, as one."""

    def joined(name: str) -> list[Any]:
        if known is None:
            return read[name]
        column = known.column(name)
        return (column if len(rows) == len(column) else list(map(column.__getitem__, rows))) + read[name]

    if not read["id"]:
        return Listing(len(rows), joined, bad)
    order = _order(joined("started"), joined("id"))

    @cache
    def ordered(name: str) -> list[Any]:
        return list(map(joined(name).__getitem__, order))

    return Listing(len(order), ordered, bad)


def _order(started: list[float], ids: Iterable[str]) -> list[int]:
    return [row for *_, row in sorted(zip(started, ids, range(len(started)), strict=True))]
