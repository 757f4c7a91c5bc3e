"""`show`, `path`: looking without changing anything."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.look.kinds import KINDS
from bridge.realize.choosing import matcher_of
from bridge.realize.engine import Options, Outcome, realize
from bridge.realize.places import Places
from bridge.stages.errors import TargetError
from bridge.stages.plan import Node, Plan
from bridge.store.layout import Store

from .options import BuilderOption, JsonOption, SetOption, StoreOption, Target
from .realizing import certain_to_run, stage_json, target_paths
from .render import print_json, table
from .setting import builder_named, find_nix, open_located, plan_of

__all__ = ["look", "look_options", "path_command", "show_command"]


def look(
    target: str, settings: Sequence[str] | None, store: str | None, builder: str = "auto"
) -> tuple[Plan, Store, Outcome, Places]:
    options = look_options(builder)
    plan = plan_of(target, settings, store)
    opened = open_located(store, target)
    nix = find_nix()
    outcome = realize(plan, opened, nix=nix, options=options)
    return plan, opened, outcome, Places(opened, nix)


def look_options(builder: str) -> Options:
    """How to look at a plan: what there is, as it would be built."""
    return Options(dry_run=True, builder=builder_named(builder))


def show_command(
    target: Target,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show the stages of a plan: what each is, what it uses, and how many realizations there are.

    nixbridge show stages.py; nixbridge show stages.py:report --set train.rate=0.05 --json
    """
    plan, opened, outcome, _ = look(target, settings, store, builder)
    if json:
        print_json(
            [
                {
                    **stage_json(node, outcome),
                    "kind": KINDS[type(node.stage.recipe)],
                    "inputs": [used.path for used in node.inputs],
                    "file": node.stage.place.file,
                    "line": node.stage.place.line,
                }
                for node in plan.nodes
            ]
        )
        return
    rows = []
    certain = certain_to_run(outcome, opened)
    for node in plan.nodes:
        choice = outcome.choices.get(node)
        found = choice.candidates if choice is not None else outcome.candidates.get(node, ())
        have = "" if node.source is not None else str(len(found))
        match = "" if node.source is not None else repr(matcher_of(node))
        runs = str(outcome.pending.get(node, "")) if node in certain or node not in outcome.pending else "perhaps"
        to_run = [runs] if outcome.pending else []
        rows.append([node.label, KINDS[type(node.stage.recipe)], have, *to_run, match, _uses(node), node.path])
    print(table(rows, ["stage", "kind", "have", *(["to run"] if outcome.pending else []), "match", "uses", "path"]))


def _uses(node: Node) -> str:
    names = list(dict.fromkeys(used.label for used in node.inputs))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def path_command(
    target: Target,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print where realized stages lie; fails if one is not realized.

    nixbridge path stages.py:report
    """
    plan, _, outcome, places = look(target, settings, store, builder)
    missing = [node.name for node in plan.targets if node not in outcome.choices]
    missing += [node.name for node in plan.targets if node.source is not None and places.find(node.path) is None]
    if missing:
        raise TargetError(f"not realized: {', '.join(missing)}", hint=f"run nixbridge realize {target}")
    found = [(node.name, target_paths(outcome.choices[node], places)) for node in plan.targets]
    if json:
        print_json([{"stage": name, "paths": paths} for name, paths in found])
        return
    for _, paths in found:
        for path in paths:
            print(path)
