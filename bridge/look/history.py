"""All realizations of a stage, also those of its older derivations, as a table that can be sorted and plotted."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from bridge.formats.nix_json import dumps
from bridge.formats.store_path import hash_part
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Entry
from bridge.store.trace import resolved_derivations

from .given import configs_of, uses_of
from .ground import Ground

__all__ = ["History", "Line", "history_of", "sort_lines", "used_ids", "value_of"]


@dataclass(frozen=True, slots=True)
class Line:
    """A realization in a stage's history.

    Parameters
    ----------
    config
        The config of its derivation.
    chosen
        Whether a plan chose it; without a plan, whether a later stage was given it.
    note
        What somebody wrote down.
    """

    entry: Entry
    config: Mapping[str, Any]
    chosen: bool
    note: str | None


@dataclass(frozen=True, slots=True)
class History:
    """The realizations of a stage, oldest first.

    Parameters
    ----------
    varied
        Names of config values that are not the same in all.
    metrics
        Names of all metrics, in the order in which they were first logged.
    """

    lines: tuple[Line, ...]
    varied: tuple[str, ...]
    metrics: tuple[str, ...]


def history_of(
    ground: Ground, found: Sequence[Entry], chosen: Collection[str], notes: Mapping[str, str], *, configs: bool = True
) -> History:
    """The history that some realizations make.

    Parameters
    ----------
    chosen
        Ids of those that were chosen.
    notes
        By id.
    configs
        Whether to read the derivations for them.
    """
    by_drv = configs_of(ground, {one.drv for one in found}) if configs else {}
    lines = tuple(Line(one, by_drv.get(one.drv, {}), one.id in chosen, notes.get(one.id)) for one in found)
    metrics = dict.fromkeys(name for one in found for name in one.metrics)
    return History(lines, _varied(list(by_drv.values())), tuple(metrics))


def _varied(configs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    names = dict.fromkeys(name for config in configs for name in config)
    return tuple(
        name for name in names if len({dumps(config[name]) if name in config else None for config in configs}) > 1
    )


def sort_lines(history: History, key: str) -> list[Line]:
    """The lines by a metric, `config.NAME`, or one of age, duration, index, result, size; `-` before it: largest first.

    Those that do not have it come last.

    Raises
    ------
    TargetError
        If none has it.
    """
    name = key.removeprefix("-")
    now = time.time()
    values = [(value_of(line, name, now), line) for line in history.lines]
    having = [(value, line) for value, line in values if value is not None]
    if history.lines and not having:
        there = [*_OWN, *history.metrics, *(f"config.{one}" for line in history.lines for one in line.config)]
        near = get_close_matches(name, there, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(dict.fromkeys(there))}"
        raise TargetError(f"no realization here has {name}", hint=hint)
    having.sort(key=lambda pair: _comparable(pair[0]), reverse=key.startswith("-"))
    return [line for _, line in having] + [line for value, line in values if value is None]


_OWN = ("age", "duration", "index", "result", "runner", "size", "started")


def value_of(line: Line, name: str, now: float) -> Any:
    """A value of a realization by its name; None if it has none."""
    one = line.entry
    if name.startswith("config."):
        return line.config.get(name.removeprefix("config."))
    if name.startswith("metrics."):
        return one.metrics.get(name.removeprefix("metrics."))
    if name in one.metrics:
        return one.metrics[name]
    if name == "age":
        return now - one.started
    if name == "duration":
        return one.stopped - one.started
    return getattr(one, name) if name in _OWN else None


def _comparable(value: Any) -> tuple[int, Any]:
    """Numbers before texts before anything else; no number at all (NaN) behind the numbers."""
    if isinstance(value, int | float):
        return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)
    return (2, value) if isinstance(value, str) else (3, dumps(value))


def used_ids(ground: Ground, found: Iterable[Entry]) -> set[str]:
    """The ids of those whose outputs another stage was given."""
    makers: dict[str, set[str]] = {}
    for one in found:
        for path in one.outputs.values():
            makers.setdefault(hash_part(path), set()).add(one.id)
    used: set[str] = set()
    for _, digests in uses_of(ground, resolved_derivations(ground.store)):
        for digest in digests:
            if digest in makers:
                used |= makers[digest]
    return used
