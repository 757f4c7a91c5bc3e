"""Asking about all realizations of a store: target 5 s cold and 1 s warm for 100,000, against reading each record."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import measure
from bench_keeping import NIXBRIDGE, fill

from bridge.store.catalogue import catalogue, entries
from bridge.store.layout import Store, open_store
from bridge.store.trace import realizations, resolved_derivations

COMMANDS = (
    ["find", "--where", "accuracy > 0.99 and loss < 0.5"],
    ["find", "--limit", "9"],
    ["history", "stage0", "--limit", "9"],
)


def read_all(store: Store) -> None:
    for drv in resolved_derivations(store):
        realizations(store, drv)


def main(count: int, each: int, stages: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", Path.cwd()), prefix=".bench-") as made:
        store = open_store(made)
        fill(store, count, each, stages)
        what = f"{count} realizations, {each} of each derivation, {stages} stages"
        read = measure.function(lambda: read_all(store), 1)
        measure.row(f"{what}: all records read", read)

        def forget() -> None:
            shutil.rmtree(store.root / "cache", ignore_errors=True)

        for name, ask in (("columns", catalogue), ("entries", entries)):
            cold = measure.function(lambda ask=ask: ask(store), 1, forget)  # type: ignore[misc]
            measure.row(f"{what}: {name}, cold", cold, "all records read", read)
            warm = measure.function(lambda ask=ask: ask(store), 5)  # type: ignore[misc]
            measure.row(f"{what}: {name}, warm", warm, "all records read", read)
        for command in COMMANDS:
            line = [NIXBRIDGE, *command, "--store", made]
            shown = f"{what}: {' '.join(command)}"
            forget()
            measure.row(f"{shown}, cold", measure.process(line, runs=1), "all records read", read)
            measure.row(f"{shown}, warm", measure.process(line, runs=3), "all records read", read)


if __name__ == "__main__":
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    main(total, max(1, total // 100), 20)
    main(total, 1, 20)
    main(total, 1, 1)
