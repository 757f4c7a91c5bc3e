"""`check` and `adopt`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.realize.adopt import adopt
from bridge.realize.check import Checked, check
from bridge.realize.choosing import resolved_of
from bridge.realize.engine import Options, realize
from bridge.realize.places import Places
from bridge.realize.task import Context
from bridge.realize.workers import ForkWorkers
from bridge.stages.errors import TargetError
from bridge.store.layout import Store
from bridge.store.trace import Realization

from .options import BuilderOption, ExecutorOption, JsonOption, SetOption, StoreOption, Target
from .referring import ground_of
from .render import paint, print_json
from .setting import builder_named, find_nix, open_located, plan_of

if TYPE_CHECKING:
    from bridge.realize.elsewhere import Elsewhere

__all__ = ["adopt_command", "check_command"]


def check_command(
    target: Target,
    stages: Annotated[
        list[str] | None, typer.Option("--stage", metavar="STAGE", help="Only this stage; repeatable.")
    ] = None,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    executor: ExecutorOption = "fork",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Run chosen realizations again, by the same seeds, and say which files differ; fails if some do.

    nixbridge check stages.py:report --stage train
    """
    plan = plan_of(target, settings, store)
    opened = open_located(store, target)
    nix = find_nix()
    outcome = realize(plan, opened, nix=nix, options=Options(dry_run=True, builder=builder_named(builder)))
    context = Context(opened, Places(opened, nix), lambda event: None)
    found: list[Checked] = []
    with _workers(executor, opened) as workers:
        for checked in check(plan, outcome, context, workers, stages or ()):
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
                    "left": [str(place) for place in one.left],
                }
                for one in found
            ]
        )
    if any(one.differences for one in found):
        raise typer.Exit(1)


@contextlib.contextmanager
def _workers(executor: str, store: Store) -> Iterator[ForkWorkers | Elsewhere]:
    """What runs Python stages, by its name."""
    if executor == "fork":
        with ForkWorkers() as workers:
            yield workers
        return
    # Imported late, like Dask itself.
    from bridge.realize.elsewhere import Elsewhere
    from bridge.realize.executors import executor_named

    with executor_named(executor, None) as named:
        assert named.executor is not None
        elsewhere = Elsewhere(named.executor, store)
        try:
            yield elsewhere
        finally:
            elsewhere.shutdown()


def _print(checked: Checked) -> None:
    name = f"{checked.node.label} ({checked.realization.id})"
    if not checked.differences:
        print(f"{paint('✔', 'green', sys.stdout)} {name}: the same")
        return
    print(f"{paint('✘', 'red', sys.stdout)} {name}: {len(checked.differences)} differ")
    for one in checked.differences:
        output = "" if one.output == "out" else f"{one.output}: "
        print(f"  {one.what}: {output}{one.path or '.'}")
    for place in checked.left:
        print(f"  Nix keeps {place}, which is not ours to remove")


def adopt_command(
    old: Annotated[str, typer.Argument(metavar="REF|DRV", help="A realization, or a derivation with all of its own.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The stage that takes them over.")],
    why: Annotated[str, typer.Option(metavar="TEXT", help="What is recorded as the reason.")] = "",
    settings: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Take realizations of an older derivation over, as after a rename that changed nothing.

    nixbridge adopt 014ycz stages.py:train --why 'renamed from fit'

    They are recorded as adopted, with who did it and why; the old records stay.
    """
    plan = plan_of(target, settings, store)
    opened = open_located(store, target, create=False)
    if len(plan.targets) != 1:
        raise TargetError(f"{target} names {len(plan.targets)} stages", hint="name one of them, as in FILE.py:STAGE")
    [node] = plan.targets
    found = _named(opened, old)
    nix = find_nix()
    outcome = realize(plan, opened, nix=nix, options=Options(dry_run=True))
    missing = [used.name for used in node.inputs if used not in outcome.choices]
    if node.instantiated is None or (node.waits and missing):
        raise TargetError(
            f"the stage {node.name} can not take realizations over: {', '.join(missing) or 'it is a source'} "
            "is not realized",
            hint="realize what it needs first",
        )
    resolved = resolved_of(node, outcome.choices)
    if len(resolved) != 1:
        raise TargetError(f"the stage {node.name} is made {len(resolved)} times, each for another input")
    made = adopt(Places(opened, nix), node, resolved[0], found, why)
    if json:
        print_json([{"id": one.id, "adopted": dict(one.adopted or {})} for one in made])
        return
    for one in made:
        print(one.id)


def _named(store: Store, old: str) -> list[Realization]:
    """The whole realizations that a reference names."""
    from bridge.look.references import named, newest

    ground = ground_of(store)
    found = named(ground, old)
    if found.kind != "derivation":
        return [ground.record(newest(found))]
    return [ground.record(one) for one in found.entries if one.result == "done"]
