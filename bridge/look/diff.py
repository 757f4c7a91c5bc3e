"""What differs between two realizations: derivation, context, environment, metrics, outputs.

stage      config, script, promised outputs; the code; which inputs
context    the realizations above that differ, inputs first: from what each pair was made
host       what ran them: interpreter, platform, versions of packages
metrics    by name
outputs    file by file
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.formats.derivation.diff import change_json
from bridge.store.catalogue import Entry

from .compare import FileChange, InputChange, Own, compare_derivations, compare_trees, read_texts, text_changes
from .ground import Ground

__all__ = [
    "Above",
    "RealizationDiff",
    "StageDiff",
    "Value",
    "code_changes",
    "diff_realizations",
    "diff_stages",
    "file_json",
    "input_json",
    "stage_json",
]


@dataclass(frozen=True, slots=True)
class Value:
    """A value that differs, by its keys; None where there is none."""

    key: tuple[str, ...]
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class StageDiff:
    """What differs between two derivations, and the diff of their code.

    Parameters
    ----------
    lost
        The derivations that are in no store any more, so that what differs can not be told.
    """

    own: Own
    code: tuple[FileChange, ...]
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Above:
    """A pair of realizations above the two that differ."""

    before: Entry
    after: Entry
    stage: StageDiff


@dataclass(frozen=True, slots=True)
class RealizationDiff:
    """What differs between two realizations."""

    before: Entry
    after: Entry
    stage: StageDiff
    context: tuple[Above, ...]
    host: tuple[Value, ...]
    metrics: tuple[Value, ...]
    outputs: Mapping[str, tuple[FileChange, ...]]
    gone: tuple[str, ...]
    """Outputs whose bytes are not on this machine any more, so that they are not compared."""

    def __bool__(self) -> bool:
        differ = self.stage.own or self.stage.lost or self.context or self.host or self.metrics
        return bool(differ or any(self.outputs.values()) or self.gone)

    def to_json(self) -> dict[str, Any]:
        return {
            "left": {"id": self.before.id, "stage": self.before.stage, "drv": self.before.drv},
            "right": {"id": self.after.id, "stage": self.after.stage, "drv": self.after.drv},
            **stage_json(self.stage),
            "context": [
                {"stage": one.after.stage, "left": one.before.id, "right": one.after.id, **stage_json(one.stage)}
                for one in self.context
            ],
            "host": [_value_json(one) for one in self.host],
            "metrics": [_value_json(one) for one in self.metrics],
            "outputs": {name: [file_json(one) for one in files] for name, files in self.outputs.items()},
            "gone": list(self.gone),
        }


def diff_realizations(ground: Ground, before: Entry, after: Entry) -> RealizationDiff:
    """What differs between two realizations.

    Raises
    ------
    RecordError
        If a record is damaged or gone.
    """
    stage = diff_stages(ground, before.drv, after.drv)
    old, new = ground.record(before), ground.record(after)
    outputs: dict[str, tuple[FileChange, ...]] = {}
    gone = []
    for name in dict.fromkeys([*before.outputs, *after.outputs]):
        paths = before.outputs.get(name), after.outputs.get(name)
        if paths[0] == paths[1]:
            continue
        places = [None if path is None else ground.find(path) for path in paths]
        lost = [path for path, place in zip(paths, places, strict=True) if path is not None and place is None]
        gone += lost
        if not lost:
            whole = places[0] is not None and places[1] is not None
            outputs[name] = (
                compare_trees(*filter(None, places))
                if whole
                else (FileChange("", "added" if places[0] is None else "removed"),)
            )
    return RealizationDiff(
        before,
        after,
        stage,
        tuple(_context(ground, before, after, stage)),
        tuple(_unequal(old.host, new.host)),
        tuple(_unequal(old.metrics, new.metrics)),
        outputs,
        tuple(gone),
    )


def diff_stages(ground: Ground, before: str, after: str) -> StageDiff:
    """What differs between the derivations at two paths."""
    if before == after:
        return StageDiff(Own((), None, ()), ())
    old, new = ground.derivation(before), ground.derivation(after)
    if old is None or new is None:
        lost = tuple(path for path, drv in ((before, old), (after, new)) if drv is None)
        return StageDiff(Own((), None, ()), (), lost)
    own = compare_derivations(old, new)
    return StageDiff(own, code_changes(ground, own))


def code_changes(ground: Ground, own: Own, known: Mapping[str, Mapping[str, str]] = {}) -> tuple[FileChange, ...]:
    """The diff of the code of two derivations.

    Parameters
    ----------
    known
        Files of codes that are at hand, by store path.
    """
    if own.code is None:
        return ()
    texts = []
    for path in own.code:
        place = None if path is None else ground.find(path)
        texts.append(known.get(path or "", {} if place is None else read_texts(place)))
    return text_changes(*texts)


def _context(ground: Ground, before: Entry, after: Entry, stage: StageDiff) -> Iterator[Above]:
    """The pairs above, each once, inputs before what uses them."""
    seen: dict[tuple[str, str], Above] = {}
    pending = [(before, after, stage)]
    while pending:
        old, new, found = pending.pop()
        for one in found.own.inputs:
            pair = _makers(ground, one, old, new)
            if pair is None or (pair[0].id, pair[1].id) in seen or pair[0].id == pair[1].id:
                continue
            above = Above(*pair, diff_stages(ground, pair[0].drv, pair[1].drv))
            seen[pair[0].id, pair[1].id] = above
            pending.append((*pair, above.stage))
    yield from reversed(seen.values())


def _makers(ground: Ground, one: InputChange, old: Entry, new: Entry) -> tuple[Entry, Entry] | None:
    if one.before is None or one.after is None or one.before.object == one.after.object:
        return None
    first, second = ground.maker(one.before.object, old.started), ground.maker(one.after.object, new.started)
    return None if first is None or second is None else (first, second)


def _unequal(before: Mapping[str, Any], after: Mapping[str, Any], keys: tuple[str, ...] = ()) -> Iterator[Value]:
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict) and not keys:
            yield from _unequal(old, new, (*keys, key))
        elif old != new or type(old) is not type(new):
            yield Value((*keys, key), old, new)


# ------------------------------------------------------------------------------------------- JSON


def stage_json(stage: StageDiff) -> dict[str, Any]:
    """What differs between two stages, for `json.dump`."""
    return {
        "changes": [change_json(one) for one in stage.own.changes],
        "code": [file_json(one) for one in stage.code],
        "inputs": [input_json(one) for one in stage.own.inputs],
        "lost": list(stage.lost),
    }


def input_json(one: InputChange) -> dict[str, Any]:
    return {
        "name": one.name,
        "before": None if one.before is None else str(one.before),
        "after": None if one.after is None else str(one.after),
    }


def file_json(one: FileChange) -> dict[str, Any]:
    value: dict[str, Any] = {"path": one.path, "what": one.what}
    for key, measured in (("before", one.before), ("after", one.after)):
        if measured is not None:
            value[key] = {"size": measured[0], "sha256": measured[1]}
    return value | ({"text": list(one.text)} if one.text else {})


def _value_json(one: Value) -> dict[str, Any]:
    return {"key": list(one.key), "before": one.before, "after": one.after}
