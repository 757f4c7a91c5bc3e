"""The Nix store, as those who realize use it: what Nix is to build with is brought there, under the same paths."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bridge.formats import nar
from bridge.formats.derivation import DRV_SUFFIX, derivation_references
from bridge.formats.store_path import name_part
from bridge.nix.client import Connection, PathInfo, connect
from bridge.nix.errors import NixError
from bridge.nix.installation import Installation
from bridge.stages.plan import Node
from bridge.stages.sources import SourceObject
from bridge.store.info import ObjectInfo, find_info
from bridge.store.layout import Store

from .errors import BuildError
from .sources import bring_source
from .task import Task

__all__ = ["NixStore"]


@dataclass(slots=True)
class NixStore:
    """One connection, which keeps what was brought from Nix's collector.

    Parameters
    ----------
    store
        The Python store, from where it is brought.
    """

    store: Store
    installation: Installation
    _connection: Connection | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """The connection, made at first use, for one thread at a time.

        Raises
        ------
        NixError
            If Nix can not be connected to.
        """
        with self._lock:
            if self._connection is None:
                self._connection = connect(self.installation)
            yield self._connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def closure(self, paths: Iterable[str]) -> list[str]:
        """The closure of paths that the Nix store has."""
        with self.connection() as nix:
            return list(nix.closure(paths))

    def push(self, path: str) -> None:
        """Bring an object of the Python store to Nix, with all it refers to, under the same path.

        Raises
        ------
        BuildError
            If it is a result of the local builder, which Nix does not take for its own.
        """
        with self.connection() as nix:
            stack = [path]
            while stack:
                top = stack[-1]
                if nix.is_valid_path(top):
                    stack.pop()
                    continue
                info = self._portable(top)
                missing = [one for one in info.references if one != top and not nix.is_valid_path(one)]
                if missing:
                    stack.extend(missing)
                    continue
                stack.pop()
                self._add(nix, info)

    def _portable(self, path: str) -> ObjectInfo:
        info = find_info(self.store, path)
        if info is None:
            raise BuildError(
                f"{path} is neither in the Python store nor in the Nix store",
                stage=name_part(path),
                hint="run it again",
            )
        if info.content_address is None:
            raise BuildError(
                f"{path} was built by the local builder, and Nix does not take it for its own",
                stage=name_part(path),
                hint="build it with Nix as well, or everything with --builder local",
            )
        return info

    def _add(self, nix: Connection, info: ObjectInfo) -> None:
        kind = (info.content_address or "").rpartition(":")[0]
        real = self.store.place_of(info.path)
        name = name_part(info.path)
        if info.path in info.references:
            try:
                known = PathInfo(
                    info.path, None, info.nar_hash, info.references, 0, info.nar_size, False, (), info.content_address
                )
                nix.add_nar_to_store(known, nar.pack_chunks(real))
            except NixError as error:
                raise BuildError(
                    f"{info.path} refers to itself, and this Nix does not take it: {error}",
                    stage=name,
                    hint="Nix 2.17 to 2.34 hash self references in another way than others; let the stage write "
                    "relative paths, or make it anew where it is used",
                ) from error
        elif kind == "fixed:r:sha256":
            nix.add_to_store(name, kind, info.references, nar.pack_chunks(real))
        else:
            with real.open("rb") as file:
                nix.add_to_store(name, kind, info.references, iter(lambda: file.read(1 << 20), b""))

    def prepare(self, tasks: Sequence[Task], known: Collection[str] = ()) -> None:
        """Bring the derivations of tasks to Nix, and all that they need.

        Parameters
        ----------
        known
            Those that Nix has itself evaluated to others.
        """
        drvs: dict[str, tuple[str, bytes, frozenset[str]]] = {}
        objects: dict[str, SourceObject] = {}
        needed: dict[str, None] = {}
        stack: list[tuple[Node, Task | None]] = [(task.node, task) for task in tasks]
        seen: set[str] = set()
        while stack:
            node, task = stack.pop()
            if node.source is not None:
                objects[node.path] = node.source
                needed[node.path] = None
                continue
            found = task.resolved if task is not None else node.instantiated
            assert found is not None
            if found.path in seen or node.foreign or found.path in known:
                continue
            seen.add(found.path)
            drv = found.derivation
            references = frozenset(derivation_references(drv))
            drvs[found.path] = (drv.name + DRV_SUFFIX, found.aterm, references)
            objects |= {one.path: one for one in node.objects}
            needed |= dict.fromkeys(drv.input_srcs)
            # A fixed output that we fetched needs no download by Nix.
            for output in drv.outputs:
                path = drv.output_path(output)
                if drv.is_fixed and path is not None and find_info(self.store, path) is not None:
                    needed[path] = None
            for used in node.inputs:
                if used.source is not None or used.path in drv.input_drvs:
                    stack.append((used, None))
        with self.connection() as nix:
            valid = nix.query_valid_paths([*needed, *drvs])
            for path in needed:
                if path in valid:
                    continue
                if path in objects:
                    bring_source(nix, objects[path])
                else:
                    self.push(path)
            for path in _inputs_first({path: drv[2] for path, drv in drvs.items() if path not in valid}):
                nix.add_derivation(*drvs[path])


def _inputs_first(references: dict[str, frozenset[str]]) -> list[str]:
    from graphlib import TopologicalSorter

    graph = {path: [used for used in refers if used in references] for path, refers in references.items()}
    return list(TopologicalSorter(graph).static_order())
