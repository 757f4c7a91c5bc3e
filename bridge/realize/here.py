"""Run a job's function in this very process, where a debugger sees it; see `worker` for the job.

As in a worker, the function comes from the stage's code (what is hashed is what runs), the working folder is
the run's own, and the environment is the stage's; all of it is put back when the call ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from . import worker

__all__ = ["Here", "variables"]

_TERMINAL = ("TERM", "COLORTERM", "COLUMNS", "LINES", "DISPLAY", "PYTHONBREAKPOINT", "NO_COLOR")
"""What a debugger needs of the user's environment beyond what a stage sees."""

_lock = threading.RLock()
"""Modules, working folder and environment are the process's: one call at a time."""


def variables(job: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job, made from that of a process."""
    kept = {name: environ[name] for name in job["keep"] if name in environ}
    folders = dict.fromkeys(("HOME", "TMPDIR", "TMP", "TEMP", "NIX_BUILD_TOP"), job["work"])
    return {**kept, **folders, **job["environ"]}


class Here:
    """A job whose function can be called here, any number of times.

    Attributes
    ----------
    run
        What the function's parameter `run` gets.
    arguments
        What the function is called with.
    cpu
        Seconds of the processor that the calls took.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.run = worker.run_of(job)
        self.arguments = worker.arguments_of(job, self.run)
        self.cpu = 0.0
        self._job = job
        code = Path(job["code"])
        positions = json.loads(Path(job["positions"]).read_bytes()) if job["positions"] else {}
        self._finder = worker.CodeFinder(code, positions)
        self._names = [_dotted(file.relative_to(code)) for file in code.rglob("*.py")]
        self._modules: dict[str, ModuleType] = {}

    @property
    def function(self) -> Callable[..., Any]:
        """The stage's function, from its code."""
        with self.entered():
            found: Callable[..., Any] = worker.function_of(self._job)
            return found

    def call(self, through: Callable[..., Any] | None = None) -> Any:
        """Call the function and give what it returns; what it raises is raised.

        Parameters
        ----------
        through
            What calls it: is given the function, and its arguments by name.
        """
        with self.entered():
            function = worker.function_of(self._job)
            begun = time.process_time()
            try:
                return function(**self.arguments) if through is None else through(function, **self.arguments)
            finally:
                self.cpu += time.process_time() - begun

    def usage(self) -> dict[str, Any]:
        """What the calls took of the machine, as a worker's server says it."""
        return {"cpu": self.cpu, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have the stage's modules, working folder and environment be those of this process."""
        with _lock:
            outer = {name: sys.modules.pop(name) for name in self._names if name in sys.modules}
            environ = dict(os.environ)
            folder = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
            try:
                sys.modules.update(self._modules)
                sys.meta_path.insert(0, self._finder)
                terminal = {name: environ[name] for name in _TERMINAL if name in environ}
                _set_environ({**terminal, **variables(self._job, environ)})
                os.chdir(self._job["work"])
                yield
            finally:
                os.fchdir(folder)
                os.close(folder)
                _set_environ(environ)
                with contextlib.suppress(ValueError):
                    sys.meta_path.remove(self._finder)
                self._modules |= {name: sys.modules.pop(name) for name in self._names if name in sys.modules}
                sys.modules.update(outer)


def _set_environ(environ: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)


def _dotted(file: Path) -> str:
    """The module of a file in a stage's code."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
