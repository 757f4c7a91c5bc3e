"""All valid objects of a store with their sizes and references, for those who ask about many.

    cache/objects.json     a header with a checksum; then what info/ was like when it was listed, and in columns: names,
                           inodes and times of the info files, sizes, references as rows

An info file is replaced, never changed, so one of the same name and inode is read once; and where the folder itself
has not changed, it is not listed again. The cache is no truth: what is damaged or missing is made again, and who is
about to delete something has all files listed and their times compared as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bridge.formats.store_path import STORE_PATH, base_name

from .durable import write_file
from .errors import DiskError, RecordError
from .info import parse_info
from .layout import Store

__all__ = ["Inventory", "take_inventory"]

_VERSION = 2
_JUST_NOW = 2 * 10**9
"""Nanoseconds in which the folder may change once more without its time telling."""
_PATHS = re.compile(rf"(?:{STORE_PATH.pattern}\n)*")


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

    def closure(self, names: Iterable[str]) -> set[int]:
        """The rows of these objects and of all that they refer to."""
        count = len(self.sizes)
        pending = [row for name in names if (row := self.rows.get(name, count)) < count]
        seen = set(pending)
        while pending:
            for row in self.references[pending.pop()]:
                if row < count and row not in seen:
                    seen.add(row)
                    pending.append(row)
        return seen


@dataclass(frozen=True, slots=True)
class _Known:
    """An inventory with what says whether it still holds: of info/ and of each info file.

    Parameters
    ----------
    folder
        The folder's inode, and when it changed in nanoseconds; None if it was changing.
    changed
        When each info file was changed, in nanoseconds.
    """

    inventory: Inventory = field(default_factory=Inventory)
    inodes: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    folder: list[int] | None = None


Listed = tuple[str, int, int, int, list[str]]
"""Of an object the base name, the info file's inode and time, the size, and base names of what it refers to."""


def take_inventory(
    store: Store, *, exact: bool = False, on_progress: Callable[[int, int], object] = lambda done, count: None
) -> Inventory:
    """What is in a store now.

    Parameters
    ----------
    exact
        Whether the cache is believed only where an info file's time is the known one too.

    Raises
    ------
    RecordError
        If an info file is damaged.
    """
    known = _load(store)
    # As it is before it is listed, so that a later change is seen the next time.
    status = os.stat(store.info)
    settled = time.time_ns() - status.st_ctime_ns > _JUST_NOW
    folder = [status.st_ino, status.st_ctime_ns] if settled else None
    if folder is not None and folder == known.folder and not exact:
        return known.inventory
    stays, new = _compared(store, known, exact)
    if new or len(stays) < len(known.inodes):
        known = _columns(_listed(store, known, stays, new, on_progress), folder)
        _save(store, known)
    elif folder is not None and folder != known.folder:
        known = _Known(known.inventory, known.inodes, known.changed, folder)
        _save(store, known)
    return known.inventory


def _compared(store: Store, known: _Known, exact: bool) -> tuple[list[int], list[str]]:
    """Rows of what is there as it is known, and names of what is not."""
    rows, inodes, changed = known.inventory.rows, known.inodes, known.changed
    count = len(inodes)
    stays, new = [], []
    with os.scandir(store.info) as found:
        for one in found:
            if one.name.endswith(".json"):
                name = one.name[:-5]
                row = rows.get(name, count)
                if row < count and inodes[row] == one.inode() and not (exact and changed[row] != _changed(one)):
                    stays.append(row)
                else:
                    new.append(name)
    return stays, new


def _changed(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except FileNotFoundError:
        return -1


def _listed(
    store: Store, known: _Known, stays: list[int], new: list[str], on_progress: Callable[[int, int], object]
) -> list[Listed]:
    names, sizes, references = known.inventory.names, known.inventory.sizes, known.inventory.references
    listed = [
        (names[row], known.inodes[row], known.changed[row], sizes[row], [names[other] for other in references[row]])
        for row in stays
    ]
    for done, name in enumerate(new):
        if done % 1000 == 0:
            on_progress(done, len(new))
        read = _read(store, name)
        if read is not None:
            listed.append(read)
    return listed


def _read(store: Store, name: str) -> Listed | None:
    file = f"{store.root}/info/{name}.json"
    try:
        # Opening a hundred thousand files by `open` takes twice as long.
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        data = os.read(descriptor, status.st_size + 1)
    finally:
        os.close(descriptor)
    path, size, references = _fields(data, file)
    if base_name(path) != name:
        raise RecordError(f"{file} is the info of {path}", hint="run nixbridge verify")
    return name, status.st_ino, status.st_mtime_ns, size, [base_name(one) for one in references]


def _fields(data: bytes, file: str) -> tuple[str, int, list[str]]:
    """Path, size and references; whatever looks odd is left to the one who says what is wrong."""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        value = json.loads(data)
        path, size, references = value["path"], value["narSize"], value["references"]
        if type(size) is int and type(references) is list and _PATHS.fullmatch("\n".join([path, *references, ""])):
            return path, size, references
    info = parse_info(data, file)
    return info.path, info.nar_size, list(info.references)


def _columns(listed: list[Listed], folder: list[int] | None) -> _Known:
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


def _load(store: Store) -> _Known:
    """What the cache knows; nothing if there is none."""
    try:
        with open(f"{store.root}/cache/objects.json", "rb") as file:
            head, _, body = file.read().partition(b"\n")
        if head == _head(body):
            folder, text, inodes, changed, sizes, references = json.loads(body)
            names = text.split()
            inventory = Inventory(names, dict(zip(names, range(len(names)), strict=True)), sizes, references)
            return _Known(inventory, inodes, changed, folder)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        pass
    return _Known()


def _save(store: Store, known: _Known) -> None:
    of = known.inventory
    columns = [known.folder, " ".join(of.names), known.inodes, known.changed, of.sizes, of.references]
    body = json.dumps(columns, separators=(",", ":")).encode()
    # Whoever may only read the store, or has a full disk, does without.
    with contextlib.suppress(DiskError, OSError):
        (store.root / "cache").mkdir(exist_ok=True)
        write_file(store, store.root / "cache" / "objects.json", _head(body) + b"\n" + body)


def _head(body: bytes) -> bytes:
    return b"objects %d %d" % (_VERSION, zlib.crc32(body))
