"""What the stages of many derivations were given, kept in the store's cache: a derivation never changes.

cache/given-1.sqlite     given: config as JSON, and the digests of the objects that the derivation names
"""

from __future__ import annotations

import json
import re
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bridge.formats import nix32
from bridge.formats.derivation.types import Derivation
from bridge.formats.errors import BridgeError
from bridge.formats.store_path import DIGEST_LENGTH, STORE_DIR, base_name, hash_part
from bridge.store.cache import cache_file, with_cache, write

from .ground import Ground, parsed
from .parts import parts_of

__all__ = ["configs_of", "uses_of"]

_FILE = "given-1"
"""Whoever changes what a column means counts the number up."""

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS given (base TEXT PRIMARY KEY, config BLOB, config_sum INTEGER, uses BLOB,"
    " uses_sum INTEGER) WITHOUT ROWID",
)
_FEW = 200
"""So many are looked up one by one, more by reading all."""

_AT_ONCE = 1000
_OBJECT = re.compile(rf"{STORE_DIR}/([{nix32.ALPHABET}]{{{DIGEST_LENGTH}}})-".encode())
_Row = tuple[str, bytes, int]
"""A derivation's base name, what a column holds, and its checksum."""


def configs_of(ground: Ground, drvs: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """The config of each of these derivations; empty if it is gone or damaged."""
    found: dict[str, Mapping[str, Any]] = {drv: {} for drv in drvs}
    rows = _known(ground, drvs, "config", forget=False)
    for at in range(0, len(rows), _AT_ONCE):
        some = rows[at : at + _AT_ONCE]
        values = json.loads(b"[%s]" % b",".join([data for _, data, _ in some]))
        found.update(zip((f"{STORE_DIR}/{base}" for base, _, _ in some), values, strict=True))
    return found


def uses_of(ground: Ground, drvs: Collection[str], *, every: bool = True) -> Iterator[tuple[str, list[str]]]:
    """Each of these derivations that is there, with the digests of the objects that it uses.

    Parameters
    ----------
    every
        Whether these are all that have realizations: what is known of others is forgotten.
    """
    for base, data, _ in _known(ground, drvs, "uses", forget=every):
        yield f"{STORE_DIR}/{base}", data.decode().split()


def _known(ground: Ground, drvs: Collection[str], column: str, *, forget: bool) -> list[_Row]:
    """The rows of derivations, also of those that nobody has asked for before."""
    wanted = {base_name(drv) for drv in drvs}

    def ask(cache: sqlite3.Connection) -> list[_Row]:
        rows = [row for row in _select(cache, wanted, column) if row[0] in wanted]
        if any(_sum(base, data) != check for base, data, check in rows):
            raise ValueError("a row of the cache is damaged")
        new = list(_learnt(ground, wanted - {base for base, _, _ in rows}))
        if new:
            summed = [(base, one, _sum(base, one), two, _sum(base, two)) for base, one, two in new]
            write(cache, ("INSERT OR REPLACE INTO given VALUES (?, ?, ?, ?, ?)", summed))
        if forget:
            others = [row for row in cache.execute("SELECT base FROM given") if row[0] not in wanted]
            if others:
                write(cache, ("DELETE FROM given WHERE base = ?", others))
        return rows + [(base, config if column == "config" else uses, 0) for base, config, uses in new]

    return with_cache(cache_file(ground.store, _FILE), _SCHEMA, ask)


def _select(cache: sqlite3.Connection, wanted: Collection[str], column: str) -> Iterator[_Row]:
    what = f"SELECT base, {column}, {column}_sum FROM given"
    if len(wanted) > _FEW:
        yield from cache.execute(what)
        return
    for base in wanted:
        yield from cache.execute(f"{what} WHERE base = ?", (base,))


def _sum(base: str, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(base.encode()))


def _learnt(ground: Ground, bases: Iterable[str]) -> Iterator[tuple[str, bytes, bytes]]:
    """Of each derivation that can be read: base name, config, and the digests of what it uses."""
    for base in sorted(bases):
        path = f"{STORE_DIR}/{base}"
        data = ground.contents(path)
        if data is None:
            continue
        try:
            derivation = parsed(path, data)
            config = json.dumps(parts_of(derivation).config).encode()
        except (BridgeError, RecursionError):
            continue
        uses = " ".join(sorted({one.decode() for one in _OBJECT.findall(data)} - set(_own(derivation)))).encode()
        yield base, config, uses


def _own(derivation: Derivation) -> Sequence[str]:
    """The digests of its outputs, where they are known: it names them, and does not use them."""
    paths = map(derivation.output_path, derivation.outputs)
    return [hash_part(path) for path in paths if path is not None]
