"""Taking in outputs: one file of 1 GiB against plain SHA-256, 50,000 files of 2 KiB against nix-store --add."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

from bridge.store.layout import open_store
from bridge.store.objects import add_output, remove_tree

RUNS = 5


def one_file(folder: Path, size: int) -> None:
    """Ingest a large file; the peer reads and hashes it in plain Python."""
    store = open_store(folder / "store")
    made = folder / "model"
    block = os.urandom(1 << 20)

    def write() -> None:
        remove_tree(store.root)
        open_store(store.root)
        with made.open("wb") as file:
            for number in range(size >> 20):
                file.write(number.to_bytes(8, "little") + block[8:])
        os.sync()

    def plain() -> None:
        digest = hashlib.sha256()
        with made.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)

    write()
    sha256 = measure.function(plain, 3)
    ours = measure.function(lambda: add_output(store, "model", made, ()), 3, write)
    measure.row(f"one file of {size >> 20} MiB", ours, "sha256 in Python", sha256)
    references = [f"/nix/store/{number:032d}-input" for number in range(100)]
    ours = measure.function(lambda: add_output(store, "model", made, references), 3, write)
    measure.row("  the same, looking for 100 references", ours, "sha256 in Python", sha256)


def many_files(folder: Path, count: int) -> None:
    """Ingest an output tree that was written in the store's file system."""
    store = open_store(folder / "store")
    pristine = folder / "pristine"
    for number in range(count):
        if number % 100 == 0:
            (pristine / f"{number // 100}").mkdir(parents=True)
        (pristine / f"{number // 100}" / f"{number}").write_bytes(number.to_bytes(8, "little") * 256)
    made = folder / "made"

    def write() -> None:
        remove_tree(store.root)
        open_store(store.root)
        subprocess.run(["cp", "-r", pristine, made], check=True)
        os.sync()

    # By turns, for a busy machine.
    ours, peers = [], []
    for _ in range(RUNS):
        ours.append(measure.function(lambda: add_output(store, "tree", made, ()), 1, write))
        if shutil.which("nix-store"):
            remove_tree(folder / "root")
            os.sync()
            peers.append(measure.process(["nix-store", "--add", str(pristine)], measure.nix_environment(folder), 1))
    peer = statistics.median(peers) if peers else None
    measure.row(f"{count} files of 2 KiB", statistics.median(ours), "nix-store --add", peer)
    if peers:
        ratios = sorted(theirs / mine for mine, theirs in zip(ours, peers, strict=True))
        print(f"  so many times as fast, in {RUNS} runs by turns: " + " ".join(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    scale = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as made_here:
        one_file(Path(made_here), (1 << 30) // scale)
        remove_tree(Path(made_here, "store"))
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as made_here:
        many_files(Path(made_here), 50_000 // scale)
        subprocess.run(["chmod", "-R", "u+w", made_here], check=True)
