"""Packing one object of 1 GiB, and unpacking it, against `tar` of the same files in the same run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

from bridge.store.durable import temporary
from bridge.store.layout import Store, open_store
from bridge.store.objects import add_output, remove_tree
from bridge.store.packs import Contents, gather, unpack, write_pack

FILES = 16


def fill(store: Store, size: int) -> Contents:
    tree = temporary(store)
    tree.mkdir()
    block = os.urandom(1 << 20)
    for number in range(FILES):
        with (tree / f"{number:02}").open("wb") as file:
            for at in range(size // FILES >> 20):
                file.write(number.to_bytes(4, "little") + at.to_bytes(4, "little") + block[8:])
    return gather(store, paths=[add_output(store, "large", tree, ()).path])


def main(folder: Path, size: int) -> None:
    store, other = open_store(folder / "store"), open_store(folder / "other")
    contents = fill(store, size)
    real = contents.objects[0].real
    pack, archive = folder / "x.pack", folder / "x.tar"

    def write() -> None:
        with pack.open("wb") as file:
            write_pack(store, contents, file.write)

    def read() -> None:
        with pack.open("rb") as file:
            unpack(other, file)

    def empty() -> None:
        remove_tree(other.root)
        open_store(other.root)

    def laid() -> None:
        remove_tree(folder / "laid")
        (folder / "laid").mkdir()

    ours = measure.function(write, 3)
    peer = measure.process(["tar", "cf", str(archive), "-C", str(store.objects), real.name], runs=3)
    measure.row(f"pack {size >> 20} MiB", ours, "tar c", peer)
    ours = measure.function(read, 3, empty)
    command = ["tar", "xf", str(archive), "-C", str(folder / "laid")]
    peer = measure.function(lambda: subprocess.run(command, check=True), 3, laid)
    measure.row(f"unpack {size >> 20} MiB", ours, "tar x", peer)


if __name__ == "__main__":
    scale = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="bench-") as made_here:
        main(Path(made_here), (1 << 30) // scale)
        subprocess.run(["chmod", "-R", "u+w", made_here], check=True)
