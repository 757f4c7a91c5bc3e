"""The stages as plain functions: fast, and without a store."""

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1]))


def test_training_finds_the_line(tmp_path):
    from stages import points, train

    logged = {}
    run = SimpleNamespace(seed=1, log=logged.update)
    points.recipe.function(data=tmp_path / "points.json")
    train.recipe.function(run, data=tmp_path / "points.json", model=tmp_path / "model.json")
    assert logged["loss"] < 0.2
