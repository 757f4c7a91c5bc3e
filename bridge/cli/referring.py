"""What an argument refers to: a target is looked at as a plan, all else is a reference, which the store answers."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from bridge.formats.errors import BridgeError
from bridge.formats.store_path import STORE_DIR
from bridge.stages.errors import TargetError
from bridge.store.beside import inventory_beside
from bridge.store.catalogue import Catalogue, Entry, catalogue, no_cycle_search, of_stage
from bridge.store.layout import Store

from .counting import counting
from .render import dim, paint, print_error
from .setting import find_nix, open_located

if TYPE_CHECKING:
    from bridge.look.ground import Ground
    from bridge.realize.engine import Outcome
    from bridge.stages.plan import Node, Plan

__all__ = [
    "TargetName",
    "catalogued",
    "chosen_entries",
    "ground_of",
    "listed",
    "one_entry",
    "open_to_ask",
    "planned",
    "refuse_unrealized",
    "target_named",
    "unless_imported",
]

_TARGET = re.compile(r"(?P<file>[^:]*\.py|[\w.]+(?=:))(?::(?P<stage>[^/]*))?(?:/(?P<below>.*))?", re.DOTALL)
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def ground_of(store: Store) -> Ground:
    """The store, with what asking needs."""
    from bridge.look.ground import Ground

    return Ground(store, find_nix())


def open_to_ask(option: str | None, reference: str | None) -> Store:
    """The store that is asked, about a reference or all; of a target also one that is not there yet, which has nothing.

    Raises
    ------
    StoreError
        If there is none.
    """
    return open_located(option, reference, create=reference is not None and _TARGET.fullmatch(reference) is not None)


def catalogued(store: Store) -> Catalogue:
    """The realizations of a store; what is wrong with others is said, and how far reading has come."""
    with counting("new records:") as count:
        return catalogue(store, on_damaged=print_error, on_progress=count)


def listed(store: Store, stage: str | None = None, *, sized: bool = False) -> list[Entry]:
    """The realizations of a store, or of a stage, one by one."""
    with no_cycle_search(), inventory_beside(store) if sized else nullcontext():
        found = of_stage(catalogued(store), stage)
        return list(found.sized(store) if sized else found)


@dataclass(frozen=True, slots=True)
class TargetName:
    """A target, and what of it is meant.

    Parameters
    ----------
    target
        FILE.py[:STAGE] or package.module[:STAGE].
    stage
        Its stage, where one is named.
    output
        As ID^OUTPUT names it; empty for the default one.
    below
        The path behind it; None without a slash.
    """

    target: str
    stage: str | None = None
    output: str = ""
    below: str | None = None


def target_named(ground: Ground, text: str) -> TargetName | None:
    """The target that a text names; None if it is a reference.

    Raises
    ------
    AmbiguousError
        If it is the name of a tag or a stage as well.
    """
    if text.startswith(("@", ":")):
        return None
    found = _TARGET.fullmatch(text)
    if found is not None and ":" not in text and _is_in_result(ground, text):
        return None
    if found is not None and not (os.path.lexists(text) and not found["file"].endswith(".py")):
        stage, _, output = (found["stage"] or "").partition("^")
        name = TargetName(f"{found['file']}:{stage}" if stage else found["file"], stage or None, output, found["below"])
        if "/" not in text and ":" not in text:
            _refuse_ambiguous(ground, text, f"./{text}", "the stage file")
        return name
    if _DOTTED.fullmatch(text) is None or not _is_module(text):
        return None
    if "." in text:
        _refuse_ambiguous(ground, text, f"{text.replace('.', '/')}.py", "the module")
        return TargetName(text)
    # A word is a module's name only if it is nothing else.
    return None if _is_known(ground, text) else TargetName(text)


def _is_in_result(ground: Ground, text: str) -> bool:
    """Whether a path that ends as a stage file does is that of a file in a result: ID/FILE.py."""
    from bridge.look.references import leads_to_object

    folder, slash, _ = text.rpartition("/")
    if not slash or not folder:
        return False
    if text.startswith(f"{STORE_DIR}/") or leads_to_object(ground, folder):
        return True
    name = text.partition("/")[0].partition("^")[0]
    return bool(name) and not os.path.lexists(text) and _is_known(ground, name)


def _is_known(ground: Ground, name: str) -> bool:
    """Whether something is called so, or an id begins so."""
    from bridge.look.references import meanings

    return bool(meanings(ground, name)) or any(one.startswith(name) for one in ground.listed().column("id"))


def _refuse_ambiguous(ground: Ground, text: str, written: str, what: str) -> None:
    from bridge.look.errors import AmbiguousError
    from bridge.look.references import Meaning, meanings

    found = [one for one in meanings(ground, text) if not one.written.startswith("./")]
    if found:
        raise AmbiguousError(text, [Meaning(what, written), *found])


def _is_module(name: str) -> bool:
    """Whether a module can be imported by a name, as far as its package tells; of Python's own, none has stages."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return False
    return top in sys.modules or PathFinder.find_spec(top, [os.getcwd(), *sys.path]) is not None


def planned(target: str, settings: Sequence[str] | None, store: str | None, builder: str) -> tuple[Plan, Outcome]:
    from .looking import look

    plan, _, outcome, _ = look(target, settings, store, builder)
    return plan, outcome


def refuse_unrealized(nodes: Iterable[Node], outcome: Outcome, target: str) -> None:
    """For what needs results of all these stages of a target.

    Raises
    ------
    TargetError
        If one is not realized.
    """
    missing = [node.label for node in nodes if node not in outcome.choices]
    if missing:
        raise TargetError(f"not realized: {', '.join(missing)}", hint=f"run nixbridge realize {target}")


def unless_imported(store: Store, target: TargetName, error: BridgeError) -> str:
    """The stage that a target names, which the store knows though the target can not be loaded; says so."""
    if not target.stage or not listed(store, target.stage):
        raise error
    print(f"{paint('warning:', 'yellow')} {target.target} can not be loaded: {error}", file=sys.stderr)
    print(dim(f"the store answers, for all stages that are called {target.stage}"), file=sys.stderr)
    return target.stage


def chosen_entries(
    ground: Ground, reference: str, store: str | None, settings: Sequence[str] | None = None, builder: str = "auto"
) -> list[Entry]:
    """The realizations that were chosen of a target, oldest first; the one that a reference names.

    Raises
    ------
    TargetError
        If there is none, with near misses.
    """
    from bridge.look.references import one_named

    target = target_named(ground, reference)
    if target is None:
        return [one_named(ground, reference)]
    try:
        plan, outcome = planned(target.target, settings, store, builder)
    except BridgeError as error:
        return [one_named(ground, f":{unless_imported(ground.store, target, error)}")]
    refuse_unrealized(plan.targets, outcome, target.target)
    ids = {one.id for node in plan.targets for one in outcome.choices[node].chosen}
    found = [one for one in ground.entries() if one.id in ids]
    if not found:
        raise TargetError(f"{reference} is a source, which has no realizations", hint="name a stage that runs")
    return found


def one_entry(
    ground: Ground, reference: str, store: str | None, settings: Sequence[str] | None = None, builder: str = "auto"
) -> Entry:
    """The one realization that a target or a reference names.

    Raises
    ------
    TargetError
        If there is none, or a target chose several.
    """
    found = chosen_entries(ground, reference, store, settings, builder)
    if len(found) != 1:
        ids = "".join(f"\n  {one.id}  a realization of {one.stage}" for one in found[:20])
        raise TargetError(f"{reference} stands for {len(found)} realizations:{ids}", hint="name one by its id")
    return found[0]
