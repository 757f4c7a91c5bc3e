"""Fetch a file from the first mirror that gives what its hash says.

Our own rather than Nix's `builtin:fetchurl`, which tries one URL only and does not see `file://` from
inside its sandbox. The object has the same path, so Nix finds it there and never downloads.
"""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from bridge.formats.hashes import Hash
from bridge.stages.values import FetchRecipe
from bridge.store.durable import disk_errors
from bridge.store.objects import add_fixed_file, add_texts
from bridge.store.trace import Realization, record

from .errors import FetchError
from .events import Phase
from .task import Context, Task, work_folder

__all__ = ["fetch"]

_CHUNK = 1 << 20
_TIMEOUT = 30.0
_POLL = 0.2


def fetch(context: Context, task: Task) -> Realization:
    """Fetch the file of a `fetchurl` stage into the store and record it.

    Raises
    ------
    FetchError
        Saying for each mirror what was wrong with it.
    """
    recipe = task.node.stage.recipe
    assert isinstance(recipe, FetchRecipe)
    place = task.node.stage.place
    started = time.time()
    reasons = []
    with work_folder(context.store) as folder:
        file = folder / "file"
        for url in recipe.urls:
            context.check()
            context.report(Phase(task.node, url))
            try:
                download = partial(_download, context, task, url, file, recipe.hash.algorithm)
                found = _interruptible(context, download)
            except (OSError, http.client.HTTPException, ValueError) as error:
                reasons.append(f"{url}: {_reason(error)}")
                continue
            if found == recipe.hash:
                break
            reasons.append(f"{url}: it has the hash {found.sri}, not {recipe.hash.sri}")
        else:
            raise FetchError(
                f"{task.node.name} can not be fetched:\n  " + "\n  ".join(reasons),
                stage=task.node.name,
                hint="check the URLs and the hash, or add a mirror",
                file=place.file,
                line=place.line,
            )
        info = add_fixed_file(context.store, task.node.name, file, recipe.hash)
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
    )
    return record(context.store, made)


def _reason(error: Exception) -> str:
    """What was wrong with a mirror, on one line."""
    if isinstance(error, urllib.error.HTTPError):
        # It is the answer as well, with an open connection.
        error.close()
        return f"{error.code} {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason).split()) or type(error).__name__


def _interruptible(context: Context, download: Callable[[], Hash]) -> Hash:
    """Download in a thread that can be left behind: a server that says nothing must not delay Ctrl-C."""
    future: Future[Hash] = Future()

    def run() -> None:
        try:
            future.set_result(download())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        done, _ = wait([future], timeout=_POLL)
        if done:
            return future.result()
        context.check()


def _opened(file: Path) -> BinaryIO:
    with disk_errors(f"{file} can not be written"):
        # Unbuffered, so that a full disk shows where we write and not where we close.
        return cast(BinaryIO, file.open("wb", buffering=0))


def _write_all(target: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        # On a disk that is nearly full, only a part is written.
        view = view[target.write(view) :]


def _download(context: Context, task: Task, url: str, file: Path, algorithm: str) -> Hash:
    digest = hashlib.new(algorithm)
    request = urllib.request.Request(url, headers={"User-Agent": "nixbridge"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as source:
        total = int(source.headers.get("Content-Length") or 0)
        done = 0
        reported = time.monotonic()
        with _opened(file) as target:
            while chunk := source.read(_CHUNK):
                context.check()
                digest.update(chunk)
                with disk_errors(f"{file} can not be written"):
                    _write_all(target, chunk)
                done += len(chunk)
                if time.monotonic() - reported > 1:
                    reported = time.monotonic()
                    of = f" of {total >> 20}" if total else ""
                    context.report(Phase(task.node, f"{url}: {done >> 20}{of} MiB"))
    if total and done != total:
        raise OSError(f"the connection ended after {done} of {total} bytes")
    return Hash(algorithm, digest.digest())
