"""A failure as a realization, where the stage keeps them: a tree of its own, beside what runs give that succeed.

failure.json     message, reason, file and line
log              what the run printed
out              what it had written, but for sockets and pipes
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from bridge.stages.plan import Node
from bridge.store.durable import disk_errors

from .errors import BuildError
from .task import Task

__all__ = ["described", "keeps", "lay_failure", "move", "never_kept"]


def keeps(task: Task, attempt: int) -> bool:
    """Whether the failure of an attempt is to be kept: that of the last one, where the stage says so."""
    policy = task.node.stage.policy
    drv = task.resolved.derivation
    may = all(drv.output_path(name) is None for name in drv.outputs)
    return may and policy.on_error == "keep" and attempt > policy.retries


def never_kept(node: Node) -> str:
    """What a user is told whose stage can not keep its failures."""
    return f"{node.name} has one path for its result, whatever it is: its failures are not kept (deterministic=False)"


def described(error: BuildError) -> dict[str, Any]:
    """What a record says of an error."""
    return {"message": error.message, "reason": error.reason, "file": error.file, "line": error.line}


def lay_failure(folder: Path, error: BuildError, log: Path, out: Path) -> Path:
    """The tree of a failure, laid into a folder.

    Parameters
    ----------
    out
        Where the output lies, if there is any; moved.

    Raises
    ------
    DiskError
    """
    kept = folder / "kept"
    with disk_errors(f"{kept} can not be written"):
        kept.mkdir()
        (kept / "failure.json").write_text(json.dumps(described(error), indent=1, sort_keys=True) + "\n")
        if log.exists():
            shutil.copyfile(log, kept / "log")
        if os.path.lexists(out):
            move(out, kept / "out")
        _drop_special(kept)
    return kept


def _drop_special(tree: Path) -> None:
    """Drop what no store object holds: sockets and pipes, which lead nowhere any more."""
    for folder, _, names in os.walk(tree):
        for place in (os.path.join(folder, name) for name in names):
            mode = os.lstat(place).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                os.unlink(place)


def move(tree: Path, target: Path) -> None:
    """Give a tree another name, also one whose top folder was made read-only: its `..` changes."""
    if tree.is_dir() and not tree.is_symlink():
        tree.chmod(tree.stat().st_mode | stat.S_IWUSR)
    os.rename(tree, target)
