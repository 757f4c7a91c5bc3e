"""Run chosen realizations again and compare: what `nix-build --check` does, for every kind of stage.

A Python stage runs with the index and the seed that it had, in a store of its own that is gone afterwards; the
local builder builds again there; Nix checks what it built itself. Nothing is recorded.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.formats.derivation import derivation_references
from bridge.formats.errors import BridgeError
from bridge.nix.installation import Installation
from bridge.stages.plan import Node, Plan
from bridge.stages.resolve import question
from bridge.store.durable import temporary
from bridge.store.layout import Store, open_store
from bridge.store.objects import add_texts, remove_tree
from bridge.store.trace import Realization, find_realizations

from .build_local import build_local
from .build_nix import KEPT
from .choosing import Choice
from .engine import Outcome
from .errors import BuildError, RealizeError
from .make import Maker
from .places import Places
from .run_python import run_python
from .task import Context, Task
from .workers import ForkWorkers

if TYPE_CHECKING:
    from .elsewhere import Elsewhere

__all__ = ["Checked", "Difference", "check"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A file of an output that came out otherwise: `contents`, `mode`, `kind`, or only in one of the two."""

    output: str
    path: str
    what: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A realization that was made again; no differences if the same came out.

    Parameters
    ----------
    left
        What Nix keeps of it and only Nix may remove.
    """

    node: Node
    realization: Realization
    differences: tuple[Difference, ...]
    left: tuple[Path, ...] = ()


def check(
    plan: Plan, outcome: Outcome, context: Context, executor: ForkWorkers | Elsewhere, names: Iterable[str] = ()
) -> Iterator[Checked]:
    """Make the chosen realizations of stages again, one after the other, and compare.

    Parameters
    ----------
    outcome
        Of a plan that is realized.
    names
        Which stages; all without it.

    Raises
    ------
    RealizeError
        For a stage that is not realized.
    BuildError
        If a stage fails this time.
    TargetError
        For a name that no stage has.
    """
    wanted = [node for name in names for node in plan.named(name)] or [
        node for node in plan.nodes if node.source is None
    ]
    for node in wanted:
        choice = outcome.choices.get(node)
        if choice is None or not choice.resolved:
            raise RealizeError(f"the stage {node.name} is not realized", hint="run nixbridge realize first")
        for one in choice.chosen:
            realization = one.realization
            left: list[Path] = []
            if realization.runner == "nix":
                differences, left = _by_nix(context.places.nix, realization, _built(plan, choice, realization))
            elif realization.runner == "fetch":
                # Its hash was checked when it came.
                continue
            else:
                differences = _again(context, executor, outcome, choice, realization)
            yield Checked(node, realization, tuple(differences), tuple(left))


def _again(
    context: Context, executor: ForkWorkers | Elsewhere, outcome: Outcome, choice: Choice, realization: Realization
) -> list[Difference]:
    resolved = next(one for one in choice.resolved if one.path == realization.drv)
    previous = find_realizations(context.store, realization.previous) if realization.previous else [None]
    if not previous:
        raise RealizeError(f"the realization {realization.previous} is gone, which {realization.id} went on from")
    task = Task(choice.node, resolved, (), realization.index, realization.seed, previous[0])
    inputs = Maker(context, executor, outcome.choices, None).input_closure(task)
    task = replace(task, inputs=tuple(inputs))
    with _store_beside(context.store) as store:
        add_texts(store, [(resolved.path, resolved.aterm, tuple(sorted(derivation_references(resolved.derivation))))])
        there = replace(context, store=store, places=Places(context.store, context.places.nix))
        made = run_python(there, executor, task) if realization.runner == "python" else build_local(there, task)
        if made.result == "failed" != realization.result:
            raise BuildError(
                f"the stage {made.stage} fails this time: {(made.error or {}).get('message')}", stage=made.stage
            )
        return [
            difference
            for name, path in realization.outputs.items()
            for difference in compare(name, context.store.place_of(path), store.real_path(made.outputs[name]))
        ]


@contextlib.contextmanager
def _store_beside(store: Store) -> Iterator[Store]:
    """A store on the same disk that is gone afterwards."""
    folder = temporary(store)
    try:
        yield open_store(folder)
    finally:
        remove_tree(folder)


def _built(plan: Plan, choice: Choice, realization: Realization) -> str:
    """The derivation that Nix built for a realization: of a stage written in Nix, what that evaluates to."""
    node = choice.node
    if not node.evaluated_late or plan.evaluator is None:
        return realization.drv
    resolved = next(one for one in choice.resolved if one.path == realization.drv)
    [answer] = plan.evaluator.evaluate([question(node, resolved)])
    if isinstance(answer, BridgeError):
        raise node.stage.place.error(f"the stage {node.name}: {answer}", hint=answer.hint)
    return answer.instantiated.path


def _by_nix(nix: Installation | None, realization: Realization, drv: str) -> tuple[list[Difference], list[Path]]:
    """Have Nix build a derivation again; how it differs, and what Nix left that we may not remove."""
    if nix is None:
        raise RealizeError(f"Nix built {realization.stage}, and there is none here to check it")
    # Only so does Nix keep another result, to be compared; and the folder of the build, for nobody.
    done = nix.run([nix.program("nix-store"), "--realise", drv, "--check", "--keep-failed"], timeout=None)
    kept = [Path(found[2]) for found in KEPT.finditer(done.stderr)]
    if done.returncode == 0:
        return [], _removed(kept)
    found: list[Difference] = []
    for name, path in realization.outputs.items():
        again = nix.real_path(path + ".check")
        if os.path.lexists(again):
            kept.append(again)
            found += compare(name, nix.real_path(path), again)
    left = _removed(kept)
    if not found and "deterministic" in done.stderr:
        return [Difference(name, "", "contents") for name in realization.outputs], left
    if not found:
        *log, said = done.stderr.strip().splitlines() or [f"nix-store ended with {done.returncode}"]
        raise BuildError(
            f"Nix can not check the stage {realization.stage}: {said}", stage=realization.stage, log_tail=log[-20:]
        )
    return found, left


def _removed(places: Iterable[Path]) -> list[Path]:
    """Remove what may be removed; gives the rest."""
    left = []
    for place in places:
        remove_tree(place)
        if os.path.lexists(place):
            left.append(place)
        elif place.parent.name.startswith("nix-build-"):
            # Since Nix 2.30 the folder of a build lies in another one.
            with contextlib.suppress(OSError):
                place.parent.rmdir()
    return left


def compare(output: str, old: Path, new: Path) -> Iterator[Difference]:
    """How two trees differ, in the order of their names."""
    pending = [""]
    while pending:
        path = pending.pop()
        one, two = old / path, new / path
        before, after = one.lstat(), two.lstat()
        if stat.S_IFMT(before.st_mode) != stat.S_IFMT(after.st_mode):
            yield Difference(output, path, "kind")
        elif stat.S_ISLNK(before.st_mode):
            if os.readlink(one) != os.readlink(two):
                yield Difference(output, path, "contents")
        elif stat.S_ISREG(before.st_mode):
            if before.st_size != after.st_size or not _same(one, two):
                yield Difference(output, path, "contents")
            elif (before.st_mode ^ after.st_mode) & stat.S_IXUSR:
                yield Difference(output, path, "mode")
        else:
            names, others = set(os.listdir(one)), set(os.listdir(two))
            for name in sorted(names ^ others):
                where = "now" if name in others else "before"
                yield Difference(output, os.path.join(path, name), f"only {where}")
            pending += [os.path.join(path, name) for name in sorted(names & others, reverse=True)]


def _same(one: Path, two: Path) -> bool:
    with one.open("rb") as first, two.open("rb") as second:
        while True:
            left, right = first.read(1 << 20), second.read(1 << 20)
            if left != right:
                return False
            if not left:
                return True
