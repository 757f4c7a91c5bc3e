"""`find` and `history`: which realizations there are, and how a stage's have come along."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from bridge.formats.errors import BridgeError
from bridge.stages.errors import TargetError
from bridge.store.beside import inventory_beside
from bridge.store.catalogue import Catalogue, Entry, no_cycle_search, of_stage
from bridge.store.notes import notes
from bridge.store.trace import Result

from .asking import entry_json, print_entries, short
from .completing import references, stages
from .options import BuilderOption, JsonOption, SetOption, StoreOption
from .referring import catalogued, ground_of, open_to_ask, planned, target_named, unless_imported
from .render import age, clean, duration, number, paint, print_json, print_json_lines, size, table

if TYPE_CHECKING:
    from bridge.look.ground import Ground
    from bridge.look.history import History, Line

__all__ = ["find_command", "history_command"]

SortOption = Annotated[
    str | None,
    typer.Option(
        metavar="[-]KEY",
        help="A metric, config.NAME, age, duration, index, size; with - the largest first. Oldest first without it.",
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="The first N of a sorting, else the newest N.")
]


# ------------------------------------------------------------------------------------------- find


def find_command(
    pattern: Annotated[
        str | None,
        typer.Argument(metavar="[GLOB]", help="Files whose name, or path below the output, matches: '*.pt'."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Of stages whose names match.", autocompletion=stages)
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Such as 'accuracy > 0.9 and config.lr < 0.1'; repeatable."),
    ] = None,
    result: Annotated[str | None, typer.Option(metavar="done|failed|partial", help="How it ended.")] = None,
    newer: Annotated[str | None, typer.Option(metavar="AGE", help="Started less long ago: 30min, 2h, 7d.")] = None,
    older: Annotated[str | None, typer.Option(metavar="AGE", help="Started longer ago.")] = None,
    sort: SortOption = None,
    limit: LimitOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Find realizations, or with a GLOB files of them, by what is known of them.

    nixbridge find --stage 'train*' --where 'accuracy > 0.9' --where 'config.lr < 0.1' --newer 2d

    A condition has metrics by name, config.NAME, and id, stage, index, result, runner, size, duration and age in
    seconds; compared by == != < <= > >= in, joined by and, or, not. Exits with 1 if nothing is found.
    """
    from bridge.look.find import Query, seconds, select

    if result is not None and result not in get_args(Result):
        raise TargetError(f"there is no result {result!r}", hint=f"one of {', '.join(get_args(Result))}")
    query = Query(
        stage,
        tuple(where or ()),
        result,
        None if newer is None else seconds(newer),
        None if older is None else seconds(older),
    )
    opened = open_to_ask(store, None)
    ground = ground_of(opened)
    with no_cycle_search():
        sized = json or any("size" in text for text in (*query.where, sort or ""))
        with inventory_beside(opened) if sized else nullcontext():
            every = ground.listed(catalogued(opened))
        found = select(ground, query, every.sized(opened) if sized else every)
        if pattern is not None:
            found = _cut(ground, found, sort, None)
            _print_files(_files(ground, found, pattern, limit, newest=sort is None), json)
            return
        found = _cut(ground, found, sort, limit)
        written = notes(opened)
        if json:
            print_json_lines({**entry_json(one), "note": written.get(one.id)} for one in found)
        else:
            print_entries(found, {one: written[one] for one in found.column("id") if one in written})
    if not len(found):
        raise typer.Exit(1)


def _cut(ground: Ground, found: Catalogue, sort: str | None, limit: int | None) -> Catalogue:
    """The first of a sorting, else the newest."""
    if sort is None:
        return found if limit is None else found.only(range(len(found))[-limit:])
    from bridge.look.history import sorted_rows

    return found.only(sorted_rows(ground, found, sort)[:limit])


def _files(
    ground: Ground, found: Catalogue, pattern: str, limit: int | None, *, newest: bool
) -> list[tuple[Entry, str, str]]:
    """The first so many files whose names match, or those of the newest realizations, oldest first."""
    from bridge.look.find import files_named

    if limit is None or not newest:
        return list(islice(files_named(ground, found, pattern), limit))
    last = list(islice(files_named(ground, reversed(found), pattern), limit))
    order = {identity: at for at, identity in enumerate(found.column("id"))}
    return sorted(last, key=lambda file: order[file[0].id])


def _print_files(files: Sequence[tuple[Entry, str, str]], json: bool) -> None:
    lines = [
        (one, output, below, f"{one.id}{'' if output == 'out' else f'^{output}'}/{below}")
        for one, output, below in files
    ]
    if json:
        shown = [
            {"id": one.id, "stage": one.stage, "output": output, "path": below.encode(errors="replace").decode()}
            for one, output, below, _ in lines
        ]
        print_json(shown)
    else:
        for *_, text in lines:
            print(clean(text) if sys.stdout.isatty() else text)
    if not lines:
        raise typer.Exit(1)


# ---------------------------------------------------------------------------------------- history


def history_command(
    stage: Annotated[
        str,
        typer.Argument(
            metavar="STAGE|TARGET|REF",
            autocompletion=references,
            help="A stage's name, a target with a stage: FILE.py:STAGE, or an id, tag or path: of its stage.",
        ),
    ],
    where: Annotated[list[str] | None, typer.Option(metavar="CONDITION", help="As of find; repeatable.")] = None,
    sort: SortOption = None,
    limit: LimitOption = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|png", help="Draw a metric; png needs the extra plot.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="KEY", help="What is drawn upwards: a metric, duration, size.")
    ] = None,
    over: Annotated[
        str, typer.Option(metavar="KEY", help="What it is drawn over: started, config.NAME, a metric.")
    ] = "started",
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print all realizations of a stage, also those of what it was before its code, config or inputs changed.

    nixbridge history train --sort -accuracy --limit 10; nixbridge history train --plot lr.svg --metric accuracy
    --over config.lr

    An arrow marks what was chosen: by the plan, if you name a target; else what another stage was given.
    """
    from bridge.look.find import Query, select
    from bridge.look.history import history_of, used_ids

    opened = open_to_ask(store, stage)
    ground = ground_of(opened)
    # Which of very many were given to others is looked up in the inventory.
    with inventory_beside(opened):
        ground.listed(catalogued(opened))
    name, chosen = _chosen(ground, stage, settings, store, builder)
    with no_cycle_search():
        every = of_stage(ground.listed(), name).sized(opened)
        found = select(ground, Query(where=tuple(where or ())), every)
        found = _cut(ground, found, sort, limit)
        marked = used_ids(ground, found) if chosen is None else chosen
        history = history_of(ground, found, marked, notes(opened))
        if plot is not None:
            _draw(plot, name, ground, found, history, metric, over)
        if json:
            print_json_lines(map(_line_json, history.lines))
        elif plot is None and history.lines:
            print(_table(history))
        elif plot is not None:
            print(plot)


def _chosen(
    ground: Ground, stage: str, settings: Sequence[str] | None, store: str | None, builder: str
) -> tuple[str, set[str] | None]:
    """The name of the stage that is meant, and the ids that a plan chose; None without a plan."""
    from bridge.look.references import named, newest

    target = target_named(ground, stage)
    if target is None:
        found = named(ground, stage)
        return (found.entries[0] if found.kind == "stage" else newest(found)).stage, None
    try:
        plan, outcome = planned(target.target, settings, store, builder)
    except BridgeError as error:
        return unless_imported(ground.store, target, error), None
    names = {node.name for node in plan.targets}
    if len(names) != 1:
        raise TargetError(f"{stage} is {len(names)} stages", hint=f"name one of {', '.join(sorted(names))}")
    choices = [outcome.choices[node] for node in plan.targets if node in outcome.choices]
    return names.pop(), {one.id for choice in choices for one in choice.chosen}


def _line_json(line: Line) -> dict[str, Any]:
    return {**entry_json(line.entry), "config": dict(line.config), "chosen": line.chosen, "note": line.note}


def _table(history: History) -> str:
    lines = history.lines
    noted = any(line.note for line in lines)
    several = len({line.entry.drv for line in lines}) > 1
    header = ["", "id", "#", *(["drv"] if several else []), *map(clean, history.varied), *map(clean, history.metrics)]
    header += ["took", "when", "size", "by", *(["note"] if noted else [])]
    rows = []
    for line in lines:
        one = line.entry
        config = [clean(number(line.config[name])) if name in line.config else "" for name in history.varied]
        metrics = [clean(number(one.metrics[name])) if name in one.metrics else "" for name in history.metrics]
        drv = [os.path.basename(one.drv)[:6]] if several else []
        rows.append(
            [
                "→" if line.chosen else "",
                one.id,
                str(one.index),
                *drv,
                *config,
                *metrics,
                duration(one.stopped - one.started),
                age(one.started),
                "gone" if one.size is None else size(one.size),
                one.runner if one.result == "done" else paint(one.result, "red", sys.stdout),
                *([short(line.note or "")] if noted else []),
            ]
        )
    return table(rows, header)


def _draw(
    file: Path, stage: str, ground: Ground, found: Catalogue, history: History, metric: str | None, over: str
) -> None:
    from bridge.look.history import values
    from bridge.look.plot import Axis, PlotError, Point, png, svg

    if file.suffix not in (".svg", ".png"):
        raise PlotError(f"{file} is neither .svg nor .png", hint="name it so")
    if metric is None:
        if len(history.metrics) != 1:
            there = ", ".join(history.metrics) or "none; --metric duration draws how long they took"
            raise PlotError("say which metric to draw", hint=f"--metric KEY; there is {there}")
        metric = history.metrics[0]
    points = [
        Point(x, y, f"{line.entry.id} {metric}={number(y)}", line.chosen)
        for line, x, y in zip(history.lines, values(ground, found, over), values(ground, found, metric), strict=True)
        if x is not None and y is not None
    ]
    title = f"{stage}: {metric} over {'time' if over == 'started' else over}"
    axes = Axis("time (UTC)" if over == "started" else over, time=over == "started"), Axis(metric)
    data = svg(title, *axes, points).encode() if file.suffix == ".svg" else png(title, *axes, points)
    try:
        file.write_bytes(data)
    except OSError as error:
        raise PlotError(f"{file} can not be written: {error.strerror}") from error
