"""What lies in a store and is no result: what dead processes left, and what stands beside realizations that are gone.

Each kind is a row of `rubbish`; most of what is found is a name that nothing which stays answers to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bridge.formats.store_path import base_name

from .durable import dead_temporaries
from .layout import Store
from .locks import try_lock
from .needs import Graph, Needed
from .roots import stale_links

__all__ = ["RubbishKind", "Situation", "rubbish"]

RubbishKind = Literal["unregistered", "temporary", "checkpoint", "failed", "log", "root", "cache"]

_LOG_DAYS = 7
"""So long the log of a run that gave no realization is there to be read."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when rubbish is looked for.

    Parameters
    ----------
    lying
        Names in store/ from before the graph was loaded: what is registered meanwhile is no rubbish.
    held
        Base names of what running processes use.
    older_than
        Seconds after which a checkpoint, or what a failed build worked in, goes as well.
    """

    store: Store
    graph: Graph
    needed: Needed
    lying: list[str]
    held: set[str]
    older_than: float | None


def rubbish(of: Situation) -> Iterator[tuple[RubbishKind, Path]]:
    """What goes whatever one asks for."""
    store, graph = of.store, of.graph
    valid = graph.inventory.names[: len(graph.inventory.sizes)]
    for name in sorted(set(of.lying).difference(valid, of.held)):
        yield "unregistered", store.objects / name
    for place in dead_temporaries(store):
        yield "temporary", place
    for place in _spent_checkpoints(of):
        yield "checkpoint", place
    for place in _old(store.failed, of.older_than):
        yield "failed", place
    for place in _lost_logs(of):
        yield "log", place
    yield from (("root", place) for place in _lost_nix_roots(of))
    for place in stale_links(store):
        yield "root", place
    yield from (("cache", place) for place in _lost_indices(of))


def _kept(of: Situation, name: str) -> Iterator[Any]:
    """A field of the realizations that stay."""
    return map(of.graph.entries.column(name).__getitem__, of.needed.realizations)


def _lost_nix_roots(of: Situation) -> Iterator[Path]:
    """Links that keep, in the Nix store, what no realization has given."""
    places = list(of.store.roots.glob("nix-*"))
    results = {base_name(path) for outputs in _kept(of, "outputs") for path in outputs.values()} if places else set()
    return (place for place in places if place.name[4:] not in results and place.name[4:] not in of.held)


def _lost_indices(of: Situation) -> Iterator[Path]:
    """Indices of the records of derivations that have none."""
    places = list((of.store.root / "cache").glob("*.records"))
    folders = set(map(base_name, _kept(of, "drv"))) if places else set()
    return (place for place in places if place.stem not in folders)


def _spent_checkpoints(of: Situation) -> Iterator[Path]:
    """Checkpoints of runs that have been finished since, or that are as old as what may go."""
    places = list(of.store.checkpoints.iterdir())
    if not places:
        return
    listed = zip(*map(of.graph.entries.column, ("drv", "index", "result")), strict=True)
    done = {f"{base_name(drv)}-{index}" for drv, index, result in listed if result == "done"}
    old = set(_old(of.store.checkpoints, of.older_than))
    for place in places:
        if place.name in done or place in old:
            with try_lock(of.store, place.name.rpartition("-")[0]) as free:
                if free:
                    yield place


def _old(folder: Path, seconds: float | None) -> list[Path]:
    if seconds is None or not folder.is_dir():
        return []
    return [place for place in folder.iterdir() if _is_older(place, seconds)]


def _is_older(place: Path | str, seconds: float) -> bool:
    """Whether something has been there for longer; what somebody else has taken meanwhile is gone."""
    try:
        return time.time() - os.lstat(place).st_mtime > seconds
    except FileNotFoundError:
        return False


def _lost_logs(of: Situation) -> Iterator[Path]:
    """Logs of derivations that have no realization, a week after."""
    with os.scandir(of.store.logs) as logs:
        for log in logs:
            drv = log.name.rpartition("-")[0]
            if drv not in of.graph.by_drv and _is_older(log.path, _LOG_DAYS * 86400):
                yield Path(log.path)
