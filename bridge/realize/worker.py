"""The process that runs Python stages. It imports the standard library only, and no part of nixbridge.

It reads jobs as JSON lines on stdin, forks a process for each, and answers with JSON lines. A job is a plain dict:

    code       folder of the stage's modules          function   module:name
    arguments  name → {"value": JSON} | {"path": …} | {"paths": […]} | {"promise": …, "folder": bool}
    run        the parameter that takes the run, or null
    index, seed, out, work, log, result: numbers and absolute paths
    environ    variables that it gets; keep: the names of those that it keeps of the worker's environment
    limits     {"timeout": seconds, "cpu_time": seconds, "memory": bytes}, each or none
    checkpoint folder that outlasts the run while it has not succeeded
    previous   {"id", "path", "metrics"} of the realization to go on from, or null
    debugger   {"terminal": device, "term": its kind} where Python's debugger is to look at a failure, or null
    positions  file with {path in code: [user's file, [[line, column, end line, end column], …]]}, or null

When it ends, the file `result` holds {"metrics": …, "host": …} or {"metrics": …, "host": …, "error": …}. How
it ended is told apart: {"exit": status, "timed_out": bool, "cpu": seconds, "memory": bytes}.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import ctypes
import functools
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import json
import math
import operator
import os
import platform
import resource
import selectors
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

PRCTL = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1
last_of_server: str | None = None
"""The module that the server has imported last, in the processes that it forks; up to it all are Python's own."""
LONGEST_WAIT = 86400.0
"""Seconds; the kernel is asked to wait for 24 days at most."""
JSON_TYPES = (bool, int, float, str, type(None))


class Previous:
    """An earlier realization of the stage: its `id`, the folder `path` of its output, its `metrics`."""

    def __init__(self, id: str, path: Path, metrics: dict[str, Any]) -> None:
        self.id = id
        self.path = path
        self.metrics = metrics


class Run:
    """The run of a stage: what it is told, and where it logs its metrics.

    Attributes
    ----------
    index
        Which of the stage's realizations this is, from 0.
    seed
        A whole number below 2**63, the same whenever this index of this stage runs.
    out
        The folder of the output.
    previous
        The realization that this one goes on from, or None; see `Previous`.
    """

    def __init__(self, index: int, seed: int, out: Path, checkpoint: Path, previous: Previous | None) -> None:
        self.index = index
        self.seed = seed
        self.out = out
        self.previous = previous
        self.metrics: dict[str, Any] = {}
        self._checkpoint = checkpoint

    def checkpoint(self) -> Path:
        """A folder for what an interrupted, killed or failed run leaves to the next try of the same realization.

        It is empty at first, and gone once the run has succeeded.
        """
        self._checkpoint.mkdir(parents=True, exist_ok=True)
        return self._checkpoint

    def log(self, **metrics: Any) -> None:
        """Record metrics of this realization: numbers, texts, lists and dicts; the last value counts."""
        for name, value in metrics.items():
            self.metrics[name] = plain(value, name)


def plain(value: Any, name: str) -> Any:
    """A metric as JSON; scalars and arrays of numpy and its kin become numbers and lists."""
    for method in ("tolist", "item"):
        if not isinstance(value, JSON_TYPES) and hasattr(value, method):
            value = getattr(value, method)()
    if isinstance(value, dict):
        return {str(key): plain(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, name) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str) and not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError(f"run.log({name}=…) got a text that is no Unicode")
    if isinstance(value, int) and abs(value) >= 1 << 64:
        raise ValueError(f"run.log({name}=…) got a number of more than 64 bits; log it as a float")
    if not isinstance(value, JSON_TYPES):
        raise TypeError(f"run.log({name}=…) got a {type(value).__name__}; metrics are numbers, texts, lists and dicts")
    return value


# ------------------------------------------------------------------------------ the stage's modules


class CodeFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the stage's own modules from its code, with the line numbers of the user's files."""

    def __init__(self, code: Path, positions: dict[str, Any]) -> None:
        self.code = code
        self.positions = positions

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        relative = name.replace(".", "/")
        for file, is_package in ((f"{relative}/__init__.py", True), (f"{relative}.py", False)):
            if (self.code / file).is_file():
                spec = importlib.machinery.ModuleSpec(name, self, origin=str(self.code / file), is_package=is_package)
                spec.has_location = True
                return spec
        return None

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        assert module.__spec__.origin is not None
        file = Path(module.__spec__.origin)
        tree = ast.parse(file.read_bytes(), filename=str(file))
        shown = str(file)
        where = self.positions.get(str(file.relative_to(self.code)))
        if where is not None:
            shown, places = where
            nodes = [node for node in ast.walk(tree) if "lineno" in node._attributes]
            for node, (line, column, end_line, end_column) in zip(nodes, places, strict=True):
                vars(node).update(lineno=line, col_offset=column, end_lineno=end_line, end_col_offset=end_column)
        exec(compile(tree, shown, "exec"), module.__dict__)


def host_facts() -> dict[str, Any]:
    """What ran the stage: interpreter, platform, and the versions of what was imported."""
    packages = {}
    # No further: what is touched of the server's memory is copied. All at once: other threads may import meanwhile.
    for name in list(itertools.takewhile(functools.partial(operator.ne, last_of_server), reversed(sys.modules))):
        if "." not in name and name not in sys.stdlib_module_names:
            # Not getattr: some compute it, import more for it, or warn.
            version = getattr(sys.modules.get(name), "__dict__", {}).get("__version__")
            if isinstance(version, str):
                packages[name] = version
    return {**platform_facts(), "packages": dict(sorted(packages.items()))}


@functools.cache
def platform_facts() -> dict[str, str]:
    """What is the same for all stages; the server finds it out once, before it forks."""
    return {
        "implementation": platform.python_implementation(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


# ------------------------------------------------------------------------------------- running a job


def perform(job: dict[str, Any]) -> dict[str, Any]:
    """Run the stage's function; gives what goes into `result`."""
    positions: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    try:
        positions = json.loads(Path(job["positions"]).read_bytes()) if job["positions"] else {}
        sys.meta_path.insert(0, CodeFinder(Path(job["code"]), positions))
        run = run_of(job)
        metrics = run.metrics
        arguments = arguments_of(job, run)
        function_of(job)(**arguments)
        return {"metrics": metrics, "host": host_facts()}
    except BaseException as error:
        described = describe(error, {shown for shown, _ in positions.values()})
        if job["debugger"] is not None and isinstance(error, Exception):
            post_mortem(error, **job["debugger"])
        return {"metrics": metrics, "host": host_facts(), "error": described}


def run_of(job: dict[str, Any]) -> Run:
    """What the parameter `run` gets; the output's folder is there afterwards."""
    out = Path(job["out"])
    out.mkdir(exist_ok=True)
    previous = None
    if job["previous"] is not None:
        previous = Previous(job["previous"]["id"], Path(job["previous"]["path"]), job["previous"]["metrics"])
    return Run(job["index"], job["seed"], out, Path(job["checkpoint"]), previous)


def arguments_of(job: dict[str, Any], run: Run) -> dict[str, Any]:
    """The arguments of the stage's function; the folders of its promised outputs are there afterwards."""
    arguments: dict[str, Any] = {}
    for name, argument in job["arguments"].items():
        match argument:
            case {"value": value}:
                arguments[name] = value
            case {"path": path}:
                arguments[name] = Path(path)
            case {"paths": paths}:
                arguments[name] = [Path(path) for path in paths]
            case {"promise": promise, "folder": is_folder}:
                arguments[name] = run.out / promise
                folder = arguments[name] if is_folder else arguments[name].parent
                folder.mkdir(parents=True, exist_ok=True)
    if job["run"] is not None:
        arguments[job["run"]] = run
    return arguments


def function_of(job: dict[str, Any]) -> Any:
    """The stage's function, from its code."""
    module, _, function = job["function"].partition(":")
    return getattr(importlib.import_module(module), function)


def describe(error: BaseException, users: set[str]) -> dict[str, Any]:
    """An exception for the log and for the message: without the worker's own frames.

    Its place is the last one in the user's own files, not deep in a library.
    """
    trace = own_trace(error)
    text = "".join(traceback.format_exception(type(error), error, trace))
    every = list(traceback.extract_tb(trace))
    frames = [frame for frame in every if frame.filename in users] or every
    # The log may be on a disk that is full.
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
    said = f": {error}" if str(error) else ""
    return {
        "message": f"{type(error).__name__}{said}",
        "file": frames[-1].filename if frames else None,
        "line": frames[-1].lineno if frames else None,
    }


def own_trace(error: BaseException) -> TracebackType | None:
    """An exception's traceback without the frames of the worker."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, importlib.__file__):
        trace = trace.tb_next
    # An error while the stage's modules are imported: skip the machinery between them as well.
    while trace is not None and "importlib" in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def post_mortem(error: Exception, terminal: str, term: str) -> None:
    """Let the user look at a failure with Python's debugger, on his terminal and in this very process."""
    import pdb
    import termios

    device = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    before = termios.tcgetattr(device)
    # It is the engine's terminal: Ctrl-C would end the engine, and this process with it.
    quiet = [*before[:3], before[3] & ~termios.ISIG, *before[4:]]
    saved = [os.dup(number) for number in range(3)]
    streams = sys.stdin, sys.stdout, sys.stderr
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ["TERM"] = term
    try:
        termios.tcsetattr(device, termios.TCSADRAIN, quiet)
        for number in range(3):
            os.dup2(device, number)
        sys.stdin = os.fdopen(0, "r", closefd=False)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
        trace = own_trace(error)
        print("".join(traceback.format_exception(type(error), error, trace)), end="")
        print("the stage's frames are here as they failed; q goes on, with the failure")
        if trace is not None:
            pdb.post_mortem(trace)
    finally:
        sys.stdout.flush()
        sys.stdin, sys.stdout, sys.stderr = streams
        for number in range(3):
            os.dup2(saved[number], number)
            os.close(saved[number])
        termios.tcsetattr(device, termios.TCSADRAIN, before)
        os.close(device)


def run_here(job: dict[str, Any]) -> None:
    """Run a job in this process, which is only for it."""
    os.chdir(job["work"])
    null = os.open(os.devnull, os.O_RDWR)
    try:
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        # The disk may be full.
        log = null
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    kept = {name: os.environ[name] for name in job["keep"] if name in os.environ}
    folders = dict.fromkeys(("HOME", "TMPDIR", "TMP", "TEMP", "NIX_BUILD_TOP"), job["work"])
    os.environ.clear()
    os.environ.update({**kept, **folders, **job["environ"]})
    limit(job["limits"])
    # Room is taken beforehand: a stage that fills the disk must be able to say so.
    with contextlib.suppress(OSError), open(job["result"], "ab") as file:
        os.posix_fallocate(file.fileno(), 0, 4096)
    found = perform(job)
    # What the stage left to be done at its end belongs to it; the process itself ends at once.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    result = json.dumps(found).encode()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    with open(job["result"], "r+b") as file:
        file.write(result)
        file.truncate()


def limit(limits: dict[str, Any]) -> None:
    """Have the kernel end this process, and those that it starts, at their limits."""
    if "cpu_time" in limits:
        seconds = math.ceil(limits["cpu_time"])
        lower(resource.RLIMIT_CPU, seconds, seconds + 5)
    if "memory" in limits:
        # What is written to; libraries map far more than they ever touch.
        lower(resource.RLIMIT_DATA, limits["memory"], limits["memory"])


def lower(kind: int, soft: int, hard: int) -> None:
    """Set a limit of this process; where it has a lower one already, which only root may raise, that stays."""
    most = resource.getrlimit(kind)[1]
    most = hard if most == resource.RLIM_INFINITY else most
    resource.setrlimit(kind, (min(soft, most), min(hard, most)))


# ---------------------------------------------------------------------------------------- the server


def serve() -> None:
    """Fork a process for each job on stdin until it closes; then end what still runs."""
    global last_of_server  # noqa: PLW0603 (the processes that it forks have it too)
    children: dict[int, Child] = {}
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Whoever interrupts asks the engine, which decides what it means for us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    platform_facts()
    last_of_server = next(reversed(sys.modules))
    # What is there already is never garbage: a collection in a child does not copy the pages that it lies in.
    gc.freeze()
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    pending = b""
    while True:
        for key, _ in selector.select(until_next_deadline(children)):
            data = os.read(key.fd, 1 << 16)
            if key.fd == wake_read:
                continue
            if not data:
                end_all(children)
                return
            pending += data
        *lines, pending = pending.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "kill" in message:
                for pid, child in children.items():
                    if child.number == message["kill"]:
                        send(pid, message["signal"])
            else:
                pid = start(message["job"])
                children[pid] = Child(message["id"], message["job"]["limits"].get("timeout"))
        end_overdue(children)
        reap(children)


class Child:
    """A process that runs a job: the job's number, and when it must have ended."""

    def __init__(self, number: int, timeout: float | None) -> None:
        self.number = number
        self.deadline = math.inf if timeout is None else time.monotonic() + timeout
        self.timed_out = False


def send(pid: int, number: int) -> None:
    """Send a signal to a job and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def until_next_deadline(children: dict[int, Child]) -> float | None:
    """Seconds until a job may be overdue; None if none ever will be."""
    next_one = min((child.deadline for child in children.values()), default=math.inf)
    return None if next_one == math.inf else min(max(0.0, next_one - time.monotonic()), LONGEST_WAIT)


def end_overdue(children: dict[int, Child]) -> None:
    """End the jobs whose time is over."""
    for pid, child in children.items():
        if child.deadline <= time.monotonic():
            child.timed_out = True
            child.deadline = math.inf
            send(pid, signal.SIGKILL)


def start(job: dict[str, Any]) -> int:
    """Fork a process for a job."""
    server = os.getpid()
    pid = os.fork()
    if pid:
        # Both sides do this, so that the group is there whoever comes first.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        die_with_parent(server)
        # The server's pipes are none of its business.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run_here(job)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the server is killed, which could not end it any more."""
    if PRCTL is not None:
        PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # It was killed before we asked for that.
            os._exit(1)


def reap(children: dict[int, Child]) -> None:
    """Answer for the processes that ended."""
    while children:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            return
        child = children.pop(pid, None)
        if child is not None:
            # What the stage left running must not write into what it made.
            send(pid, signal.SIGKILL)
            ended = {
                "exit": os.waitstatus_to_exitcode(status),
                "timed_out": child.timed_out,
                "cpu": usage.ru_utime + usage.ru_stime,
                "memory": usage.ru_maxrss * 1024,
            }
            os.write(1, json.dumps({"id": child.number, "ended": ended}).encode() + b"\n")


def end_all(children: dict[int, Child]) -> None:
    """End what still runs: the engine is gone."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for pid in children:
            send(pid, sent)
        deadline = time.monotonic() + 1
        while children and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                pid, _ = os.waitpid(-1, os.WNOHANG)
                children.pop(pid, None)
            time.sleep(0.01)


if __name__ == "__main__":
    serve()
