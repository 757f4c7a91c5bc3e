"""Stop before a stage runs: its inputs are realized, its output folder is there, and the user takes over."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from bridge.nix.installation import Installation, find
from bridge.stages.plan import Node, Plan, instantiate
from bridge.stages.values import PythonRecipe, ShellRecipe, Stage
from bridge.store.layout import Store, open_located

from .choosing import Choice, candidates_of, previous_of, resolved_of, seed_of, unused_indices
from .engine import Options, realize
from .errors import RealizeError
from .events import Reporter
from .make import Maker
from .nix_store import NixStore
from .places import Places
from .session import PythonSession, ShellSession, open_indices
from .task import Context, Task
from .workers import ForkWorkers

__all__ = ["debug"]


def debug(
    what: Plan | Stage | Sequence[Stage],
    stage: str | None = None,
    *,
    store: Store | str | Path | None = None,
    nix: Installation | Literal["auto"] | None = "auto",
    options: Options | None = None,
    index: int | None = None,
    register: bool = True,
    report: Reporter = lambda event: None,
) -> PythonSession | ShellSession:
    """Realize what a stage needs, stop before it runs, and hand it over.

    Parameters
    ----------
    what
        A plan, or stages.
    stage
        The stage's name or label; what there is one target of needs none.
    store
        A store or its folder; the one that the command would take, without it.
    nix
        The Nix to build inputs with; the one in PATH without it.
    index
        Which realization it is to be; the next one that there is none of, without it.
    register
        Whether the result may be accepted; else a shell stage's outputs are scratch folders as well.

    Raises
    ------
    TargetError
        If no stage is named so.
    RealizeError
        If an input fails, or the stage is of a kind that has nothing to enter.
    """
    plan = what if isinstance(what, Plan) else instantiate([what] if isinstance(what, Stage) else what)
    node = _the_node(plan, stage)
    if not isinstance(store, Store):
        store = open_located(None if store is None else os.fspath(store), os.environ, Path.cwd())
    installation = find() if nix == "auto" else nix
    context = Context(store, Places(store, installation), report)
    choices = _inputs(plan, node, context, installation, options)
    task = _task(context, node, choices, index)
    with ForkWorkers() as workers:
        nix_store = NixStore(store, installation) if installation is not None else None
        try:
            task = Maker(context, workers, choices, nix_store).provided(task)
        finally:
            if nix_store is not None:
                nix_store.close()
    kind = PythonSession if isinstance(node.stage.recipe, PythonRecipe) else ShellSession
    return kind(context, task, register=register)


def _the_node(plan: Plan, name: str | None) -> Node:
    found = list(plan.targets) if name is None else plan.named(name)
    if len(found) > 1:
        labels = ", ".join(node.label for node in found)
        raise RealizeError(f"one stage is entered at a time, and these are {len(found)}: {labels}", hint="name one")
    (node,) = found
    if not isinstance(node.stage.recipe, PythonRecipe | ShellRecipe):
        kind = type(node.stage.recipe).__name__.removesuffix("Recipe").lower()
        raise RealizeError(
            f"the stage {node.name} is a {kind}, which runs nothing of yours that could be entered",
            hint="enter a Python or a shell stage",
            file=node.stage.place.file,
            line=node.stage.place.line,
        )
    return node


def _inputs(
    plan: Plan, node: Node, context: Context, nix: Installation | None, options: Options | None
) -> dict[Node, Choice]:
    """Realize what a node uses."""
    needed = {node}
    for one in reversed(plan.nodes):
        if one in needed:
            needed.update(one.inputs)
    needed.discard(node)
    below = replace(plan, nodes=tuple(one for one in plan.nodes if one in needed), targets=node.inputs)
    return realize(below, context.store, nix=nix, options=options, report=context.report).choices


def _task(context: Context, node: Node, choices: Mapping[Node, Choice], index: int | None) -> Task:
    resolved, *others = resolved_of(node, choices)
    if others:
        # Each is a stage of its own; the first one that was not made is what fails or comes next.
        resolved = next(
            (one for one in (resolved, *others) if not candidates_of(context.places, node, one.path, by_nix=False)),
            resolved,
        )
    drv = resolved.path
    if index is None:
        index = unused_indices(context.store, drv, open_indices[drv] + 1)[-1]
    if node.stage.policy.deterministic:
        index = 0
    previous = previous_of(node, candidates_of(context.places, node, drv, by_nix=False))
    return Task(node, resolved, (), index, seed_of(drv, index), previous)
