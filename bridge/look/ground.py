"""What walking and comparing stand on: derivations, realizations and objects of a store, each read once.

    derivation(path)     from what is at hand, the Python store, the Nix store
    makers(path)         the realizations that gave an object
    users(path)          the realizations that were given it

A step from one realization to another is a look into a dict, however deep the graph is. The catalogue is read when
the first step needs it, the derivations of the whole trace when somebody first asks for users.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge.formats.derivation.aterm import DRV_SUFFIX, parse_aterm
from bridge.formats.derivation.types import Derivation
from bridge.formats.errors import BridgeError
from bridge.formats.store_path import base_name, hash_part, name_part
from bridge.nix.installation import Installation
from bridge.realize.places import Places
from bridge.store.catalogue import Catalogue, Entry, catalogue, no_cycle_search, of_stage
from bridge.store.errors import RecordError
from bridge.store.layout import Store
from bridge.store.trace import Realization, find_record

from .parts import Parts, parts_of

__all__ = ["Ground", "parsed"]


@dataclass(slots=True)
class Ground:
    """A store, with the Nix store behind it, as somebody looks at it.

    Parameters
    ----------
    known
        Derivations that are at hand: those of a plan, by path.
    made
        Realizations that are at hand: those that were chosen of a plan, by the paths of their outputs.
    """

    store: Store
    nix: Installation | None = None
    known: dict[str, Derivation] = field(default_factory=dict)
    made: dict[str, list[Entry]] = field(default_factory=dict)
    _derivations: dict[str, Derivation | None] = field(default_factory=dict)
    _parts: dict[str, Parts] = field(default_factory=dict)
    _records: dict[str, Realization] = field(default_factory=dict)
    _catalogue: Catalogue | None = None
    _entries: list[Entry] | None = None
    _by_stage: dict[str, Catalogue] = field(default_factory=dict)
    _by_drv: dict[str, list[int]] = field(default_factory=dict)
    _makers: dict[str, list[int]] = field(default_factory=dict)
    _users: dict[str, list[str]] | None = None

    def again(self) -> Ground:
        """The same for a later look: realizations are listed again, what can not change is not read again."""
        found = Ground(self.store, self.nix, self.known, _parts=self._parts, _records=self._records)
        # One that was nowhere may be somewhere by now.
        found._derivations.update((path, one) for path, one in self._derivations.items() if one is not None)
        return found

    # ---------------------------------------------------------------------------------- objects

    def find(self, path: str) -> Path | None:
        """Where an object lies on this machine, or None."""
        return Places(self.store, self.nix).find(path)

    def lies(self, path: str) -> Path:
        """Where an object lies, or would lie."""
        return self.find(path) or self.store.place_of(path)

    # ------------------------------------------------------------------------------ derivations

    def derivation(self, path: str) -> Derivation | None:
        """The derivation at a path, or None if it is in no store."""
        if path in self.known:
            return self.known[path]
        if path not in self._derivations:
            data = self.contents(path)
            self._derivations[path] = None if data is None else parsed(path, data)
        return self._derivations[path]

    def contents(self, path: str) -> bytes | None:
        """The bytes of an object that is a file, or None if it is in no store."""
        place = str(self.store.place_of(path)) if self.store.lower else f"{self.store.root}/store/{base_name(path)}"
        with contextlib.suppress(OSError), open(place, "rb", buffering=0) as opened:
            return opened.readall()
        if self.nix is not None:
            with contextlib.suppress(OSError), open(self.nix.real_path(path), "rb", buffering=0) as opened:
                return opened.readall()
        return None

    def parts(self, drv: str) -> Parts | None:
        """What the stage of a derivation was given, or None if the derivation is in no store."""
        if drv not in self._parts:
            found = self.derivation(drv)
            if found is None:
                return None
            self._parts[drv] = parts_of(found)
        return self._parts[drv]

    # ----------------------------------------------------------------------------- realizations

    def listed(self, found: Catalogue | None = None) -> Catalogue:
        """All realizations, oldest first, as columns: read once, or found already."""
        if self._catalogue is None:
            self._catalogue = catalogue(self.store) if found is None else found
        return self._catalogue

    def entries(self) -> list[Entry]:
        """All realizations, oldest first."""
        if self._entries is None:
            with no_cycle_search():
                self._entries = list(self.listed())
        return self._entries

    def of_stage(self, name: str) -> Sequence[Entry]:
        """The realizations of stages with this name, oldest first."""
        if name not in self._by_stage:
            self._by_stage[name] = of_stage(self.listed(), name)
        return self._by_stage[name]

    def of_derivation(self, drv: str) -> list[Entry]:
        """The realizations of a resolved derivation, oldest first."""
        if not self._by_drv:
            for row, one in enumerate(self.listed().column("drv")):
                self._by_drv.setdefault(one, []).append(row)
        return [self.entries()[row] for row in self._by_drv.get(drv, ())]

    def stages(self) -> Iterable[str]:
        """The names of all stages that have realizations."""
        return dict.fromkeys(self.listed().column("stage"))

    def record(self, one: Entry) -> Realization:
        """The whole record of a realization.

        Raises
        ------
        RecordError
            If it is damaged or gone.
        """
        if one.id not in self._records:
            found = find_record(self.store, one.drv, one.id)
            if found is None:
                raise RecordError(f"the record {self.store.trace}/{base_name(one.drv)}/{one.id}.json is gone")
            self._records[one.id] = found
        return self._records[one.id]

    def makers(self, path: str) -> list[Entry]:
        """The realizations that gave the object at a path, oldest first."""
        if path in self.made:
            return self.made[path]
        if not self._makers:
            for row, outputs in enumerate(self.listed().column("outputs")):
                for output in outputs.values():
                    self._makers.setdefault(output, []).append(row)
        return [self.entries()[row] for row in self._makers.get(path, ())]

    def maker(self, path: str, before: float | None = None) -> Entry | None:
        """The realization that gave the object at a path: of several the last one that was done `before` a time.

        Equal results are one object, so that nobody can tell which of them was used.
        """
        found = self.makers(path)
        earlier = [one for one in found if before is None or one.stopped <= before]
        return earlier[-1] if earlier else (found[0] if found else None)

    def users(self, paths: Iterable[str]) -> list[Entry]:
        """The realizations whose derivations have one of the objects as an input, oldest first."""
        if self._users is None:
            self._users = self._all_users()
        drvs = {drv for path in paths for drv in self._users.get(hash_part(path), ())}
        found = [one for drv in drvs for one in self.of_derivation(drv)]
        return sorted(found, key=lambda one: (one.started, one.id))

    def _all_users(self) -> dict[str, list[str]]:
        """The digest of each object to the resolved derivations that use it."""
        from .given import uses_of

        found: dict[str, list[str]] = {}
        for drv, used in uses_of(self, set(self.listed().column("drv"))):
            for digest in used:
                found.setdefault(digest, []).append(drv)
        return found


def parsed(path: str, data: bytes) -> Derivation:
    """The derivation in a `.drv` file.

    Raises
    ------
    BridgeError
        With the file, if it is none.
    """
    try:
        return parse_aterm(data, name_part(path).removesuffix(DRV_SUFFIX))
    except BridgeError as error:
        error.file = error.file or path
        raise
