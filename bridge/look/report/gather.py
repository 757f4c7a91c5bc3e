"""What there is to show: of a plan, as its matchers choose now; or of a store, where nothing is imported.

Of a store a node stands for all stages of a name, since what they were before they changed is all there as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.formats.derivation.aterm import DRV_SUFFIX
from bridge.formats.errors import BridgeError
from bridge.formats.store_path import hash_part, name_part
from bridge.look.find import config_of
from bridge.look.ground import Ground
from bridge.look.history import used_ids
from bridge.look.kinds import KINDS
from bridge.look.parts import Parts
from bridge.realize.choosing import matcher_of
from bridge.realize.engine import Outcome
from bridge.realize.matchers.step import shown
from bridge.stages.plan import Node, Plan
from bridge.store.catalogue import Entry, entries
from bridge.store.errors import RecordError
from bridge.store.locks import Holder
from bridge.store.notes import notes

from .layout import layered
from .page import Page, Row, Stage, State
from .running import last_logs, logged, running

__all__ = ["page_of_plan", "page_of_store"]

_NO_RESULT = "the last run ended without a result"


def _pass_over(error: RecordError) -> None:
    """Whoever wants to know says so."""


def page_of_plan(
    ground: Ground, plan: Plan, outcome: Outcome, title: str, on_damaged: Callable[[RecordError], object] = _pass_over
) -> Page:
    """The page of a plan.

    Parameters
    ----------
    outcome
        What a dry run of the plan gave.
    on_damaged
        Told of each record that can not be read.
    """
    numbers = {node: number for number, node in enumerate(plan.nodes)}
    drvs = {node: _resolved(node, outcome) for node in plan.nodes}
    owner: dict[str, int] = {}
    for node in plan.nodes:
        for path in () if node.source is not None else (node.path, *drvs[node]):
            # Two that differ in policy only have the same realizations.
            owner.setdefault(path, numbers[node])
    names = {node.name for node in plan.nodes if node.source is None}
    found = [one for one in entries(ground.store, sizes=True, on_damaged=on_damaged) if one.stage in names]
    chosen = {one.id for choice in outcome.choices.values() for one in choice.chosen}
    written = notes(ground.store)
    rows = [
        Row(one, owner.get(one.drv, owner.get(one.stage_drv)), one.id in chosen, written.get(one.id)) for one in found
    ]
    states = _states(ground, drvs, {node for node in plan.nodes if node in outcome.choices}, found)
    places = layered([[numbers[used] for used in node.inputs] for node in plan.nodes])
    stages = []
    for node, (layer, row) in zip(plan.nodes, places, strict=True):
        state, note, who = states[node]
        stages.append(
            Stage(
                name=node.name,
                label=node.label,
                kind=KINDS[type(node.stage.recipe)],
                state="source" if node.source is not None else state,
                path=node.path,
                uses=tuple(numbers[used] for used in node.inputs),
                layer=layer,
                row=row,
                wanted=outcome.pending.get(node, 0),
                match=None if node.source is not None else shown(matcher_of(node)),
                place=f"{node.stage.place.file}:{node.stage.place.line}",
                note=note,
                running=who,
            )
        )
    return _page(ground, title, stages, rows)


def _resolved(node: Node, outcome: Outcome) -> list[str]:
    """The resolved derivations of a node; none where nobody knows yet what its inputs will be."""
    choice = outcome.choices.get(node)
    return [one.path for one in (outcome.resolved.get(node, ()) if choice is None else choice.resolved)]


def _states(
    ground: Ground, drvs: Mapping[Node, Sequence[str]], chosen: Collection[Node], found: Iterable[Entry]
) -> dict[Node, tuple[State, str | None, dict[str, Any] | None]]:
    """The state of each node that is no source, a note on it, and who realizes it."""
    held = running(ground.store)
    last = {one.drv: one for one in found}
    logs = last_logs(ground.store, [drv for node, listed in drvs.items() if node not in chosen for drv in listed])
    states: dict[Node, tuple[State, str | None, dict[str, Any] | None]] = {}
    for node, listed in drvs.items():
        there = [drv for drv in listed if drv in held]
        ended = [drv for drv in listed if drv in logs and (drv not in last or logs[drv] > last[drv].stopped)]
        kept = [drv for drv in listed if drv in last and last[drv].result != "done"]
        if there:
            states[node] = "running", str(held[there[0]]), _runs(held, there)
        elif node in chosen:
            states[node] = "done", None, None
        elif ended or kept:
            states[node] = "failed", _NO_RESULT if ended else f"the last run is {last[kept[0]].result}", None
        else:
            states[node] = "missing", None, None
    return states


def _runs(held: Mapping[str, Holder], drvs: Sequence[str]) -> dict[str, Any]:
    by = held[drvs[0]]
    return {"pid": by.pid, "host": by.host, "since": by.since, "drvs": list(map(hash_part, drvs))}


# ------------------------------------------------------------------------------------------ store


@dataclass(slots=True)
class _Name:
    """All stages of a name."""

    entries: list[Entry] = field(default_factory=list)
    uses: dict[str, None] = field(default_factory=dict)
    drvs: dict[str, None] = field(default_factory=dict)
    source: str | None = None


def page_of_store(
    ground: Ground,
    title: str,
    found: Sequence[Entry] | None = None,
    on_damaged: Callable[[RecordError], object] = _pass_over,
) -> Page:
    """The page of a store.

    Parameters
    ----------
    found
        The realizations that are asked for: these are shown, and what they were made from. All without it.
    on_damaged
        Told of each record that can not be read.
    """
    listed = entries(ground.store, sizes=True, on_damaged=on_damaged)
    asked = listed if found is None else _with_makers(ground, {one.id: one for one in listed}, found)
    names: dict[str, _Name] = {}
    for one in asked:
        name = names.setdefault(one.stage, _Name())
        name.entries.append(one)
        name.drvs[one.drv] = None
    held = running(ground.store)
    for drv in held:
        stage = _stage_name(drv)
        if found is None or stage in names:
            names.setdefault(stage, _Name()).drvs[drv] = None
    for drv in logged(ground.store) if found is None else ():
        stage = _stage_name(drv)
        if stage not in names or not names[stage].entries:
            names.setdefault(stage, _Name()).drvs[drv] = None
    sources: dict[str, _Name] = {}
    for stage, name in names.items():
        for drv in name.drvs:
            for path in _used(ground, drv):
                made = ground.makers(path)
                if made and made[-1].stage in names:
                    name.uses[made[-1].stage] = None
                elif not made:
                    sources.setdefault(name_part(path), _Name(source=path))
                    name.uses[name_part(path)] = None
        name.uses.pop(stage, None)
    # A source that is called as a stage is told apart by nothing else.
    names = {stage: one for stage, one in sources.items() if stage not in names} | names
    numbers = {stage: number for number, stage in enumerate(names)}
    uses = [[numbers[used] for used in name.uses] for name in names.values()]
    places = layered(uses)
    stages = [
        replace(_stage_of_name(stage, name, held), uses=tuple(used), layer=layer, row=row)
        for (stage, name), used, (layer, row) in zip(names.items(), uses, places, strict=True)
    ]
    written = notes(ground.store)
    chosen = used_ids(ground, asked)
    rows = [Row(one, numbers[one.stage], one.id in chosen, written.get(one.id)) for one in asked]
    return _page(ground, title, stages, rows)


def _stage_name(drv: str) -> str:
    return name_part(drv).removesuffix(DRV_SUFFIX)


def _with_makers(ground: Ground, listed: Mapping[str, Entry], found: Iterable[Entry]) -> list[Entry]:
    """These realizations, and those that they were made from, oldest first."""
    there: dict[str, Entry] = {}
    pending = list(found)
    seen: set[str] = set()
    while pending:
        one = pending.pop()
        if one.id in there:
            continue
        # As it is listed: with its size.
        there[one.id] = listed.get(one.id, one)
        if one.drv not in seen:
            seen.add(one.drv)
            makers = (ground.maker(path, one.started) for path in _used(ground, one.drv))
            pending += [maker for maker in makers if maker is not None]
    return sorted(there.values(), key=lambda one: (one.started, one.id))


def _used(ground: Ground, drv: str) -> list[str]:
    """The objects that a resolved derivation has as inputs; none where it is gone, or damaged."""
    try:
        parts = ground.parts(drv) or Parts()
    except BridgeError:
        return []
    paths = dict.fromkeys(use.object for uses in parts.inputs.values() for use in uses)
    return [path for path in paths if path.startswith("/nix/store/")]


def _stage_of_name(stage: str, name: _Name, held: Mapping[str, Holder]) -> Stage:
    there = [drv for drv in name.drvs if drv in held]
    if name.source is not None:
        return Stage(stage, stage, "source", "source", name.source, ())
    note = None
    if there:
        state: State = "running"
        note = str(held[there[0]])
    elif any(one.result == "done" for one in name.entries):
        state = "done"
    else:
        state, note = "failed", f"the last run is {name.entries[-1].result}" if name.entries else _NO_RESULT
    kind = name.entries[-1].runner if name.entries else "python"
    drvs = {one.stage_drv for one in name.entries}
    path = drvs.pop() if len(drvs) == 1 else None
    who = _runs(held, there) if there else None
    return Stage(stage, stage, "shell" if kind == "local" else kind, state, path, (), note=note, running=who)


def _page(ground: Ground, title: str, stages: Sequence[Stage], rows: Sequence[Row]) -> Page:
    one_of = {row.entry.drv: row.entry for row in rows}
    configs = {drv: config_of(ground, one) for drv, one in one_of.items()}
    return Page(title, str(ground.store.root), time.time(), tuple(stages), tuple(rows), configs)
