"""Choosing among the realizations of one stage: target 50 ms for 10,000, from the disk to the choice."""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

import measure

from bridge import best, by, every, instantiate, latest, only, stage, top, where
from bridge.formats import nix32
from bridge.realize.choosing import candidates_of
from bridge.realize.matchers import Matcher, apply
from bridge.realize.places import Places
from bridge.stages.plan import Node
from bridge.store.layout import Store, open_store
from bridge.store.trace import Realization, realizations

MATCHERS: dict[str, Matcher] = {
    "best": best("accuracy"),
    "where, by, top": where("accuracy", above=0.5) >> by("loss", lowest=True) >> top(3),
    "where host, since": where(host={"python": "3.11"}, since="2000-01-01") >> latest(),
    "every": every(),
    "only, else latest": only() | latest(),
    "a function": lambda found: max(found, key=lambda one: one.metrics["accuracy"]),
}


def train(run: object) -> None:
    pass


def fill(store: Store, drv: str, count: int) -> None:
    """Realizations with different results; written without syncing, which is not what is measured."""
    rng = random.Random(count)
    folder = store.trace / drv.removeprefix("/nix/store/")
    folder.mkdir()
    packages = dict.fromkeys(("numpy", "torch", "pandas", "sklearn", "PIL"), "1.2.3")
    for number in range(count):
        base = f"{nix32.encode(rng.randbytes(20))}-train"
        metrics = {"accuracy": rng.random(), "loss": rng.random(), "epochs": number % 40}
        host = {"machine": "x86_64", "packages": packages, "python": "3.11.7", "system": "Linux"}
        outputs = {"out": f"/nix/store/{base}"}
        started = 1.7e9 + rng.random() * 1e7
        one = Realization(
            drv, outputs, "train", drv, "python", started, started + 9.5, metrics, host, number, rng.getrandbits(63)
        )
        (folder / f"{nix32.encode(rng.randbytes(10))}.json").write_text(json.dumps(one.to_json(), indent=1))
        (store.objects / base).touch()
        (store.info / f"{base}.json").touch()


def whole(places: Places, node: Node, drv: str, matcher: Matcher) -> None:
    """From the disk to the choice."""
    assert apply(matcher, candidates_of(places, node, drv, by_nix=False))


def main(count: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", Path.cwd()), prefix=".bench-") as made:
        store = open_store(made)
        places = Places(store, None)
        (node,) = instantiate([stage(train)]).nodes
        assert node.instantiated is not None
        drv = node.instantiated.path
        fill(store, drv, count)
        read = measure.function(lambda: realizations(store, drv), 3)
        measure.row(f"{count}: all records read", read)
        first = measure.function(lambda: whole(places, node, drv, MATCHERS["best"]), 1)
        measure.row(f"{count}: best, the first time", first)
        for name, matcher in MATCHERS.items():
            took = measure.function(partial(whole, places, node, drv, matcher), 9)
            measure.row(f"{count}: {name}", took, "all records read", read)


if __name__ == "__main__":
    for number in map(int, sys.argv[1:] or (1000, 10_000)):
        main(number)
