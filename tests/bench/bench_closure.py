"""`derivation show --recursive` of a closure of N (5,000) derivations, against Nix's own: whole processes.

    python tests/bench/bench_closure.py [N]

Most derivations have 1 to 20 inputs, some 200, some 100 KB of environment. They lie in a scratch Nix store,
registered there, so that Nix itself has checked each path. Nix reads and prints; `read, hash, print` is a program that
computes `hashDerivationModulo` of each as well. Set TMPDIR to a fast disk: reading is not the matter.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import measure

from bridge.formats.derivation import (
    Deferred,
    Derivation,
    InputOutputs,
    Instantiated,
    Output,
    derivation_references,
    instantiate,
)
from bridge.formats.derivation.json import format_of_nix
from bridge.nix.installation import find

RUNS = 7
_LINE = 'for file in "$out"/lib/*.la; do\n\tsed -i "$file" -e "s|-L\\\\($out\\\\)|-L$lib|g"\ndone\n'


def derivations(count: int, seed: int = 0) -> list[Instantiated]:
    """`count` derivations, inputs first, the last of which needs all others that nothing else needs."""
    chance = random.Random(seed)
    made: list[Instantiated] = []
    hashes: dict[str, str | None] = {}
    unused: dict[str, Instantiated] = {}
    for number in range(count):
        wanted = 200 if chance.random() < 0.01 else chance.randint(1, 20)
        used = list(unused.values()) if number == count - 1 else chance.sample(made, min(wanted, len(made)))
        large = chance.random() < 0.01
        one = instantiate(_derivation(chance, number, used, large), hashes.__getitem__)
        hashes[one.path] = one.modulo
        made.append(one)
        unused[one.path] = one
        for other in used:
            unused.pop(other.path, None)
    return made


def _derivation(chance: random.Random, number: int, used: list[Instantiated], large: bool) -> Derivation:
    outputs: dict[str, Output] = dict.fromkeys(["out", "dev"] if number % 3 == 0 else ["out"], Deferred())
    paths = " ".join(one.derivation.output_path("out") or "" for one in used)
    env = {
        "buildInputs": paths,
        "builder": "/bin/sh",
        "configureFlags": "--disable-static --enable-" + "x" * chance.randrange(200),
        "installPhase": _LINE * (100_000 // len(_LINE) if large else chance.randrange(8)),
        "name": f"package-{number}",
        "outputs": " ".join(outputs),
        "system": "x86_64-linux",
        **{f"variable{place}": chance.choice(["", "1"]) for place in range(15)},
    }
    inputs = {one.path: InputOutputs(("out",)) for one in used}
    return Derivation(f"package-{number}", outputs, inputs, (), "x86_64-linux", "/bin/sh", ("-e", "build.sh"), env)


def _nar(data: bytes) -> bytes:
    """The archive of one file."""

    def text(part: bytes) -> bytes:
        return len(part).to_bytes(8, "little") + part + bytes(-len(part) % 8)

    parts = [b"nix-archive-1", b"(", b"type", b"regular", b"contents", data, b")"]
    return b"".join(map(text, parts))


def register(made: list[Instantiated], folder: Path, env: dict[str, str]) -> None:
    """Write the derivations into the Nix store below `folder`."""
    root = folder / "root"
    subprocess.run(["nix-store", "--init"], env=env, check=True)
    lines = []
    for one in made:
        (root / one.path.lstrip("/")).write_bytes(one.aterm)
        nar = _nar(one.aterm)
        references = sorted(derivation_references(one.derivation))
        lines += [one.path, hashlib.sha256(nar).hexdigest(), str(len(nar)), "", str(len(references)), *references]
    subprocess.run(["nix-store", "--load-db"], env=env, input="\n".join(lines) + "\n", text=True, check=True)


HASH_AND_PRINT = """
import gc, os, sys
from bridge.formats.derivation.json import format_named
from bridge.formats.derivation.show import show_closure

def read(path):
    descriptor = os.open(root + path, os.O_RDONLY)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)

gc.disable()
root, shape, top = sys.argv[1:]
modulos = {}
sys.stdout.buffer.writelines(show_closure([top], read, format_named(shape), modulos=modulos))
print(len(modulos), modulos[top], file=sys.stderr)
"""
"""A whole program that prints a closure and hashes each derivation of it modulo its fixed-output inputs."""


def compare(count: int, folder: Path) -> None:
    """Both print the same closure."""
    nix = find()
    if nix is None:
        print("Nix is not installed: nothing to compare with")
        return
    env = {**os.environ, **measure.nix_environment(folder), "NIXBRIDGE_STORE": str(folder / "store")}
    made = derivations(count)
    register(made, folder, env)
    top = made[-1].path
    size = sum(len(one.aterm) for one in made) / 1e6
    edges = sum(len(one.derivation.input_drvs) for one in made)
    print(f"{count} derivations, {edges} edges, {size:.1f} MB")
    show = ["derivation", "show"] if nix.version() >= (2, 15, 0) else ["show-derivation"]
    nix_command = ["nix", "--extra-experimental-features", "nix-command", *show, "--recursive", top]
    ours = [str(Path(sys.executable).with_name("nixbridge")), "derivation", "show", "--recursive", top]
    printed = [json.loads(subprocess.check_output(command, env=env)) for command in (nix_command, ours)]
    print("the same JSON" if printed[0] == printed[1] else "NOT THE SAME JSON")
    root = str(folder / "root")
    hashing = [sys.executable, "-c", HASH_AND_PRINT, root, format_of_nix(nix.version()).name, top]
    done = subprocess.run(hashing, capture_output=True, check=True)
    expected = f"{len(made)} {made[-1].modulo}"
    print("the same JSON, hashed" if json.loads(done.stdout) == printed[0] else "NOT THE SAME JSON, hashed")
    print("the right hashes" if done.stderr.decode().strip() == expected else "NOT THE RIGHT HASHES")
    commands = {"nix": nix_command, "read, print": ours, "read, hash, print": hashing}
    walls, cpus = _by_turns(commands, env)
    for what in ("read, print", "read, hash, print"):
        measure.row(f"{what}: seconds", walls[what], "nix derivation show -r", walls["nix"])
        measure.row(f"{what}: seconds of processors", cpus[what], "nix derivation show -r", cpus["nix"])


def _by_turns(
    commands: Mapping[str, Sequence[str]], env: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds, and seconds of processors, of whole processes: one run of each by turns, for a busy machine."""
    walls: dict[str, list[float]] = {what: [] for what in commands}
    cpus: dict[str, list[float]] = {what: [] for what in commands}
    for _ in range(RUNS):
        for what, command in commands.items():
            before, begun = os.times(), time.perf_counter()
            subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            walls[what].append(time.perf_counter() - begun)
            after = os.times()
            cpus[what].append(sum(after[2:4]) - sum(before[2:4]))
    return (
        {what: statistics.median(times) for what, times in walls.items()},
        {what: statistics.median(times) for what, times in cpus.items()},
    )


if __name__ == "__main__":
    for number in map(int, sys.argv[1:] or (5000,)):
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            compare(number, Path(scratch))
