"""The examples of docs/examples, as the README says they run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bridge.nix.installation import Installation

from .conftest import Command

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
