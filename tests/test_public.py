"""What `from bridge import …` gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

import bridge


@pytest.mark.parametrize("name", bridge.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(bridge, name) is not None
    assert name in dir(bridge)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = bridge.nope


@pytest.mark.parametrize("first", ["", "import bridge.nix.client, bridge.realize.engine; "])
def test_nix_and_realize_are_functions_whatever_was_imported_before(first: str) -> None:
    program = (
        first + "from bridge import nix, realize; import bridge.nix.client as c; print(nix(expr='1', name='x').name)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "x\n"


def test_the_worker_imports_the_standard_library_only() -> None:
    program = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]); import worker\n"
        "print(sorted({n.split('.')[0] for n in set(sys.modules) - before} - sys.stdlib_module_names - {'worker'}))"
    )
    folder = str(bridge.__path__[0]) + "/realize"
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
