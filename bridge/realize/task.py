"""What every kind of build gets, and the rooms that it works in."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.formats.derivation import Instantiated
from bridge.formats.store_path import base_name
from bridge.stages.plan import Node
from bridge.store.durable import disk_errors, temporary
from bridge.store.layout import Store
from bridge.store.objects import remove_tree
from bridge.store.trace import Realization

from .errors import Interrupted
from .events import Reporter
from .places import Places

__all__ = ["Context", "Task", "how_it_ended", "log_tail", "printable", "work_folder"]

_TAIL = 20
_WIDEST = 500


@dataclass(frozen=True, slots=True)
class Context:
    """What all builds of a run share.

    Parameters
    ----------
    keep_failed
        Whether what a failed build or run worked in is kept; see `failed`.
    debugger
        Where Python's debugger is to look at a run that fails: `terminal`, a device, and `term`, its kind.
    """

    store: Store
    places: Places
    report: Reporter
    keep_failed: bool = False
    debugger: Mapping[str, str] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise if the run was interrupted."""
        if self.cancelled.is_set():
            raise Interrupted("interrupted")

    def wait(self, seconds: float) -> None:
        """Let time pass, unless the run is interrupted."""
        self.cancelled.wait(seconds)
        self.check()


@dataclass(frozen=True, slots=True)
class Task:
    """One realization to be made: of this node, by this resolved derivation.

    Parameters
    ----------
    inputs
        Store paths that the build can see: what it names, and all that these refer to.
    index, seed
        Which of the stage's realizations it is.
    previous
        The realization that it goes on from.
    environ
        Variables for the run, such as which GPUs are its own.
    started
        When it was handed out, in seconds since the epoch: threads begin in any order, and those who get all
        realizations of a stage as a list get them in the order of their indices.
    """

    node: Node
    resolved: Instantiated
    inputs: tuple[str, ...]
    index: int = 0
    seed: int = 0
    previous: Realization | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    started: float | None = None

    def starts(self, attempt: int) -> float:
        """When an attempt that begins now has started, for its record."""
        return self.started if self.started is not None and attempt == 1 else time.time()

    def new_log(self, store: Store) -> Path:
        """A new log file's path."""
        # All that a file's name has room for, with the longest name that Nix allows.
        return store.logs / f"{base_name(self.resolved.path)}-{os.urandom(5).hex()}"


@contextlib.contextmanager
def work_folder(store: Store) -> Iterator[Path]:
    """A folder in tmp/ that is gone afterwards, whatever happened."""
    folder = temporary(store)
    with disk_errors(f"{folder} can not be made"):
        folder.mkdir()
    try:
        yield folder
    finally:
        remove_tree(folder)


def how_it_ended(status: int) -> str:
    """What the exit status of a process means, in words; negative for a signal."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def printable(line: str) -> str:
    """A line of a log as a terminal may be shown it: without control characters, not endless."""
    return "".join(char for char in line if char.isprintable() or char == "\t")[:_WIDEST]


def log_tail(log: Path) -> list[str]:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 65536))
            lines = file.read().decode(errors="replace").splitlines()[-_TAIL:]
            return [printable(line) for line in lines]
    except OSError:
        return []
