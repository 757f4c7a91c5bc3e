"""Follow a builder that runs here: its lines go to its log, and it ends when it must, with all that it started."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from .events import Line
from .task import Context, Task

__all__ = ["follow"]

_GRACE = 2.0


def follow(context: Context, task: Task, process: subprocess.Popen[bytes], log: Path) -> bool:
    """Write the builder's output to its log and report it, until it ends; whether its timeout ended it."""
    assert process.stdout is not None
    killer = _Killer(context, process, task.node.stage.policy.timeout)
    try:
        with log.open("wb", buffering=0) as file:
            for line in process.stdout:
                file.write(line)
                context.report(Line(task.node, line.decode(errors="replace").rstrip("\n")))
        # It may have closed its stdout and go on; left unreaped, so that its group stays its own.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    finally:
        killer.finish()
        process.stdout.close()
        process.wait()
    return killer.timed_out


class _Killer:
    """Ends a builder's process group when the run is interrupted or its time is over, and what it left when it ended.

    A guard, a shell of its own, ends the group where this process itself is killed: a builder that went on
    would write into the output that the next process builds.
    """

    def __init__(self, context: Context, process: subprocess.Popen[bytes], timeout: float | None) -> None:
        self.timed_out = False
        self._context = context
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._process = process
        self._done = threading.Event()
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", f"read end || kill -s KILL -- -{process.pid}"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(min(0.1, max(0.0, self._deadline - time.monotonic()))):
            if self._context.cancelled.is_set():
                self._send(signal.SIGTERM)
                if not self._done.wait(_GRACE):
                    self._send(signal.SIGKILL)
                return
            if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                # What it left running may hold its stdout open for ever.
                self._send(signal.SIGKILL)
                return
            if time.monotonic() >= self._deadline:
                self.timed_out = True
                self._send(signal.SIGKILL)
                return

    def _send(self, sent: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, sent)

    def finish(self) -> None:
        self._done.set()
        self._thread.join()
        self._send(signal.SIGKILL)
        self._guard.communicate(b"\n")
