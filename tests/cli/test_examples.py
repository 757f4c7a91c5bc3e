"""The examples of docs/examples, as the README says they run."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.nix.installation import Installation

from .conftest import NIXBRIDGE, Command

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
HELLO = ROOT / ".cache" / "hello-2.10.tar.gz"

needs_busybox = pytest.mark.skipif(
    shutil.which("busybox") is None, reason="the example's tools are a static busybox: apt-get install busybox-static"
)


@needs_busybox
@pytest.mark.nix
def test_digits_is_built_by_nix_around_the_training(nixbridge: Command, nix: Installation, project: Path) -> None:
    shutil.copytree(EXAMPLES / "digits", project / "digits")
    env = dict(nix.environ)
    first = nixbridge("realize", "digits/stages.py:report", **env)
    report = Path(first.stdout.strip())
    assert report.is_relative_to(nix.root)
    card = (report / "model-card.html").read_text()
    assert "<h2>Confusion matrix</h2>" in card
    shown = json.loads(nixbridge("realize", "digits/stages.py:report", "--json", **env).stdout)
    by_name = {stage["stage"]: stage for stage in shown["stages"]}
    assert by_name["clean"]["realizations"][0]["runner"] == "nix"
    assert by_name["report"]["realizations"][0]["runner"] == "nix"
    trained = by_name["train"]["realizations"]
    assert len(trained) == 5
    [chosen] = [one for one in trained if one["chosen"]]
    assert chosen["metrics"]["accuracy"] == max(one["metrics"]["accuracy"] for one in trained) > 0.9
    assert chosen["outputs"]["out"] in card
    again = nixbridge("realize", "digits/stages.py:report", **env)
    assert again.stdout == first.stdout
    assert "running" not in again.stderr


@needs_busybox
def test_digits_is_built_by_the_local_builder_without_nix(nixbridge: Command, project: Path) -> None:
    shutil.copytree(EXAMPLES / "digits", project / "digits")
    done = nixbridge("realize", "digits/stages.py:report", "--builder", "local")
    assert "Model: " in (Path(done.stdout.strip()) / "model-card.html").read_text()
    nixbridge("verify")


@pytest.mark.slow
@pytest.mark.skipif(not HELLO.exists(), reason="the source of GNU hello could not be fetched by scripts/setup")
def test_hello_is_compiled_from_its_tarball(nixbridge: Command, project: Path) -> None:
    shutil.copytree(EXAMPLES / "hello", project / "hello")
    shutil.copy(HELLO, project / "hello" / "hello-2.10.tar.gz")
    done = nixbridge("realize", "hello/stages.py")
    assert (Path(done.stdout.strip()) / "greeting.txt").read_text().startswith("Hello from /")
    assert "✔ hello " in done.stderr


@pytest.fixture
def ml(project: Path) -> Path:
    shutil.copytree(EXAMPLES / "ml", project / "ml", ignore=shutil.ignore_patterns("__pycache__"))
    return project / "ml"


def stages_of(nixbridge: Command, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    """The realizations of each stage's label."""
    shown = json.loads(nixbridge("realize", *arguments, "--json").stdout)
    return {stage["label"]: stage["realizations"] for stage in shown["stages"]}


def test_ml_compares_rates_and_tests_each_fold_once(nixbridge: Command, ml: Path) -> None:
    first = nixbridge("realize", "ml/stages.py")
    out = {path.name.partition("-")[2]: path for path in map(Path, first.stdout.split())}
    header, *rows = (out["compare"] / "table.csv").read_text().split()
    assert header == "rate,accuracy,loss"
    assert [row.split(",")[0] for row in rows] == ["0.01", "0.03", "0.1", "0.3"]
    summary = json.loads((out["cross_validation"] / "summary.json").read_text())
    assert summary["folds"] == 5
    assert summary["accuracy"] > 0.9
    assert len(json.loads((out["starts"] / "starts.json").read_text())) == 3
    clean = next(path for path in out["compare"].parent.glob("*-clean") if path.is_dir())
    measured = (clean / "penguins.csv").read_text().splitlines()[1:]
    tests = [path.read_text().splitlines()[1:] for path in out["compare"].parent.glob("*-split/test.csv")]
    assert len(measured) == 342
    assert sorted(row for rows in tests for row in rows) == sorted(measured)
    assert "running" not in nixbridge("realize", "ml/stages.py").stderr


def test_ml_takes_data_by_its_hash_alone(nixbridge: Command, ml: Path) -> None:
    with (ml / "penguins.csv").open("a") as file:
        file.write("Emperor,Torgersen,1,1,1,1,NA,2009\n")
    stages = (ml / "stages.py").read_text().replace("https://raw.githubusercontent.com/", "http://127.0.0.1:1/")
    (ml / "stages.py").write_text(stages)
    failed = nixbridge("realize", "ml/stages.py:clean", status=1)
    assert "penguins.csv can not be fetched" in failed.stderr


def test_ml_trains_on_from_a_realization(nixbridge: Command, ml: Path) -> None:
    nixbridge("realize", "ml/stages.py:train")
    found = json.loads(nixbridge("find", "--stage", "train", "--json").stdout)
    ids = [one["id"] for one in found]
    best = min(found, key=lambda one: one["metrics"]["loss"])
    nixbridge("realize", "ml/stages.py:train", "--from", f"train={best['id']}")
    [further] = [
        one for one in json.loads(nixbridge("find", "--stage", "train", "--json").stdout) if one["id"] not in ids
    ]
    assert further["metrics"]["epochs"] == 40
    assert further["metrics"]["loss"] < best["metrics"]["loss"]


def test_ml_goes_on_from_the_last_epoch_of_a_training_that_was_killed(
    nixbridge: Command, ml: Path, project: Path, environment: dict[str, str]
) -> None:
    target = ["realize", "ml/stages.py:train", "--set", "train.epochs=3000", "--jobs", "1"]
    with subprocess.Popen([NIXBRIDGE, *target], cwd=project, env=environment, stderr=subprocess.DEVNULL) as process:
        saved = Path(environment["NIXBRIDGE_STORE"]) / "checkpoints"
        deadline = time.monotonic() + 30
        while not list(saved.glob("*/model.npz")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    [checkpoint] = saved.glob("*/model.npz")
    trained = int(np.load(checkpoint)["epoch"])
    assert 0 < trained < 3000
    nixbridge("verify")
    (ml / "epochs.py").write_text("from stages import train\nlong = train(epochs=3000).options(realizations=1)\n")
    nixbridge("realize", "ml/epochs.py:long")
    assert not checkpoint.exists()
    [one] = json.loads(nixbridge("find", "--stage", "train", "--json").stdout)
    assert one["metrics"]["epochs"] == 3000
