"""Many records of the trace at once, as columns: a list for each field, with a row for each record.

A record is taken together with others if it is plainly right; if there is any doubt, each of them is read alone, as
`trace` reads it, which says what is wrong with which.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from operator import itemgetter
from typing import Any

from bridge.formats.store_path import STORE_DIR

from .bulk import are_store_paths, batches, contents, parsed_together
from .errors import RecordError
from .layout import Store
from .trace import FAILURE, KINDS, RESULTS, RUNNERS, VERSION, read_realization

__all__ = ["FIELDS", "Told", "read_columns"]

FIELDS = (
    "id", "drv", "stage_drv", "stage", "started", "stopped", "index", "runner", "result", "outputs", "metrics",
    "previous", "log",
)  # fmt: skip
"""What the columns hold: of a realization what those ask for who ask about many."""

_CHECKED = ("version", "drv", "stageDrv", *KINDS)
_checked = itemgetter(*_CHECKED)

Told = Callable[[int, int], object]
"""Told how many of all records that must be read have been."""


def read_columns(
    store: Store, wanted: Mapping[str, Iterable[str]], bad: dict[str, list[RecordError]], on_progress: Told
) -> dict[str, list[Any]]:
    """The records with these ids in these folders of the trace; those that are gone are passed over.

    Parameters
    ----------
    bad
        By folder what is wrong with records; it is filled.
    """
    columns: dict[str, list[Any]] = {name: [] for name in FIELDS}
    names = [(folder, identity) for folder, ids in wanted.items() for identity in ids]
    if not names:
        return columns
    trace = os.open(store.trace, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for some in batches(names, len(names), on_progress):
            there, texts = [], []
            for folder, identity in some:
                try:
                    texts.append(contents(f"{folder}/{identity}.json", trace))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    file = f"{store.root}/trace/{folder}/{identity}.json"
                    bad.setdefault(folder, []).append(RecordError(f"{file} can not be read: {error.strerror}"))
                    continue
                there.append((folder, identity))
            _add(columns, store, there, texts, bad)
    finally:
        os.close(trace)
    return columns


def _add(
    columns: dict[str, list[Any]],
    store: Store,
    there: Sequence[tuple[str, str]],
    texts: Sequence[bytes],
    bad: dict[str, list[RecordError]],
) -> None:
    """Add a row for each of these records."""
    try:
        values = parsed_together(texts)
        found = dict(zip(_CHECKED, zip(*map(_checked, values), strict=True), strict=False))
        _check(found)
    except Exception:
        # Whatever made-up contents lead to: each alone is read with care.
        for (folder, identity), text in zip(there, texts, strict=True):
            try:
                one = read_realization(text, identity, f"{store.root}/trace/{folder}/{identity}.json")
            except RecordError as error:
                bad.setdefault(folder, []).append(error)
            else:
                for name in FIELDS:
                    columns[name].append(f"{STORE_DIR}/{folder}" if name == "drv" else getattr(one, name))
        return
    columns["id"] += [identity for _, identity in there]
    columns["drv"] += [f"{STORE_DIR}/{folder}" for folder, _ in there]
    for name in FIELDS[2:]:
        columns[name] += found.get("stageDrv" if name == "stage_drv" else name, ())


def _check(columns: Mapping[str, Sequence[Any]]) -> None:
    """Let pass what `read_realization` lets pass: less of it, but never more."""
    if not columns:
        return
    ones = {name: set(map(type, column)) for name, column in columns.items()}
    plain = (
        ones["version"] == {int}
        and max(columns["version"]) <= VERSION
        and all(ones[name].issubset(kinds) for name, kinds in KINDS.items())
        and RESULTS.issuperset(columns["result"])
        and all(
            result != "failed" or (error or {}).keys() >= FAILURE
            for result, error in zip(columns["result"], columns["error"], strict=True)
        )
        and RUNNERS.issuperset(columns["runner"])
        and all(one is None or ("/" not in one and one not in ("", ".", "..")) for one in set(columns["log"]))
        and ones["started"] | ones["stopped"] == {float}
        and all(map(isfinite, columns["started"]))
        and all(map(isfinite, columns["stopped"]))
        and are_store_paths({*columns["drv"], *columns["stageDrv"]})
        and are_store_paths([path for outputs in columns["outputs"] for path in outputs.values()])
    )
    if not plain:
        raise ValueError("there is one to be looked at alone")
