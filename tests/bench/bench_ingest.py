"""Taking in outputs: one file of 1 GiB against plain SHA-256, 50,000 files of 2 KiB against nix-store --add."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

from bridge.store.layout import open_store
from bridge.store.objects import add_output, remove_tree


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

    ours = measure.function(lambda: add_output(store, "tree", made, ()), 1, write)
    peer = None
    if shutil.which("nix-store"):
        env = measure.nix_environment(folder)
        os.sync()
        peer = measure.process(["nix-store", "--add", str(pristine)], env, 1)
    measure.row(f"{count} files of 2 KiB", ours, "nix-store --add", peer)


if __name__ == "__main__":
    scale = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as made_here:
        one_file(Path(made_here), (1 << 30) // scale)
        remove_tree(Path(made_here, "store"))
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as made_here:
        many_files(Path(made_here), 50_000 // scale)
        subprocess.run(["chmod", "-R", "u+w", made_here], check=True)
