"""Runs a job where an executor that is not ours has put it. The standard library only: see `elsewhere`, which sends
this module, the worker and the NAR code as source to workers that need no nixbridge of their own.

    shared    the store's files are here too, as its life line shows: the job works in the store's tmp/
    apart     they are not: inputs come as NARs, and are kept in this machine's cache by store path;
              the output goes back as a NAR, with the result and the log

`run` is called in a thread of the executor's worker. It asks for what it lacks and is called again with that; for
each thread there is a server of `worker`, which forks a process for the job. A job that nobody waits for any more
is ended: the life line is gone, or Dask has cancelled its task.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.formats import nar
from bridge.formats.errors import NarError

LARGE = 4 << 20
"""Above so many bytes a NAR goes through the cache folder that both sides see, if there is one."""
POLL = 0.2
GRACE = 2.0

GivenUp = Callable[[], bool]

# ------------------------------------------------------------------------------------- a job's run


def run(message_text: str, nars: Sequence[tuple[str, bytes]], blobs: Mapping[str, bytes | None]) -> dict[str, Any]:
    """Run a job, or say what is needed for it.

    Parameters
    ----------
    message_text
        A dict as JSON: `job`; `line`, the file that says that the store is here and the job is wanted; `hashes` of
        objects by store path, as far as they are known; `folder` for large NARs, or None; `files`, those of the
        objects' NARs that lie there.
    nars
        Objects that were asked for.
    blobs
        `positions` and `checkpoint` for who is apart, or None.

    Returns
    -------
    dict
        {"needs": paths, "apart": bool, "folder": whether it is seen, "worker": a name}
        | {"refused": text} | {"ended": as `worker` says, "attempt": folder}
        | {"ended", "result", "log", "out", "checkpoint"}
    """
    message: dict[str, Any] = json.loads(message_text)
    job = message["job"]
    shared = os.path.exists(message["line"])
    task = dask_task()
    cache = cache_folder()
    try:
        take_in(cache, message, nars)
        places, lacking = find_objects(cache, job["objects"], message["hashes"], shared=shared)
    except (OSError, NarError) as error:
        return {"refused": f"the worker {name_of(task)} can not keep inputs in {cache}: {error}"}
    if lacking or (not shared and blobs["positions"] is None):
        folder = message["folder"]
        seen = folder is not None and os.path.isdir(folder)
        return {"needs": lacking, "apart": not shared, "folder": seen, "worker": None if task is None else task[0]}
    job = moved(job, places)
    if shared:
        return run_shared(job, lambda: not os.path.exists(message["line"]) or is_cancelled(task))
    return run_apart(job, message, blobs, cache, lambda: is_cancelled(task))


def run_shared(job: dict[str, Any], given_up: GivenUp) -> dict[str, Any]:
    """Run a job in a folder of this attempt's own: a worker that was taken for dead may still write in another."""
    attempt = f"{os.path.dirname(job['out'])}/attempt-{secrets.token_hex(6)}"
    os.mkdir(attempt)
    ended = server().run(placed(job, attempt), given_up)
    if given_up():
        # The other side waits until this is gone.
        shutil.rmtree(attempt, ignore_errors=True)
    return {"ended": ended, "attempt": attempt}


def run_apart(
    job: dict[str, Any],
    message: Mapping[str, Any],
    blobs: Mapping[str, bytes | None],
    cache: Path,
    given_up: GivenUp,
) -> dict[str, Any]:
    """Run a job in a folder of this machine, and pack what it made."""
    attempt = cache / "tmp" / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(6)}"
    attempt.mkdir(parents=True)
    try:
        job = {**placed(job, str(attempt)), "log": f"{attempt}/log", "checkpoint": f"{attempt}/checkpoint"}
        job["positions"] = f"{attempt}/positions.json"
        Path(job["positions"]).write_bytes(zlib.decompress(blobs["positions"] or b""))
        if blobs["checkpoint"] is not None:
            nar.unpack(io.BytesIO(blobs["checkpoint"]), job["checkpoint"])
        ended = server().run(job, given_up)
        found: dict[str, Any] = {"ended": ended, "out": None, "checkpoint": None}
        for name in ("result", "log"):
            found[name] = zlib.compress(contents(Path(job[name])), 1)
        try:
            if os.path.lexists(job["out"]):
                found["out"] = packed(job["out"], message["folder"])
            if os.path.lexists(job["checkpoint"]):
                found["checkpoint"] = packed(job["checkpoint"], None)["nar"]
        except (OSError, NarError) as error:
            return {"ended": ended, "unfit": str(error)}
        return found
    finally:
        remove(attempt)


def placed(job: dict[str, Any], attempt: str) -> dict[str, Any]:
    """The job in the folder of an attempt."""
    job = {**job, "out": f"{attempt}/out", "work": f"{attempt}/work", "result": f"{attempt}/result.json"}
    os.mkdir(job["work"])
    return job


def moved(job: dict[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """The job with its inputs where they are here."""

    def move(path: str) -> str:
        for before, after in places.items():
            if path == before or path.startswith(f"{before}/"):
                return after + path[len(before) :]
        return path

    job = {**job, "code": move(job["code"])}
    if job["previous"] is not None:
        job["previous"] = {**job["previous"], "path": move(job["previous"]["path"])}
    arguments = job["arguments"] = dict(job["arguments"])
    for name, argument in arguments.items():
        if "path" in argument:
            arguments[name] = {"path": move(argument["path"])}
        elif "paths" in argument:
            arguments[name] = {"paths": [move(path) for path in argument["paths"]]}
    return job


def contents(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


# ------------------------------------------------------------------------------------------- objects

verified: set[str] = set()


def cache_folder() -> Path:
    """Where this machine keeps inputs between runs: above this very module. It may be deleted while nothing runs."""
    return Path(__file__).parents[3]


def find_objects(
    cache: Path, objects: Mapping[str, str], hashes: Mapping[str, str], *, shared: bool
) -> tuple[dict[str, str], list[str]]:
    """Where the objects are here, by where they are there, as far as that differs; and those that are not here."""
    places = {}
    lacking = []
    for path, there in objects.items():
        if shared and os.path.lexists(there):
            continue
        here = cache / "objects" / os.path.basename(path)
        if path in hashes and is_whole(here, hashes[path]):
            places[there] = str(here)
        else:
            lacking.append(path)
    return places, lacking


def is_whole(here: Path, expected: str) -> bool:
    """Whether the cache has an object, unaltered: looked at once in the life of this process."""
    if not os.path.lexists(here):
        return False
    if str(here) not in verified:
        digest = hashlib.sha256()
        nar.pack(here, digest.update)
        if digest.hexdigest() != expected:
            # Whoever uses it now keeps it until he is done.
            aside = here.parent.parent / "tmp" / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(6)}"
            aside.parent.mkdir(exist_ok=True)
            if here.is_dir() and not here.is_symlink():
                os.chmod(here, 0o755)
            os.rename(here, aside)
            remove(aside)
            return False
        verified.add(str(here))
    return True


def take_in(cache: Path, message: Mapping[str, Any], nars: Sequence[tuple[str, bytes]]) -> None:
    """Unpack objects into the cache; each is there whole, or not at all."""
    for path, data in nars:
        unpack_object(cache, path, io.BytesIO(data), message["hashes"][path])
    folder = message["folder"]
    for path in message["files"] if folder is not None and os.path.isdir(folder) else ():
        expected = message["hashes"][path]
        if not os.path.lexists(cache / "objects" / os.path.basename(path)):
            with open(f"{folder}/{expected}.nar", "rb") as file:
                unpack_object(cache, path, file, expected)


def unpack_object(cache: Path, path: str, stream: io.BufferedIOBase, expected: str) -> None:
    here = cache / "objects" / os.path.basename(path)
    if is_whole(here, expected):
        return
    tree = cache / "tmp" / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(6)}"
    for folder in (tree.parent, here.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    hashed = Hashed(stream)
    try:
        nar.unpack(hashed, tree)
        if hashed.digest.hexdigest() != expected:
            raise NarError(f"{path} came with another hash than it has")
        seal(tree)
        # Another worker of this machine may have been faster.
        with contextlib.suppress(FileExistsError, IsADirectoryError, NotADirectoryError):
            move_into(tree, here)
        verified.add(str(here))
    finally:
        remove(tree)


def move_into(tree: Path, here: Path) -> None:
    """Rename a tree that is read-only, unless there is one."""
    if os.path.lexists(here):
        return
    is_folder = tree.is_dir() and not tree.is_symlink()
    if is_folder:
        os.chmod(tree, 0o755)
    try:
        os.rename(tree, here)
    except OSError as error:
        raise FileExistsError(str(here)) if os.path.lexists(here) else error from None
    if is_folder:
        os.chmod(here, 0o555)


class Hashed:
    """A stream that is hashed as it is read."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


def each_below(tree: Path) -> Iterator[tuple[str, bool]]:
    """What is in a tree and is no link, the innermost first, and whether it is a folder."""
    for folder, _, files in os.walk(tree, topdown=False):
        for name in files:
            if not os.path.islink(file := os.path.join(folder, name)):
                yield file, False
        yield folder, True
    if tree.is_file() and not tree.is_symlink():
        yield str(tree), False


def seal(tree: Path) -> None:
    """Make a tree read-only, with the times that store objects have."""
    for path, is_folder in each_below(tree):
        os.chmod(path, 0o555 if is_folder or os.access(path, os.X_OK) else 0o444)
        os.utime(path, (0, 1))


def packed(path: str, folder: str | None) -> dict[str, Any]:
    """A tree as {"nar": bytes}, or {"file": …} where it is large and there is a folder for that."""
    open_up(Path(path))
    chunks = nar.pack_chunks(path)
    found = bytearray()
    for chunk in chunks:
        found += chunk
        if len(found) > LARGE and folder is not None and os.path.isdir(folder):
            return {"file": write_chunks(folder, itertools.chain([bytes(found)], chunks))}
    return {"nar": bytes(found)}


def write_chunks(folder: str, chunks: Iterable[bytes]) -> str:
    """Write a file with a new name; gives the name."""
    name = f"out-{secrets.token_hex(12)}.nar"
    try:
        with open(f"{folder}/{name}", "xb") as file:
            file.writelines(chunks)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}/{name}")
        raise
    return name


def open_up(tree: Path) -> None:
    """Let the owner read what a stage left unreadable."""
    if os.geteuid() != 0:
        for folder, folders, files in os.walk(tree):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    os.chmod(path, os.stat(path).st_mode & 0o777 | (0o700 if name in folders else 0o400))


def remove(tree: Path) -> None:
    """Remove a tree, also where it is read-only."""
    for folder, folders, _ in os.walk(tree):
        for name in folders:
            if not os.path.islink(inner := os.path.join(folder, name)):
                os.chmod(inner, 0o700)
        os.chmod(folder, 0o700)
    if tree.is_dir() and not tree.is_symlink():
        shutil.rmtree(tree, ignore_errors=True)
    else:
        tree.unlink(missing_ok=True)


def remove_left() -> None:
    """Remove what processes of this machine that are gone have left in the cache."""
    with contextlib.suppress(OSError):
        for path in (cache_folder() / "tmp").iterdir():
            host, pid, _ = path.name.rsplit("-", 2)
            if host == socket.gethostname() and not os.path.exists(f"/proc/{pid}"):
                remove(path)


# ---------------------------------------------------------------------------------------------- Dask


def dask_task() -> tuple[str, Any, str] | None:
    """The address of the Dask worker that this is, the worker, and the key of the task; None without Dask."""
    module = sys.modules.get("distributed.worker")
    try:
        worker = module.thread_state.execution_state["worker"]  # type: ignore[union-attr]
        return worker.address, worker, module.thread_state.key  # type: ignore[union-attr]
    except (AttributeError, KeyError):
        return None


def is_cancelled(task: tuple[str, Any, str] | None) -> bool:
    """Whether Dask wants no result of the task any more."""
    if task is None:
        return False
    _, worker, key = task
    known = worker.state.tasks.get(key)
    return known is None or known.state == "cancelled"


def name_of(task: tuple[str, Any, str] | None) -> str:
    return socket.gethostname() if task is None else task[0]


# ---------------------------------------------------------------------------------------- the server


class Server:
    """A process of `worker` that forks one for each job, one at a time. It ends when this one does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", os.path.join(os.path.dirname(__file__), "worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            bufsize=0,
            start_new_session=True,
        )

    def lives(self) -> bool:
        return self._process.poll() is None

    def run(self, job: dict[str, Any], given_up: GivenUp) -> dict[str, Any]:
        """Run a job and wait for its end, or end it when it was given up; gives how it ended."""
        assert self._process.stdout is not None
        self._send({"id": 1, "job": job})
        answer = b""
        signals = iter((signal.SIGTERM, signal.SIGKILL))
        due = 0.0
        while not answer.endswith(b"\n"):
            if select.select([self._process.stdout], [], [], POLL)[0]:
                data = self._process.stdout.read(1 << 16)
                if not data:
                    return {"exit": -signal.SIGKILL, "timed_out": False, "cpu": 0.0, "memory": 0}
                answer += data
            elif time.monotonic() >= due and given_up():
                self._send({"kill": 1, "signal": int(next(signals, signal.SIGKILL))})
                due = time.monotonic() + GRACE
        ended: dict[str, Any] = json.loads(answer)["ended"]
        return ended

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        view = memoryview(json.dumps(message).encode() + b"\n")
        # A server that is gone is seen where it is read from.
        with contextlib.suppress(BrokenPipeError):
            while view:
                view = view[self._process.stdin.write(view) or 0 :]

    def __del__(self) -> None:
        # With its thread: it ends when its input does, and at once since it has no job.
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


of_thread = threading.local()


def server() -> Server:
    """The server of this thread."""
    found: Server | None = getattr(of_thread, "server", None)
    if found is None or not found.lives():
        found = of_thread.server = Server()
    return found
