"""What goes into a pack: records, the objects that they name, and all that these were made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bridge.formats.derivation import DRV_SUFFIX
from bridge.store.errors import InvalidObjectError
from bridge.store.holds import hold
from bridge.store.info import ObjectInfo, find_info
from bridge.store.layout import Store
from bridge.store.records import read_records
from bridge.store.trace import Realization, find_realizations, realizations, resolved_derivations

__all__ = ["Contents", "Elsewhere", "Packed", "gather"]


@dataclass(frozen=True, slots=True)
class Packed:
    """An object that goes in, and where its files are."""

    info: ObjectInfo
    real: Path


Elsewhere = Callable[[str], Packed | None]
"""Finds an object that the store does not have (in the Nix store)."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into a pack.

    Parameters
    ----------
    objects
        Each behind what it refers to.
    records
        By id.
    missing
        Store paths that derivations name and that are nowhere: sources and inputs that were dropped.
    """

    objects: tuple[Packed, ...]
    records: tuple[Realization, ...]
    missing: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all the objects' archives."""
        return sum(one.info.nar_size for one in self.objects)


def gather(
    store: Store,
    records: Iterable[Realization] = (),
    paths: Iterable[str] = (),
    *,
    elsewhere: Elsewhere = lambda path: None,
) -> Contents:
    """The closure of records and objects: outputs, derivations, what these refer to, and the records of their inputs.

    Raises
    ------
    InvalidObjectError
        If an object that is asked for, or that one refers to, is nowhere.
    """
    found = _Gathering(store, elsewhere)
    for path in paths:
        found.add_object(path)
        found.add_makers(path)
    for one in records:
        found.add_record(one)
    found.close()
    records_by_id = tuple(one for _, one in sorted(found.records.items()))
    return Contents(tuple(_ordered(found.objects)), records_by_id, tuple(sorted(found.missing)))


@dataclass(slots=True)
class _Gathering:
    store: Store
    elsewhere: Elsewhere
    objects: dict[str, Packed] = field(default_factory=dict)
    records: dict[str, Realization] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    _open: list[str] = field(default_factory=list)
    _makers: dict[str, list[Realization]] | None = None

    def add_record(self, record: Realization) -> None:
        if record.id in self.records:
            return
        self.records[record.id] = record
        for path in record.outputs.values():
            self.add_object(path, record)
        for drv in (record.drv, record.stage_drv):
            if self._find(drv) is not None:
                self.add_object(drv)
        for identity in (record.previous, (record.adopted or {}).get("id")):
            if identity is not None:
                self._add_others(one for one in find_realizations(self.store, identity) if one.id == identity)

    def add_object(self, path: str, record: Realization | None = None) -> None:
        if path in self.objects:
            return
        hold(self.store, [path])
        found = self._find(path)
        if found is None:
            raise InvalidObjectError(
                f"{path} is neither in the store {self.store.root} nor in the Nix store"
                + (f", though the realization {record.id} of {record.stage} has it" if record is not None else ""),
                hint="realize it again" if record is not None else "nixbridge ls lists what there is",
            )
        self.objects[path] = found
        self._open.append(path)

    def add_makers(self, path: str) -> None:
        """The records that have this output."""
        if self._makers is None:
            self._makers = {}
            for drv in resolved_derivations(self.store):
                known = read_records(self.store, drv)
                for row, outputs in enumerate(known.column("outputs")):
                    for output in outputs.values():
                        self._makers.setdefault(output, []).append(known[row])
        self._add_others(self._makers.get(path, ()))

    def close(self) -> None:
        """Add all that the objects refer to, and for derivations the records of what they use."""
        while self._open:
            info = self.objects[self._open.pop()].info
            is_derivation = info.path.endswith(DRV_SUFFIX)
            for path in info.references:
                if path in self.objects:
                    continue
                if is_derivation and self._find(path) is None:
                    # What something was made from may have been dropped, or never have been here.
                    self.missing.add(path)
                    continue
                self.add_object(path)
                if is_derivation and path.endswith(DRV_SUFFIX):
                    self._add_others(realizations(self.store, path))
                elif is_derivation:
                    self.add_makers(path)

    def _add_others(self, records: Iterable[Realization]) -> None:
        """Records that tell how something came to be, as far as their results are still there."""
        for one in records:
            if all(self._find(path) is not None for path in one.outputs.values()):
                self.add_record(one)

    def _find(self, path: str) -> Packed | None:
        if path in self.objects:
            return self.objects[path]
        info = find_info(self.store, path) if self.store.is_valid(path) else None
        return Packed(info, self.store.place_of(path)) if info is not None else self.elsewhere(path)


def _ordered(objects: dict[str, Packed]) -> Iterator[Packed]:
    """Each object behind what it refers to, and always in the same order."""
    done: set[str] = set()
    for path in sorted(objects):
        stack = [(path, iter(sorted(objects[path].info.references)))]
        if path in done:
            continue
        done.add(path)
        while stack:
            top, references = stack[-1]
            used = next((one for one in references if one in objects and one not in done), None)
            if used is None:
                stack.pop()
                yield objects[top]
            else:
                done.add(used)
                stack.append((used, iter(sorted(objects[used].info.references))))
