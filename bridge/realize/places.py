"""Where store objects lie on this machine: in the Python store, or in the Nix store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bridge.formats.store_path import STORE_PATH
from bridge.nix.installation import Installation
from bridge.store.info import read_info
from bridge.store.layout import Store

__all__ = ["Places"]


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
        return self.store.real_path(path)

    def find_in_nix(self, path: str) -> Path | None:
        """Where the Nix store has the object, or None.

        Its root keeps it there; so a look at the disk is enough, without asking Nix.
        """
        if self.nix is not None:
            real = self.nix.real_path(path)
            if os.path.lexists(real):
                return real
        return None

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
