"""`check` and `adopt`."""

from __future__ import annotations

import getpass
import socket
import sys
import time
from dataclasses import asdict, replace
from typing import Annotated, cast

import typer

from bridge.formats.store_path import STORE_DIR
from bridge.realize.check import Checked, check
from bridge.realize.engine import Options, realize
from bridge.realize.places import Places
from bridge.realize.task import Context
from bridge.realize.workers import ForkWorkers
from bridge.stages.errors import TargetError
from bridge.stages.plan import resolve
from bridge.stages.values import Builder
from bridge.store.holds import hold
from bridge.store.layout import Store
from bridge.store.trace import Realization, realizations, record, resolved_derivations

from .options import BuilderOption, JsonOption, SetOption, StoreOption, Target
from .render import paint, print_json
from .setting import find_nix, open_located, plan_of, realization_named

__all__ = ["adopt_command", "check_command"]


def check_command(
    target: Target,
    stages: Annotated[
        list[str] | None, typer.Option("--stage", metavar="STAGE", help="Only this stage; repeatable.")
    ] = None,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Run chosen realizations again, by the same seeds, and say which files differ; fails if some do."""
    plan = plan_of(target, settings, store)
    opened = open_located(store, target)
    nix = find_nix()
    outcome = realize(plan, opened, nix=nix, options=Options(dry_run=True, builder=cast(Builder, builder)))
    context = Context(opened, Places(opened, nix), lambda event: None)
    found: list[Checked] = []
    with ForkWorkers() as executor:
        for checked in check(plan, outcome, context, executor, stages or ()):
            found.append(checked)
            if not json:
                _print(checked)
    if json:
        print_json(
            [
                {
                    "stage": one.node.name,
                    "id": one.realization.id,
                    "same": not one.differences,
                    "differences": [asdict(difference) for difference in one.differences],
                }
                for one in found
            ]
        )
    if any(one.differences for one in found):
        raise typer.Exit(1)


def _print(checked: Checked) -> None:
    name = f"{checked.node.label} ({checked.realization.id})"
    if not checked.differences:
        print(f"{paint('✔', 'green', sys.stdout)} {name}: the same")
        return
    print(f"{paint('✘', 'red', sys.stdout)} {name}: {len(checked.differences)} differ")
    for one in checked.differences:
        output = "" if one.output == "out" else f"{one.output}: "
        print(f"  {one.what}: {output}{one.path or '.'}")


def adopt_command(
    old: Annotated[str, typer.Argument(metavar="ID|DRV", help="A realization, or a derivation with all of its own.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The stage that takes them over.")],
    why: Annotated[str, typer.Option(metavar="TEXT", help="What is recorded as the reason.")] = "",
    settings: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Take realizations of an older derivation over, as after a rename that changed nothing.

    They are recorded as adopted, with who did it and why; the old records stay.
    """
    plan = plan_of(target, settings, store)
    opened = open_located(store, target)
    if len(plan.targets) != 1:
        raise TargetError(f"{target} names {len(plan.targets)} stages", hint="name one of them, as in FILE.py:STAGE")
    [node] = plan.targets
    found = _named(opened, old)
    outcome = realize(plan, opened, nix=find_nix(), options=Options(dry_run=True))
    missing = [used.name for used in node.inputs if used not in outcome.choices]
    if node.instantiated is None or (node.waits and missing):
        raise TargetError(
            f"the stage {node.name} can not take realizations over: {', '.join(missing) or 'it is a source'} "
            "is not realized",
            hint="realize what it needs first",
        )
    resolved = node.instantiated
    if node.waits:
        resolved = resolve(node, lambda used, output: outcome.choices[used].paths(output))
    made = []
    hold(opened, [path for one in found for path in one.outputs.values()])
    for one in found:
        if set(one.outputs) != set(resolved.derivation.outputs):
            raise TargetError(f"{one.id} has the outputs {', '.join(one.outputs)}, unlike the stage {node.name}")
        if one.drv == resolved.path:
            raise TargetError(f"{one.id} is a realization of the stage {node.name} already")
        origin = {"drv": one.drv, "id": one.id, "who": _who(), "why": why, "when": time.time()}
        made.append(
            record(
                opened,
                replace(one, drv=resolved.path, stage=node.name, stage_drv=node.path, adopted=origin, id=""),
            )
        )
    if json:
        print_json([{"id": one.id, "adopted": dict(one.adopted or {})} for one in made])
        return
    for one in made:
        print(one.id)


def _named(store: Store, old: str) -> list[Realization]:
    """The whole realizations that an id or a derivation names."""
    if not old.startswith(f"{STORE_DIR}/"):
        return [realization_named(store, old)]
    every = (one for drv in resolved_derivations(store) for one in realizations(store, drv))
    found = [one for one in every if old in (one.drv, one.stage_drv) and one.result == "done"]
    if not found:
        raise TargetError(f"there is no realization of {old}", hint="nixbridge ls --json lists all, with their drv")
    return found


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"
