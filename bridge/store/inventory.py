"""All valid objects of a store with their sizes and references, for those who ask about many.

    cache/objects.columns       what info/ was like when it was listed; of its files names, inodes and times, and what
                                they say: sizes, references as rows
    cache/objects-….columns     the same of a lower store, which is not written

An info file is replaced, never changed, so one of the same name and inode is read once; and where the folder itself
has not changed, it is not listed again. The cache is no truth: what is damaged or missing is made again, and who is
about to delete something has all files listed and their times compared as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter

from bridge.formats.store_path import STORE_DIR

from .bulk import are_store_paths, batches, parsed_together, read_all
from .columns import cache_name, load, save
from .errors import RecordError
from .info import parse_info, unreadable
from .layout import Store

__all__ = ["CACHE", "Inventory", "take_inventory"]

CACHE = "objects"

_VERSION = 4
"""Whoever changes what a column means counts it up."""

_PREFIX = len(f"{STORE_DIR}/")

_JUST_NOW = 2 * 10**9
"""Nanoseconds in which the folder may change once more without its time telling."""

_COLUMNS = ("folder", "names", "inodes", "times", "sizes", "references")
_Fields = tuple[str, int, list[str]]
"""What an info file says: path, size, references."""

_fields = itemgetter("path", "narSize", "references")


@dataclass(slots=True)
class Inventory:
    """Objects by row.

    Parameters
    ----------
    names
        Base names: of the objects, and behind them of what they refer to that is not in the store.
    rows
        Base name to row.
    sizes
        Of the objects' archives in bytes.
    references
        Rows that each object refers to.
    """

    names: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    references: list[list[int]] = field(default_factory=list)

    def __contains__(self, name: object) -> bool:
        return self.rows.get(name, len(self.sizes)) < len(self.sizes)  # type: ignore[call-overload,no-any-return]

    def by_name(self) -> dict[str, int]:
        """The size of each object by its base name."""
        return dict(zip(self.names, self.sizes, strict=False))

    def closure(self, names: Iterable[str]) -> set[int]:
        """The rows of these objects and of all that they refer to."""
        references, count = self.references, len(self.sizes)
        row_of = self.rows.get
        new = {row for name in names if (row := row_of(name, count)) < count}
        seen: set[int] = set()
        while new:
            seen |= new
            new = set(chain.from_iterable(map(references.__getitem__, new))) - seen
            if len(self.names) > count:
                new = {row for row in new if row < count}
        return seen


@dataclass(frozen=True, slots=True)
class _Known:
    """An inventory with what says whether it still holds: of info/ and of each info file.

    Parameters
    ----------
    folder
        The folder's inode, and when it changed in nanoseconds; empty if it was changing.
    times
        When each info file was changed, in nanoseconds: not of modification, which copying may set.
    """

    inventory: Inventory = field(default_factory=Inventory)
    inodes: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    folder: list[int] = field(default_factory=list)


Listed = tuple[str, int, int, int, list[str]]
"""Of an object the base name, the info file's inode and time, the size, and base names of what it refers to."""


def take_inventory(
    store: Store,
    *,
    layer: Store | None = None,
    exact: bool = False,
    on_progress: Callable[[int, int], object] = lambda done, count: None,
) -> Inventory:
    """What is in a store now.

    Parameters
    ----------
    layer
        The store below it whose inventory it is; the cache is the store's.
    exact
        Whether the cache is believed only where an info file's time is the known one too.

    Raises
    ------
    RecordError
        If an info file is damaged.
    """
    layer = layer or store
    file = cache_name(CACHE, store, layer)
    known = _load(store, file)
    info = os.open(layer.info, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        # As it is before it is listed, so that a later change is seen the next time.
        status = os.fstat(info)
        settled = time.time_ns() - status.st_ctime_ns > _JUST_NOW
        folder = [status.st_ino, status.st_ctime_ns] if settled else []
        if folder and folder == known.folder and not exact:
            return known.inventory
        stays, new = _compared(info, known, exact)
        if new or len(stays) < len(known.inodes):
            listed = [*_listed(known, stays), *_read(layer, info, new, on_progress)]
            known = _numbered(listed, folder)
        elif folder == known.folder or not folder:
            return known.inventory
    finally:
        os.close(info)
    known = _Known(known.inventory, known.inodes, known.times, folder)
    of = known.inventory
    columns = (known.folder, of.names, known.inodes, known.times, of.sizes, of.references)
    save(store, file, _VERSION, dict(zip(_COLUMNS, columns, strict=True)))
    return of


def _compared(info: int, known: _Known, exact: bool) -> tuple[list[int], list[str]]:
    """Rows of what is there as it is known, and names of what is not."""
    rows, inodes, times = known.inventory.rows, known.inodes, known.times
    count = len(inodes)
    stays, new = [], []
    with os.scandir(info) as found:
        for one in found:
            if one.name.endswith(".json"):
                name = one.name[:-5]
                row = rows.get(name, count)
                if row < count and inodes[row] == one.inode() and not (exact and times[row] != _time(one)):
                    stays.append(row)
                else:
                    new.append(name)
    return stays, new


def _time(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_ctime_ns
    except FileNotFoundError:
        return -1


def _listed(known: _Known, stays: list[int]) -> Iterable[Listed]:
    names, sizes, references = known.inventory.names, known.inventory.sizes, known.inventory.references
    return (
        (names[row], known.inodes[row], known.times[row], sizes[row], [names[other] for other in references[row]])
        for row in stays
    )


def _read(store: Store, info: int, new: Sequence[str], on_progress: Callable[[int, int], object]) -> Iterable[Listed]:
    for some in batches(new, len(new), on_progress):
        there, texts = [], []
        for name in some:
            try:
                descriptor = os.open(f"{name}.json", os.O_RDONLY | os.O_CLOEXEC, dir_fd=info)
                try:
                    status = os.fstat(descriptor)
                    texts.append(read_all(descriptor))
                finally:
                    os.close(descriptor)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unreadable(f"{store.root}/info/{name}.json", error) from error
            there.append((name, status.st_ino, status.st_ctime_ns))
        for (name, inode, changed), (path, size, references) in zip(there, _said(store, there, texts), strict=True):
            if path[_PREFIX:] != name:
                raise RecordError(f"{store.root}/info/{name}.json is the info of {path}", hint="run nixbridge verify")
            yield name, inode, changed, size, [one[_PREFIX:] for one in references]


def _said(store: Store, there: Sequence[tuple[str, int, int]], texts: Sequence[bytes]) -> Iterable[_Fields]:
    """Path, size and references of each; whatever looks odd is left to the one who says what is wrong."""
    try:
        found: list[_Fields] = list(map(_fields, parsed_together(texts)))
        kinds = {(type(size), type(references)) for _, size, references in found}
        if kinds <= {(int, list)} and are_store_paths(chain((one[0] for one in found), *(one[2] for one in found))):
            return found
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    infos = (parse_info(text, f"{store.root}/info/{name}.json") for (name, *_), text in zip(there, texts, strict=True))
    return ((info.path, info.nar_size, list(info.references)) for info in infos)


def _numbered(listed: list[Listed], folder: list[int]) -> _Known:
    names = [one[0] for one in listed]
    inventory = Inventory(names, {name: row for row, name in enumerate(names)}, [one[3] for one in listed])
    rows = inventory.rows
    for *_, references in listed:
        for name in references:
            if name not in rows:
                rows[name] = len(names)
                names.append(name)
        inventory.references.append([rows[name] for name in references])
    return _Known(inventory, [one[1] for one in listed], [one[2] for one in listed], folder)


def _load(store: Store, file: str) -> _Known:
    """What the cache knows; nothing if there is none."""
    found = load(f"{store.root}/cache/{file}", _VERSION, _COLUMNS)
    if found is None:
        return _Known()
    folder, names, inodes, times, sizes, references = map(found.column, _COLUMNS)
    return _Known(Inventory(names, dict(zip(names, range(len(names)), strict=True)), sizes, references),
                  inodes, times, folder)  # fmt: skip
