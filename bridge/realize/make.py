"""Make one realization here: have its inputs in the store, and run what its recipe says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bridge.formats.derivation import derivation_references
from bridge.stages.plan import Node
from bridge.stages.values import FetchRecipe, GitRecipe, PythonRecipe
from bridge.store.holds import hold
from bridge.store.info import ObjectInfo, find_info
from bridge.store.objects import add_copy, add_texts
from bridge.store.trace import Realization

from .build_local import build_local
from .choosing import Choice
from .events import Started
from .fetch import fetch
from .run_python import run_python
from .sources import add_source
from .task import Context, Task
from .workers import ForkWorkers

if TYPE_CHECKING:
    from .elsewhere import Elsewhere
    from .nix_store import NixStore

__all__ = ["Maker"]


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes realizations, in any number of threads.

    Parameters
    ----------
    choices
        What was chosen so far: of every input of what is made.
    nix
        Nix, where inputs may lie in its store.
    """

    context: Context
    executor: ForkWorkers | Elsewhere
    choices: Mapping[Node, Choice]
    nix: NixStore | None

    def make(self, task: Task) -> Realization:
        """Make and record one realization.

        Raises
        ------
        BridgeError
            If that fails; nothing of it is in the store then.
        """
        self.context.check()
        recipe = task.node.stage.recipe
        if isinstance(recipe, FetchRecipe | GitRecipe):
            self.context.report(Started(task.node, "fetch"))
            return fetch(self.context, task)
        task = self.provided(task)
        if isinstance(recipe, PythonRecipe):
            if recipe.beside:
                self.lay_beside(task)
            self.context.report(Started(task.node, "python", task.index))
            return run_python(self.context, self.executor, task)
        self.context.report(Started(task.node, "local", task.index))
        return build_local(self.context, task)

    def provided(self, task: Task) -> Task:
        """Have in the store what the task names: sources, code, and the derivation itself; the task with its inputs."""
        store = self.context.store
        sources = [one for one in (*task.node.objects, *(used.source for used in task.node.inputs)) if one is not None]
        hold(store, [one.path for one in sources])
        for one in sources:
            if self.context.places.find(one.path) is None:
                add_source(store, one)
        resolved = task.resolved
        add_texts(store, [(resolved.path, resolved.aterm, tuple(sorted(derivation_references(resolved.derivation))))])
        return replace(task, inputs=tuple(self.input_closure(task)))

    def lay_beside(self, task: Task) -> None:
        """Have the inputs in the store itself, also those that Nix built: relative links lead to them."""
        store = self.context.store
        for path in task.resolved.derivation.input_srcs:
            place = self.context.places.find(path)
            if place is None or place.parent == store.objects or store.has(path):
                continue
            info = find_info(store, path)
            if info is None and self.nix is not None:
                with self.nix.connection() as nix:
                    known = nix.query_path_info(path)
                if known is not None:
                    refers = tuple(sorted(known.references))
                    info = ObjectInfo(path, known.nar_hash, known.nar_size, refers, known.ca)
            if info is not None:
                add_copy(store, info, place)

    def input_closure(self, task: Task) -> list[str]:
        """Store paths that the task can see: what it names, and all that these refer to."""
        seen: dict[str, None] = {}
        in_nix = []
        stack = list(task.resolved.derivation.input_srcs)
        for used in task.node.inputs:
            # What is there of them: a failure that was kept has one output.
            stack += [path for one in self.choices[used].chosen for path in one.outputs.values()]
        hold(self.context.store, [*stack, *(task.previous.outputs.values() if task.previous is not None else ())])
        while stack:
            path = stack.pop()
            if path in seen:
                continue
            seen[path] = None
            info = find_info(self.context.store, path)
            if info is not None:
                stack.extend(info.references)
            else:
                in_nix.append(path)
        if in_nix and self.nix is not None:
            seen |= dict.fromkeys(self.nix.closure(in_nix))
        return list(seen)
