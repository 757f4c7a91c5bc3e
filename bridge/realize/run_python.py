"""Run a Python stage: prepare a job, have a worker do it, take in what it made."""

from __future__ import annotations

import json
import time
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

from bridge.formats.derivation.json import STRUCTURED
from bridge.stages.values import PythonRecipe
from bridge.store.durable import disk_errors
from bridge.store.objects import add_output
from bridge.store.trace import Realization, record

from . import worker
from .errors import BuildError, Interrupted, PromiseError
from .events import Phase
from .task import Context, Task, how_it_ended, log_tail, work_folder

__all__ = ["run_python"]

_POLL = 0.5


def run_python(context: Context, executor: Executor, task: Task) -> Realization:
    """Make one realization of a Python stage and record it.

    Raises
    ------
    BuildError
        If the function raised or the worker was killed.
    PromiseError
        If a promised output is missing.
    Interrupted
        If the run was.
    """
    context.check()
    store = context.store
    node = task.node
    log = task.new_log(store)
    with work_folder(store) as folder:
        job = _job(context, task, folder, log)
        started = time.time()
        status = _wait(context, executor.submit(worker.run_job, job))
        stopped = time.time()
        context.check()
        result = _result(folder / "result.json")
        _raise_failure(task, status, result, log)
        out = folder / "out"
        _check_promises(task, out, log)
        context.report(Phase(node, "adding to the store"))
        info = add_output(store, node.name, out, task.inputs)
    made = Realization(
        drv=task.resolved.path,
        outputs={"out": info.path},
        stage=node.name,
        stage_drv=node.path,
        runner="python",
        started=started,
        stopped=stopped,
        metrics=result["metrics"],
        host=result["host"],
        index=task.index,
        seed=task.seed,
        log=log.name if log.exists() else None,
    )
    return record(store, made)


def _job(context: Context, task: Task, folder: Path, log: Path) -> dict[str, Any]:
    recipe = task.node.stage.recipe
    assert isinstance(recipe, PythonRecipe)
    attributes = json.loads(task.resolved.derivation.env[STRUCTURED])
    arguments: dict[str, Any] = {name: {"value": value} for name, value in attributes["config"].items()}
    for name, value in attributes["inputs"].items():
        if isinstance(value, list):
            arguments[name] = {"paths": [context.places.translate(path, {}) for path in value]}
        else:
            arguments[name] = {"path": context.places.translate(value, {})}
    for name, path in attributes["promises"].items():
        arguments[name] = {"promise": path}
    work = folder / "work"
    positions = folder / "positions.json"
    code = next(one.code for one in task.node.objects if one.code is not None)
    with disk_errors(f"{folder} can not be written"):
        work.mkdir()
        positions.write_text(json.dumps(code.positions()))
    return {
        "arguments": arguments,
        "code": str(context.places.find(attributes["code"])),
        "function": attributes["function"],
        "index": task.index,
        "log": str(log),
        "out": str(folder / "out"),
        "positions": str(positions),
        "result": str(folder / "result.json"),
        "run": recipe.run,
        "seed": task.seed,
        "work": str(work),
    }


def _wait(context: Context, future: Future[int]) -> int:
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


def _raise_failure(task: Task, status: int, result: dict[str, Any], log: Path) -> None:
    name = task.node.name
    hint = f"the whole log: {log}" if log.exists() else None
    if "error" in result:
        error = result["error"]
        raise BuildError(
            f"the stage {name} raised {error['message']}",
            stage=name,
            log_tail=log_tail(log),
            hint=hint,
            file=error["file"],
            line=error["line"],
        )
    if status or "metrics" not in result:
        place = task.node.stage.place
        raise BuildError(
            f"the worker of the stage {name} {how_it_ended(status)}",
            stage=name,
            log_tail=log_tail(log),
            hint=hint,
            file=place.file,
            line=place.line,
        )


def _check_promises(task: Task, out: Path, log: Path) -> None:
    stage = task.node.stage
    for argument, path in stage.promises.items():
        if not (out / path).exists() and not (out / path).is_symlink():
            raise PromiseError(
                f"the stage {stage.name} did not write its promised output {argument} ({path})",
                stage=stage.name,
                log_tail=log_tail(log),
                hint=f"write to the path that it gets as {argument}, or drop out({path!r})",
                file=stage.place.file,
                line=stage.place.line,
            )
