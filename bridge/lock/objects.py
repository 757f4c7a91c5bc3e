"""Objects wherever they lie: in the Python store, or in the Nix store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bridge.formats import nar
from bridge.nix.client import Connection, connect
from bridge.realize.places import Places
from bridge.store.errors import InvalidObjectError
from bridge.store.info import ObjectInfo, find_info

__all__ = ["Objects"]


@dataclass(slots=True)
class Objects:
    """What is known of objects, their closures and archives; use it in a `with`, it may connect to Nix."""

    places: Places
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _connection: Connection | None = None

    def __enter__(self) -> Objects:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        self._connection = None

    def find(self, path: str) -> ObjectInfo | None:
        """What is known of an object, or None if it is nowhere here."""
        ours = find_info(self.places.store, path) if self.places.store.is_valid(path) else None
        # What the local builder made does not stand in for what Nix built.
        if ours is not None and (ours.content_address is not None or self.places.find_in_nix(path) is None):
            return ours
        if self.places.find_in_nix(path) is None:
            return None
        info = self._nix().query_path_info(path)
        return None if info is None else ObjectInfo(path, info.nar_hash, info.nar_size, info.references, info.ca)

    def info(self, path: str) -> ObjectInfo:
        """What is known of an object.

        Raises
        ------
        InvalidObjectError
            If it is nowhere here.
        """
        found = self.find(path)
        if found is None:
            raise InvalidObjectError(
                f"{path} is neither in the store {self.places.store.root} nor in the Nix store",
                hint="realize it again, or get it from a cache",
            )
        return found

    def closure(self, paths: Iterable[str]) -> list[ObjectInfo]:
        """Objects and all that they refer to, references first.

        Raises
        ------
        InvalidObjectError
            If one is missing.
        """
        done: dict[str, ObjectInfo] = {}
        stack: list[tuple[ObjectInfo, bool]] = [(self.info(path), False) for path in paths]
        while stack:
            info, seen = stack.pop()
            if info.path in done:
                continue
            if seen:
                done[info.path] = info
                continue
            stack.append((info, True))
            stack += [(self.info(one), False) for one in info.references if one not in done and one != info.path]
        return list(done.values())

    def chunks(self, path: str) -> Iterator[bytes]:
        """The archive of an object, in pieces."""
        real: Path | None = self.places.find(path)
        if real is None:
            raise InvalidObjectError(f"{path} is gone", hint="realize it again")
        return nar.pack_chunks(real)

    def _nix(self) -> Connection:
        if self._connection is None:
            assert self.places.nix is not None
            self._connection = self._stack.enter_context(connect(self.places.nix))
        return self._connection
