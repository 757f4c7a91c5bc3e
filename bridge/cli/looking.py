"""`show`, `path`, `ls`, `log`, `verify`: looking without changing anything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, cast, get_args

import typer

from bridge.formats.errors import BridgeError
from bridge.formats.store_path import name_part
from bridge.realize.choosing import matcher_of
from bridge.realize.engine import Options, Outcome, realize
from bridge.realize.places import Places
from bridge.stages.errors import TargetError
from bridge.stages.plan import Node, Plan
from bridge.stages.values import (
    Builder,
    FetchRecipe,
    HostRecipe,
    NixRecipe,
    PythonRecipe,
    Recipe,
    ShellRecipe,
    SourceRecipe,
)
from bridge.store.layout import Store
from bridge.store.trace import Realization, realizations, resolved_derivations

from .options import BuilderOption, JsonOption, SetOption, StoreOption, Target
from .progress import candidate_table
from .realizing import stage_json, target_paths
from .render import age, duration, number, paint, print_error, print_json, size, table
from .setting import find_nix, open_located, plan_of, realization_named

__all__ = ["log_command", "ls_command", "path_command", "show_command", "verify_command"]

_KINDS: dict[type[Recipe], str] = {
    PythonRecipe: "python",
    ShellRecipe: "shell",
    FetchRecipe: "fetch",
    SourceRecipe: "source",
    HostRecipe: "host",
    NixRecipe: "nix",
}


def _look(
    target: str, settings: Sequence[str] | None, store: str | None, builder: str = "auto"
) -> tuple[Plan, Store, Outcome, Places]:
    if builder not in get_args(Builder):
        raise TargetError(f"there is no builder {builder!r}", hint=f"one of {', '.join(get_args(Builder))}")
    plan = plan_of(target, settings)
    opened = open_located(store, target)
    nix = find_nix()
    options = Options(dry_run=True, builder=cast(Builder, builder))
    outcome = realize(plan, opened, nix=nix, options=options)
    return plan, opened, outcome, Places(opened, nix)


def show_command(
    target: Target,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show the stages of a plan: what each is, what it uses, and how many realizations there are."""
    plan, _, outcome, _ = _look(target, settings, store, builder)
    if json:
        print_json(
            [
                {
                    **stage_json(node, outcome),
                    "kind": _KINDS[type(node.stage.recipe)],
                    "inputs": [used.path for used in node.inputs],
                    "file": node.stage.place.file,
                    "line": node.stage.place.line,
                }
                for node in plan.nodes
            ]
        )
        return
    rows = []
    for node in plan.nodes:
        choice = outcome.choices.get(node)
        found = choice.candidates if choice is not None else outcome.candidates.get(node, ())
        have = "" if node.source is not None else str(len(found))
        match = "" if node.source is not None else repr(matcher_of(node))
        rows.append([node.label, _KINDS[type(node.stage.recipe)], have, match, _uses(node), node.path])
    print(table(rows, ["stage", "kind", "have", "match", "uses", "path"]))


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
    """Print where realized stages lie; fails if one is not realized."""
    plan, _, outcome, places = _look(target, settings, store, builder)
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


def ls_command(
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]", help="A target, or nothing: the store.")] = None,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List realizations: of a target's stages, or all in the store."""
    if target is None:
        _ls_store(open_located(store), json)
        return
    plan, _, outcome, _ = _look(target, settings, store, builder)
    if json:
        print_json([stage_json(node, outcome) for node in plan.nodes if node.source is None])
        return
    for node in plan.nodes:
        choice = outcome.choices.get(node)
        if node.source is None:
            found = choice.candidates if choice is not None else outcome.candidates.get(node, ())
            if found:
                print(candidate_table(node, matcher_of(node), found, choice.chosen if choice is not None else ()))
            else:
                print(f"{paint(node.label, 'bold', sys.stdout)}: no realizations")


def _ls_store(store: Store, json: bool) -> None:
    found: list[Realization] = []
    for drv in resolved_derivations(store):
        try:
            found += realizations(store, drv)
        except BridgeError as error:
            print_error(error)
    found.sort(key=lambda one: one.started)
    if json:
        print_json([{"id": one.id, **one.to_json()} for one in found])
        return
    rows = [
        [
            one.id,
            one.stage,
            str(one.index),
            " ".join(f"{name}={number(value)}" for name, value in one.metrics.items()),
            one.runner,
            duration(one.stopped - one.started),
            age(one.started),
        ]
        for one in found
    ]
    if rows:
        print(table(rows, ["id", "stage", "#", "metrics", "by", "took", "when"]))


def log_command(
    target: Annotated[str, typer.Argument(metavar="TARGET|ID", help="A target, or the id of a realization.")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print the log of a stage's chosen realization, or of the realization with an id."""
    opened = open_located(store, target)
    found = [realization_named(opened, target)] if _is_id(target) else _chosen(target, store)
    logs = [(one, _log(opened, one)) for one in found]
    if json:
        print_json([{"id": one.id, "stage": one.stage, "drv": one.drv, "log": text} for one, text in logs])
        return
    for _, text in logs:
        sys.stdout.write(text)


def _is_id(target: str) -> bool:
    """Whether this can be the beginning of an id, and no target."""
    return target.isalnum()


def _chosen(target: str, store: str | None) -> list[Realization]:
    """The realizations that were chosen for a target."""
    plan, _, outcome, _ = _look(target, (), store)
    missing = [node.name for node in plan.targets if node not in outcome.choices or not outcome.choices[node].chosen]
    if missing:
        raise TargetError(f"not realized: {', '.join(missing)}", hint=f"run nixbridge realize {target}")
    return [one.realization for node in plan.targets for one in outcome.choices[node].chosen]


def _log(store: Store, realization: Realization) -> str:
    if realization.runner == "nix":
        from bridge.nix.build import read_log

        nix = find_nix()
        text = read_log(nix, realization.drv) if nix is not None else None
    else:
        file = store.logs / realization.log if realization.log else None
        text = file.read_text(errors="replace") if file is not None and file.exists() else None
    if text is None:
        raise TargetError(f"there is no log of the realization {realization.id} of {name_part(realization.drv)}")
    return text


def verify_command(store: StoreOption = None, json: JsonOption = False) -> None:
    """Check every object and record of the store."""
    import typer

    from bridge.store.verify import verify

    opened = open_located(store, create=False)
    nix = find_nix()
    shown = sys.stderr.isatty() and not json

    def progress(done: int, count: int) -> None:
        if shown and (done % 100 == 0 or done == count):
            print(f"\r{done}/{count} objects", end="" if done < count else "\n", file=sys.stderr, flush=True)

    places = Places(opened, nix)
    report = verify(opened, on_progress=progress, elsewhere=lambda path: places.find_in_nix(path) is not None)
    if json:
        print_json(
            {
                "store": str(opened.root),
                "objects": report.objects,
                "bytes": report.size,
                "records": report.records,
                "findings": [{"path": one.path, "message": one.message} for one in report.findings],
                "rubbish": report.rubbish,
            }
        )
    else:
        for one in report.findings:
            print(f"{paint('wrong:', 'red', sys.stdout)} {one.path}: {one.message}")
        state = f"{len(report.findings)} wrong" if report.findings else "clean"
        rubbish = f", {len(report.rubbish)} left by dead processes" if report.rubbish else ""
        print(
            f"{opened.root}: {report.objects} objects ({size(report.size)}), {report.records} records: {state}{rubbish}"
        )
    if report.findings:
        raise typer.Exit(1)
