"""The records of one resolved derivation as columns, so that a matcher reads only what it asks for.

    cache/<base name of the resolved .drv>.records     a header, then a line of JSON for each column

Few records are read one by one. Of many there is an index: the columns of those that it lists, oldest first.
Records never change, so the index is right for each id that it lists and that is still in the folder; other
records are read from their files. It is no truth: what is damaged, missing or of another version is made again.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.formats.store_path import base_name

from .durable import write_file
from .errors import DiskError, RecordError
from .layout import Store
from .trace import Realization, ids_of, is_genuine, read_file, read_realization, record_names

__all__ = ["Records", "read_records", "wrong_index"]

COLUMNS = ("id", "started", "stopped", "index", "runner", "outputs", "metrics", "host", "result")
"""The fields of a realization that the index holds; whoever changes what one means counts `_VERSION` up."""

_METRIC = "metrics."
"""Before the name of a metric that most have: it has a column of its own as well."""

_VERSION = 1
_FEW = 64
"""Up to so many records are read rather than looked up, and the index is not written again for them."""


class Records(Sequence[Realization]):
    """Realizations, oldest first; `column` gives a field of all of them, without reading the others."""

    def __init__(
        self, folder: str, index: _Index | None, read: Iterable[Realization], there: Container[str] | None = None
    ) -> None:
        self._folder = folder
        self._index = index
        self._unlisted = list(read)
        self._read = {one.id: one for one in self._unlisted}
        self._columns: dict[str, list[Any]] = {}
        self._order: list[int] | None = None
        ids = [*(index.ids if index is not None else []), *(one.id for one in self._unlisted)]
        if self._unlisted or there is not None:
            # The index itself is in order.
            started = self._joined("started")
            rows = [row for row, identity in enumerate(ids) if there is None or identity in there]
            self._order = sorted(rows, key=lambda row: (started[row], ids[row]))
            ids = [ids[row] for row in self._order]
        self._columns["id"] = ids

    @classmethod
    def of(cls, realizations: Iterable[Realization]) -> Records:
        """These, as they are in memory."""
        return cls("", None, realizations)

    def __len__(self) -> int:
        return len(self._columns["id"])

    def __getitem__(self, row: Any) -> Any:
        """The whole realization, from its file.

        Raises
        ------
        RecordError
            If the file is damaged or gone.
        """
        if isinstance(row, slice):
            return [self[number] for number in range(len(self))[row]]
        identity = self._columns["id"][row]
        if identity not in self._read:
            found = read_file(self._folder, identity)
            if found is None:
                raise RecordError(f"the record {self._folder}/{identity}.json is gone")
            self._read[identity] = found
        return self._read[identity]

    def column(self, name: str) -> list[Any]:
        """A field of all realizations, or `metrics.NAME` with None where there is none.

        One that the index does not hold costs reading each record.
        """
        if name not in self._columns:
            if name in COLUMNS or (self._index is not None and name in self._index.lines):
                joined = self._joined(name)
                self._columns[name] = joined if self._order is None else [joined[row] for row in self._order]
            elif name.startswith(_METRIC):
                self._columns[name] = [one.get(name.removeprefix(_METRIC)) for one in self.column("metrics")]
            else:
                self._columns[name] = [getattr(one, name) for one in self]
        return self._columns[name]

    def _joined(self, name: str) -> list[Any]:
        """The index's column, with the field of what was read behind it."""
        listed = self._index.column(name) if self._index is not None else []
        if name.startswith(_METRIC):
            return listed + [one.metrics.get(name.removeprefix(_METRIC)) for one in self._unlisted]
        return listed + [getattr(one, name) for one in self._unlisted]


class _Layered(Records):
    """The realizations of several stores as those of one; each once."""

    def __init__(self, layers: Sequence[Records]) -> None:
        rows: dict[str, tuple[float, str, Records, int]] = {}
        for layer in layers:
            listed = zip(layer.column("started"), layer.column("id"), strict=True)
            for row, (started, identity) in enumerate(listed):
                rows.setdefault(identity, (started, identity, layer, row))
        self._rows = [(layer, row) for *_, layer, row in sorted(rows.values(), key=lambda one: one[:2])]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [layer[at] for layer, at in self._rows[row]]
        layer, at = self._rows[row]
        return layer[at]

    def column(self, name: str) -> list[Any]:
        return [layer.column(name)[at] for layer, at in self._rows]


def read_records(store: Store, drv: str) -> Records:
    """All realizations of a resolved derivation.

    Raises
    ------
    RecordError
        If a record that had to be read is damaged.
    """
    if store.lower:
        return _Layered([_read_layer(layer, drv, writes=layer.root == store.root) for layer in store.layers])
    return _read_layer(store, drv, writes=True)


def _read_layer(store: Store, drv: str, *, writes: bool) -> Records:
    """The realizations in one store; where it may be written, its index is kept up."""
    folder = f"{store.root}/trace/{base_name(drv)}"
    names = record_names(folder)
    index = _Index.load(_index_file(store, drv)) if len(names) > _FEW else None
    listed = index.ids if index is not None else []
    others = set(names).difference([f"{identity}.json" for identity in listed])
    gone = len(listed) - (len(names) - len(others))
    read = [one for identity in ids_of(others) if (one := read_file(folder, identity)) is not None]
    found = Records(folder, index, read, there=None if gone == 0 else set(ids_of(names)))
    if writes and (len(read) > _FEW or gone > _FEW):
        # Whoever may only read the store, or has a full disk, does without.
        with contextlib.suppress(DiskError, OSError):
            _index_file(store, drv).parent.mkdir(exist_ok=True)
            write_file(store, _index_file(store, drv), _encode(found))
    return found


def wrong_index(store: Store, file: Path) -> str | None:
    """What an index says that its records do not; None too for one that nobody would trust."""
    index = _Index.load(file)
    if index is None:
        return None
    folder = store.trace / file.name.removesuffix(".records")
    try:
        columns = {name: index.column(name) for name in index.lines}
    except RecordError as error:
        return error.message
    for row, identity in enumerate(index.ids):
        one = _genuine(folder, identity)
        if one is None:
            continue
        for name, column in columns.items():
            is_metric = name.startswith(_METRIC)
            said = one.metrics.get(name.removeprefix(_METRIC)) if is_metric else getattr(one, name, None)
            if column[row] != said:
                return f"it says another {name} than the record {identity}"
    order = list(zip(columns["started"], index.ids, strict=True))
    return None if order == sorted(order) else "its records are not in order"


def _genuine(folder: Path, identity: str) -> Realization | None:
    """A record as it was written; None if it is gone, or a finding of its own."""
    try:
        data = (folder / f"{identity}.json").read_bytes()
        return read_realization(data, identity, "") if is_genuine(data, identity) else None
    except (OSError, ValueError, RecordError):
        return None


def _index_file(store: Store, drv: str) -> Path:
    return store.root / "cache" / f"{base_name(drv)}.records"


@dataclass(frozen=True, slots=True)
class _Index:
    file: Path
    ids: list[str]
    lines: Mapping[str, bytes]

    @classmethod
    def load(cls, file: Path) -> _Index | None:
        """The index, or None if there is none to be trusted."""
        try:
            head, _, body = file.read_bytes().partition(b"\n")
            names = json.loads(head)["columns"]
            if head != _head(names, body):
                return None
            lines = dict(zip(names, body.split(b"\n"), strict=True))
            ids = json.loads(lines["id"])
            return cls(file, ids, lines) if all(isinstance(one, str) for one in ids) else None
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None

    def column(self, name: str) -> list[Any]:
        """A field of all that the index lists.

        Raises
        ------
        RecordError
            If somebody made it up: another number of values.
        """
        try:
            column: Any = json.loads(self.lines[name])
            found = [column["values"][at] for at in column["at"]] if isinstance(column, dict) else list(column)
        except (ValueError, LookupError, TypeError, RecursionError):
            found = []
        if len(found) != len(self.ids):
            raise RecordError(f"the index of {name} in {self.file} is forged", hint="delete the file; it is a cache")
        return found


def _head(names: Sequence[str], body: bytes) -> bytes:
    check = zlib.crc32(body, zlib.crc32(json.dumps(names).encode()))
    return json.dumps({"check": check, "columns": names, "fields": COLUMNS, "version": _VERSION}).encode()


def _encode(records: Records) -> bytes:
    counts = Counter(name for metrics in records.column("metrics") for name in metrics)
    names = [*COLUMNS, *(f"{_METRIC}{name}" for name, count in counts.items() if 2 * count > len(records))]
    body = b"\n".join(json.dumps(_packed(records.column(name))).encode() for name in names)
    return _head(names, body) + b"\n" + body


def _packed(column: list[Any]) -> list[Any] | dict[str, list[Any]]:
    """The column, or where its values recur each of them once."""
    seen: dict[str, int] = {}
    at = [seen.setdefault(json.dumps(value), len(seen)) for value in column]
    return {"values": [json.loads(text) for text in seen], "at": at} if 2 * len(seen) < len(column) else column
