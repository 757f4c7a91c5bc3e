"""How many derivations a second: parse, print, hash modulo, and pynixutil beside it.

    python tests/bench/bench_aterm.py [N]

A closure of N (1,000) derivations in the proportions of nixpkgs: most of 2 to 5 kB with tens of
inputs, some fixed-output fetches of half a kilobyte, some with scripts of 20 kB in their environment,
some with structured attributes. Nothing is asserted: the numbers are for reading.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import statistics
import sys
import time
from collections.abc import Callable

from bridge.formats.derivation import (
    Deferred,
    Derivation,
    Fixed,
    InputOutputs,
    Output,
    derivation_path,
    instantiate,
    modulo,
    parse_aterm,
    unparse,
)
from bridge.formats.hashes import Hash

Closure = list[tuple[str, bytes]]
"""Name and ATerm of each derivation, inputs before what uses them."""

REPEATS = 5

_PHASE = (
    "runHook preInstall\n"
    'for f in "$out"/lib/*.la; do\n'
    '\tsed -i "$f" -e \'s|-L\\\\($out\\\\)|-L$lib|g\' # keep \\"quotes\\"\n'
    "done\nrunHook postInstall\n"
)


def closure(count: int, seed: int = 0) -> Closure:
    """`count` derivations, the same for the same seed."""
    chance = random.Random(seed)
    hashes: dict[str, str | None] = {}
    outputs_of: dict[str, list[str]] = {}
    found: Closure = []
    sources = tuple(sorted(f"/nix/store/{_digest(chance)}-builder-{number}.sh" for number in range(8)))
    for number in range(count):
        kind = chance.random()
        known = list(outputs_of)
        if kind < 0.2 or number < 10:
            drv = _fetch(chance, number)
        else:
            used = chance.sample(known, min(len(known), chance.choice([3, 8, 15, 25, 40])))
            drv = _package(chance, number, used, outputs_of, sources, large=kind > 0.97, structured=kind > 0.85)
        made = instantiate(drv, hashes.__getitem__)
        hashes[made.path] = made.modulo
        outputs_of[made.path] = list(made.derivation.outputs)
        found.append((drv.name, made.aterm))
    return found


def _digest(chance: random.Random) -> str:
    return "".join(chance.choices("0123456789abcdfghijklmnpqrsvwxyz", k=32))


def _fetch(chance: random.Random, number: int) -> Derivation:
    name = f"source-{number}.tar.gz"
    content = Hash("sha256", chance.randbytes(32))
    env = {
        "builder": "builtin:fetchurl",
        "name": name,
        "outputHash": content.sri,
        "preferLocalBuild": "1",
        "system": "builtin",
        "urls": f"https://example.org/{number}/{name}",
    }
    output = Fixed.of(name, "out", "flat", content)
    return Derivation(name, {"out": output}, {}, (), "builtin", "builtin:fetchurl", (), env)


def _package(
    chance: random.Random,
    number: int,
    used: list[str],
    outputs_of: dict[str, list[str]],
    sources: tuple[str, ...],
    *,
    large: bool,
    structured: bool,
) -> Derivation:
    name = f"package-{number}-{chance.randrange(9)}.{chance.randrange(30)}"
    outputs: dict[str, Output] = dict.fromkeys(["out", "dev", "lib"] if chance.random() < 0.4 else ["out"], Deferred())
    inputs = {path: InputOutputs((chance.choice(outputs_of[path]),)) for path in used}
    paths = " ".join(path.removesuffix(".drv") for path in used)
    env = {
        "buildInputs": paths[: len(paths) // 2],
        "builder": "/nix/store/" + _digest(chance) + "-bash-5.2/bin/bash",
        "configureFlags": "--disable-static --with-lib=" + "x" * chance.randrange(200),
        "installPhase": _PHASE * (100 if large else chance.randrange(4)),
        "name": name,
        "nativeBuildInputs": paths[len(paths) // 2 :],
        "outputs": " ".join(outputs),
        "src": sources[0],
        "stdenv": sources[1],
        "system": "x86_64-linux",
        **{variable: chance.choice(["", "1"]) for variable in _VARIABLES},
    }
    if structured:
        env = {"__json": json.dumps(env, sort_keys=True, separators=(",", ":"))}
    args = ("-e", sources[0], sources[1])
    chosen = tuple(sorted(chance.sample(sources, 3)))
    return Derivation(name, outputs, inputs, chosen, "x86_64-linux", "/bin/bash", args, env)


_VARIABLES = [
    *("cmakeFlags", "depsBuildBuild", "depsBuildBuildPropagated", "depsBuildTarget", "depsHostHost"),
    *("depsTargetTarget", "doCheck", "doInstallCheck", "enableParallelBuilding", "mesonFlags"),
    *("patches", "propagatedBuildInputs", "propagatedNativeBuildInputs", "strictDeps", "__impureHostDeps"),
]


def _rate(work: Callable[[], object], count: int) -> float:
    """Derivations a second: the median of some rounds."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return count / statistics.median(times)


def main(count: int = 1000) -> None:
    """Measure and print the table."""
    files = closure(count)
    parsed = [parse_aterm(data, name) for name, data in files]

    def everything() -> None:
        hashes: dict[str, str | None] = {}
        for name, data in files:
            drv = parse_aterm(data, name)
            printed = unparse(drv)
            hashes[derivation_path(drv, printed)] = modulo(drv, hashes.__getitem__)

    rates = {
        "parse": _rate(lambda: [parse_aterm(data, name) for name, data in files], count),
        "print": _rate(lambda: [unparse(drv) for drv in parsed], count),
        "parse + print": _rate(lambda: [unparse(parse_aterm(data, name)) for name, data in files], count),
        "parse + print + path + modulo": _rate(everything, count),
    }
    usual = [(name, data) for name, data in files if 2000 <= len(data) <= 5000]
    rates["parse + print of 2-5 kB"] = _rate(
        lambda: [unparse(parse_aterm(data, name)) for name, data in usual], len(usual)
    )
    with contextlib.suppress(ImportError):
        from pynixutil import drvparse

        texts = [data.decode() for _, data in files]
        rates["pynixutil.drvparse"] = _rate(lambda: [drvparse(text) for text in texts], count)

    sizes = sorted(len(data) for _, data in files)
    out = io.StringIO()
    out.write(
        f"{count} derivations, {sum(sizes) / 1e6:.1f} MB; size: median {sizes[count // 2]}, "
        f"mean {sum(sizes) // count}, largest {sizes[-1]} bytes\n\n"
    )
    out.write(f"{'':32}{'drv/s':>10}{'to pynixutil':>15}\n")
    base = rates.get("pynixutil.drvparse")
    for what, rate in rates.items():
        ratio = f"{rate / base:.1f}x" if base else "-"
        out.write(f"{what:32}{rate:10,.0f}{ratio:>15}\n")
    sys.stdout.write(out.getvalue())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
