"""`find` and `history`: which realizations there are, and how a stage's have come along."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from bridge.formats.errors import BridgeError
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Entry
from bridge.store.layout import Store
from bridge.store.notes import notes
from bridge.store.trace import Result

from .asking import clean, entry_json, print_entries, short
from .options import BuilderOption, JsonOption, SetOption, StoreOption
from .referring import ground_of, listed, planned, split_target, unless_imported
from .render import age, duration, number, paint, print_json, size, table
from .setting import open_located

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
    stage: Annotated[str | None, typer.Option(metavar="GLOB", help="Of stages whose names match.")] = None,
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
    opened = open_located(store)
    ground = ground_of(opened)
    sized = any("size" in text for text in (*query.where, sort or ""))
    found = _cut(ground, opened, select(ground, query, listed(opened, sizes=sized)), sort, limit)
    if pattern is not None:
        _print_files(ground, found, pattern, json)
        return
    written = notes(opened)
    if json:
        print_json([{**entry_json(one), "note": written.get(one.id)} for one in found])
    else:
        print_entries(found, {one.id: written[one.id] for one in found if one.id in written})
    if not found:
        raise typer.Exit(1)


def _cut(ground: Ground, store: Store, found: list[Entry], sort: str | None, limit: int | None) -> list[Entry]:
    from bridge.look.history import history_of

    if sort is None:
        return found if limit is None else found[-limit:]
    # Configs are read only if they are sorted by.
    history = history_of(ground, found, (), {}, configs="config" in sort)
    return [line.entry for line in _ordered(history, sort, limit)]


def _print_files(ground: Ground, found: Sequence[Entry], pattern: str, json: bool) -> None:
    from bridge.look.find import files_named

    lines = [
        (one, output, below, f"{one.id}{'' if output == 'out' else f'^{output}'}/{below}")
        for one, output, below in files_named(ground, found, pattern)
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

    nixbridge history train --sort -accuracy --limit 10; nixbridge history train --plot lr.svg --over config.lr

    An arrow marks what was chosen: by the plan, if you name a target; else what another stage was given.
    """
    from bridge.look.find import Query, select
    from bridge.look.history import history_of, used_ids

    opened = open_located(store, stage)
    ground = ground_of(opened)
    name, chosen = _chosen(opened, stage, settings, store, builder)
    every = listed(opened, name, sizes=True)
    if not every:
        name = _stage_of(ground, name)
        every = listed(opened, name, sizes=True)
    found = select(ground, Query(where=tuple(where or ())), every)
    marked = used_ids(ground, found) if chosen is None else chosen
    history = history_of(ground, found, marked, notes(opened))
    lines = _ordered(history, sort, limit)
    if plot is not None:
        _draw(plot, name, history, lines, metric, over)
    if json:
        print_json([_line_json(line) for line in lines])
    elif plot is None and lines:
        print(_table(history, lines))
    elif plot is not None:
        print(plot)


def _chosen(
    opened: Store, stage: str, settings: Sequence[str] | None, store: str | None, builder: str
) -> tuple[str, set[str] | None]:
    """The stage's name, and the ids that a plan chose; None without a plan."""
    target = split_target(stage)
    if target is None:
        return stage, None
    try:
        plan, outcome = planned(target[0], settings, store, builder)
    except BridgeError as error:
        return unless_imported(opened, target[0], target[1], error), None
    names = {node.name for node in plan.targets}
    if len(names) != 1:
        raise TargetError(f"{stage} is {len(names)} stages", hint=f"name one of {', '.join(sorted(names))}")
    choices = [outcome.choices[node] for node in plan.targets if node in outcome.choices]
    return names.pop(), {one.id for choice in choices for one in choice.chosen}


def _stage_of(ground: Ground, reference: str) -> str:
    """The stage of the realization that an id, a tag or a path names."""
    from bridge.look.references import one_named

    return one_named(ground, reference).stage


def _ordered(history: History, sort: str | None, limit: int | None) -> list[Line]:
    from bridge.look.history import sort_lines

    if sort is not None:
        return sort_lines(history, sort)[:limit]
    return list(history.lines) if limit is None else list(history.lines[-limit:])


def _line_json(line: Line) -> dict[str, Any]:
    return {**entry_json(line.entry), "config": dict(line.config), "chosen": line.chosen, "note": line.note}


def _table(history: History, lines: Sequence[Line]) -> str:
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


def _draw(file: Path, stage: str, history: History, lines: Sequence[Line], metric: str | None, over: str) -> None:
    from bridge.look.history import value_of
    from bridge.look.plot import Axis, PlotError, Point, png, svg

    if file.suffix not in (".svg", ".png"):
        raise PlotError(f"{file} is neither .svg nor .png", hint="name it so")
    if metric is None:
        if len(history.metrics) != 1:
            there = ", ".join(history.metrics) or "none; --metric duration draws how long they took"
            raise PlotError("say which metric to draw", hint=f"--metric KEY; there is {there}")
        metric = history.metrics[0]
    now = time.time()
    for key in (metric, over):
        if all(value_of(line, key, now) is None for line in lines):
            _ordered(history, key, None)
    points = [
        Point(x, y, f"{line.entry.id} {metric}={number(y)}", line.chosen)
        for line in lines
        if (x := value_of(line, over, now)) is not None and (y := value_of(line, metric, now)) is not None
    ]
    title = f"{stage}: {metric} over {'time' if over == 'started' else over}"
    axes = Axis("time (UTC)" if over == "started" else over, time=over == "started"), Axis(metric)
    data = svg(title, *axes, points).encode() if file.suffix == ".svg" else png(title, *axes, points)
    try:
        file.write_bytes(data)
    except OSError as error:
        raise PlotError(f"{file} can not be written: {error.strerror}") from error
