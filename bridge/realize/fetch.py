"""Fetch what a hash says: a file from the first mirror that gives it, what is in an archive, the files of a commit.

Our own rather than Nix's `builtin:fetchurl`, which tries one URL only and does not see `file://` from
inside its sandbox. The object has the same path, so Nix finds it there and never downloads.

What has come of a file when its download ends is in checkpoints/, and the next try goes on from there.
"""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TypeVar

from bridge.formats.store_path import base_name
from bridge.stages.stock_code import ArchiveError, extract
from bridge.stages.values import FetchRecipe, GitRecipe
from bridge.store.durable import disk_errors
from bridge.store.errors import OutputError
from bridge.store.info import ObjectInfo
from bridge.store.objects import add_fixed_file, add_fixed_tree, add_texts, remove_tree
from bridge.store.trace import Realization, record

from .download import download
from .errors import FetchError
from .events import Phase
from .fetch_git import check_out
from .retry import tried
from .task import Context, Task, work_folder

__all__ = ["fetch"]

_POLL = 0.2

T = TypeVar("T")


def fetch(context: Context, task: Task) -> Realization:
    """Fetch what a `fetchurl` or `fetchgit` stage names into the store and record it.

    Raises
    ------
    FetchError
        Saying for each mirror what was wrong with it.
    """
    return tried(context, task, lambda number: _fetch(context, task, number))


def _fetch(context: Context, task: Task, number: int) -> Realization:
    recipe = task.node.stage.recipe
    started = time.time()
    with work_folder(context.store) as folder:
        if isinstance(recipe, GitRecipe):
            info, url = _from_git(context, task, recipe, folder), recipe.url
        else:
            assert isinstance(recipe, FetchRecipe)
            info, url = _from_mirrors(context, task, recipe, folder)
    # The derivation says later what was asked for.
    add_texts(context.store, [(task.resolved.path, task.resolved.aterm, ())])
    made = Realization(
        drv=task.resolved.path,
        outputs={"out": info.path},
        stage=task.node.name,
        stage_drv=task.node.path,
        runner="fetch",
        started=started,
        stopped=time.time(),
        host={"url": url},
        attempts=number,
    )
    return record(context.store, made)


def _error(task: Task, reasons: list[str], hint: str) -> FetchError:
    place = task.node.stage.place
    return FetchError(
        f"{task.node.name} can not be fetched:\n  " + "\n  ".join(reasons),
        stage=task.node.name,
        hint=hint,
        file=place.file,
        line=place.line,
    )


def _from_git(context: Context, task: Task, recipe: GitRecipe, folder: Path) -> ObjectInfo:
    context.report(Phase(task.node, f"{recipe.url} {recipe.rev}"))
    try:
        tree = check_out(recipe.url, recipe.rev, folder, context.check)
        return add_fixed_tree(context.store, task.node.name, tree, recipe.hash)
    except (OSError, OutputError) as error:
        reason = error.message if isinstance(error, OutputError) else str(error)
        hint = "check the URL, the revision and the hash"
        raise _error(task, [f"{recipe.url} {recipe.rev}: {reason}"], hint) from error


def _from_mirrors(context: Context, task: Task, recipe: FetchRecipe, folder: Path) -> tuple[ObjectInfo, str]:
    # Ours alone: whoever realizes the derivation has its lock.
    kept = context.store.checkpoints / f"{base_name(task.resolved.path)}-0"
    with disk_errors(f"{kept} can not be made"):
        kept.mkdir(exist_ok=True)
    file = kept / "file"
    reasons = []
    try:
        for url in recipe.urls:
            try:
                info = _from_mirror(context, task, recipe, url, file, folder)
            except (OSError, http.client.HTTPException, ValueError, OutputError) as error:
                reasons.append(f"{url}: {_reason(error)}")
                continue
            return info, url
    finally:
        if not file.exists():
            remove_tree(kept)
    raise _error(task, reasons, "check the URLs and the hash, or add a mirror")


def _from_mirror(context: Context, task: Task, recipe: FetchRecipe, url: str, file: Path, folder: Path) -> ObjectInfo:
    """Download from one mirror, once more from the start where another one's beginning did not fit to it."""

    def tell(text: str) -> None:
        context.report(Phase(task.node, f"{url}: {text}"))

    while True:
        context.check()
        context.report(Phase(task.node, url))
        found, joined = _interruptible(context, lambda: download(url, file, recipe.hash.algorithm, context.check, tell))
        try:
            if recipe.unpack:
                tree = folder / "tree"
                remove_tree(tree)
                context.report(Phase(task.node, "unpacking"))
                extract(file, tree)
                info = add_fixed_tree(context.store, task.node.name, tree, recipe.hash)
                file.unlink()
                return info
            if found != recipe.hash:
                raise OutputError(f"it has the hash {found.sri}, not {recipe.hash.sri}")
            return add_fixed_file(context.store, task.node.name, file, recipe.hash)
        except (ArchiveError, OutputError):
            file.unlink()
            if not joined:
                raise


def _reason(error: Exception) -> str:
    """What was wrong with a mirror, on one line."""
    if isinstance(error, urllib.error.HTTPError):
        # It is the answer as well, with an open connection.
        error.close()
        return f"{error.code} {error.reason}"
    if isinstance(error, OutputError):
        return error.message
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason).split()) or type(error).__name__


def _interruptible(context: Context, work: Callable[[], T]) -> T:
    """Work in a thread that can be left behind: a server that says nothing must not delay Ctrl-C."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        done, _ = wait([future], timeout=_POLL)
        if done:
            return future.result()
        context.check()
