"""The local builder: builds a derivation on this machine without Nix, and without a sandbox.

As in Nix the builder gets a clean environment and an empty working folder; unlike in Nix it sees this
machine, whose programs come on PATH behind the stage's tools, and store paths are translated to where
the objects lie. Results are recorded as the local builder's and never pass for Nix's.

Source of the environment: Nix manual, "Build environment" of `derivation`.
"""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bridge.formats import nix32
from bridge.formats.derivation import own_output
from bridge.formats.derivation.json import STRUCTURED
from bridge.formats.self_reference import hashes_positions
from bridge.formats.store_path import STORE_DIR, name_part
from bridge.store.durable import disk_errors, temporary
from bridge.store.holds import hold
from bridge.store.info import ObjectInfo
from bridge.store.objects import add_output, register_built, remove_tree
from bridge.store.trace import Realization, record

from .errors import BuildError, PromiseError
from .events import Note, Phase
from .failed import keep
from .following import follow
from .kept import described, keeps, lay_failure, move, never_kept
from .limits import exceeded, limited
from .retry import tried
from .task import Context, Task, how_it_ended, log_tail, work_folder

__all__ = ["build_local", "check_outputs", "environment", "output_paths", "record_local", "take_outputs"]

_HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def build_local(context: Context, task: Task) -> Realization:
    """Build a shell stage here and record the realization; where the stage keeps failures, also a failed one.

    Raises
    ------
    BuildError
        If the builder fails.
    PromiseError
        If an output or a promised file is missing.
    """
    if task.node.stage.policy.on_error == "keep" and not keeps(task, sys.maxsize):
        context.report(Note(never_kept(task.node)))
    return tried(context, task, lambda number: _attempt(context, task, number))


def _attempt(context: Context, task: Task, number: int) -> Realization:
    context.check()
    store = context.store
    scratch = output_paths(task)
    own = {path: store.real_path(path) for path in scratch.values()}
    # Bytes that are no object yet are rubbish otherwise.
    hold(store, own)
    log = task.new_log(store)
    started = task.starts(number)
    if all(map(store.is_valid, own)):
        # Made by a process that died between registering and recording.
        return record_local(context, task, scratch, log, started)
    try:
        with work_folder(store) as folder, disk_errors(f"{store.root} can not be written"):
            for path, place in own.items():
                # Left by a build that died: it holds no lock and has no record.
                store.info_file(path).unlink(missing_ok=True)
                remove_tree(place)
            try:
                _run(context, task, folder, log, scratch, own)
                check_outputs(task, scratch, own, log)
            except BuildError as error:
                if keeps(task, number):
                    # One whose result has no path yet has one output.
                    tree = lay_failure(folder, error, log, own[scratch["out"]])
                    info = add_output(store, f"{task.node.name}-failed", tree, task.inputs)
                    return record_local(context, task, {"out": info.path}, log, started, number, error)
                if context.keep_failed and number > task.node.stage.policy.retries:
                    _keep(context, task, folder, log, error, scratch)
                raise
        context.report(Phase(task.node, "adding to the store"))
        return record_local(context, task, take_outputs(context, task, scratch), log, started, number)
    except BaseException:
        for path, place in own.items():
            if not store.is_valid(path):
                remove_tree(place)
        raise


def record_local(
    context: Context,
    task: Task,
    outputs: dict[str, str],
    log: Path,
    started: float,
    attempts: int = 1,
    error: BuildError | None = None,
) -> Realization:
    """Record what a builder that ran here made: output name to store path; with the error, where it failed."""
    made = Realization(
        drv=task.resolved.path,
        outputs=outputs,
        stage=task.node.name,
        stage_drv=task.node.path,
        runner="local",
        started=started,
        stopped=time.time(),
        host={"machine": platform.machine(), "release": platform.release(), "system": platform.system()},
        index=task.index,
        seed=task.seed,
        log=log.name if log.exists() else None,
        result="done" if error is None else "failed",
        error=None if error is None else described(error),
        attempts=attempts,
    )
    return record(context.store, made)


def _keep(context: Context, task: Task, folder: Path, log: Path, error: BuildError, scratch: dict[str, str]) -> None:
    """Keep the working folder of a build that failed, with what it had written beside it."""
    whole = temporary(context.store)
    with disk_errors(f"{whole} can not be written"):
        (whole / "outputs").mkdir(parents=True)
        move(folder, whole / "work")
        for name, path in scratch.items():
            if os.path.lexists(context.store.real_path(path)):
                move(context.store.real_path(path), whole / "outputs" / name)

    def entry(kept: Path) -> dict[str, Any]:
        own = {path: kept / "outputs" / name for name, path in scratch.items()}
        return {
            "build": {
                "args": [context.places.translate(arg, own) for arg in task.resolved.derivation.args],
                "builder": context.places.translate(task.resolved.derivation.builder, own),
                "environ": environment(context, task, kept / "work", scratch, own),
                "outputs": {name: str(own[path]) for name, path in scratch.items()},
            }
        }

    keep(context, task, whole, log, error, entry)


def output_paths(task: Task) -> dict[str, str]:
    """Where the outputs are written: at their paths, or where only the contents tell it, at one that nothing has."""
    drv = task.resolved.derivation
    return {name: drv.output_path(name) or _scratch_path(task.node.name) for name in drv.outputs}


def take_outputs(context: Context, task: Task, scratch: dict[str, str]) -> dict[str, str]:
    """Register what a builder wrote: output name to store path."""
    return {name: _take(context, task, name, path).path for name, path in scratch.items()}


def _scratch_path(name: str) -> str:
    return f"{STORE_DIR}/{nix32.encode(secrets.token_bytes(20))}-{name}"


def _take(context: Context, task: Task, name: str, path: str) -> ObjectInfo:
    if task.resolved.derivation.output_path(name) is not None:
        # An output may refer to the others as well.
        own = filter(None, map(task.resolved.derivation.output_path, task.resolved.derivation.outputs))
        return register_built(context.store, path, (*task.inputs, *own))
    nix = context.places.nix
    return add_output(
        context.store,
        name_part(path),
        context.store.real_path(path),
        task.inputs,
        path,
        positions=hashes_positions(nix.version() if nix is not None else None),
    )


def environment(
    context: Context, task: Task, work: Path, scratch: dict[str, str], own: dict[str, Path]
) -> dict[str, str]:
    """The environment of a builder.

    Parameters
    ----------
    work
        Its empty working folder.
    scratch, own
        Output name to store path, and that to where it lies.
    """
    drv = task.resolved.derivation
    places = context.places
    placeholders = {own_output(name): path for name, path in scratch.items()}

    def real(text: str) -> str:
        for placeholder, path in placeholders.items():
            text = text.replace(placeholder, path)
        return places.translate(text, own)

    env = {key: real(value) for key, value in drv.env.items() if key != STRUCTURED}
    path = env.pop("PATH", "")
    fixed = {
        "HOME": "/homeless-shelter",
        "NIX_BUILD_CORES": str(os.cpu_count() or 1),
        "NIX_BUILD_TOP": str(work),
        "NIX_STORE": str(context.store.objects),
        "PATH": f"{path}:{_HOST_PATH}" if path else _HOST_PATH,
        "PWD": str(work),
        "TERM": "xterm-256color",
        **dict.fromkeys(("TMPDIR", "TEMPDIR", "TMP", "TEMP"), str(work)),
    }
    granted = {name: os.environ[name] for name in task.node.stage.policy.environ if name in os.environ}
    return {**env, **granted, **task.environ, **fixed}


def _run(context: Context, task: Task, work: Path, log: Path, scratch: dict[str, str], own: dict[str, Path]) -> None:
    drv = task.resolved.derivation
    env = environment(context, task, work, scratch, own)
    builder = context.places.translate(drv.builder, own)
    args = [context.places.translate(arg, own) for arg in drv.args]
    name = task.node.name
    policy = task.node.stage.policy
    # argv[0] is the builder's base name, as Nix gives it.
    program, command = limited(builder, [os.path.basename(builder), *args], env, policy)
    try:
        process = subprocess.Popen(
            command,
            executable=program,
            cwd=work,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise BuildError(
            f"the builder {builder} of the stage {name} can not be run: {error.strerror}",
            stage=name,
            file=task.node.stage.place.file,
            line=task.node.stage.place.line,
        ) from error
    timed_out = follow(context, task, process, log)
    status = process.wait()
    context.check()
    if status:
        tail = log_tail(log)
        said, reason = exceeded(policy, status, timed_out, tail) or (
            how_it_ended(status),
            "killed" if status < 0 else "failed",
        )
        raise BuildError(
            f"the builder of the stage {name} {said}",
            stage=name,
            log_tail=tail,
            reason=reason,
            hint=f"the whole log: {log}",
            file=task.node.stage.place.file,
            line=task.node.stage.place.line,
        )


def check_outputs(task: Task, scratch: dict[str, str], own: dict[str, Path], log: Path) -> None:
    stage = task.node.stage
    wanted = {f"its output {name}": os.path.lexists(own[path]) for name, path in scratch.items()}
    for name, promise in stage.promises.items():
        wanted[f"its promised output {name} ({promise.pattern or promise.path})"] = promise.is_kept(own[scratch["out"]])
    for what, there in wanted.items():
        if not there:
            raise PromiseError(
                f"the stage {stage.name} did not write {what}",
                stage=stage.name,
                log_tail=log_tail(log),
                reason="promise",
                hint=f"the whole log: {log}",
                file=stage.place.file,
                line=stage.place.line,
            )
