"""Projects of a test's own: real modules on disk, loaded as the command does, forgotten afterwards."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bridge.realize import worker
from bridge.realize.workers import ForkWorkers
from bridge.stages.code import Code, locate, modules, prune, stage_code
from bridge.stages.load import load_module
from bridge.stages.plan import Evaluator, Node, instantiate
from bridge.stages.values import PythonRecipe, Stage


def forget() -> None:
    """Drop what nixbridge remembers of files."""
    for remembered in (modules.tree, modules.load, modules.find, locate.locate, modules.outline):
        remembered.cache_clear()
    locate.project_root.cache_clear()
    prune.stage_code.cache_clear()


@dataclass
class Project:
    """A folder with Python files in it.

    Parameters
    ----------
    folder
        Where it is; its pyproject.toml makes it a project.
    """

    folder: Path
    before: set[str] = field(default_factory=lambda: set(sys.modules))
    path: list[str] = field(default_factory=lambda: list(sys.path))

    def write(self, files: Mapping[str, str]) -> Project:
        for name, text in files.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        return self

    def clean(self) -> None:
        """As if no module of any project had been imported."""
        for name in set(sys.modules) - self.before:
            if not name.startswith(("bridge", "_pytest", "hypothesis")):
                origin = getattr(sys.modules[name], "__file__", None)
                if origin is None or not origin.startswith((sys.prefix, sys.base_prefix)):
                    del sys.modules[name]
        sys.path[:] = self.path
        sys.path_importer_cache.clear()
        forget()

    def load(self, text: str | None = None, file: str = "stages.py", /, **files: str) -> ModuleType:
        """Import `file` afresh, after writing it and further modules (`helper="…"` is helper.py)."""
        self.clean()
        if text is not None:
            self.write({file: text})
        self.write({f"{name}.py": contents for name, contents in files.items()})
        return load_module(str(self.folder / file))

    def code(self, text: str | None = None, /, stage: str = "train", file: str = "stages.py", **files: str) -> Code:
        """The code of a stage of a module written anew."""
        return code_of(getattr(self.load(text, file, **files), stage))

    def node(self, text: str, /, stage: str = "train", evaluator: Evaluator | None = None, **files: str) -> Node:
        """A stage of a module written anew, instantiated."""
        return instantiate([getattr(self.load(text, **files), stage)], evaluator).targets[0]

    def run(self, stage: Stage, **arguments: Any) -> dict[str, Any]:
        """Run a stage as the engine does: its files in a worker process; gives the worker's result."""
        code = code_of(stage)
        room = self.folder.parent / "room"
        room.mkdir(exist_ok=True)
        for path, text in code.files.items():
            file = room / "code" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (room / "positions.json").write_text(json.dumps(code.positions))
        recipe = stage.recipe
        assert isinstance(recipe, PythonRecipe)
        job = {
            "arguments": {name: {"value": value} for name, value in {**recipe.arguments, **arguments}.items()},
            "code": str(room / "code"),
            "function": f"{code.module}:{code.function}",
            "index": 0,
            "log": str(room / "log"),
            "out": str(room / "out"),
            "checkpoint": str(room / "checkpoint"),
            "environ": {},
            "keep": ["PATH"],
            "limits": {},
            "positions": str(room / "positions.json"),
            "debugger": None,
            "previous": None,
            "result": str(room / "result.json"),
            "run": recipe.run,
            "seed": 1,
            "work": str(room),
        }
        with ForkWorkers() as workers:
            assert workers.submit(job).result(60)["exit"] == 0
        found: dict[str, Any] = json.loads((room / "result.json").read_bytes())
        found["log"] = (room / "log").read_text()
        for file in sorted(room.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        return found

    def result(self, text: str, /, stage: str = "train", **files: str) -> Any:
        """What `run.log(result=…)` logged when the pruned code ran; the live function must log the same."""
        found = self.run(live := getattr(self.load(text, **files), stage))
        assert "error" not in found, found["error"]["message"] + "\n" + found["log"]
        return found["metrics"]["result"], as_json(live_result(live))


def code_of(stage: Stage) -> Code:
    recipe = stage.recipe
    assert isinstance(recipe, PythonRecipe)
    return stage_code(recipe.function, recipe.decorated_at)


def live_result(stage: Stage) -> Any:
    """What the user's own function logs, called where it was defined."""
    recipe = stage.recipe
    assert isinstance(recipe, PythonRecipe)
    run = worker.Run(0, 1, Path("/nowhere"), Path("/nowhere"), None)
    recipe.function(**{**recipe.arguments, "run": run})
    return run.metrics["result"]


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty project; see `Project`."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    made = Project(folder)
    yield made
    made.clean()
