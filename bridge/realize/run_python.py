"""Run a Python stage: prepare a job, have a worker do it, take in what it made.

tried again     a run that failed, as often as the policy says, each time after a longer while
kept            a failure, where the policy says so: its traceback, its log and what it had written, as a
                realization of its own kind that nobody is given unless he asks for failures
checkpoints     what a run leaves for the next try of the same realization, in a folder of the store
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge.formats.derivation.json import STRUCTURED
from bridge.formats.store_path import STORE_PATH, base_name
from bridge.stages.policy import amount
from bridge.stages.values import PythonRecipe
from bridge.store.durable import disk_errors
from bridge.store.objects import add_output
from bridge.store.trace import Realization, Result, record

from .errors import BuildError, Interrupted, PromiseError, RealizeError, WorkerDiedError
from .events import Phase
from .failed import keep
from .kept import described, keeps, lay_failure
from .retry import tried
from .task import Context, Task, how_it_ended, log_tail, work_folder
from .workers import ForkWorkers

if TYPE_CHECKING:
    from .elsewhere import Elsewhere

__all__ = ["KEPT_VARIABLES", "Attempt", "check_promises", "prepare_job", "record_run", "run_python"]

_POLL = 0.5
KEPT_VARIABLES = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "TZ",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "NIX_SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    *(name for proxy in ("http", "https", "ftp", "all", "no") for name in (f"{proxy}_proxy", f"{proxy}_proxy".upper())),
)
"""What a stage sees of the user's environment: what finds programs, libraries and the network. All else would be an
input that nobody knows of."""


def run_python(context: Context, executor: ForkWorkers | Elsewhere, task: Task) -> Realization:
    """Make one realization of a Python stage and record it; where the stage keeps failures, also a failed one.

    Raises
    ------
    BuildError
        If the function raised or the worker was killed.
    PromiseError
        If a promised output is missing.
    Interrupted
        If the run was.
    """
    return tried(context, task, lambda number: _attempt(context, executor, task, number))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: where it works, and what is to be recorded of it."""

    context: Context
    task: Task
    number: int
    folder: Path
    log: Path
    checkpoint: Path
    started: float


def _attempt(context: Context, executor: ForkWorkers | Elsewhere, task: Task, number: int) -> Realization:
    context.check()
    store = context.store
    policy = task.node.stage.policy
    with work_folder(store) as folder:
        checkpoint = store.checkpoints / f"{base_name(task.resolved.path)}-{task.index}"
        one = Attempt(context, task, number, folder, task.new_log(store), checkpoint, task.starts(number))
        job = prepare_job(one)
        ended: Mapping[str, Any] = {"cpu": 0.0, "memory": 0}
        result: dict[str, Any] = {}
        try:
            ended = _run(one, executor, job)
            context.check()
            result = _result(folder / "result.json")
            _raise_failure(one, ended, result)
            check_promises(one)
        except BuildError as error:
            if keeps(task, number):
                tree = lay_failure(folder, error, one.log, folder / "out")
                return record_run(one, ended, result, "failed", tree, f"{task.node.name}-failed", error)
            if number > policy.retries:
                keep(context, task, folder, one.log, error, partial(_entry, job, folder))
            raise
        except Interrupted:
            # A stage that keeps its failures keeps what an interrupted run had so far as well.
            if policy.on_error == "keep" and checkpoint.is_dir():
                _keep_partial(one)
            raise
        context.report(Phase(task.node, "adding to the store"))
        return record_run(one, ended, result, "done", folder / "out", task.node.name)


def record_run(
    one: Attempt,
    ended: Mapping[str, Any],
    result: Mapping[str, Any],
    outcome: Result,
    tree: Path,
    name: str,
    error: BuildError | None = None,
) -> Realization:
    """Take a tree into the store and record it."""
    task = one.task
    stopped = time.time()
    inputs = task.inputs if task.previous is None else (*task.inputs, *task.previous.outputs.values())
    info = add_output(one.context.store, name, tree, inputs)
    made = Realization(
        drv=task.resolved.path,
        outputs={"out": info.path},
        stage=task.node.name,
        stage_drv=task.node.path,
        runner="python",
        started=one.started,
        stopped=stopped,
        metrics=result.get("metrics", {}),
        host=result.get("host", {}),
        index=task.index,
        seed=task.seed,
        log=one.log.name if one.log.exists() else None,
        result=outcome,
        error=None if error is None else described(error),
        attempts=one.number,
        usage={"cpu": ended["cpu"], "memory": ended["memory"]},
        previous=None if task.previous is None else task.previous.id,
    )
    if outcome == "partial" or not one.checkpoint.exists():
        return record(one.context.store, made)
    # It goes with the folder, also where we are killed: its number is used up, and it would be given it when redone.
    spent = one.folder / "checkpoint"
    with disk_errors(f"{spent} can not be written"):
        os.rename(one.checkpoint, spent)
    try:
        return record(one.context.store, made)
    except BaseException:
        os.rename(spent, one.checkpoint)
        raise


def _keep_partial(one: Attempt) -> None:
    """Store what an interrupted run left in its checkpoint; the next try goes on from the checkpoint itself."""
    kept = one.folder / "kept"
    with disk_errors(f"{kept} can not be written"):
        shutil.copytree(one.checkpoint, kept, symlinks=True)
    record_run(one, {"cpu": 0.0, "memory": 0}, {}, "partial", kept, f"{one.task.node.name}-partial")


def _entry(job: Mapping[str, Any], folder: Path, kept: Path) -> dict[str, Any]:
    """How to enter what a failed run leaves, once its folder has another name."""
    inside = {name: str(kept / Path(job[name]).relative_to(folder)) for name in ("out", "positions", "result", "work")}
    return {"job": {**job, **inside}}


def prepare_job(one: Attempt) -> dict[str, Any]:
    """The job for a worker; what it needs is laid into the attempt's folder."""
    context, task, folder = one.context, one.task, one.folder
    recipe, policy = task.node.stage.recipe, task.node.stage.policy
    assert isinstance(recipe, PythonRecipe)
    attributes = json.loads(task.resolved.derivation.env[STRUCTURED])
    inputs = attributes["inputs"]
    objects = _objects(context, [attributes["code"], *_texts(inputs.values()), *_previous_paths(task)])
    arguments: dict[str, Any] = {name: {"value": value} for name, value in attributes["config"].items()}
    for name, value in inputs.items():
        if isinstance(value, list):
            arguments[name] = {"paths": [context.places.translate(path, objects) for path in value]}
        else:
            arguments[name] = {"path": context.places.translate(value, objects)}
    for name, path in attributes["promises"].items():
        # Of a glob it is the folder that the files go to.
        pattern = task.node.stage.promises[name].pattern
        arguments[name] = {"promise": path, "folder": pattern is not None and pattern.startswith(f"{path}/")}
    work = folder / "work"
    positions = folder / "positions.json"
    code = next(found.code for found in task.node.objects if found.code is not None)
    with disk_errors(f"{folder} can not be written"):
        work.mkdir()
        positions.write_text(json.dumps(code.positions))
        # A stage that fills the disk must be able to say so.
        with (folder / "result.json").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 4096)
    # Whoever looks at a failure takes his time.
    timeout = None if context.debugger is not None else policy.timeout
    limits = {"timeout": timeout, "cpu_time": policy.cpu_time, "memory": policy.memory_bytes}
    return {
        "arguments": arguments,
        "checkpoint": str(one.checkpoint),
        "code": str(objects[attributes["code"]]),
        "debugger": None if context.debugger is None else dict(context.debugger),
        "environ": dict(task.environ),
        "keep": [*KEPT_VARIABLES, *policy.environ],
        "function": attributes["function"],
        "index": task.index,
        "limits": {name: value for name, value in limits.items() if value is not None},
        "log": str(one.log),
        "objects": {path: str(place) for path, place in objects.items()},
        "out": str(folder / "out"),
        "positions": str(positions),
        "previous": _previous(task.previous, objects),
        "resources": {name: amount(value) for name, value in policy.resources.items()},
        "result": str(folder / "result.json"),
        "run": recipe.run,
        "seed": task.seed,
        "stage": task.node.name,
        "work": str(work),
    }


def _texts(inputs: Iterable[str | list[str]]) -> Iterator[str]:
    """The inputs, those of lists as well."""
    for value in inputs:
        yield from [value] if isinstance(value, str) else value


def _previous_paths(task: Task) -> list[str]:
    return [] if task.previous is None else [task.previous.outputs["out"]]


def _objects(context: Context, texts: Iterable[str]) -> dict[str, Path]:
    """Where the objects lie that the texts name."""
    paths = dict.fromkeys(found[0] for text in texts for found in STORE_PATH.finditer(text))
    return {path: place for path in paths if (place := context.places.find(path)) is not None}


def _previous(previous: Realization | None, objects: Mapping[str, Path]) -> dict[str, Any] | None:
    if previous is None:
        return None
    path = objects.get(previous.outputs["out"])
    if path is None:
        raise RealizeError(f"the realization {previous.id} is not here any more, which a new one is to go on from")
    return {"id": previous.id, "path": str(path), "metrics": dict(previous.metrics)}


def _run(one: Attempt, executor: ForkWorkers | Elsewhere, job: dict[str, Any]) -> dict[str, Any]:
    try:
        if isinstance(executor, ForkWorkers):
            return _wait(one.context, executor.submit(job))
        return executor.run(job, one.context.cancelled)
    except WorkerDiedError as error:
        stage = one.task.node.stage
        raise BuildError(
            f"the stage {stage.name} was run by workers that died: {error.message}",
            stage=stage.name,
            log_tail=log_tail(one.log),
            reason="killed",
            hint="did they run out of memory? the executor's own logs may say why",
            file=stage.place.file,
            line=stage.place.line,
        ) from error


def _wait(context: Context, future: Future[dict[str, Any]]) -> dict[str, Any]:
    while True:
        try:
            return future.result(timeout=_POLL)
        except FutureTimeoutError:
            if context.cancelled.is_set() and future.cancel():
                raise Interrupted("interrupted") from None


def _result(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _raise_failure(one: Attempt, ended: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    stage = one.task.node.stage
    policy = stage.policy
    place: dict[str, Any] = {"file": stage.place.file, "line": stage.place.line}
    if ended["timed_out"]:
        said, reason = f"the stage {stage.name} was ended after its timeout of {policy.timeout:g} s", "timeout"
    elif ended["exit"] == -signal.SIGXCPU:
        said, reason = f"the stage {stage.name} used more than its cpu_time of {policy.cpu_time:g} s", "cpu_time"
    elif "error" in result:
        error = result["error"]
        short = policy.memory is not None and error["message"].startswith(("MemoryError", "OSError: [Errno 12]"))
        within = f" within its memory of {policy.memory}" if short else ""
        said, reason = f"the stage {stage.name} raised {error['message']}{within}", "memory" if short else "raised"
        place = {"file": error["file"], "line": error["line"]}
    elif ended["exit"] or "metrics" not in result:
        said, reason = f"the worker of the stage {stage.name} {how_it_ended(ended['exit'])}", "killed"
    else:
        return
    hint = f"the whole log: {one.log}" if one.log.exists() else None
    raise BuildError(said, stage=stage.name, log_tail=log_tail(one.log), reason=reason, hint=hint, **place)


def check_promises(one: Attempt) -> None:
    """Raise for a promised output that is missing."""
    stage = one.task.node.stage
    for argument, promise in stage.promises.items():
        if not promise.is_kept(one.folder / "out"):
            shown = promise.pattern or promise.path
            raise PromiseError(
                f"the stage {stage.name} did not write its promised output {argument} ({shown})",
                stage=stage.name,
                log_tail=log_tail(one.log),
                reason="promise",
                hint=f"write to the path that it gets as {argument}, or drop out({shown!r})",
                file=stage.place.file,
                line=stage.place.line,
            )
