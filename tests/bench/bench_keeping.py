"""`gc --dry-run` and `du` of a large store: target 5 s cold and 1 s warm for 100,000 realizations."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

from bridge.formats import nix32
from bridge.store.layout import Store, open_store
from bridge.store.trace import Realization

NIXBRIDGE = str(Path(sys.executable).with_name("nixbridge"))
SRI = "sha256-" + "A" * 43 + "="
HOST = {"machine": "x86_64", "packages": dict.fromkeys(("numpy", "torch", "PIL"), "1.2.3"), "python": "3.11.7"}
COMMANDS = (
    ["gc", "--dry-run"],
    ["gc", "--dry-run", "--unrooted"],
    ["gc", "--dry-run", "--keep-best", "5:accuracy", "--by", "name"],
    ["du"],
)


def fill(store: Store, count: int, each: int, stages: int = 20) -> None:
    """Derivations with so many realizations each, all made from one source; written without syncing."""
    rng = random.Random(count)

    def add(name: str, references: list[str], text: str) -> str:
        path = f"/nix/store/{nix32.encode(rng.randbytes(20))}-{name}"
        info = {"ca": None, "narHash": SRI, "narSize": 200, "path": path, "references": references}
        store.info_file(path).write_text(json.dumps(info, indent=1))
        store.real_path(path).write_text(text)
        return path

    source = add("code", [], "code")
    for number in range(count // each):
        stage = f"stage{number % stages}"
        config = f'("lr","0.{number}"),("name","{stage}"),("out","")'
        text = f'Derive([("out","","r:sha256","")],[],["{source}"],"x","/bin/sh",[],[{config}])'
        drv = add(f"{stage}.drv", [source], text)
        (store.trace / drv[11:]).mkdir()
        for index in range(each):
            started = 1.7e9 + rng.random() * 1e7
            metrics = {"accuracy": rng.random(), "loss": rng.random()}
            outputs = {"out": add(stage, [source], str(index))}
            one = Realization(drv, outputs, stage, drv, "python", started, started + 9.5, metrics, HOST, index)
            file = f"{store.trace}/{drv[11:]}/{nix32.encode(rng.randbytes(10))}.json"
            with open(file, "w") as opened:
                json.dump(one.to_json(), opened, indent=1)


def main(count: int, each: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", Path.cwd()), prefix=".bench-") as made:
        store = open_store(made)
        fill(store, count, each)
        peer = measure.process(["du", "-s", made], runs=1)
        what = f"{count} realizations, {each} of each derivation"
        for command in COMMANDS:
            shutil.rmtree(store.root / "cache", ignore_errors=True)
            line = [NIXBRIDGE, *command, "--store", made]
            shown = f"{what}: {' '.join(command)}"
            measure.row(f"{shown}, cold", measure.process(line, runs=1), "du -s", peer)
            measure.row(f"{shown}, warm", measure.process(line, runs=3), "du -s", peer)
        subprocess.run(["rm", "-rf", *store.root.iterdir()], check=True)


if __name__ == "__main__":
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    main(total, 1)
    main(total, 1000)
