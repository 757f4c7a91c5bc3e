"""What several commands need first: the store, Nix, the plan of a target."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from bridge.nix.installation import Installation, find
from bridge.stages.errors import TargetError
from bridge.stages.policy import Builder
from bridge.store.errors import StoreError
from bridge.store.layout import Store, locate, locate_lower, open_store

if TYPE_CHECKING:
    from bridge.stages.plan import Plan
    from bridge.store.trace import Realization

__all__ = ["assignment", "builder_named", "find_nix", "open_located", "plan_of", "realization_named", "target_folder"]


def target_folder(target: str | None) -> Path:
    """Where to begin to look for the project: beside the target's file, else here.

    Raises
    ------
    TargetError
        If "here" has been removed.
    """
    if target is not None:
        file = Path(target.partition(":")[0])
        if file.suffix == ".py" and file.is_file():
            return file.resolve().parent
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise TargetError("the working folder is no longer there", hint="cd to one that is") from error


def open_located(option: str | None, target: str | None = None, *, create: bool = True) -> Store:
    """The store that the option, the environment or the project names.

    Raises
    ------
    StoreError
        Without `create`, if there is none.
    """
    project = target_folder(target)
    root = locate(option, os.environ, project)
    lower = locate_lower(os.environ, project)
    # Whoever only asks need not have one of his own yet.
    if not create and not lower and not (root / "info").is_dir():
        hint = "nixbridge realize makes one; --store or NIXBRIDGE_STORE name another"
        raise StoreError(f"there is no store at {root}", hint=hint)
    return open_store(root, lower)


def builder_named(text: str) -> Builder:
    """What builds deterministic stages, by an option.

    Raises
    ------
    TargetError
        If there is none of that name.
    """
    found: Builder | None = next((one for one in get_args(Builder) if one == text), None)
    if found is None:
        raise TargetError(f"there is no builder {text!r}", hint=f"one of {', '.join(get_args(Builder))}")
    return found


def find_nix() -> Installation | None:
    """The Nix on PATH."""
    return find(os.environ)


def plan_of(
    target: str, settings: Sequence[str] | None = None, store: str | None = None, *, frozen: bool = False
) -> Plan:
    """The instantiated plan of a target.

    Parameters
    ----------
    settings
        `STAGE.PARAM=VALUE` texts.
    store
        The option that names the store, which keeps what Nix evaluated.
    frozen
        Whether all flakes must be locked already.
    """
    from bridge.stages.load import load_targets
    from bridge.stages.override import override
    from bridge.stages.plan import instantiate, needs_evaluation

    stages = override(load_targets(target), dict(map(_setting, settings or ())))
    if not needs_evaluation(stages):
        return instantiate(stages)
    # Imported late: most plans ask Nix nothing.
    from bridge.lock.evaluating import evaluator_of
    from bridge.lock.file import LOCK_NAME

    return instantiate(stages, evaluator_of(target_folder(target) / LOCK_NAME, store=store, frozen=frozen))


def realization_named(store: Store, reference: str) -> Realization:
    """The one realization that a reference names.

    Raises
    ------
    TargetError
        If there is none, or are several.
    """
    from bridge.look.ground import Ground
    from bridge.look.references import one_named

    ground = Ground(store, find_nix())
    return ground.record(one_named(ground, reference))


def assignment(text: str, option: str) -> tuple[str, str]:
    """The two sides of NAME=VALUE; a stage's label may hold an equals sign itself."""
    name, equals, value = text.rpartition("=")
    if not equals or not name or not value:
        raise TargetError(f"{text!r} says no name and value", hint=f"write {option}")
    return name, value


def _setting(text: str) -> tuple[tuple[str, str], object]:
    name, equals, value = text.partition("=")
    stage, dot, parameter = name.rpartition(".")
    if not equals or not dot or not stage or not parameter:
        raise TargetError(f"{text!r} is no setting", hint="write --set STAGE.PARAM=VALUE")
    try:
        return (stage, parameter), json.loads(value)
    except ValueError:
        return (stage, parameter), value
