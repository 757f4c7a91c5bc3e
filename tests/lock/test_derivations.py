"""Closures in the Nix store: each derivation is read once, however deep and however interwoven they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bridge.formats.derivation import Deferred, Derivation, Fixed, InputOutputs, Instantiated, instantiate, unparse
from bridge.formats.hashes import Hash
from bridge.lock.derivations import Derivations
from bridge.nix.installation import Installation
from bridge.stages.errors import StageError

Write = Callable[..., Instantiated]


@pytest.fixture
def nix(tmp_path: Path) -> Installation:
    """Only where its store is: nothing of Nix is run."""
    (tmp_path / "nix" / "store").mkdir(parents=True)
    return Installation(tmp_path, {"NIX_REMOTE": f"local?root={tmp_path}"})


@pytest.fixture
def write(nix: Installation) -> Write:
    """Puts a derivation that uses others into the store, and computes its modulo on the way."""
    known: dict[str, str | None] = {}

    def made(name: str, used: Sequence[Instantiated] = (), *, fixed: bool = False) -> Instantiated:
        output = Fixed.of(name, "out", "flat", Hash.of(name.encode())) if fixed else Deferred()
        inputs = {one.path: InputOutputs(("out",)) for one in used}
        drv = Derivation(name, {"out": output}, inputs, (), "x86_64-linux", "/bin/sh", (), {"out": ""})
        found = instantiate(drv, known.__getitem__)
        known[found.path] = found.modulo
        nix.real_path(found.path).write_bytes(unparse(found.derivation))
        return found

    return made


def test_the_modulo_is_the_one_of_the_derivation(nix: Installation, write: Write) -> None:
    low = write("low")
    top = write("top", [low, write("source", fixed=True)])
    derivations = Derivations(nix)
    assert derivations.modulo(top.path) == top.modulo
    assert derivations.modulo(low.path) == low.modulo
    assert derivations.read(top.path) == (top.derivation, unparse(top.derivation))


def test_what_a_fixed_output_is_fetched_with_is_not_read(nix: Installation, write: Write) -> None:
    fetcher = write("fetcher")
    fetched = write("fetched", [fetcher], fixed=True)
    nix.real_path(fetcher.path).unlink()
    assert Derivations(nix).modulo(fetched.path) == fetched.modulo


@pytest.mark.parametrize("width", [1, 6])
def test_a_deep_closure_is_walked_in_one_pass(nix: Installation, write: Write, width: int) -> None:
    layers = [[write(f"base{number}") for number in range(width)]]
    for depth in range(5000 // width):
        layers.append([write(f"d{depth}x{number}", layers[-1]) for number in range(width)])
    (top, *_) = layers[-1]
    started = time.monotonic()
    assert Derivations(nix).modulo(top.path) == top.modulo
    # A walk of every way through it would not end at all.
    assert time.monotonic() - started < 20


def test_each_is_read_once(nix: Installation, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    low = write("low")
    middle = [write(f"middle{number}", [low]) for number in range(3)]
    top = write("top", [low, *middle])
    reads: list[str] = []
    read = Path.read_bytes

    def counted(path: Path) -> bytes:
        reads.append(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    derivations = Derivations(nix)
    derivations.modulo(top.path)
    derivations.modulo(middle[0].path)
    assert len(reads) == len(set(reads)) == 5


def test_a_derivation_that_is_not_there_is_named(nix: Installation, write: Write) -> None:
    low = write("low")
    top = write("top", [low])
    nix.real_path(low.path).unlink()
    with pytest.raises(StageError, match=f"{low.path} can not be read from the Nix store: No such file"):
        Derivations(nix).modulo(top.path)
