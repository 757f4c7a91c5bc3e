"""The stages as plain functions: fast, and without a store."""

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1]))


def test_training_writes_its_score(tmp_path):
    from stages import train

    logged = {}
    run = SimpleNamespace(seed=1, log=logged.update)
    train.recipe.function(run, model=tmp_path / "model.txt")
    assert (tmp_path / "model.txt").read_text() == f"score {logged['score']}\n"
