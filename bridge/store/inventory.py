"""All valid objects of a store with their sizes and references, for those who ask about many.

    cache/objects.json     a header with a checksum; then names, inodes of the info files, sizes, references

An info file is replaced, never changed, so one of the same name and inode is read once. The cache is no truth: what
is damaged or missing is made again, and who is about to delete something compares the times as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bridge.formats.store_path import base_name

from .durable import write_file
from .errors import DiskError, RecordError
from .info import parse_info
from .layout import Store

__all__ = ["Inventory", "take_inventory"]

_VERSION = 1
_FEW = 64
"""So many changes are not worth writing the cache again."""


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

    def closure(self, names: list[str]) -> set[int]:
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
    with os.scandir(store.info) as found:
        files = [(one.name[:-5], one.inode(), one) for one in found if one.name.endswith(".json")]
    known = _load(store)
    listed: list[tuple[str, int, int, list[str]]] = []
    new: list[str] = []
    for name, inode, entry in files:
        row = known.get(name)
        if row is None or row[0] != inode or (exact and row[3] != _changed(entry)):
            new.append(name)
        else:
            listed.append((name, inode, row[1], row[2]))
    stamps = {}
    for done, name in enumerate(new):
        if done % 1000 == 0:
            on_progress(done, len(new))
        read = _read(store, name)
        if read is not None:
            inode, changed, size, references = read
            listed.append((name, inode, size, references))
            stamps[name] = changed
    if len(new) > _FEW or len(known) - (len(files) - len(new)) > _FEW:
        _save(store, listed, {name: row[3] for name, row in known.items()} | stamps)
    inventory = Inventory([one[0] for one in listed], sizes=[one[2] for one in listed])
    rows = inventory.rows = {name: row for row, name in enumerate(inventory.names)}
    for *_, references in listed:
        numbers = []
        for name in references:
            row_of = rows.get(name)
            if row_of is None:
                row_of = rows[name] = len(inventory.names)
                inventory.names.append(name)
            numbers.append(row_of)
        inventory.references.append(numbers)
    return inventory


def _changed(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except FileNotFoundError:
        return -1


def _read(store: Store, name: str) -> tuple[int, int, int, list[str]] | None:
    file = f"{store.root}/info/{name}.json"
    try:
        with open(file, "rb") as opened:
            status = os.fstat(opened.fileno())
            info = parse_info(opened.read(), file)
    except FileNotFoundError:
        return None
    if base_name(info.path) != name:
        raise RecordError(f"{file} is the info of {info.path}", hint="run nixbridge verify")
    return status.st_ino, status.st_mtime_ns, info.nar_size, [base_name(one) for one in info.references]


def _load(store: Store) -> dict[str, tuple[int, int, list[str], int]]:
    """Base name to the info file's inode, the size, the references and the file's time; empty if there is no cache."""
    try:
        with open(f"{store.root}/cache/objects.json", "rb") as file:
            head, _, body = file.read().partition(b"\n")
        if head != _head(body):
            return {}
        names, inodes, sizes, references, changed = json.loads(body)
        return {
            name: (inode, size, text.split(), at)
            for name, inode, size, text, at in zip(names.split(), inodes, sizes, references, changed, strict=True)
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _save(store: Store, listed: list[tuple[str, int, int, list[str]]], changed: dict[str, int]) -> None:
    columns: list[Any] = [
        " ".join(one[0] for one in listed),
        [one[1] for one in listed],
        [one[2] for one in listed],
        [" ".join(one[3]) for one in listed],
        [changed[one[0]] for one in listed],
    ]
    body = json.dumps(columns).encode()
    # Whoever may only read the store, or has a full disk, does without.
    with contextlib.suppress(DiskError, OSError):
        (store.root / "cache").mkdir(exist_ok=True)
        write_file(store, store.root / "cache" / "objects.json", _head(body) + b"\n" + body)


def _head(body: bytes) -> bytes:
    return b"objects %d %d" % (_VERSION, zlib.crc32(body))
