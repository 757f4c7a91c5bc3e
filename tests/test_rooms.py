"""Who may import whom: an import never points up."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bridge

ROOT = Path(str(bridge.__file__)).parent
BELOW = {
    "formats": set(),
    "stages": {"formats"},
    "store": {"formats"},
    "nix": {"formats"},
    "realize": {"formats", "stages", "store", "nix"},
    "look": {"formats", "stages", "store", "nix", "realize"},
    "lock": {"formats", "stages", "store", "nix", "realize"},
    "cli": {"formats", "stages", "store", "nix", "realize", "look", "lock"},
}
# What `bridge` itself offers is for users; within, it is the version, and what makes a room callable.
OPEN = {"__version__", "_room"}


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports of ours."""
    package = ["bridge", *file.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_what_lies_below(room: str) -> None:
    wrong = []
    for file in (ROOT / room).rglob("*.py"):
        for line, name in imports(file):
            first, _, rest = name.partition(".")
            used = rest.partition(".")[0]
            if first == "bridge" and used not in BELOW[room] | {room} | OPEN:
                wrong.append(f"{file.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong


def test_every_room_is_listed() -> None:
    assert {folder.parent.name for folder in ROOT.glob("*/__init__.py")} == set(BELOW)


def test_the_worker_imports_the_standard_library_only() -> None:
    names = {name.partition(".")[0] for _, name in imports(ROOT / "realize/worker.py")}
    assert names - {"__future__"} <= sys.stdlib_module_names
