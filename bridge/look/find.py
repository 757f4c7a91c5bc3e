"""Which realizations of a store are asked for: by stage, age, result and conditions; and which files of theirs."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from bridge.formats.errors import BridgeError
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Catalogue, Entry

from .given import configs_of
from .ground import Ground
from .where import Condition, condition

__all__ = ["OWN", "Configs", "Query", "config_of", "files_named", "select", "seconds"]

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)")


def seconds(text: str) -> float:
    """How long `2d`, `1.5h`, `30min` are.

    Raises
    ------
    TargetError
    """
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise TargetError(f"{text!r} is no age", hint="such as 30s, 10min, 2h, 7d, 3w")
    return float(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for; None and an empty list ask for nothing.

    Parameters
    ----------
    stage
        A glob of the stage's name.
    newer, older
        Started less, or more, than so many seconds ago.
    """

    stage: str | None = None
    where: Sequence[str] = ()
    result: str | None = None
    newer: float | None = None
    older: float | None = None


def select(ground: Ground, query: Query, found: Catalogue, now: float | None = None) -> Catalogue:
    """Those that are asked for, in the order given.

    Raises
    ------
    ConditionError
        If a condition is none, or has a name that none of those that it was asked of has.
    """
    now = time.time() if now is None else now
    conditions = [condition(text) for text in query.where]
    asked = found
    if query.stage is not None:
        matches = re.compile(fnmatch.translate(query.stage)).match
        stages = {name for name in set(asked.column("stage")) if matches(name)}
        asked = _where(asked, "stage", stages.__contains__)
    if query.result is not None:
        asked = _where(asked, "result", query.result.__eq__)
    if query.newer is not None:
        since = now - query.newer
        asked = _where(asked, "started", lambda started: started >= since)
    if query.older is not None:
        before = now - query.older
        asked = _where(asked, "started", lambda started: started <= before)
    for each in conditions:
        configs = configs_of(ground, set(asked.column("drv"))) if "config" in each.unseen else {}
        kept = _holding(each, asked, configs, now)
        if len(asked) and not kept:
            _refuse_misspelt(ground, each, asked)
        asked = asked.only(kept)
    return asked


def _where(found: Catalogue, name: str, holds: Callable[[Any], bool]) -> Catalogue:
    return found.only([row for row, value in enumerate(found.column(name)) if holds(value)])


def _holding(each: Condition, found: Catalogue, configs: Configs, now: float) -> list[int]:
    """The rows of those of which a condition holds; only the columns that it names are looked at."""
    columns = {name: OWN[name](found, configs, now) for name in OWN if name in each.unseen}
    metrics = found.column("metrics")
    row = 0

    def value(name: str) -> Any:
        column = columns.get(name)
        return metrics[row][name] if column is None else column[row]

    kept = []
    for row in range(len(found)):
        if each.holds(value):
            kept.append(row)
    # What stands behind an `and` may have been asked of none.
    row = 0
    while not kept and each.unseen and row < len(found):
        each.look(value)
        row += 1
    return kept


def _refuse_misspelt(ground: Ground, each: Condition, asked: Catalogue) -> None:
    if each.unseen:
        metrics = list(dict.fromkeys(chain.from_iterable(asked.column("metrics"))))
        configs = dict.fromkeys(chain.from_iterable(configs_of(ground, set(asked.column("drv"))).values()))
        there = [*OWN, *metrics, *(f"metrics.{name}" for name in metrics), *(f"config.{name}" for name in configs)]
        error = each.misspelt(there)
        if error is not None:
            raise error


def config_of(ground: Ground, one: Entry) -> Mapping[str, Any]:
    """The config of a realization's stage; empty if its derivation is gone or damaged."""
    try:
        parts = ground.parts(one.drv)
    except BridgeError:
        return {}
    return {} if parts is None else parts.config


Configs = Mapping[str, Mapping[str, Any]]
"""Configs by the resolved derivation."""


def _field(name: str) -> Callable[[Catalogue, Configs, float], list[Any]]:
    return lambda found, configs, now: found.column(name)


def _durations(found: Catalogue, configs: Configs, now: float) -> list[Any]:
    return [stopped - started for started, stopped in zip(*map(found.column, ("started", "stopped")), strict=True)]


OWN: Mapping[str, Callable[[Catalogue, Configs, float], list[Any]]] = {
    **{
        name: _field(name) for name in ("id", "stage", "index", "result", "runner", "size", "started", "drv", "metrics")
    },
    "duration": _durations,
    "age": lambda found, configs, now: [now - started for started in found.column("started")],
    "config": lambda found, configs, now: [configs.get(drv, {}) for drv in found.column("drv")],
}
"""What realizations have besides metrics."""


def files_named(ground: Ground, found: Iterable[Entry], pattern: str) -> Iterator[tuple[Entry, str, str]]:
    """The files of realizations whose name, or path below the output, matches a glob: realization, output, path.

    Links are not followed. Objects that are gone have no files.
    """
    matches = re.compile(fnmatch.translate(pattern), re.DOTALL).match
    seen: dict[str, list[str]] = {}
    for one in found:
        for output, path in one.outputs.items():
            if path not in seen:
                seen[path] = [below for below in _below(ground.find(path)) if _matches(matches, below)]
            for below in seen[path]:
                yield one, output, below


def _matches(matches: Callable[[str], Any], below: str) -> bool:
    return bool(matches(below) or matches(os.path.basename(below)))


def _below(root: Path | None) -> Iterator[str]:
    if root is None:
        return
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*files, *(one for one in folders)]):
            yield os.path.relpath(os.path.join(folder, name), root)
