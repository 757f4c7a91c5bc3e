"""`bridge.formats` alone: what importing it brings in."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge import formats

ROOT = Path(str(bridge.__file__)).parents[1]
MODULES = ["bridge.formats", *sorted(one.name for one in pkgutil.walk_packages(formats.__path__, "bridge.formats."))]

IMPORTS = """
import importlib, json, sys
root, *names = sys.argv[1:]
sys.path.insert(0, root)
before = set(sys.modules)
for name in names:
    importlib.import_module(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""

EACH_FIRST = """
import importlib, sys
root, *names = sys.argv[1:]
sys.path.insert(0, root)
for name in names:
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == "bridge"]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""


def run(program: str, *options: str, names: list[str] = MODULES) -> Any:
    command = [sys.executable, "-B", *options, "-c", program, str(ROOT), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "null")


def foreign(loaded: list[str]) -> set[str]:
    """What comes neither with Python nor from us."""
    return {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"bridge"}


def test_there_are_modules() -> None:
    assert {"bridge.formats.nar", "bridge.formats.derivation.json", "bridge.formats.signing"} <= set(MODULES)


def test_every_module_brings_in_the_standard_library_and_pynixutil_at_most() -> None:
    assert foreign(run(IMPORTS)) <= {"pynixutil"}


def test_no_other_room_is_imported() -> None:
    ours = [name for name in run(IMPORTS) if name.partition(".")[0] == "bridge"]
    assert set(ours) == {"bridge", *MODULES}


@pytest.mark.parametrize("name", ["typer", "rich", "click", "cryptography", "cffi"])
def test_what_only_the_command_needs_is_not_loaded(name: str) -> None:
    loaded = {one.partition(".")[0] for one in run(IMPORTS)}
    assert name not in loaded
    # Else the test says nothing.
    assert importlib.util.find_spec(name) is not None or name == "click"


def test_nothing_but_the_standard_library_needs_to_be_installed() -> None:
    loaded = run(IMPORTS, "-I", "-S")
    assert set(MODULES) <= set(loaded)
    assert foreign(loaded) == set()


def test_each_module_can_be_the_first_one_imported() -> None:
    run(EACH_FIRST)


def test_cryptography_is_asked_for_when_something_is_signed() -> None:
    program = """
from bridge.formats.errors import SignatureError
from bridge.formats.signing import generate
try:
    generate("test-1")
except SignatureError as error:
    print(__import__("json").dumps([error.message, error.hint]))
"""
    said = run("import sys; sys.path.insert(0, sys.argv[1])\n" + program, "-I", "-S")
    assert said == ["signatures need the library cryptography", "pip install 'nixbridge[sign]'"]
