"""Number the calls of several processes that change a store, and kill the process, or fail the call, at one number.

    counted    what changes a folder or a file below `root`: by audit events, and by wrapping what has none; to kill,
               also starting processes, and the answers of the worker server
    journal    a line for each call, appended at once; its place in the file is the call's number, also between
               processes and threads

It imports the standard library only, since the worker imports it too.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import Any, Literal

What = Literal["kill", "ENOSPC", "EIO"]

LINE = 128
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# What takes room on a disk, and what a broken disk refuses; taking away always works, or nobody could clean up.
_TAKES_ROOM = ("open", "os.write", "os.pwrite", "os.mkdir", "os.symlink", "os.link", "os.posix_fallocate")
_MAY_BREAK = (*_TAKES_ROOM, "os.rename", "os.chmod", "os.utime", "os.fsync", "os.truncate")
_EVENTS = {
    "open": 0,
    "os.chmod": 0,
    "os.link": 1,
    "os.mkdir": 0,
    "os.remove": 0,
    "os.rename": 1,
    "os.rmdir": 0,
    "os.symlink": 1,
    "os.truncate": 0,
    "os.utime": 0,
    "subprocess.Popen": 0,
}
"""Audit events, with the number of the argument that is changed."""
_STARTS = ("os.fork", "subprocess.Popen")
"""Counted wherever they are, to kill, as are the worker server's answers."""
_WRAPPED = ("fsync", "posix_fallocate", "pwrite", "write")


@dataclass(frozen=True)
class Injection:
    """What happens at which call: at `point` the kill or EIO, from `point` on ENOSPC; 0 is never."""

    root: str
    journal: str
    what: What
    point: int

    @classmethod
    def from_environ(cls) -> Injection:
        what: Any = os.environ["CAMPAIGN_WHAT"]
        return cls(os.environ["CAMPAIGN_ROOT"], os.environ["CAMPAIGN_JOURNAL"], what, int(os.environ["CAMPAIGN_POINT"]))

    def to_environ(self) -> dict[str, str]:
        return {
            "CAMPAIGN_ROOT": self.root,
            "CAMPAIGN_JOURNAL": self.journal,
            "CAMPAIGN_WHAT": self.what,
            "CAMPAIGN_POINT": str(self.point),
        }


_busy = threading.local()


def install(injection: Injection) -> None:
    """Count from now on, in this process and in those that it forks; it can not be taken back."""
    real = {name: getattr(os, name) for name in _WRAPPED}

    def reached(name: str, target: str) -> None:
        """A call is about to be made."""
        if injection.what != "kill" and name not in (_TAKES_ROOM if injection.what == "ENOSPC" else _MAY_BREAK):
            return
        number = count(name, target)
        if injection.what == "kill" and number == injection.point:
            os.kill(os.getpid(), signal.SIGKILL)
        if injection.what == "EIO" and number == injection.point:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if injection.what == "ENOSPC" and 0 < injection.point <= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def count(name: str, target: str) -> int:
        line = f"{os.getpid()} {name} {target}".encode(errors="replace")[: LINE - 1]
        journal = os.open(injection.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            real["write"](journal, line.ljust(LINE - 1) + b"\n")
            return os.lseek(journal, 0, os.SEEK_CUR) // LINE
        finally:
            os.close(journal)

    def guarded(name: str, target: Any) -> None:
        if getattr(_busy, "now", False):
            return
        _busy.now = True
        try:
            path = _path_of(target)
            if path.startswith(injection.root):
                reached(name, path[len(injection.root) :])
            elif injection.what == "kill" and (name in _STARTS or (name == "os.write" and path.startswith("pipe:"))):
                reached(name, path)
        finally:
            _busy.now = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.fork":
            guarded(event, "")
        if event not in _EVENTS or (event == "open" and not (arguments[2] or 0) & _WRITING):
            return
        target = arguments[_EVENTS[event]]
        if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:
            target = f"/proc/self/fd/{arguments[1]}/{os.fsdecode(target)}"
        guarded(event, target)

    def wrapped(name: str) -> Any:
        def call(descriptor: int, *arguments: Any) -> Any:
            guarded(f"os.{name}", descriptor)
            return real[name](descriptor, *arguments)

        return call

    opened = io.open

    def open_and_count(file: Any, mode: str = "r", *arguments: Any, **settings: Any) -> Any:
        found = opened(file, mode, *arguments, **settings)
        if mode[0] != "r" and injection.what == "kill":
            # Between the open and the first byte that arrives.
            guarded("opened", file)
        return found

    sys.addaudithook(hook)
    for name in _WRAPPED:
        setattr(os, name, wrapped(name))
    builtins.open = io.open = open_and_count  # type: ignore[assignment]


def _path_of(target: Any) -> str:
    """What a call changes: a path, or a descriptor."""
    if isinstance(target, int):
        try:
            return os.readlink(f"/proc/self/fd/{target}")
        except OSError:
            return ""
    path = os.path.abspath(os.fsdecode(target))
    if path.startswith("/proc/self/fd/"):
        descriptor, _, name = path.removeprefix("/proc/self/fd/").partition("/")
        return f"{_path_of(int(descriptor))}/{name}"
    return path
