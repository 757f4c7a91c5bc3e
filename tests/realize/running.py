"""Write stage files, realize them, and look at what happened."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from bridge.formats.errors import BridgeError
from bridge.nix.installation import Installation
from bridge.realize.engine import Choice, Options, Outcome, realize
from bridge.realize.errors import RealizeError
from bridge.realize.events import Event, Started
from bridge.stages.load import load_module
from bridge.stages.plan import instantiate
from bridge.stages.values import Stage
from bridge.store.layout import Store
from bridge.store.verify import verify

Kind = TypeVar("Kind")
DRIVER = Path(__file__).with_name("drive.py")
_numbers = itertools.count()


def write_stages(folder: Path, text: str) -> Path:
    """A stage file with a module name that no other test uses."""
    file = folder / f"stages_{os.getpid()}_{next(_numbers)}.py"
    file.write_text("from bridge import *\n" + textwrap.dedent(text))
    return file


def load(folder: Path, text: str) -> ModuleType:
    return load_module(str(write_stages(folder, text)))


@dataclass
class Run:
    """What came of a realization."""

    events: list[Event]
    outcome: Outcome | None = None
    error: RealizeError | None = None

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def started(self) -> list[tuple[str, str]]:
        return [(event.node.name, event.where) for event in self.of(Started)]

    def choice(self, name: str) -> Choice:
        assert self.outcome is not None, self.error and [str(one) for one in self.error.failures]
        (found,) = (choice for node, choice in self.outcome.choices.items() if node.name == name)
        return found

    def path(self, name: str, output: str = "out") -> Path:
        (one,) = self.choice(name).chosen
        return one.paths[output]

    @property
    def failure(self) -> BridgeError:
        assert self.error is not None
        (found,) = self.error.failures
        return found


def run(store: Store, *stages: Stage, nix: Installation | None = None, executor: Any = None, **options: Any) -> Run:
    """Realize stages; failures of stages are kept, not raised."""
    found = Run([])
    plan = instantiate(stages)
    try:
        found.outcome = realize(
            plan,
            store,
            nix=nix,
            options=Options(**{"jobs": 4, **options}),
            report=found.events.append,
            executor=executor,
        )
    except RealizeError as error:
        found.error = error
    return found


def assert_clean(store: Store) -> None:
    """No fault, and nothing left in tmp/."""
    report = verify(store)
    assert report.findings == []
    assert list(store.tmp.iterdir()) == []


def drive(store: Store, file: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Realize a file's stages in a process of its own."""
    return subprocess.Popen(
        [sys.executable, DRIVER, store.root, file, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ if env is None else env),
    )


def alive(pids: Iterable[int]) -> list[int]:
    """Those processes that still run."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            found.append(pid)
    return found


def wait_until(true: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def noted(folder: Path) -> list[int]:
    """The process ids that stages wrote down as file names."""
    return [int(path.name) for path in folder.iterdir()]
