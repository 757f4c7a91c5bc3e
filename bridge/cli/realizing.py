"""`realize`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.formats.derivation import DRV_SUFFIX
from bridge.realize.choosing import Choice, matcher_of
from bridge.realize.engine import Options, Outcome, realize
from bridge.realize.matchers import shown
from bridge.realize.places import Places
from bridge.realize.workers import default_jobs
from bridge.stages.errors import TargetError
from bridge.stages.plan import Node, Plan
from bridge.stages.policy import amount
from bridge.store.layout import Store

from .options import BuilderOption, ExecutorOption, JsonOption, SetOption, StoreOption, Target
from .progress import Progress
from .render import print_json
from .setting import assignment, builder_named, find_nix, open_located, plan_of, realization_named

__all__ = ["certain_to_run", "realize_command", "stage_json", "target_paths"]


def realize_command(
    target: Target,
    jobs: Annotated[int | None, typer.Option("-j", "--jobs", min=1, help="Runs at once; as many as cores.")] = None,
    rebuild: Annotated[
        list[str] | None, typer.Option(metavar="STAGE", help="Make new realizations of a stage; repeatable.")
    ] = None,
    more: Annotated[
        list[str] | None, typer.Option(metavar="STAGE=COUNT", help="Make so many more realizations; repeatable.")
    ] = None,
    redo: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Make a realization again, by its seed; repeatable.")
    ] = None,
    previous: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="STAGE=ID", help="Make a realization that goes on from another."),
    ] = None,
    resources: Annotated[
        list[str] | None,
        typer.Option("--resource", metavar="NAME=AMOUNT", help="What this machine has, such as gpu=2; repeatable."),
    ] = None,
    builder: BuilderOption = "auto",
    executor: ExecutorOption = "fork",
    executor_cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where large objects pass through to an executor's workers.")
    ] = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Take what bridge.lock pins; fail if the plan is no longer that.")
    ] = False,
    out_link: Annotated[
        Path | None,
        typer.Option("--out-link", "-o", metavar="NAME", help="Make a link to the result that keeps it from gc."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
    keep_going: Annotated[
        bool, typer.Option("-k", "--keep-going", help="Go on with what does not need a stage that failed.")
    ] = False,
    print_logs: Annotated[bool, typer.Option("-L", "--print-build-logs", help="Print the builds' logs.")] = False,
    keep_failed: Annotated[
        bool, typer.Option("-K", "--keep-failed", help="Keep what a failed build worked in; debug --failed enters it.")
    ] = False,
    pdb: Annotated[
        bool,
        typer.Option("--pdb", help="Where a Python stage raises, look at it with Python's debugger; one at a time."),
    ] = False,
    builders: Annotated[
        str | None, typer.Option(metavar="MACHINES", help="Nix's remote builders, as in nix.conf.")
    ] = None,
    max_jobs: Annotated[
        str | None,
        typer.Option(metavar="COUNT", help="Builds that Nix runs here at once: 0 for remote ones only, auto."),
    ] = None,
    cores: Annotated[int | None, typer.Option(min=0, help="NIX_BUILD_CORES of a build by Nix; 0 for all.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A setting of Nix for its builds; repeatable.")
    ] = None,
    settings: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Realize stages: run what is missing, choose, and print where the results lie.

    nixbridge realize stages.py:report
    """
    plan = plan_of(target, settings, store, frozen=locked)
    opened = open_located(store, target)
    nix = None if builder == "local" and not any(node.needs_nix for node in plan.nodes) else find_nix()
    pins = None
    if locked:
        from .locking import Locked

        pins = Locked(target, plan)
    options = Options(
        jobs=jobs or default_jobs(),
        executor_cache=executor_cache,
        keep_going=keep_going,
        builder=builder_named(builder),
        rebuild=frozenset(rebuild or ()),
        more=dict(map(_more, more or ())),
        redo=tuple(realization_named(opened, one) for one in redo or ()),
        previous={
            name: realization_named(opened, one)
            for name, one in (assignment(text, "--from STAGE=ID") for text in previous or ())
        },
        resources=dict(map(_resource, resources or ())),
        dry_run=dry_run,
        pinned={} if pins is None else pins.bring(opened, Places(opened, nix)),
        keep_failed=keep_failed,
        debugger=_debugger(executor) if pdb else None,
        nix_options=_nix_options(builders, max_jobs, cores, option or ()),
    )
    if pdb:
        options = replace(options, jobs=1)
    if executor == "fork" or dry_run:
        with Progress(plan.nodes, logs=print_logs, quiet=json, live=not pdb) as progress:
            outcome = realize(plan, opened, nix=nix, options=options, report=progress)
    else:
        # Imported late, like Dask itself: what runs here needs none of it.
        from bridge.realize.executors import executor_named

        with (
            executor_named(executor, jobs) as named,
            Progress(plan.nodes, logs=print_logs, quiet=json) as progress,
        ):
            options = replace(options, jobs=named.jobs)
            outcome = realize(plan, opened, nix=nix, options=options, report=progress, executor=named.executor)
    if pins is not None:
        pins.compare(outcome)
    places = Places(opened, nix)
    if out_link is not None and not dry_run:
        from .keeping import make_links

        found = [Path(path) for node in plan.targets for path in target_paths(outcome.choices[node], places)]
        make_links(opened, out_link, found)
    if json:
        print_json(_outcome_json(plan, outcome, places))
    elif dry_run:
        _print_pending(outcome, opened)
    else:
        for node in plan.targets:
            for path in target_paths(outcome.choices[node], places):
                print(path)


def _debugger(executor: str) -> dict[str, str]:
    """Where the debugger of `--pdb` talks to the user: the terminal, from the very process that failed."""
    if executor != "fork":
        raise TargetError(f"--pdb is for runs on this machine, not those of {executor}")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise TargetError(
            "--pdb needs a terminal", hint="without one, --keep-failed keeps what failed for nixbridge debug --failed"
        )
    return {"terminal": os.ttyname(0), "term": os.environ.get("TERM", "dumb")}


def _nix_options(
    builders: str | None, max_jobs: str | None, cores: int | None, options: Sequence[str]
) -> dict[str, str]:
    """Settings of Nix by name."""
    if max_jobs is not None and max_jobs != "auto" and not max_jobs.isdecimal():
        raise TargetError(f"--max-jobs {max_jobs}: a number or auto")
    named = {"builders": builders, "max-jobs": max_jobs, "cores": None if cores is None else str(cores)}
    found = {name: value for name, value in named.items() if value is not None}
    for text in options:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise TargetError(f"{text!r} is no setting of Nix", hint="write --option NAME=VALUE")
        found[name.strip()] = value
    return found


def _more(text: str) -> tuple[str, int]:
    name, count = assignment(text, "--more STAGE=COUNT")
    if not count.isdecimal() or not int(count):
        raise TargetError(f"--more {text}: {count!r} is no number of realizations")
    return name, int(count)


def _resource(text: str) -> tuple[str, int]:
    name, value = assignment(text, "--resource NAME=AMOUNT")
    try:
        return name, amount(value)
    except ValueError as error:
        raise TargetError(f"--resource {text}: {error}", hint="such as gpu=2 or mem=64G") from None


def target_paths(choice: Choice, places: Places) -> list[str]:
    """Where the results of a target lie on this machine."""
    found = choice.paths(choice.node.default_output)
    paths = [found] if isinstance(found, str) else found
    return [str(places.find(path)) for path in paths]


def _print_pending(outcome: Outcome, store: Store) -> None:
    if not outcome.pending:
        print("nothing to run", file=sys.stderr)
    certain = certain_to_run(outcome, store)
    for node, count in outcome.pending.items():
        runs = f" ({count} realizations)" if count > 1 else ""
        if node in certain:
            print(f"would run {node.label}{runs}")
            continue
        print(f"may run {node.label}{runs}: it depends on what comes of {', '.join(_waits_for(node, outcome))}")


def _waits_for(node: Node, outcome: Outcome) -> list[str]:
    """The stages that have to run before anybody knows whether a pending one has to."""
    if node not in outcome.pending or node in outcome.resolved:
        return []
    return list(dict.fromkeys(used.label for used in node.inputs if used in outcome.pending))


def certain_to_run(outcome: Outcome, store: Store) -> set[Node]:
    """Of the pending stages, those that run whatever comes of others: the rest may find that they have run already."""
    waiting = [node for node in outcome.pending if node not in outcome.resolved]
    folders = [folder for layer in store.layers for folder in os.listdir(layer.trace)] if waiting else []
    had = {folder[33:].removesuffix(DRV_SUFFIX) for folder in folders}
    return {node for node in outcome.pending if node in outcome.resolved or node.derivation.name not in had}


def _outcome_json(plan: Plan, outcome: Outcome, places: Places) -> dict[str, Any]:
    return {
        "built": not outcome.pending,
        "targets": [
            {
                "stage": node.name,
                "paths": target_paths(outcome.choices[node], places) if node in outcome.choices else [],
            }
            for node in plan.targets
        ],
        "stages": [stage_json(node, outcome) for node in plan.nodes],
    }


def stage_json(node: Node, outcome: Outcome) -> dict[str, Any]:
    """A stage of an outcome, for `--json`."""
    value: dict[str, Any] = {
        "stage": node.name,
        "label": node.label,
        "path": node.path,
        "missing": outcome.pending.get(node, 0),
        "waitsFor": _waits_for(node, outcome),
    }
    choice = outcome.choices.get(node)
    if choice is None or not choice.resolved:
        return value
    value["resolved"] = [one.path for one in choice.resolved]
    chosen = {one.id for one in choice.chosen}
    value["match"] = shown(matcher_of(node))
    value["realizations"] = [
        {
            "id": one.id,
            "chosen": one.id in chosen,
            "outputs": dict(one.outputs),
            "metrics": dict(one.metrics),
            "index": one.index,
            "result": one.result,
            "runner": one.field("runner"),
            "started": one.started,
            "stopped": one.stopped,
        }
        for one in choice.candidates
    ]
    return value
