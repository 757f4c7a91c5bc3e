"""Columns of many values in one file of cache/: what has been found out about a store, to be read at once.

    cache/<name>.columns     a checksum and a line of JSON: version, byte order, and of each column name, kind, rows,
                             length, checksum; then the columns
    kinds                    d, q: floats and integers of 64 bits; lines: texts; json: any other list
    <column>@                stands beside a column of texts that recur, which has each once: which of them

No column is truth: what is damaged, missing or of another version is made again, and a store that can not be written
does without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .durable import write_file
from .errors import DiskError, RecordError
from .layout import Store

__all__ = ["Columns", "cache_name", "load", "save"]


def cache_name(kind: str, store: Store, layer: Store) -> str:
    """The file in a store's cache/ for what is known of it, or of a store below it."""
    which = "" if layer.root == store.root else f"-{hashlib.sha256(os.fsencode(layer.root)).hexdigest()[:16]}"
    return f"{kind}{which}.columns"


class Columns:
    """Columns of a file; one is taken apart when it is asked for."""

    def __init__(self, file: str, kinds: Mapping[str, tuple[str, int]], texts: Mapping[str, memoryview]) -> None:
        self._file = file
        self._kinds = kinds
        self._texts = texts
        self._columns: dict[str, list[Any]] = {}

    def rows(self, name: str) -> int:
        """How many values a column has."""
        return self._kinds[f"{name}@" if f"{name}@" in self._kinds else name][1]

    def column(self, name: str) -> list[Any]:
        """A column, which is not to be changed.

        Raises
        ------
        RecordError
            If somebody made it up: another number of values.
        """
        if name not in self._columns:
            found = self._taken_apart(name)
            if f"{name}@" in self._kinds:
                try:
                    found = list(map(found.__getitem__, self._taken_apart(f"{name}@")))
                except (LookupError, TypeError) as error:
                    raise self._forged(name) from error
            self._columns[name] = found
        return self._columns[name]

    def _taken_apart(self, name: str) -> list[Any]:
        kind, count = self._kinds[name]
        try:
            found = _DECODE[kind](self._texts[name])
        except (ValueError, TypeError, RecursionError) as error:
            raise self._forged(name) from error
        if not isinstance(found, list) or len(found) != count:
            raise self._forged(name)
        return found

    def _forged(self, name: str) -> RecordError:
        return RecordError(f"{name} in {self._file} is forged", hint="delete the file; it is a cache")


def _numbers(kind: str) -> Callable[[memoryview], list[Any]]:
    return lambda text: array(kind, bytes(text)).tolist()


_DECODE: Mapping[str, Callable[[memoryview], Any]] = {
    "d": _numbers("d"),
    "q": _numbers("q"),
    "lines": lambda text: str(text, "utf-8").split("\n"),
    "json": lambda text: json.loads(bytes(text)),
}


def load(file: str, version: int, names: Sequence[str]) -> Columns | None:
    """The columns with these names in a file; None if they are not there, or damaged."""
    try:
        with open(file, "rb") as opened:
            data = opened.read()
        end = data.index(b"\n")
        check, _, text = data[:end].partition(b" ")
        if check != _sum(text):
            return None
        head = json.loads(text)
        told = head["columns"]
        if (head["version"], head["order"]) != (version, sys.byteorder) or set(names) - set(told):
            return None
        texts, at = {}, end + 1
        for name, (kind, _, length, check) in told.items():
            texts[name] = memoryview(data)[at : at + length]
            if kind not in _DECODE or zlib.crc32(texts[name]) != check:
                return None
            at += length
        kinds = {name: (kind, count) for name, (kind, count, *_) in told.items()}
        return Columns(file, kinds, texts) if at == len(data) else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def save(
    store: Store, file: str, version: int, columns: Mapping[str, Sequence[Any]], recurring: Sequence[str] = ()
) -> None:
    """Keep columns in a file, if the store can be written.

    Parameters
    ----------
    recurring
        The columns of texts that are there more than once.
    """
    told, texts = {}, []
    for name, column in _parted(columns, recurring):
        kind, text = _encoded(column)
        told[name] = [kind, len(column), len(text), zlib.crc32(text)]
        texts.append(text)
    head = json.dumps({"version": version, "order": sys.byteorder, "columns": told}).encode()
    # Whoever may only read the store, or has a full disk, does without.
    with contextlib.suppress(DiskError, OSError):
        (store.root / "cache").mkdir(exist_ok=True)
        write_file(store, store.root / "cache" / file, b"".join([_sum(head), b" ", head, b"\n", *texts]))


def _sum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)


def _parted(columns: Mapping[str, Sequence[Any]], recurring: Sequence[str]) -> Iterator[tuple[str, Sequence[Any]]]:
    """The columns, those that recur as each value once and which of them."""
    for name, column in columns.items():
        each = dict.fromkeys(column) if name in recurring else {}
        if 0 < 2 * len(each) <= len(column):
            at = {value: number for number, value in enumerate(each)}
            yield name, list(each)
            yield f"{name}@", list(map(at.__getitem__, column))
        else:
            yield name, column


def _encoded(column: Sequence[Any]) -> tuple[str, bytes]:
    """A column's kind and its bytes: JSON takes long to write numbers and texts that need no quoting."""
    kinds = set(map(type, column))
    if kinds == {float}:
        return "d", array("d", column).tobytes()
    if kinds == {int}:
        with contextlib.suppress(OverflowError):
            return "q", array("q", column).tobytes()
    if kinds == {str}:
        text = "\n".join(column)
        # What UTF-8 has no bytes for is escaped in JSON.
        with contextlib.suppress(UnicodeEncodeError):
            if text.count("\n") == len(column) - 1:
                return "lines", text.encode()
    return "json", json.dumps(column, separators=(",", ":")).encode()
