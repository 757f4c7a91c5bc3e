"""What an argument refers to: a target is looked at as a plan, all else is a reference, which the store answers."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.formats.errors import BridgeError
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Entry, entries
from bridge.store.layout import Store

from .render import dim, paint, print_error
from .setting import find_nix

if TYPE_CHECKING:
    from bridge.look.ground import Ground
    from bridge.realize.engine import Outcome
    from bridge.stages.plan import Plan

__all__ = [
    "chosen_entries",
    "ground_of",
    "is_target",
    "listed",
    "one_entry",
    "planned",
    "split_target",
    "unless_imported",
]

_TARGET = re.compile(r"(?P<file>[^:]*\.py|[\w.]+(?=:))(?::(?P<stage>[^/]*))?(?:/(?P<below>.*))?", re.DOTALL)


def ground_of(store: Store) -> Ground:
    """The store, with what asking needs."""
    from bridge.look.ground import Ground

    return Ground(store, find_nix())


def listed(store: Store, stage: str | None = None, *, sizes: bool = False) -> list[Entry]:
    """The realizations of a store; what is wrong with others is said, and how far reading has come."""
    shown = False

    def progress(done: int, count: int) -> None:
        nonlocal shown
        if count > 10_000 and sys.stderr.isatty():
            shown = True
            print(f"\r{done}/{count} new records", end="" if done < count else "\n", file=sys.stderr, flush=True)

    return entries(store, stage=stage, sizes=sizes, on_damaged=print_error, on_progress=progress)


def split_target(text: str) -> tuple[str, str | None, str | None] | None:
    """The target in a text, its stage and the path behind it; None if it is no target, as far as one can see."""
    found = _TARGET.fullmatch(text)
    if found is None or (os.path.lexists(text) and not found["file"].endswith(".py")):
        return None
    file, stage, below = found["file"], found["stage"], found["below"]
    return (f"{file}:{stage}" if stage else file), stage or None, below


def is_target(store: Store, text: str) -> bool:
    """Whether stages are named, of a file or of a module; a tag may have dots as well."""
    from bridge.store.roots import tagged

    is_module = "." in text and "/" not in text and not text.startswith(".") and not os.path.lexists(text)
    return split_target(text) is not None or (is_module and tagged(store, text) is None)


def planned(target: str, settings: Sequence[str] | None, store: str | None, builder: str) -> tuple[Plan, Outcome]:
    from .looking import look

    plan, _, outcome, _ = look(target, settings, store, builder)
    return plan, outcome


def unless_imported(store: Store, target: str, stage: str | None, error: BridgeError) -> str:
    """The stage that a target names, which the store knows though the target can not be loaded; says so."""
    stage = stage and stage.partition("^")[0]
    if not stage or not listed(store, stage):
        raise error
    print(f"{paint('warning:', 'yellow')} {target} can not be loaded: {error}", file=sys.stderr)
    print(dim(f"the store answers, for all stages that are called {stage}"), file=sys.stderr)
    return stage


def chosen_entries(ground: Ground, reference: str, store: str | None) -> list[Entry]:
    """The realizations that were chosen of a target, oldest first; the one that a reference names.

    Raises
    ------
    TargetError
        If there is none, with near misses.
    """
    from bridge.look.references import one_named

    target = split_target(reference) or (reference, None, None)
    if not is_target(ground.store, reference):
        return [one_named(ground, reference)]
    try:
        plan, outcome = planned(target[0], None, store, "auto")
    except BridgeError as error:
        return [one_named(ground, unless_imported(ground.store, *target[:2], error))]
    missing = [node.name for node in plan.targets if node not in outcome.choices or not outcome.choices[node].chosen]
    if missing:
        raise TargetError(f"not realized: {', '.join(missing)}", hint=f"run nixbridge realize {target[0]}")
    ids = {one.id for node in plan.targets for one in outcome.choices[node].chosen}
    return [one for one in ground.entries() if one.id in ids]


def one_entry(ground: Ground, reference: str, store: str | None) -> Entry:
    """The one realization that a target or a reference names.

    Raises
    ------
    TargetError
        If there is none, or a target chose several.
    """
    found = chosen_entries(ground, reference, store)
    if len(found) != 1:
        listed = ", ".join(one.id for one in found[:5])
        raise TargetError(f"{reference} stands for {len(found)} realizations: {listed}", hint="name one by its id")
    return found[0]
