"""What the tests of the formats share: their data, and how hard hypothesis tries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from bridge.formats.derivation import Derivation, Modulo, modulo, parse_aterm
from bridge.formats.store_path import STORE_DIR, parse

DATA = Path(__file__).with_name("data")

# The machine that runs the tests may be busy: no deadlines.
settings.register_profile("formats", deadline=None)
settings.load_profile("formats")


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA


@pytest.fixture(scope="session")
def closure() -> Mapping[str, Derivation]:
    """What Nix instantiates of data/derivations.nix, by store path."""
    found = {}
    for file in sorted((DATA / "aterm/good").glob("*.drv")):
        path = f"{STORE_DIR}/{file.name}"
        found[path] = parse_aterm(file.read_bytes(), parse(path)[1].removesuffix(".drv"))
    return found


@pytest.fixture(scope="session")
def named(closure: Mapping[str, Derivation]) -> Mapping[str, str]:
    """The store path of the derivation of each name that is there once."""
    return {drv.name: path for path, drv in closure.items()}


@pytest.fixture(scope="session")
def modulos(closure: Mapping[str, Derivation]) -> Mapping[str, Modulo]:
    """The unmasked modulo of each derivation of the closure."""
    known: dict[str, Modulo] = {}

    def of(path: str) -> Modulo:
        if path not in known:
            known[path] = modulo(closure[path], of)
        return known[path]

    for path in closure:
        of(path)
    return known
