"""The trace: every realization of every resolved derivation.

    trace/<base name of the resolved .drv>/<id>.json     id = first 16 digits of nix32(sha256(file))

A record is written once and never changed, so the trace of two stores is the union of their files.
Source of the idea: Nix manual, "Build trace"; ours keeps many entries for one key.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, Literal, get_args

from bridge.formats import nix32
from bridge.formats.store_path import STORE_DIR, base_name, parse

from .durable import disk_errors, to_lines, write_file
from .errors import RecordError
from .holds import hold, using
from .layout import Store

__all__ = [
    "Realization",
    "Result",
    "Runner",
    "find_realizations",
    "find_record",
    "identity_of",
    "ids_of",
    "read_file",
    "read_realization",
    "realizations",
    "record",
    "record_names",
    "resolved_derivations",
]

_ID_LENGTH = 16
VERSION = 1

Runner = Literal["python", "local", "nix", "fetch"]
"""What made a realization: a Python worker, the local builder, Nix, or our own fetcher."""

Result = Literal["done", "failed", "partial"]
"""Whether a realization is whole, what is left of a run that failed, or of one that was interrupted."""


@dataclass(frozen=True, slots=True)
class Realization:
    """One entry of the trace.

    Parameters
    ----------
    drv
        The resolved derivation.
    outputs
        Output name to store path.
    stage, stage_drv
        The stage's name and its derivation before resolution.
    started, stopped
        Seconds since the epoch.
    metrics
        What the stage logged.
    host
        What ran it: interpreter, platform, versions.
    index, seed
        Which of the stage's realizations it was, and the seed that it was given.
    log
        The log's name in logs/, if there is one.
    result, error
        Whether it is whole; if not, the `message` of the error, its `reason` in a word, `file` and `line`.
    attempts
        How often it was tried.
    usage
        What the run took: `cpu` in seconds, `memory` at most at once in bytes.
    previous
        The id of the realization that it went on from.
    adopted
        Where it was taken over from: `drv`, `id`, `who`, `why`, and `when` in seconds since the epoch.
    id
        Empty until it is recorded.
    """

    drv: str
    outputs: Mapping[str, str]
    stage: str
    stage_drv: str
    runner: Runner
    started: float
    stopped: float
    metrics: Mapping[str, Any] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)
    index: int = 0
    seed: int = 0
    log: str | None = None
    result: Result = "done"
    error: Mapping[str, Any] | None = None
    attempts: int = 1
    usage: Mapping[str, float] = field(default_factory=dict)
    previous: str | None = None
    adopted: Mapping[str, Any] | None = None
    id: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record, without the id, which the file's name tells."""
        return {
            "adopted": None if self.adopted is None else dict(self.adopted),
            "attempts": self.attempts,
            "drv": self.drv,
            "error": None if self.error is None else dict(self.error),
            "host": dict(self.host),
            "index": self.index,
            "log": self.log,
            "metrics": dict(self.metrics),
            "outputs": dict(self.outputs),
            "previous": self.previous,
            "result": self.result,
            "runner": self.runner,
            "seed": self.seed,
            "stage": self.stage,
            "stageDrv": self.stage_drv,
            "started": self.started,
            "stopped": self.stopped,
            "usage": dict(self.usage),
            "version": VERSION,
        }


def _id(data: bytes) -> str:
    return nix32.encode(hashlib.sha256(data).digest())[:_ID_LENGTH]


def _encode(realization: Realization) -> bytes:
    """The record."""
    return to_lines(realization.to_json())


def identity_of(realization: Realization) -> str:
    """The id that a realization has, or gets, in any trace."""
    return _id(_encode(realization))


def record(store: Store, realization: Realization) -> Realization:
    """Add a realization to the trace; gives it back with its id.

    Raises
    ------
    DiskError
        With nothing left behind.
    """
    data = _encode(realization)
    found = replace(realization, id=_id(data))
    folder = store.trace / base_name(realization.drv)
    hold(store, realization.outputs.values())
    # `gc` removes folders that are empty.
    with using(store):
        with disk_errors(f"{folder} can not be made"):
            folder.mkdir(exist_ok=True)
        write_file(store, folder / f"{found.id}.json", data)
    return found


def read_realization(data: bytes, identity: str, where: str) -> Realization:
    """Read a record.

    Raises
    ------
    RecordError
        If it is damaged, or a newer nixbridge wrote it.
    """
    try:
        value = json.loads(data)
        if value["version"] > VERSION:
            raise RecordError(
                f"the record {where} is of version {value['version']}, and this nixbridge reads up to {VERSION}",
                hint="use a newer nixbridge for this store",
            )
        outputs = value["outputs"]
        for path in (value["drv"], value["stageDrv"], *outputs.values()):
            parse(path)
        _check_kinds(value)
        return Realization(
            drv=value["drv"],
            outputs=outputs,
            stage=value["stage"],
            stage_drv=value["stageDrv"],
            runner=value["runner"],
            started=float(value["started"]),
            stopped=float(value["stopped"]),
            metrics=value["metrics"],
            host=value["host"],
            index=value["index"],
            seed=value["seed"],
            log=value["log"],
            result=value["result"],
            error=value["error"],
            attempts=value["attempts"],
            usage=value["usage"],
            previous=value["previous"],
            adopted=value["adopted"],
            id=identity,
        )
    except RecordError:
        raise
    except Exception as error:
        raise RecordError(f"the record {where} is damaged: {error}", hint="run nixbridge verify") from error


KINDS: dict[str, tuple[type, ...]] = {
    "adopted": (dict, NoneType),
    "attempts": (int,),
    "error": (dict, NoneType),
    "host": (dict,),
    "index": (int,),
    "log": (str, NoneType),
    "metrics": (dict,),
    "outputs": (dict,),
    "previous": (str, NoneType),
    "result": (str,),
    "runner": (str,),
    "seed": (int,),
    "stage": (str,),
    "started": (float, int),
    "stopped": (float, int),
    "usage": (dict,),
}


RESULTS = frozenset(get_args(Result))
RUNNERS = frozenset(get_args(Runner))
FAILURE = frozenset(("file", "line", "message", "reason"))
"""What a failed one says of its error."""


def _check_kinds(value: Mapping[str, Any]) -> None:
    """Refuse a field of another kind than is ever written: others need not look."""
    for name, kinds in KINDS.items():
        if type(value[name]) not in kinds:
            raise TypeError(f"{name} is {value[name]!r}")
    if value["result"] not in RESULTS or value["runner"] not in RUNNERS:
        raise ValueError(f"it is {value['result']!r} by {value['runner']!r}")
    if value["result"] == "failed" and not (value["error"] or {}).keys() >= FAILURE:
        raise ValueError("it does not say what failed")
    if value["log"] is not None and ("/" in value["log"] or value["log"] in ("", ".", "..")):
        raise ValueError(f"log is {value['log']!r}, which is no name in logs/")
    if not (math.isfinite(value["started"]) and math.isfinite(value["stopped"])):
        raise ValueError("its times are no times")


def is_genuine(data: bytes, identity: str) -> bool:
    """Whether a record's contents are those that its id was made from."""
    return _id(data) == identity


def realizations(store: Store, drv: str) -> list[Realization]:
    """All realizations of a resolved derivation, oldest first.

    Raises
    ------
    RecordError
        If one is damaged.
    """
    by_id: dict[str, Realization] = {}
    for layer in store.layers:
        folder = f"{layer.root}/trace/{base_name(drv)}"
        for identity in ids_of(record_names(folder)):
            if identity not in by_id and (one := read_file(folder, identity)) is not None:
                by_id[identity] = one
    found = list(by_id.values())
    found.sort(key=lambda one: (one.started, one.id))
    return found


def record_names(folder: str) -> list[str]:
    """The names in a folder of the trace, whatever they are of."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def ids_of(names: Iterable[str]) -> Iterator[str]:
    """The ids of the records among names."""
    # Others are temporaries of rsync or an editor; `verify` tells of what stays.
    return (name[:-5] for name in names if name.endswith(".json") and name[0] != ".")


def read_file(folder: str, identity: str) -> Realization | None:
    """The realization with this id, or None if it is gone.

    Raises
    ------
    RecordError
        If it is damaged.
    """
    path = f"{folder}/{identity}.json"
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    return read_realization(data, identity, path)


def find_record(store: Store, drv: str, identity: str) -> Realization | None:
    """The realization of a resolved derivation with this id, from the store or a lower one; None if it is gone.

    Raises
    ------
    RecordError
        If it is damaged.
    """
    found = (read_file(f"{layer.root}/trace/{base_name(drv)}", identity) for layer in store.layers)
    return next((one for one in found if one is not None), None)


def find_realizations(store: Store, beginning: str) -> list[Realization]:
    """The realizations whose ids begin so."""
    if not beginning.isalnum():
        return []
    found: dict[str, Realization] = {}
    for layer in store.layers:
        with os.scandir(layer.trace) as folders:
            for folder in folders:
                names = record_names(folder.path) if folder.is_dir() else []
                for identity in ids_of(name for name in names if name.startswith(beginning)):
                    one = read_file(folder.path, identity)
                    if one is not None:
                        found.setdefault(identity, one)
    return list(found.values())


def resolved_derivations(store: Store) -> list[str]:
    """The resolved derivations that the trace knows."""
    found: set[str] = set()
    for layer in store.layers:
        with os.scandir(layer.trace) as entries:
            found.update(f"{STORE_DIR}/{entry.name}" for entry in entries if entry.is_dir())
    return sorted(found)
