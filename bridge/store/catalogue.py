"""All realizations of a store at once, for those who ask about many: as columns, or one after the other."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, overload

from .errors import RecordError
from .layout import Store
from .listing import list_trace
from .sizes import sizes_of
from .trace import ids_of, record_names

__all__ = ["Catalogue", "Entry", "catalogue", "damaged", "entries", "near_ids", "no_cycle_search", "of_stage"]


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


_NAMES = tuple(Entry.__slots__)


class Catalogue(Sequence[Entry]):
    """Realizations, oldest first; `column` gives a field of all of them, and an entry is made for who asks for one.

    Parameters
    ----------
    source
        Gives one of `FIELDS` of all.
    sized
        The store to look up sizes in; without it no size is known.
    """

    def __init__(self, count: int, source: Callable[[str], list[Any]], sized: Store | None = None) -> None:
        self._count = count
        self._source = source
        self._sized = sized
        self._columns: dict[str, list[Any]] = {}

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Catalogue:
        """These, as they are in memory; `size` is not."""
        listed = list(entries)
        return cls(len(listed), lambda name: [getattr(one, name) for one in listed])

    def column(self, name: str) -> list[Any]:
        """A field of all realizations, which is not to be changed."""
        if name not in self._columns:
            if name != "size":
                self._columns[name] = self._source(name)
            elif self._sized is None:
                self._columns[name] = [None] * self._count
            else:
                self._columns[name] = sizes_of(self._sized, self.column("outputs"))
        return self._columns[name]

    def only(self, rows: Sequence[int]) -> Catalogue:
        """Some of them, in the order of the rows."""
        return Catalogue(len(rows), lambda name: list(map(self.column(name).__getitem__, rows)), self._sized)

    def sized(self, store: Store) -> Catalogue:
        """The same with sizes, each of which is looked up when it is asked for."""
        return Catalogue(self._count, self.column, store)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Entry: ...
    @overload
    def __getitem__(self, at: slice) -> list[Entry]: ...
    def __getitem__(self, at: int | slice) -> Entry | list[Entry]:
        if isinstance(at, slice):
            return list(self.only(range(self._count)[at]))
        return Entry(*(self.column(name)[at] for name in _NAMES))

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry, *map(self.column, _NAMES))


def catalogue(
    store: Store,
    *,
    on_damaged: Callable[[RecordError], object] = lambda error: None,
    on_progress: Callable[[int, int], object] = lambda done, count: None,
) -> Catalogue:
    """The realizations of a store, and of those below it, oldest first; each once.

    Parameters
    ----------
    on_damaged
        Told of each record that can not be read, or that a newer nixbridge wrote; it is passed over.
    on_progress
        Told how many of the records that must be read have been.
    """
    with no_cycle_search():
        listings = [list_trace(store, layer, on_progress) for layer in store.layers]
    for listing in listings:
        for error in listing.bad:
            on_damaged(error)
    first, *lower = listings
    if not any(one.count for one in lower):
        return Catalogue(first.count, first.column)

    def joined(name: str) -> list[Any]:
        return [value for listing in listings for value in listing.column(name)]

    rows: dict[str, int] = {}
    for row, identity in enumerate(joined("id")):
        rows.setdefault(identity, row)
    started = joined("started")
    order = [row for _, _, row in sorted((started[row], identity, row) for identity, row in rows.items())]
    return Catalogue(sum(one.count for one in listings), joined).only(order)


def entries(
    store: Store,
    *,
    stage: str | None = None,
    sizes: bool = False,
    on_damaged: Callable[[RecordError], object] = lambda error: None,
    on_progress: Callable[[int, int], object] = lambda done, count: None,
) -> list[Entry]:
    """The realizations of a store, and of those below it, one by one, oldest first.

    Parameters
    ----------
    stage
        Only those of a stage with this name.
    sizes
        Whether to look up how large the outputs are.
    on_damaged, on_progress
        As of `catalogue`.
    """
    with no_cycle_search():
        found = of_stage(catalogue(store, on_damaged=on_damaged, on_progress=on_progress), stage)
        return list(found.sized(store) if sizes else found)


def of_stage(found: Catalogue, stage: str | None) -> Catalogue:
    """Those of a stage with this name; all without one."""
    if stage is None:
        return found
    return found.only([row for row, name in enumerate(found.column("stage")) if name == stage])


def damaged(store: Store) -> list[RecordError]:
    """What is wrong with the records that can not be read."""
    found: list[RecordError] = []
    catalogue(store, on_damaged=found.append)
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
