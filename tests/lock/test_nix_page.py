"""docs/nix.md: its Python makes the stages that it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bridge.stages.values import Stage

TEXT = (Path(__file__).parents[2] / "docs/nix.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
BEFORE = """
from bridge import flake, nix, out, shell, source, stage

@stage
def train(model=out("model")): ...
"""


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_makes_stages(tmp_path: Path, number: int) -> None:
    for name in ("tool.nix", "serve.nix", "hello"):
        (tmp_path / name).write_text("{ }: { }")
    file = tmp_path / "stages.py"
    file.write_text(BEFORE + BLOCKS[number])
    names: dict[str, Any] = {"__name__": "stages", "__file__": str(file)}
    exec(compile(file.read_text(), str(file), "exec"), names)
    assert any(isinstance(value, Stage) for name, value in names.items() if name != "train")
