"""Hand deterministic stages to Nix: bring it what they need, have nix-build build, root what comes back."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bridge.formats import nar
from bridge.formats.derivation import DRV_SUFFIX, derivation_references
from bridge.formats.store_path import base_name, name_part
from bridge.nix import activity
from bridge.nix.build import build
from bridge.nix.client import Connection, connect
from bridge.nix.errors import NixBuildError, NixCancelledError
from bridge.nix.installation import Installation
from bridge.stages.plan import Node
from bridge.stages.recipes import SourceObject
from bridge.store.durable import disk_errors
from bridge.store.info import ObjectInfo, find_info
from bridge.store.trace import Realization, record

from .errors import BuildError, Interrupted
from .events import Line, Phase, Started
from .task import Context, Task

__all__ = ["NixBuilder"]

_GOALS = 100
"""Goals in one call of nix-build: many more make Nix slow (a thousand take five times as long)."""


@dataclass(slots=True)
class NixBuilder:
    """Nix, as the engine uses it: one connection, which keeps what was brought from its collector."""

    context: Context
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

    # ------------------------------------------------------------------------------- bringing

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
        info = find_info(self.context.store, path)
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
        real = self.context.store.real_path(info.path)
        name = name_part(info.path)
        if info.path in info.references:
            raise BuildError(
                f"{info.path} refers to itself, which can not be brought to every Nix",
                stage=name,
                hint="let the stage write relative paths",
            )
        if kind == "fixed:r:sha256":
            nix.add_to_store(name, kind, info.references, nar.pack_chunks(real))
        else:
            with real.open("rb") as file:
                nix.add_to_store(name, kind, info.references, iter(lambda: file.read(1 << 20), b""))

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Bring the derivations of tasks to Nix, and all that they need."""
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
            if found.path in seen or node.foreign:
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
                if drv.is_fixed and path is not None and find_info(self.context.store, path) is not None:
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
                    nix.add_to_store(name_part(path), "fixed:r:sha256", (), objects[path].chunks())
                else:
                    self.push(path)
            for path in _inputs_first({path: drv[2] for path, drv in drvs.items() if path not in valid}):
                nix.add_derivation(*drvs[path])

    # ------------------------------------------------------------------------------- building

    def build(self, tasks: Sequence[Task], *, keep_going: bool, jobs: int) -> dict[Node, Realization]:
        """Build tasks with nix-build; gives those that succeeded.

        Raises
        ------
        NixError
            If nothing could be built for a reason that is no stage's.
        """
        by_drv = {task.resolved.path: task for task in tasks}
        needed_by_others = {path for task in tasks for path in task.resolved.derivation.input_drvs}
        goals = [path for path in by_drv if path not in needed_by_others]
        begun: dict[str, float] = {}

        def on_event(event: activity.Event) -> None:
            match event:
                case activity.BuildStarted(drv=drv) if drv in by_drv:
                    begun[drv] = time.time()
                    self.context.report(Started(by_drv[drv].node, "nix"))
                case activity.Phase(drv=drv, name=name) if drv in by_drv:
                    self.context.report(Phase(by_drv[drv].node, name))
                case activity.Line(drv=drv, text=text) if drv in by_drv:
                    self.context.report(Line(by_drv[drv].node, text))

        self.prepare(tasks)
        with self.connection() as nix:
            for task in tasks:
                for path in _outputs(task).values():
                    nix.add_temp_root(path)
        failures: list[NixBuildError] = []
        for start in range(0, len(goals), _GOALS):
            try:
                build(
                    self.installation,
                    goals[start : start + _GOALS],
                    on_event=on_event,
                    keep_going=keep_going,
                    max_jobs=jobs,
                    cancel=self.context.cancelled,
                )
            except NixCancelledError as error:
                raise Interrupted("interrupted") from error
            except NixBuildError as error:
                failures.append(error)
                if not keep_going:
                    break
        made = self._take(tasks, begun)
        if failures and not made and not any(failure.failed for failure in failures):
            raise failures[0]
        self.failures = failures
        return made

    failures: list[NixBuildError] = field(default_factory=list)

    def failure(self, task: Task) -> BuildError:
        """Why a task of the last `build` gave nothing."""
        place = task.node.stage.place
        about = [error for error in self.failures if task.resolved.path in error.failed] or self.failures
        first = about[0] if about else None
        return BuildError(
            f"Nix can not build the stage {task.node.name}: {first.message if first else 'nix-build gave no output'}",
            stage=task.node.name,
            log_tail=first.log_tail if first else (),
            hint=first.hint if first else None,
            file=place.file,
            line=place.line,
        )

    def _take(self, tasks: Sequence[Task], begun: dict[str, float]) -> dict[Node, Realization]:
        """Root and record what there is now."""
        store = self.context.store
        made: dict[Node, Realization] = {}
        now = time.time()
        with self.connection() as nix:
            valid = nix.query_valid_paths([path for task in tasks for path in _outputs(task).values()])
            for task in tasks:
                outputs = _outputs(task)
                if not valid.issuperset(outputs.values()):
                    continue
                for path in outputs.values():
                    link = store.roots / f"nix-{base_name(path)}"
                    with disk_errors(f"the root {link} can not be made"), contextlib.suppress(FileExistsError):
                        os.symlink(path, link)
                    nix.add_indirect_root(str(link))
                made[task.node] = record(
                    store,
                    Realization(
                        drv=task.resolved.path,
                        outputs=outputs,
                        stage=task.node.name,
                        stage_drv=task.node.path,
                        runner="nix",
                        started=begun.get(task.resolved.path, now),
                        stopped=now,
                        host={"nix": self.installation.version_text()},
                    ),
                )
        return made


def _outputs(task: Task) -> dict[str, str]:
    drv = task.resolved.derivation
    return {name: path for name in drv.outputs if (path := drv.output_path(name)) is not None}


def _inputs_first(references: dict[str, frozenset[str]]) -> list[str]:
    from graphlib import TopologicalSorter

    graph = {path: [used for used in refers if used in references] for path, refers in references.items()}
    return list(TopologicalSorter(graph).static_order())
