"""What failed builds and runs worked in, kept on request (`--keep-failed`), to be entered again.

    failed/<derivation's base name>-<12 hex digits>/
        failed.json     what failed, when and why; and how to enter it
        work/           the working folder
        out/ or outputs/<name>     what had been written

`failed.json` holds `stage`, `drv`, `index`, `seed`, `message`, `when`, `log`, and one of
    job        as `worker` describes it                                     a Python stage
    build      builder, args, environ (variables), outputs (name to path)   a shell stage

A folder appears by a rename, whole. Nothing needs one: any of them may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.formats.errors import BridgeError
from bridge.formats.store_path import base_name
from bridge.store.durable import disk_errors
from bridge.store.layout import Store

from .errors import RealizeError
from .task import Context, Task

__all__ = ["FailedBuild", "failed_builds", "find_failed", "keep"]

_FACTS = "failed.json"


@dataclass(frozen=True, slots=True)
class FailedBuild:
    """A kept folder, and what its `failed.json` says."""

    folder: Path
    facts: Mapping[str, Any]

    @property
    def stage(self) -> str:
        return str(self.facts["stage"])

    @property
    def when(self) -> float:
        """Seconds since the epoch."""
        return float(self.facts["when"])


def keep(
    context: Context,
    task: Task,
    folder: Path,
    log: Path,
    error: BridgeError,
    entry: Callable[[Path], Mapping[str, Any]],
) -> None:
    """Keep what a failed build or run worked in, where that was asked for; the error's hint then says where.

    Parameters
    ----------
    folder
        Gone afterwards.
    entry
        Given the folder's later name, how to enter it: `job` or `build`.
    """
    if not context.keep_failed or not folder.is_dir():
        return
    kept = context.store.failed / f"{base_name(task.resolved.path).removesuffix('.drv')}-{secrets.token_hex(6)}"
    facts = {
        "drv": task.resolved.path,
        "index": task.index,
        "log": log.name if log.exists() else None,
        "message": error.message,
        "seed": task.seed,
        "stage": task.node.name,
        "when": time.time(),
        **entry(kept),
    }
    with disk_errors(f"{kept} can not be kept"):
        context.store.failed.mkdir(exist_ok=True)
        (folder / _FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
        os.rename(folder, kept)
    enter = f"it is kept: nixbridge debug --failed {kept}"
    error.hint = enter if error.hint is None else f"{error.hint}; {enter}"


def failed_builds(store: Store) -> list[FailedBuild]:
    """All that are kept, the oldest first."""
    folders = store.failed.iterdir() if store.failed.is_dir() else ()
    return sorted((found for folder in folders if (found := _read(folder)) is not None), key=lambda one: one.when)


def find_failed(store: Store, name: str) -> FailedBuild:
    """The kept folder that is named by its path, or the last one of a stage.

    Raises
    ------
    RealizeError
        If there is none.
    """
    if "/" in name:
        found = _read(Path(name).absolute())
        if found is None:
            raise RealizeError(f"{name} is no kept folder of a failed build", hint=_hint(store))
        return found
    of_stage = [one for one in failed_builds(store) if name in (one.stage, one.folder.name)]
    if not of_stage:
        raise RealizeError(f"no failed build of a stage {name!r} is kept", hint=_hint(store))
    return of_stage[-1]


def _hint(store: Store) -> str:
    stages = ", ".join(dict.fromkeys(one.stage for one in failed_builds(store)))
    return f"there are such of {stages}" if stages else "realize --keep-failed keeps what fails"


def _read(folder: Path) -> FailedBuild | None:
    try:
        facts = json.loads((folder / _FACTS).read_bytes())
        found = FailedBuild(folder, facts)
        return found if found.stage and found.when and ("job" in facts or "build" in facts) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
