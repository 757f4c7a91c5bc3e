"""The command as its users call it: a process, a folder, an environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NIXBRIDGE = Path(sys.executable).with_name("nixbridge")

STAGES = """
import random
from bridge import best, out, shell, source, stage

words = source("words.txt")
clean = shell("sort -u $words > $out/sorted.txt", words=words, builder="local")

@stage(realizations=3, match=best("score"))
def train(run, data=clean / "sorted.txt", scale=2.0, model=out("model.txt")):
    score = guess(scale)
    model.write_text(f"{score} {len(data.read_text().split())}")
    run.log(score=score)

def guess(scale):
    return random.random() * scale

report = shell("cat $model > $page", model=train.model, page=out("page.txt"), builder="local")
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a stage file."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "words.txt").write_text("two\none\ntwo\n")
    (folder / "stages.py").write_text(STAGES)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Neither a Nix nor a store of the machine's."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONDONTWRITEBYTECODE") if name in os.environ}
    return kept | {
        "HOME": str(tmp_path / "home"),
        "NIXBRIDGE_STORE": str(tmp_path / "store"),
        "NIX_REMOTE": f"local?root={tmp_path}/nix",
        "COLUMNS": "160",
    }


@pytest.fixture
def nixbridge(project: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Command]:
    """Run the command in the project's folder."""

    def run(*arguments: str, status: int = 0, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [NIXBRIDGE, *arguments],
            cwd=project,
            env={**environment, **more},
            input=stdin,
            capture_output=True,
            check=False,
        )
        text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in text.stderr or "│" in text.stderr, text.stderr
        assert text.returncode == status, text.stderr + text.stdout
        return text

    yield run
    subprocess.run(["chmod", "-R", "u+w", tmp_path], check=False)
