"""All realizations of a store at once, for those who ask about many.

    cache/catalogue-2.sqlite     folders: the trace's folders as they were when they were listed
                                 records: the realizations in them
    cache/catalogue-2-….sqlite   the same of a lower store, which is not written

Truth are the files in the trace. Only folders that have changed are listed again, and only records that are new are
read: a record never changes. A cache that is missing, damaged, locked or can not be written is done without.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sqlite3
import sys
import time
import zlib
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from bridge.formats.store_path import STORE_DIR, base_name

from .cache import cache_file, with_cache, write
from .errors import RecordError
from .info import find_info
from .layout import Store
from .trace import Realization, ids_of, read_file, record_names

__all__ = ["Entry", "damaged", "entries", "near_ids", "no_cycle_search"]

_FILE = "catalogue-2"
"""Whoever changes what a column or a field means counts the number up."""

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS folders (folder TEXT PRIMARY KEY, inode INTEGER, changed INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS records (folder TEXT, id TEXT, stage TEXT, size INTEGER, sum INTEGER, fields BLOB,"
    " PRIMARY KEY (folder, id)) WITHOUT ROWID",
)

_JUST_NOW = 2 * 10**9
"""Nanoseconds in which a folder may change once more without its time telling."""

_UNKNOWN = 0
"""The time of a folder that is to be listed again."""

Folder = tuple[int, int]
"""A folder's inode, and when it changed in nanoseconds: copying may set the time of modification, not this one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A realization as the catalogue knows it; the fields are those of `Realization`.

    Parameters
    ----------
    drv, stage_drv
        The resolved derivation, and the stage's before resolution.
    size
        Bytes of the outputs' archives together; None where nobody asked, or the outputs are gone.
    """

    drv: str
    stage_drv: str
    id: str
    stage: str
    started: float
    stopped: float
    index: int
    runner: str
    result: str
    outputs: Mapping[str, str]
    metrics: Mapping[str, Any]
    previous: str | None = None
    log: str | None = None
    size: int | None = None


def entries(
    store: Store,
    *,
    stage: str | None = None,
    drv: str | None = None,
    sizes: bool = False,
    on_damaged: Callable[[RecordError], object] = lambda error: None,
    on_progress: Callable[[int, int], object] = lambda done, count: None,
) -> list[Entry]:
    """The realizations of a store, and of those below it, oldest first.

    Parameters
    ----------
    stage, drv
        Only those of a stage with this name; of this resolved derivation.
    sizes
        Whether to look up how large the outputs are.
    on_damaged
        Told of each record that can not be read, or that a newer nixbridge wrote; it is passed over.
    on_progress
        Told how many of the records that must be read have been.
    """

    def ask(layer: Store, cache: sqlite3.Connection) -> tuple[list[Entry], list[RecordError]]:
        found, bad = _synchronised(layer, cache, drv and base_name(drv), stage, on_progress)
        return _sized(store, cache, found) if sizes else found, bad

    with no_cycle_search():
        found, bad = with_cache(cache_file(store, _FILE), _SCHEMA, partial(ask, store.own))
        for layer in store.lower:
            known = {one.id for one in found}
            more, wrong = with_cache(cache_file(store, _FILE, layer), _SCHEMA, partial(ask, layer))
            found += [one for one in more if one.id not in known]
            bad += wrong
        found.sort(key=lambda one: (one.started, one.id))
    for error in bad:
        on_damaged(error)
    return found


def damaged(store: Store) -> list[RecordError]:
    """What is wrong with the records that can not be read."""
    found: list[RecordError] = []
    entries(store, on_damaged=found.append)
    return found


def near_ids(store: Store, beginning: str, count: int = 3) -> list[str]:
    """Ids that somebody may have meant who wrote the beginning of one that there is not."""
    written = beginning.lower()
    # Comparing with each of many takes seconds; whoever errs has two neighbours right.
    pairs = {written[at : at + 2]: at for at in range(len(written) - 1)}
    near: dict[str, str] = {}
    for layer in store.layers:
        with os.scandir(layer.trace) as folders:
            for folder in folders:
                for identity in ids_of(record_names(folder.path)) if folder.is_dir() else ():
                    if any(identity[at : at + 2] == pair for pair, at in pairs.items()):
                        near.setdefault(identity[: len(written)], identity)
    return [near[one] for one in get_close_matches(written, near, count, 0.7)]


# ------------------------------------------------------------------------------------------ trace


@dataclass(slots=True)
class _Scan:
    """The folders of the trace, and of those that have changed since they were listed what is in them."""

    there: set[str] = field(default_factory=set)
    changed: dict[str, Folder] = field(default_factory=dict)
    ids: dict[str, set[str]] = field(default_factory=dict)

    def holds(self, folder: str, identity: str) -> bool:
        return folder in self.there and (folder not in self.ids or identity in self.ids[folder])


def _synchronised(
    store: Store,
    cache: sqlite3.Connection,
    folder: str | None,
    stage: str | None,
    on_progress: Callable[[int, int], object],
) -> tuple[list[Entry], list[RecordError]]:
    """The records of one folder or of all, and what is wrong with others; the cache is made to hold them."""
    in_folder = {} if folder is None else {"folder": folder}
    listed = _select(cache, "folder, inode, changed FROM folders", in_folder)
    known = {name: (inode, changed) for name, inode, changed in listed}
    scan = _scan(store, known, folder)
    wanted, gone, left = scan.ids, set[tuple[str, str]](), known.keys() - scan.there
    cache.execute("BEGIN")
    if scan.ids or left:
        cached = _select(cache, "folder, id FROM records", in_folder)
        for name, identity in cached:
            if not scan.holds(name, identity):
                gone.add((name, identity))
            elif name in wanted:
                wanted[name].discard(identity)
    of_stage = {} if stage is None else {"stage": json.dumps(stage)}
    rows_of = _select(cache, "folder, id, size, sum, fields FROM records", in_folder | of_stage)
    found = [one for rows in iter(lambda: rows_of.fetchmany(_AT_ONCE), []) for one in _decoded(rows, gone)]
    cache.execute("COMMIT")
    new: list[tuple[Any, ...]] = []
    bad: dict[str, list[RecordError]] = {}
    for name, one in _read(store, wanted, bad, on_progress):
        new.append(_encoded(name, one))
        if stage is None or one.stage == stage:
            found.append(_entry(name, one))
    for name in bad:
        # Listed again until it is mended: so it is told of each time.
        scan.changed[name] = (scan.changed[name][0], _UNKNOWN)
    # Who listed a folder before another one did may be about to take away what that one has added to the rows.
    left |= ({name for name, _ in gone} | scan.ids.keys()) - scan.changed.keys()
    if new or gone or left or scan.changed:
        # In the order of the keys, which is that of the file.
        new.sort(key=lambda row: row[:2])
        write(
            cache,
            ("DELETE FROM records WHERE folder = ? AND id = ?", gone),
            ("DELETE FROM folders WHERE folder = ?", ((name,) for name in left)),
            ("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?)", new),
            (
                "INSERT OR REPLACE INTO folders VALUES (?, ?, ?)",
                ((name, *at) for name, at in sorted(scan.changed.items())),
            ),
        )
    return found, [error for errors in bad.values() for error in errors]


def _scan(store: Store, known: Mapping[str, Folder], only: str | None) -> _Scan:
    scan = _Scan()
    for name, at in _folders(store, only):
        scan.there.add(name)
        if known.get(name) != at:
            # What is listed again is known all the same, or nobody would see that it is gone.
            scan.changed[name] = at if time.time_ns() - at[1] > _JUST_NOW else (at[0], _UNKNOWN)
            # Others than ours, such as a copy's temporaries, are for `verify`.
            names = record_names(f"{store.root}/trace/{name}")
            scan.ids[name] = {one for one in ids_of(names) if one.isalnum() and one.isascii()}
    return scan


def _folders(store: Store, only: str | None) -> Iterator[tuple[str, Folder]]:
    """The trace's folders, as they are before they are listed, so that a later change is seen the next time."""
    trace = f"{store.root}/trace"
    if only is not None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = os.stat(f"{trace}/{only}/")
            yield only, (status.st_ino, status.st_ctime_ns)
        return
    with contextlib.suppress(FileNotFoundError), os.scandir(trace) as found:
        for one in found:
            name = one.name
            if name.endswith(".drv") and name.isascii() and one.is_dir():
                try:
                    status = one.stat()
                except FileNotFoundError:
                    continue
                yield name, (status.st_ino, status.st_ctime_ns)


def _read(
    store: Store,
    wanted: Mapping[str, Collection[str]],
    bad: dict[str, list[RecordError]],
    on_progress: Callable[[int, int], object],
) -> Iterator[tuple[str, Realization]]:
    """The records with these ids in these folders; what is wrong with the others goes to `bad`."""
    count = sum(map(len, wanted.values()))
    done = 0
    for name, ids in wanted.items():
        for identity in ids:
            if done % 1000 == 0:
                on_progress(done, count)
            done += 1
            try:
                one = read_file(f"{store.root}/trace/{name}", identity)
            except RecordError as error:
                bad.setdefault(name, []).append(error)
            else:
                if one is not None:
                    yield name, one
    if count:
        on_progress(count, count)


# ------------------------------------------------------------------------------------------- rows

_AT_ONCE = 1000
"""Rows that are turned into entries together: one long text is read faster than many, but takes more room."""


def _select(cache: sqlite3.Connection, what: str, equal: Mapping[str, str]) -> sqlite3.Cursor:
    where = " AND ".join(f"{name} = :{name}" for name in equal)
    return cache.execute(f"SELECT {what}" + (f" WHERE {where}" if where else ""), equal)


def _encoded(folder: str, one: Realization) -> tuple[Any, ...]:
    fields = (one.stage_drv, one.stage, one.started, one.stopped, one.index, one.runner, one.result)
    data = json.dumps([*fields, dict(one.outputs), dict(one.metrics), one.previous, one.log]).encode()
    # In ASCII: a name may be no text that SQLite takes.
    return folder, one.id, json.dumps(one.stage), None, zlib.crc32(data), data


def _decoded(rows: Sequence[tuple[str, str, int | None, int, bytes]], gone: Container[Any]) -> Iterator[Entry]:
    """The entries of rows.

    Raises
    ------
    ValueError
        If a row is damaged.
    """
    if any(zlib.crc32(data) != check for *_, check, data in rows):
        raise ValueError("a row of the catalogue is damaged")
    values = json.loads(b"[%s]" % b",".join([row[-1] for row in rows]))
    for (folder, identity, size, _, _), (
        stage_drv,
        stage,
        started,
        stopped,
        index,
        runner,
        result,
        outputs,
        metrics,
        previous,
        log,
    ) in zip(rows, values, strict=True):
        if (folder, identity) not in gone:
            yield Entry(
                _one(f"{STORE_DIR}/{folder}"),
                _one(stage_drv),
                identity,
                _one(stage),
                started,
                stopped,
                index,
                _one(runner),
                _one(result),
                outputs,
                metrics,
                previous,
                log,
                size,
            )


_one = sys.intern
"""One text for all that are equal: room takes longer than looking it up."""


def _entry(folder: str, one: Realization) -> Entry:
    return Entry(
        f"{STORE_DIR}/{folder}",
        one.stage_drv,
        one.id,
        one.stage,
        one.started,
        one.stopped,
        one.index,
        one.runner,
        one.result,
        one.outputs,
        one.metrics,
        one.previous,
        one.log,
    )


def _sized(store: Store, cache: sqlite3.Connection, found: Iterable[Entry]) -> list[Entry]:
    """The entries with their sizes; those that were not known are looked up, once."""
    listed, learnt = [], []
    for one in found:
        if one.size is None and (size := _size(store, one)) is not None:
            listed.append(replace(one, size=size))
            learnt.append((size, base_name(one.drv), one.id))
        else:
            listed.append(one)
    if learnt:
        write(cache, ("UPDATE records SET size = ? WHERE folder = ? AND id = ?", learnt))
    return listed


def _size(store: Store, one: Entry) -> int | None:
    size = 0
    for path in one.outputs.values():
        try:
            info = find_info(store, path)
        except RecordError:
            return None
        if info is None:
            return None
        size += info.nar_size
    return size


# ------------------------------------------------------------------------------------------ cache


@contextlib.contextmanager
def no_cycle_search() -> Iterator[None]:
    """Without looking for cycles among a million new values, none of which has one."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
