"""`diff` and `why`: what differs between two realizations, and what changed since the last one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.formats.derivation.diff import Change
from bridge.look.compare import FileChange, InputChange
from bridge.look.diff import RealizationDiff, StageDiff, Value, diff_realizations
from bridge.look.ground import Ground
from bridge.look.text import printable

from .options import BuilderOption, JsonOption, Reference, SetOption, StoreOption, Target
from .referring import ground_of, one_entry
from .render import age, paint, print_json, size
from .setting import builder_named, find_nix, open_located, plan_of

if TYPE_CHECKING:
    from bridge.look.why import Because, ChangedInput
    from bridge.stages.plan import Node, Plan

__all__ = ["diff_command", "why_command"]

# -------------------------------------------------------------------------------------------- diff


def diff_command(
    a: Reference,
    b: Reference,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Fail with 1 if something differs.")] = False,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show what differs between two realizations: config, code, inputs, host, metrics, outputs.

    nixbridge diff 014ycz 1i11bk; nixbridge diff paper-v1 stages.py:train
    """
    ground = ground_of(open_located(store, a, create=False))
    before, after = (one_entry(ground, one, store, settings, builder) for one in (a, b))
    found = diff_realizations(ground, before, after)
    if json:
        print_json(found.to_json())
    else:
        for line in _diff_lines(found):
            print(line)
    if exit_code and found:
        raise typer.Exit(1)


def _diff_lines(found: RealizationDiff) -> Iterator[str]:
    for sign, one, style in (("---", found.before, "red"), ("+++", found.after, "green")):
        yield _painted(f"{sign} {one.stage} {one.id}", style)
    yield from _stage_lines(found.stage, "")
    for above in found.context:
        yield _painted(f"context {above.after.stage}: {above.before.id} → {above.after.id}", "bold")
        if above.before.drv == above.after.drv:
            yield "  another realization of the same derivation"
        yield from _stage_lines(above.stage, "  ")
    yield from _value_lines("host", found.host)
    yield from _value_lines("metric", found.metrics)
    for name, files in found.outputs.items():
        yield from _file_lines(files, "" if name == "out" else f"{name}/", "")
    for path in found.gone:
        yield _painted(f"{path} is not on this machine any more, so that it is not compared", "yellow")


def _stage_lines(stage: StageDiff, indent: str) -> Iterator[str]:
    """What differs between two stages."""
    for path in stage.lost:
        yield indent + _painted(f"{path} is in no store any more: what changed can not be told", "yellow")
    for change in stage.own.changes:
        yield from _change_lines(change, indent)
    yield from _file_lines(stage.code, "code/", indent)
    for one in stage.own.inputs:
        yield from _input_lines(one, indent)


def _change_lines(change: Change, indent: str) -> Iterator[str]:
    yield indent + _painted(_label(change), "yellow")
    lines = list(change.text)
    if not lines:
        lines = [
            f"{sign}{line}"
            for sign, value in (("-", change.before), ("+", change.after))
            if value is not None
            for line in value.split("\n")
        ]
    yield from _hunk(lines, f"{indent}  ")


def _label(change: Change) -> str:
    key = list(change.key)
    match change.what:
        case "structured" if key and key[0] in ("config", "promises"):
            what = "config" if key.pop(0) == "config" else "promised output"
        case "structured":
            what = "attribute"
        case "env":
            what = "config"
        case "args":
            return "script"
        case other:
            what = other
    return " ".join([what, *([".".join(key)] if key else [])])


def _input_lines(one: InputChange, indent: str) -> Iterator[str]:
    yield indent + _painted(f"input {one.name}", "yellow")
    for sign, use in (("-", one.before), ("+", one.after)):
        if use is not None:
            yield from _hunk([f"{sign}{use}"], f"{indent}  ")


def _value_lines(what: str, values: Iterable[Value]) -> Iterator[str]:
    import json

    for one in values:
        yield _painted(f"{what} {'.'.join(one.key)}", "yellow")
        for sign, value in (("-", one.before), ("+", one.after)):
            if value is not None:
                yield from _hunk([f"{sign}{value if isinstance(value, str) else json.dumps(value)}"], "  ")


def _file_lines(files: Iterable[FileChange], folder: str, indent: str) -> Iterator[str]:
    """The diffs of files, as git writes them."""
    for one in files:
        name = f"{folder}{one.path}" or "out"
        yield indent + _painted(
            f"diff a/{name} b/{name}" + ("" if one.what == "contents" else f" ({one.what})"), "bold"
        )
        if one.text:
            yield indent + _painted(f"--- a/{name}" if one.what != "added" else "--- /dev/null", "bold")
            yield indent + _painted(f"+++ b/{name}" if one.what != "removed" else "+++ /dev/null", "bold")
            yield from _hunk(one.text, indent)
        for sign, measured in (("-", one.before), ("+", one.after)):
            if measured is not None:
                yield from _hunk([f"{sign}{size(measured[0])}, sha256 {measured[1]}"], f"{indent}  ")


def _hunk(lines: Iterable[str], indent: str) -> Iterator[str]:
    for line in lines:
        style = {"-": "red", "+": "green", "@": "cyan"}.get(line[:1])
        yield indent + (_painted(line, style) if style else printable(line))


def _painted(text: str, style: str) -> str:
    return paint(printable(text), style, sys.stdout)


# --------------------------------------------------------------------------------------------- why


def why_command(
    target: Target,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Say why a stage would run now: what changed since its last realization, down to the first cause.

    nixbridge why stages.py:report
    """
    from bridge.look.why import causes, why
    from bridge.realize.engine import Options, realize

    plan = plan_of(target, settings, store)
    opened = open_located(store, target)
    nix = find_nix()
    outcome = realize(plan, opened, nix=nix, options=Options(dry_run=True, builder=builder_named(builder)))
    found = why(plan, outcome, Ground(opened, nix))
    first = causes(plan, found)
    if json:
        print_json(_why_json(plan, found, first))
        return
    for line in _why_lines(plan, found, first):
        print(line)


def _why_json(plan: Plan, found: Mapping[Node, Because], first: Iterable[Because]) -> dict[str, Any]:
    return {
        "runs": any(found[node].reason != "realized" for node in plan.targets),
        "targets": [node.label for node in plan.targets],
        "stages": [one.to_json() for one in found.values()],
        "causes": [one.node.label for one in first],
    }


_SHOWN = 12
"""So many stages are named on the way from a target to the causes."""


def _why_lines(plan: Plan, found: Mapping[Node, Because], first: list[Because]) -> Iterator[str]:
    for target in plan.targets:
        one = found[target]
        if one.reason == "realized":
            yield f"{_painted(target.label, 'bold')} would not run: {printable(one.text)}"
            continue
        yield f"{_painted(target.label, 'bold')} would run{_times(one)}: {_reason(one)}"
        if one.last is not None and one.among > 1:
            held = f"held against {one.last.id}, of {age(one.last.started)}: the nearest of {one.among} variants"
            yield "  " + _painted(held, "dim")
    follows = [one for one in found.values() if one.node not in plan.targets and not one.is_cause]
    between = [one for one in follows if one.reason != "realized" or one.inputs]
    for one in between[:_SHOWN]:
        yield f"  {_state(one)}: {_reason(one)}"
    if len(between) > _SHOWN:
        yield f"  and {len(between) - _SHOWN} more stages whose inputs changed"
    leads_on = {changed.node for one in found.values() for changed in one.inputs}
    for one in first:
        if one.node in leads_on or one.node in plan.targets:
            # What the target's own line says is not said again.
            said = one.node in plan.targets and not (one.stage.own or one.stage.lost or one.inputs)
            if not said and (one.reason != "realized" or one.node not in plan.targets):
                yield ""
                yield from _cause_lines(f"cause: {one.node.label}", one)
        else:
            yield ""
            yield from _cause_lines(f"{one.node.label} would run", one)
            yield "  what was made from it is there, and counts"


def _times(one: Because) -> str:
    return f" ({one.missing} realizations)" if one.missing > 1 else ""


def _state(one: Because) -> str:
    return f"{one.node.label} " + ("is another one" if one.reason == "realized" else "would run")


def _reason(one: Because) -> str:
    """Why, in a line."""
    if one.text:
        return printable(one.text)
    own = list(dict.fromkeys(_label(change) for change in one.stage.own.changes))
    if one.stage.own.code is not None:
        own.append("code")
    own += list(dict.fromkeys(f"input {changed.change.name}" for changed in one.inputs))
    if one.stage.lost:
        return "its derivation is another one than that of its last realization"
    return f"changed since {one.last.id if one.last is not None else 'then'}: {printable(', '.join(own))}"


def _cause_lines(heading: str, one: Because) -> Iterator[str]:
    yield f"{_painted(heading, 'bold')}: {_reason(one)}"
    yield from _stage_lines(StageDiff(_without_inputs(one.stage), one.stage.code, one.stage.lost), "  ")
    for changed in one.inputs:
        yield from _changed_lines(changed)
    for value in one.host:
        note = f"note: then run by {value.key[0]} {value.before}, now {value.after} (not hashed: it makes nothing run)"
        yield "  " + _painted(note, "dim")


def _without_inputs(stage: StageDiff) -> Any:
    from dataclasses import replace

    return replace(stage.own, inputs=())


_SAID = {
    "pending": "would run",
    "derivation": "is made from another derivation",
    "realization": "another realization was chosen",
    "source": "its contents changed",
    "path": "another path in it",
    "added": "new",
    "removed": "gone",
    "unknown": "another one",
}


def _changed_lines(one: ChangedInput) -> Iterator[str]:
    whose = "" if one.node is None else f" ({one.node.label})"
    ids = "" if one.old is None or one.new is None else f": {one.old.id} → {one.new}"
    yield "  " + _painted(f"input {one.change.name}{whose}: {_SAID[one.what]}{ids}", "yellow")
    if one.what == "source" and one.files:
        yield from _file_lines(one.files, f"{one.node.label if one.node else one.change.name}/", "    ")
    elif one.what not in ("pending", "derivation", "realization"):
        for sign, use in (("-", one.change.before), ("+", one.change.after)):
            if use is not None:
                yield from _hunk([f"{sign}{use}"], "    ")
