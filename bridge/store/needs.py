"""What must stay where something is to stay: realizations, and the objects that they are and were made from.

A realization keeps its outputs with all that they refer to, its log, and what it was made from: its derivation, its
code and sources, the realizations that its inputs are, and the one that it went on from. So whatever is kept can be
explained, compared and made again; as a Nix with `keep-outputs` and `keep-derivations`. What it was made from is kept
once: of several realizations with one and the same output, and of an input derivation, the newest, unless one is kept
anyway.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import methodcaller

from bridge.formats.derivation.aterm import DRV_SUFFIX
from bridge.formats.store_path import STORE_DIR, base_name

from .catalogue import Catalogue
from .inventory import Inventory

__all__ = ["Graph", "Needed"]

_VALUES = methodcaller("values")
_PREFIX = len(f"{STORE_DIR}/")


@dataclass(frozen=True, slots=True)
class Needed:
    """What stays: numbers of realizations in the graph, and rows of the inventory."""

    realizations: frozenset[int]
    objects: frozenset[int]


@dataclass
class Graph:
    """Realizations, oldest first, and objects, with what leads from one to the other."""

    entries: Catalogue
    inventory: Inventory

    @cached_property
    def by_output(self) -> dict[str, list[int]]:
        """Base name to the numbers of the realizations with this output."""
        found: dict[str, list[int]] = {}
        for number, outputs in enumerate(self.entries.column("outputs")):
            for path in outputs.values():
                found.setdefault(base_name(path), []).append(number)
        return found

    @cached_property
    def by_drv(self) -> dict[str, list[int]]:
        """Base name to the numbers of the realizations of this resolved derivation."""
        found: dict[str, list[int]] = {}
        for number, drv in enumerate(self.entries.column("drv")):
            found.setdefault(base_name(drv), []).append(number)
        return found

    @cached_property
    def by_id(self) -> dict[str, int]:
        return {identity: number for number, identity in enumerate(self.entries.column("id"))}

    def needed(self, kept: Iterable[int], objects: Iterable[str], *, without: Collection[int] = ()) -> Needed:
        """What stays if these stay.

        Parameters
        ----------
        kept
            Numbers of realizations.
        objects
            Base names of objects that stay for themselves, such as those that a link leads to.
        without
            Realizations that go even if others were made from them; their bytes stay then.
        """
        inventory = self.inventory
        names, references, count = inventory.names, inventory.references, len(inventory.sizes)
        drvs, stage_drvs, outputs = map(self.entries.column, ("drv", "stage_drv", "outputs"))
        stays: set[int] = set()
        seen: set[int] = set()
        named = set(objects)
        new = set(kept)
        wanting: list[tuple[bool, list[int]]] = []
        while True:
            new = self._with_previous(new, stays, without)
            stays.update(new)
            # Once all stay, nobody need be found who is wanted.
            more = len(stays) < len(self.entries)
            paths = chain(
                map(drvs.__getitem__, new),
                map(stage_drvs.__getitem__, new),
                chain.from_iterable(map(_VALUES, map(outputs.__getitem__, new))),
            )
            named.update([path[_PREFIX:] for path in paths])
            level = {row for name in named if (row := inventory.rows.get(name)) is not None}
            if more and len(level) < len(named):
                # What lies in the Nix store has a row only if something refers to it.
                self._want(named - inventory.rows.keys(), wanting)
            named = set()
            while level := level - seen:
                seen |= level
                if more:
                    self._want(map(names.__getitem__, level), wanting)
                if len(names) > count:
                    level = {row for row in level if row < count}
                level = set(chain.from_iterable(map(references.__getitem__, level)))
            wanting = [(drv, owners) for drv, owners in wanting if stays.isdisjoint(owners)]
            # Whose very output it is comes first: it may be of the derivation as well.
            new = self._newest((owners for drv, owners in wanting if not drv), without)
            new = new or self._newest((owners for drv, owners in wanting if drv), without)
            if not new:
                return Needed(frozenset(stays), frozenset(row for row in seen if row < count))

    def previous_of(self, number: int) -> int | None:
        """The realization that one went on from, if it is there."""
        identity = self.entries.column("previous")[number]
        return self.by_id.get(identity) if identity is not None else None

    def _with_previous(self, numbers: Iterable[int], known: set[int], without: Collection[int]) -> set[int]:
        """These and all that they went on from, but for those that are known."""
        found = set(numbers) - known
        previous = self.entries.column("previous")
        for number in [one for one in found if previous[one] is not None]:
            before = self.previous_of(number)
            while before is not None and before not in found and before not in known and before not in without:
                found.add(before)
                before = self.previous_of(before)
        return found

    def _want(self, names: Iterable[str], wanting: list[tuple[bool, list[int]]]) -> None:
        for name in names:
            if name in self.by_output:
                wanting.append((False, self.by_output[name]))
            if name.endswith(DRV_SUFFIX) and name in self.by_drv:
                wanting.append((True, self.by_drv[name]))

    def _newest(self, wanted: Iterable[list[int]], without: Collection[int]) -> set[int]:
        found = set()
        for owners in wanted:
            last = next((number for number in reversed(owners) if number not in without), None)
            if last is not None:
                found.add(last)
        return found

    def used_by(self, name: str) -> list[int]:
        """The realizations that were made from an object, or from what refers to it, without steps in between."""
        users: dict[int, list[int]] = {}
        for row, references in enumerate(self.inventory.references):
            for other in references:
                users.setdefault(other, []).append(row)
        start = self.inventory.rows.get(name)
        pending = [] if start is None else [start]
        seen = set(pending)
        found: set[int] = set()
        while pending:
            row = pending.pop()
            for user in users.get(row, ()):
                if user in seen:
                    continue
                seen.add(user)
                owners = self.by_drv.get(self.inventory.names[user])
                if owners:
                    found.update(owners)
                else:
                    found.update(self.by_output.get(self.inventory.names[user], ()))
                    pending.append(user)
        return sorted(found)
