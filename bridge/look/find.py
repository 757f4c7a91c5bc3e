"""Which realizations of a store are asked for: by stage, age, result and conditions; and which files of theirs."""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.formats.errors import BridgeError
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Entry

from .given import configs_of
from .ground import Ground
from .where import Condition, condition

__all__ = ["Query", "config_of", "fields_of_entry", "files_named", "select", "seconds"]

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


def select(ground: Ground, query: Query, found: Iterable[Entry], now: float | None = None) -> list[Entry]:
    """Those that are asked for, in the order given.

    Raises
    ------
    ConditionError
        If a condition is none, or has a name that none of those that it was asked of has.
    """
    now = time.time() if now is None else now
    conditions = [condition(text) for text in query.where]
    matches = re.compile(fnmatch.translate(query.stage)).match if query.stage is not None else None
    asked = [
        one
        for one in found
        if (matches is None or matches(one.stage))
        and (query.result is None or one.result == query.result)
        and (query.newer is None or now - one.started <= query.newer)
        and (query.older is None or now - one.started >= query.older)
    ]
    for each in conditions:
        configs = configs_of(ground, {one.drv for one in asked}) if "config" in each.unseen else {}
        kept = [one for one in asked if each.holds(fields_of_entry(one, configs, now))]
        if asked and not kept:
            _refuse_misspelt(ground, each, asked)
        asked = kept
    return asked


def _refuse_misspelt(ground: Ground, each: Condition, asked: Sequence[Entry]) -> None:
    if each.unseen:
        there = [*_OWN, *{name for one in asked for name in one.metrics}]
        there += [f"metrics.{name}" for one in asked[:1] for name in one.metrics]
        there += [f"config.{name}" for one in asked[:1] for name in config_of(ground, one)]
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


_Configs = Mapping[str, Mapping[str, Any]]
_OWN: dict[str, Callable[[Entry, _Configs, float], Any]] = {
    "id": lambda one, configs, now: one.id,
    "stage": lambda one, configs, now: one.stage,
    "index": lambda one, configs, now: one.index,
    "result": lambda one, configs, now: one.result,
    "runner": lambda one, configs, now: one.runner,
    "size": lambda one, configs, now: one.size,
    "started": lambda one, configs, now: one.started,
    "duration": lambda one, configs, now: one.stopped - one.started,
    "age": lambda one, configs, now: now - one.started,
    "drv": lambda one, configs, now: one.drv,
    "metrics": lambda one, configs, now: one.metrics,
    "config": lambda one, configs, now: configs.get(one.drv, {}),
}


def fields_of_entry(one: Entry, configs: _Configs, now: float) -> Callable[[str], Any]:
    """The value of a name for one realization: its own fields, then its metrics.

    Parameters
    ----------
    configs
        By the resolved derivation.
    """

    def value(name: str) -> Any:
        own = _OWN.get(name)
        return own(one, configs, now) if own is not None else one.metrics[name]

    return value


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
