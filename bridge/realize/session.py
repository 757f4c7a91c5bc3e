"""A stage that was stopped before it runs, and who took it over.

    call()      run the stage's function, or its script, here
    accept()    check the promises, take the output into the store, and record it, as the engine does
    cancel()    leave nothing; so does the end of the process

A session of a Python stage takes no lock: others may run the stage meanwhile. A shell stage builds in the place of
its output, so that there is one session of it at a time, which other processes wait for.
"""

from __future__ import annotations

import html
import json
import shlex
import subprocess
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from bridge.formats.store_path import base_name
from bridge.stages.values import ShellRecipe
from bridge.store.durable import disk_errors, temporary
from bridge.store.holds import hold
from bridge.store.locks import holder, try_lock
from bridge.store.objects import remove_tree
from bridge.store.trace import Realization

from .build_local import check_outputs, environment, output_paths, record_local, take_outputs
from .errors import BuildError, RealizeError
from .here import Here
from .run_python import Attempt, check_promises, prepare_job, record_run
from .task import Context, Task, how_it_ended
from .worker import host_facts

__all__ = ["PythonSession", "Session", "ShellSession", "open_indices"]

State = Literal["open", "accepted", "cancelled"]

open_indices: Counter[str] = Counter()
"""Of each resolved derivation, how many sessions of this process are open: each has an index of its own."""


class Session(ABC):
    """A stage that was stopped before it runs; a context manager, whose end without `accept` cancels.

    Attributes
    ----------
    stage, label
        The stage's name, and what tells it from variants.
    config
        The config values by name.
    inputs
        The inputs by name: where they lie, lists where several were chosen.
    promises
        Where each promised output is to be written, by name.
    out
        The output's folder.
    folder
        The working folder of the run, empty at first.
    realization
        What was recorded; None before `accept`.
    state
        open, accepted or cancelled.
    """

    config: dict[str, Any]
    inputs: dict[str, Path | list[Path]]
    promises: dict[str, Path]
    out: Path
    folder: Path

    def __init__(self, context: Context, task: Task, *, register: bool) -> None:
        self.stage = task.node.name
        self.label = task.node.label
        self.config = dict(task.node.stage.config)
        self.realization: Realization | None = None
        self.state: State = "open"
        self._context = context
        self._task = task
        self._register = register
        self._started = time.time()
        self._held = ExitStack()
        open_indices[task.resolved.path] += 1
        self._held.callback(open_indices.subtract, [task.resolved.path])
        # Below tmp/, under this process's number: what it leaves, the next run takes away.
        self._scratch = temporary(context.store)
        self._held.callback(remove_tree, self._scratch)
        with disk_errors(f"{self._scratch} can not be made"):
            self._scratch.mkdir()

    @property
    def derivation(self) -> str:
        """The store path of the resolved derivation."""
        return self._task.resolved.path

    def accept(self) -> Realization:
        """Take what was written into the store and record it, as the engine does.

        Raises
        ------
        PromiseError
            If an output is missing; the session stays open.
        RealizeError
            If the session is closed.
        """
        self._check_open()
        if not self._register:
            raise RealizeError(f"the stage {self.stage} was entered to look only", hint="debug enters it to run it")
        self.realization = self._record()
        self._close("accepted")
        return self.realization

    def cancel(self) -> None:
        """Leave nothing; a closed session stays as it is."""
        if self.state == "open":
            self._close("cancelled")

    @abstractmethod
    def _record(self) -> Realization: ...

    def _close(self, state: State) -> None:
        self.state = state
        self._held.close()

    def _check_open(self) -> None:
        if self.state != "open":
            raise RealizeError(f"the session of the stage {self.stage} is closed: it was {self.state}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _rows(self) -> list[tuple[str, str, str]]:
        """What there is to see: kind, name, value."""
        rows = [("config", name, json.dumps(value)) for name, value in self.config.items()]
        for name, paths in self.inputs.items():
            rows.append(("input", name, " ".join(map(str, paths if isinstance(paths, list) else [paths]))))
        rows += [("promised", name, str(path)) for name, path in self.promises.items()]
        return [*rows, ("output", "out", str(self.out))]

    def _title(self) -> str:
        said = self.state if self.realization is None else f"accepted as {self.realization.id}"
        return f"{self.label}[{self._task.index}] {said}"

    def __repr__(self) -> str:
        lines = [f"  {kind:8}  {name} = {value}" for kind, name, value in self._rows()]
        return "\n".join([f"<session {self._title()}>", *lines])

    def _repr_html_(self) -> str:
        cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._rows())
        rows = "".join(f"<tr>{cell}</tr>" for cell in cells)
        return f"<table><caption>{html.escape(self._title())}</caption>{rows}</table>"


class PythonSession(Session):
    """A session of a Python stage.

    Attributes
    ----------
    run
        What the stage's function gets as `run`: `log`, `index`, `seed`, `previous`, `checkpoint`.
    arguments
        What the function is called with, by name.
    """

    def __init__(self, context: Context, task: Task, *, register: bool) -> None:
        super().__init__(context, task, register=register)
        try:
            checkpoint = context.store.checkpoints / f"{base_name(task.resolved.path)}-{task.index}"
            log = task.new_log(context.store)
            self._attempt = Attempt(context, task, 1, self._scratch, log, checkpoint, self._started)
            job = prepare_job(self._attempt)
            self._here = Here(job)
        except BaseException:
            self._held.close()
            raise
        self.run = self._here.run
        self.arguments = self._here.arguments
        self.out = self.run.out
        self.folder = Path(job["work"])
        promised = task.node.stage.promises
        self.promises = {name: self.arguments[name] for name in promised}
        self.inputs = {
            name: value
            for name, value in self.arguments.items()
            if name not in self.config and name not in promised and value is not self.run
        }

    @property
    def function(self) -> Callable[..., Any]:
        """The stage's function, from the code that is hashed; its lines are those of the user's file."""
        return self._here.function

    def call(self, through: Callable[..., Any] | None = None) -> Any:
        """Run the stage's function in this process; gives what it returns, and raises what it raises.

        Parameters
        ----------
        through
            What calls it, such as `pdb.runcall`: is given the function, and its arguments by name.
        """
        self._check_open()
        return self._here.call(through)

    def _record(self) -> Realization:
        check_promises(self._attempt)
        # Whoever reads the record can tell what was stepped through by hand.
        result = {"metrics": self.run.metrics, "host": {**host_facts(), "session": "debug"}}
        return record_run(self._attempt, self._here.usage(), result, "done", self.out, self.stage)


class ShellSession(Session):
    """A session of a shell stage.

    Attributes
    ----------
    environ
        The variables that the script sees.
    outputs
        The folder of each output, by its name.
    command
        The program that runs the script, and its arguments.
    """

    def __init__(self, context: Context, task: Task, *, register: bool) -> None:
        super().__init__(context, task, register=register)
        try:
            if register:
                self._lock()
            self._prepare()
        except BaseException:
            self._held.close()
            raise

    def _lock(self) -> None:
        store, name = self._context.store, base_name(self._task.resolved.path)
        if not self._held.enter_context(try_lock(store, name)):
            raise RealizeError(
                f"the stage {self.stage} is being built or entered already, by {holder(store, name) or 'another'}"
            )

    def _prepare(self) -> None:
        context, task, store = self._context, self._task, self._context.store
        paths = output_paths(task)
        self._in_place = self._register and not any(map(store.is_valid, paths.values()))
        if not self._in_place:
            # Where it has its result, that stays; the script may be run all the same, beside it.
            own = {path: self._scratch / "outputs" / name for name, path in paths.items()}
        else:
            own = {path: store.real_path(path) for path in paths.values()}
            # Bytes that are no object yet are rubbish otherwise.
            hold(store, own)
        for path, place in own.items():
            # What a build that died left.
            remove_tree(place)
            self._held.callback(self._drop, path, place)
        self._paths, self._own = paths, own
        self.folder = self._scratch / "work"
        with disk_errors(f"{self._scratch} can not be written"):
            self.folder.mkdir()
            (self._scratch / "outputs").mkdir()
        self.environ = environment(context, task, self.folder, paths, own)
        drv = task.resolved.derivation
        self.command = [context.places.translate(one, own) for one in (drv.builder, *drv.args)]
        self.outputs = {name: own[path] for name, path in paths.items()}
        self.out = next(iter(self.outputs.values()))
        recipe = task.node.stage.recipe
        assert isinstance(recipe, ShellRecipe)
        self.promises = {name: Path(self.environ[name]) for name in task.node.stage.promises}
        self.inputs = {}
        for name in recipe.arguments:
            if name not in self.config and name not in self.promises:
                found = [Path(path) for path in self.environ[name].split()]
                self.inputs[name] = found[0] if len(found) == 1 else found

    def _drop(self, path: str, place: Path) -> None:
        if not self._in_place or not self._context.store.is_valid(path):
            remove_tree(place)

    def call(self) -> None:
        """Run the script here, with the terminal's input and output.

        Raises
        ------
        BuildError
            If it fails; the session stays open.
        """
        self._check_open()
        done = subprocess.run(self.command, cwd=self.folder, env=self.environ, check=False)
        if done.returncode:
            place = self._task.node.stage.place
            raise BuildError(
                f"the builder of the stage {self.stage} {how_it_ended(done.returncode)}",
                stage=self.stage,
                file=place.file,
                line=place.line,
            )

    @property
    def tools(self) -> str:
        """The PATH of the stage's tools alone."""
        return self._context.places.translate(self._task.resolved.derivation.env.get("PATH", ""), self._own)

    @property
    def script(self) -> str:
        """A shell script that runs the stage's own, in whatever environment it is started."""
        return f"#!/bin/sh\nexec {shlex.join(self.command)}\n"

    def _record(self) -> Realization:
        if not self._in_place:
            raise RealizeError(
                f"the stage {self.stage} is deterministic and has its result, so that there is nothing to accept"
            )
        log = self._task.new_log(self._context.store)
        check_outputs(self._task, self._paths, self._own, log)
        outputs = take_outputs(self._context, self._task, self._paths)
        return record_local(self._context, self._task, outputs, log, self._started)
