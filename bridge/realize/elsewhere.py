"""Run jobs on executors that are not ours: this side; `remote` is the worker's.

A worker is sent a job with the store paths of its inputs and where they lie. It runs the job in the store's tmp/ if it
sees the store's life line, a file that is there while we are; else it answers what it lacks, and the job is sent again
with that. So nobody keeps books about workers, which come and go; an answer costs a round trip for each new worker.

    first call     eval(CALL, {"package", "message", "nars", "blobs"}): a function that every Python has
    needs code     the sources of `remote` and of what it imports, which then are a package of the worker's process
    needs objects  small ones in the call, large ones by Dask's own transfer, or as files of a folder that both see
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import secrets
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bridge.formats import nar
from bridge.formats.errors import NarError
from bridge.store.durable import disk_errors, temporary
from bridge.store.errors import OutputError
from bridge.store.info import find_info
from bridge.store.layout import Store
from bridge.store.objects import remove_tree

from .errors import GivenUpError, Interrupted, WorkerError
from .executors import DaskExecutor
from .remote import LARGE

__all__ = ["Elsewhere"]

_POLL = 2.0
_SOON = 0.05
_GRACE = 5.0
_SENT_KEPT = 16
_TRIES = 3
_SHIPPED = (
    "formats/errors.py",
    *(f"formats/nar/{name}.py" for name in ("__init__", "canonical", "files", "nodes", "reader", "wire", "writer")),
    "realize/remote.py",
    "realize/worker.py",
)

_CALL = (
    "__import__('importlib').import_module(package).run(message, nars, blobs) if package in __import__('sys').modules"
    " else {'needs': [], 'code': True, 'apart': False, 'folder': False, 'worker': None}"
)
_LOAD = """
import importlib, os, shutil, sys, tempfile
def load(package, files):
    if sys.version_info < (3, 11):
        return "Python %d.%d runs there, and 3.11 or newer is needed" % sys.version_info[:2]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    cache = os.environ.get("NIXBRIDGE_WORKER_CACHE") or os.path.join(home, "nixbridge", "worker")
    code = os.path.join(cache, "code")
    top = package.partition(".")[0]
    if not os.path.isdir(os.path.join(code, top)):
        try:
            os.makedirs(code, mode=0o700, exist_ok=True)
            made = tempfile.mkdtemp(dir=code)
        except OSError as error:
            return "the worker's cache can not be written (NIXBRIDGE_WORKER_CACHE names another): %s" % error
        for file, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(made, file)), exist_ok=True)
            with open(os.path.join(made, file), "w") as opened:
                opened.write(text)
        try:
            os.rename(os.path.join(made, top), os.path.join(code, top))
        except OSError:
            pass
        shutil.rmtree(made)
    if code not in sys.path:
        sys.path.append(code)
    importlib.invalidate_caches()
    importlib.import_module(package).remove_left()
"""
_CALL_WITH_CODE = (
    "(lambda said: {'refused': said} if said else"
    " __import__('importlib').import_module(package).run(message, nars, blobs))"
    "(None if package in __import__('sys').modules else"
    " (lambda scope: exec(load, scope) or scope['load'](package, files))({}))"
)


@cache
def _code() -> tuple[str, dict[str, str]]:
    """The module to call, and the files of its package: ours under a name that no other version has."""
    spec = importlib.util.find_spec("bridge")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    sources = {file: (root / file).read_text() for file in _SHIPPED}
    name = f"nixbridge_{hashlib.sha256(repr(sources).encode()).hexdigest()[:16]}"
    files = {f"{name}/{file}": text.replace("from bridge.", f"from {name}.") for file, text in sources.items()}
    return f"{name}.realize.remote", files | {f"{name}/{part}__init__.py": "" for part in ("", "formats/", "realize/")}


@dataclass(frozen=True, slots=True)
class _Needed:
    """What a job is sent with.

    Parameters
    ----------
    objects
        Store paths of inputs that go along.
    code
        Whether `remote` itself does.
    apart
        Whether the worker does not see the store.
    folder
        Whether it sees the folder for large NARs.
    """

    objects: frozenset[str] = frozenset()
    code: bool = False
    apart: bool = False
    folder: bool = False

    def more(self, answer: Mapping[str, Any]) -> _Needed:
        """With what a worker lacks as well: the next call may go to another worker."""
        seen = answer["folder"] and (self.folder or not self.objects)
        code, apart = answer.get("code", False), answer["apart"]
        return _Needed(self.objects | set(answer["needs"]), self.code or code, self.apart or apart, seen)


class Elsewhere:
    """Runs jobs on any executor.

    Parameters
    ----------
    folder
        Where large NARs pass through, for workers that see this folder but not the store.
    """

    def __init__(self, executor: Executor, store: Store, folder: Path | None = None) -> None:
        self._executor = executor
        self._store = store
        self._folder = folder
        self._line: Path | None = None
        self._lock = threading.Lock()
        self._apart = False
        self._stopped: Future[None] = Future()
        self._hashes: dict[str, str] = {}
        self._sent: OrderedDict[str, Any] = OrderedDict()

    @property
    def capacity(self) -> Mapping[str, int] | None:
        """What all workers have together of each resource, or None where the executor does not say."""
        return self._executor.capacity if isinstance(self._executor, DaskExecutor) else None

    def stop(self, *_: object) -> None:
        """Have the workers end what runs."""
        with self._lock:
            if self._line is not None:
                self._line.unlink(missing_ok=True)
            if not self._stopped.done():
                self._stopped.set_result(None)

    def shutdown(self) -> None:
        """Leave the executor, which is its owner's."""
        self.stop()
        self._sent.clear()

    def run(self, job: dict[str, Any], cancelled: threading.Event) -> dict[str, Any]:
        """Run a job; gives how it ended, with its files where the job has them.

        Raises
        ------
        WorkerError
            If there is nothing that runs it.
        WorkerDiedError
            If worker after worker died over it.
        Interrupted
            If `cancelled` is set; what ran has been told to end.
        """
        needed = _Needed(apart=self._apart)
        worker = None
        lost = 0
        while True:
            try:
                answer = self._wait(self._submit(job, needed, worker), job, cancelled)
            except GivenUpError as error:
                # What we had sent died with the worker that held it.
                lost += 1
                if lost >= _TRIES:
                    raise WorkerError(f"Dask gave a run of {job['stage']} up: {error}") from error
                self._forget()
                continue
            if "ended" in answer:
                return self._take(job, answer)
            if "refused" in answer:
                raise WorkerError(f"{answer['refused']} (a worker for {job['stage']})")
            more = needed.more(answer)
            if more == needed or not more.objects <= job["objects"].keys():
                raise WorkerError(f"a worker for {job['stage']} goes on asking for what it was sent")
            self._apart = self._apart or more.apart
            needed, worker = more, answer["worker"]

    def _forget(self) -> None:
        with self._lock:
            self._sent.clear()

    # ------------------------------------------------------------------------------ there

    def _submit(self, job: dict[str, Any], needed: _Needed, worker: str | None) -> Future[dict[str, Any]]:
        package, files = _code()
        nars, in_folder = self._pack(job, needed)
        message = {
            "job": job,
            "line": str(self._life_line()),
            "hashes": {path: known for path in job["objects"] if (known := self._hash(path)) is not None},
            "folder": None if self._folder is None else str(self._folder),
            "files": in_folder,
        }
        blobs = {
            "positions": zlib.compress(Path(job["positions"]).read_bytes()) if needed.apart else None,
            "checkpoint": _checkpoint(job) if needed.apart else None,
        }
        # As a text: Dask walks through what it is given.
        scope: dict[str, Any] = {"package": package, "message": json.dumps(message), "nars": nars, "blobs": blobs}
        call = _CALL
        if needed.code:
            scope |= {"load": _LOAD, "files": files}
            call = _CALL_WITH_CODE
        if isinstance(self._executor, DaskExecutor):
            return self._executor.start(job["stage"], job["resources"], worker, eval, call, scope)
        try:
            return self._executor.submit(eval, call, scope)
        except RuntimeError as error:
            raise WorkerError(f"the executor takes nothing any more: {error}") from error

    def _life_line(self) -> Path:
        with self._lock:
            if self._line is None:
                line = temporary(self._store)
                with disk_errors(f"{line} can not be written"):
                    line.touch()
                self._line = line
            return self._line

    def _hash(self, path: str) -> str | None:
        if path not in self._hashes:
            info = find_info(self._store, path)
            if info is None:
                return None
            self._hashes[path] = info.nar_hash.hex
        return self._hashes[path]

    def _pack(self, job: dict[str, Any], needed: _Needed) -> tuple[list[tuple[str, Any]], list[str]]:
        """The objects that a worker needs: those that go with the call, and those that are in the folder."""
        nars: list[tuple[str, Any]] = []
        in_folder: list[str] = []
        folder = self._folder if needed.folder else None
        with self._lock:
            for path in sorted(needed.objects):
                known = self._hash(path)
                if path in self._sent:
                    self._sent.move_to_end(path)
                    nars.append((path, self._sent[path]))
                    continue
                there = folder is not None and known is not None and (folder / f"{known}.nar").exists()
                sent = None if there else self._pack_one(path, job["objects"][path], folder)
                if sent is None:
                    in_folder.append(path)
                else:
                    nars.append((path, sent))
        return nars, in_folder

    def _pack_one(self, path: str, place: str, folder: Path | None) -> Any:
        """Pack an object, and see that it is what the store says it is; None for one that went into the folder."""
        digest = hashlib.sha256()
        found = bytearray()
        spill = None if folder is None else folder / f".{secrets.token_hex(12)}.nar"
        try:
            with disk_errors(f"{path} can not be sent"), contextlib.ExitStack() as stack:
                file = None
                for chunk in nar.pack_chunks(place):
                    digest.update(chunk)
                    if spill is not None and file is None and len(found) + len(chunk) > LARGE:
                        file = stack.enter_context(spill.open("xb"))
                        file.write(found)
                    if file is None:
                        found += chunk
                    else:
                        file.write(chunk)
            known = self._hash(path)
            if known is not None and known != digest.hexdigest():
                raise OutputError(f"{path} was altered in the store", hint="nixbridge verify says more")
            self._hashes[path] = digest.hexdigest()
            if file is not None and spill is not None and folder is not None:
                with disk_errors(f"{folder} can not be written"):
                    os.rename(spill, folder / f"{digest.hexdigest()}.nar")
                return None
        finally:
            if spill is not None:
                spill.unlink(missing_ok=True)
        sent = self._executor.send(bytes(found)) if isinstance(self._executor, DaskExecutor) else bytes(found)
        self._sent[path] = sent
        while len(self._sent) > _SENT_KEPT:
            self._sent.popitem(last=False)
        return sent

    def _wait(self, future: Future[dict[str, Any]], job: dict[str, Any], cancelled: threading.Event) -> dict[str, Any]:
        either: list[Future[Any]] = [future, self._stopped]
        while not cancelled.is_set() and not self._stopped.done():
            wait(either, timeout=_POLL, return_when=FIRST_COMPLETED)
            if not future.done():
                continue
            try:
                return future.result()
            except WorkerError:
                raise
            except (Exception, CancelledError) as error:
                said = f"{type(error).__name__}: {error}"
                raise WorkerError(f"the executor failed over a run of {job['stage']}: {said}") from error
        self.stop()
        future.cancel()
        work = Path(job["out"]).parent
        deadline = time.monotonic() + _GRACE
        while time.monotonic() < deadline:
            # A worker that shares the store clears its folder away when it has ended the job.
            if not any(work.glob("attempt-*")) and (future.done() or self._apart):
                break
            time.sleep(_SOON)
        raise Interrupted("interrupted")

    # ------------------------------------------------------------------------------- back

    def _take(self, job: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        """Have what a worker made where the job wants it."""
        with disk_errors(f"what the worker of {job['stage']} made can not be taken"):
            if "attempt" in answer:
                for name in ("out", "result"):
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(f"{answer['attempt']}/{os.path.basename(job[name])}", job[name])
                remove_tree(Path(answer["attempt"]))
            elif "unfit" in answer:
                raise OutputError(f"the output of {job['stage']} can not be packed: {answer['unfit']}")
            else:
                Path(job["log"]).write_bytes(zlib.decompress(answer["log"]))
                Path(job["result"]).write_bytes(zlib.decompress(answer["result"]))
                self._unpack(job, answer)
        ended: dict[str, Any] = answer["ended"]
        return ended

    def _unpack(self, job: dict[str, Any], answer: dict[str, Any]) -> None:
        try:
            match answer["out"]:
                case {"nar": data}:
                    nar.unpack(io.BytesIO(data), job["out"])
                case {"file": name}:
                    assert self._folder is not None
                    file = self._folder / os.path.basename(name)
                    with file.open("rb") as stream:
                        nar.unpack(stream, job["out"])
                    file.unlink()
            if answer["checkpoint"] is not None:
                remove_tree(Path(job["checkpoint"]))
                Path(job["checkpoint"]).parent.mkdir(exist_ok=True)
                nar.unpack(io.BytesIO(answer["checkpoint"]), job["checkpoint"])
        except NarError as error:
            raise WorkerError(f"what the worker of {job['stage']} sent is damaged: {error}") from error


def _checkpoint(job: dict[str, Any]) -> bytes | None:
    """What an earlier try of the same run has left."""
    return b"".join(nar.pack_chunks(job["checkpoint"])) if os.path.isdir(job["checkpoint"]) else None
