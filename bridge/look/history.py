"""All realizations of a stage, also those of its older derivations, as a table that can be sorted and plotted."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Any

from bridge.formats.nix_json import dumps
from bridge.formats.store_path import STORE_DIR, base_name, hash_part
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Catalogue, Entry
from bridge.store.errors import RecordError
from bridge.store.inventory import Inventory, take_inventory

from .find import OWN, Configs
from .given import configs_of, uses_of
from .ground import Ground

__all__ = ["History", "Line", "history_of", "sorted_rows", "used_ids", "values"]

_SORTED_BY = ("age", "duration", "index", "result", "runner", "size", "started")
_FEW = 200
"""The derivations of so many are read; what more of them use is looked up in the inventory."""


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
    """Realizations of a stage.

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


def history_of(ground: Ground, found: Catalogue, chosen: Collection[str], notes: Mapping[str, str]) -> History:
    """The history that some realizations make, in their order.

    Parameters
    ----------
    chosen
        Ids of those that were chosen.
    notes
        By id.
    """
    configs = configs_of(ground, set(found.column("drv")))
    lines = tuple(Line(one, configs.get(one.drv, {}), one.id in chosen, notes.get(one.id)) for one in found)
    metrics = dict.fromkeys(chain.from_iterable(found.column("metrics")))
    return History(lines, _varied(list(configs.values())), tuple(metrics))


def _varied(configs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    names = dict.fromkeys(name for config in configs for name in config)
    return tuple(
        name for name in names if len({dumps(config[name]) if name in config else None for config in configs}) > 1
    )


def sorted_rows(ground: Ground, found: Catalogue, key: str) -> list[int]:
    """The rows by a metric, `config.NAME`, or one of age, duration, index, result, size; `-` before: largest first.

    Those that do not have it come last.

    Raises
    ------
    TargetError
        If none has it.
    """
    column = values(ground, found, key.removeprefix("-"))
    having = [row for row, value in enumerate(column) if value is not None]
    having.sort(key=lambda row: _comparable(column[row]), reverse=key.startswith("-"))
    return having + [row for row, value in enumerate(column) if value is None]


def values(ground: Ground, found: Catalogue, name: str) -> list[Any]:
    """A value of each realization by its name, as of `sorted_rows`; None where one does not have it.

    Raises
    ------
    TargetError
        If none has it.
    """
    configs: Configs = configs_of(ground, set(found.column("drv"))) if name.startswith("config.") else {}
    column = _values(found, name, configs)
    if column and all(value is None for value in column):
        configs = configs_of(ground, set(found.column("drv")))
        names = chain.from_iterable(configs.values())
        metrics = chain.from_iterable(found.column("metrics"))
        there = list(dict.fromkeys([*_SORTED_BY, *metrics, *(f"config.{one}" for one in names)]))
        near = get_close_matches(name, there, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(there)}"
        raise TargetError(f"no realization here has {name}", hint=hint)
    return column


def _values(found: Catalogue, name: str, configs: Configs) -> list[Any]:
    metrics = found.column("metrics")
    if name.startswith("config."):
        below = name.removeprefix("config.")
        return [configs.get(drv, {}).get(below) for drv in found.column("drv")]
    if name.startswith("metrics."):
        below = name.removeprefix("metrics.")
        return [one.get(below) for one in metrics]
    own = OWN[name](found, configs, time.time()) if name in _SORTED_BY else [None] * len(found)
    # A metric comes before a field that is called like it.
    return [one.get(name, value) for one, value in zip(metrics, own, strict=True)]


def _comparable(value: Any) -> tuple[int, Any]:
    """Numbers before texts before anything else; no number at all (NaN) behind the numbers."""
    if isinstance(value, int | float):
        return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)
    return (2, value) if isinstance(value, str) else (3, dumps(value))


# ------------------------------------------------------------------------------------------- used


def used_ids(ground: Ground, found: Iterable[Entry]) -> set[str]:
    """The ids of those whose outputs another stage was given."""
    makers: dict[str, set[str]] = {}
    for one in found:
        for path in one.outputs.values():
            makers.setdefault(path, set()).add(one.id)
    by_digest = {hash_part(path): path for path in makers}
    names = set(map(base_name, ground.listed().column("drv")))
    used: set[str] = set()
    if len(names) > _FEW:
        # What a derivation refers to is what it was given: nobody need read so many.
        for inventory in _inventories(ground):
            there = {name for name in names & inventory.rows.keys() if name in inventory}
            used.update(_referred(inventory, there, makers))
            names -= there
    drvs = [f"{STORE_DIR}/{name}" for name in names]
    for _, digests in uses_of(ground, drvs, every=False) if drvs else ():
        used.update(map(by_digest.__getitem__, by_digest.keys() & digests))
    return {identity for path in used for identity in makers[path]}


def _inventories(ground: Ground) -> Iterator[Inventory]:
    for layer in ground.store.layers:
        try:
            yield take_inventory(ground.store, layer=layer)
        except RecordError:
            # For `verify`; its derivations are read.
            continue


def _referred(inventory: Inventory, names: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Those of these paths that objects with these base names refer to."""
    rows = map(inventory.rows.__getitem__, names)
    referred = set(chain.from_iterable(map(inventory.references.__getitem__, rows)))
    return [path for path in paths if inventory.rows.get(base_name(path)) in referred]
