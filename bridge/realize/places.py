"""Where store objects lie on this machine: in the Python store, or in the Nix store."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bridge.formats.store_path import STORE_DIR, STORE_PATH
from bridge.nix.installation import Installation
from bridge.store.info import read_info
from bridge.store.layout import Store

__all__ = ["Places"]

_FEW = 64
"""Up to so many objects are looked for one by one."""


@dataclass(frozen=True, slots=True)
class Places:
    """Finds objects; translates store paths in texts for what runs outside Nix."""

    store: Store
    nix: Installation | None

    def find(self, path: str) -> Path | None:
        """Where the object at a store path lies, or None."""
        theirs = self.find_in_nix(path)
        if not self.store.is_valid(path):
            return theirs
        # What the local builder made does not stand in for what Nix built.
        if theirs is not None and read_info(self.store, path).content_address is None:
            return theirs
        return self.store.place_of(path)

    def find_in_nix(self, path: str) -> Path | None:
        """Where the Nix store has the object, or None.

        Its root keeps it there; so a look at the disk is enough, without asking Nix.
        """
        if self.nix is not None:
            real = self.nix.real_path(path)
            if os.path.lexists(real):
                return real
        return None

    def there(self, paths: Iterable[str], *, by_nix: bool) -> set[str]:
        """Those of many paths at which there is an object; with `by_nix` only the Nix store's count."""
        wanted = set(paths)
        found: set[str] = set()
        for layer in () if by_nix else self.store.layers:
            found |= _valid(layer, wanted - found)
        return found | {path for path in wanted - found if self.find_in_nix(path) is not None}

    def translate(self, text: str, own: dict[str, Path]) -> str:
        """`text` with each store path replaced by where its object lies.

        Parameters
        ----------
        own
            Where outputs lie that are being built.
        """

        def real(path: str) -> str:
            found = own.get(path) or self.find(path)
            return path if found is None else str(found)

        return STORE_PATH.sub(lambda found: real(found[0]), text) if "/nix/store/" in text else text


def _valid(store: Store, paths: Collection[str]) -> set[str]:
    """Those of many paths that are valid in a store."""
    if len(paths) > _FEW:
        with os.scandir(store.info) as entries:
            infos = {entry.name for entry in islice(entries, 4 * len(paths))}
        # Listing all names costs less than looking for each, unless most are of no interest.
        if len(infos) < 4 * len(paths):
            objects = set(os.listdir(store.objects))
            prefix = len(STORE_DIR) + 1
            return {path for path in paths if path[prefix:] in objects and f"{path[prefix:]}.json" in infos}
    return {path for path in paths if store.is_valid(path)}
