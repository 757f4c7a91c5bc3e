"""Asking about all realizations of a store: target 5 s cold and 1 s warm for 100,000, against reading each record."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import measure

from bridge.formats import nix32
from bridge.store.catalogue import entries
from bridge.store.layout import Store, open_store
from bridge.store.trace import Realization, realizations, resolved_derivations

NIXBRIDGE = str(Path(sys.executable).with_name("nixbridge"))


def fill(store: Store, count: int, folders: int) -> None:
    """Realizations of so many derivations; written without syncing, which is not what is measured."""
    rng = random.Random(count)
    drvs = [f"/nix/store/{nix32.encode(rng.randbytes(20))}-stage{number % 20}.drv" for number in range(folders)]
    for drv in drvs:
        (store.trace / drv[11:]).mkdir()
    host = {"machine": "x86_64", "packages": dict.fromkeys(("numpy", "torch", "PIL"), "1.2.3"), "python": "3.11.7"}
    for number in range(count):
        drv = drvs[number % folders]
        started = 1.7e9 + rng.random() * 1e7
        metrics = {"accuracy": rng.random(), "loss": rng.random()}
        outputs = {"out": f"/nix/store/{nix32.encode(rng.randbytes(20))}-stage"}
        one = Realization(drv, outputs, drv[44:-4], drv, "python", started, started + 9.5, metrics, host, number)
        file = f"{store.trace}/{drv[11:]}/{nix32.encode(rng.randbytes(10))}.json"
        with open(file, "w") as opened:
            json.dump(one.to_json(), opened, indent=1)


def read_all(store: Store) -> None:
    for drv in resolved_derivations(store):
        realizations(store, drv)


def main(count: int, folders: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", Path.cwd()), prefix=".bench-") as made:
        store = open_store(made)
        fill(store, count, folders)
        what = f"{count} of {folders}"
        read = measure.function(lambda: read_all(store), 1)
        measure.row(f"{what}: all records read", read)

        def forget() -> None:
            shutil.rmtree(store.root / "cache", ignore_errors=True)

        cold = measure.function(lambda: entries(store), 1, forget)
        measure.row(f"{what}: cold", cold, "all records read", read)
        measure.row(f"{what}: warm", measure.function(lambda: entries(store), 5), "all records read", read)
        one_stage = measure.function(lambda: entries(store, stage="stage1"), 5)
        measure.row(f"{what}: one stage, warm", one_stage, "all records read", read)
        where = "accuracy > 0.99 and loss < 0.5"
        for command in (["find", "--where", where], ["history", "stage1", "--limit", "9"]):
            took = measure.process([NIXBRIDGE, *command, "--store", made], runs=3)
            measure.row(f"{what}: nixbridge {command[0]}, a process", took, "all records read", read)


if __name__ == "__main__":
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    main(total, max(1, total // 1000))
    main(total, total)
