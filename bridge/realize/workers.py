"""Workers that are forked from one small server process: a few milliseconds a run."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import Any

from . import worker
from .errors import WorkerError

__all__ = ["ForkWorkers", "default_jobs"]


class ForkWorkers:
    """Runs each job in a process of its own; futures give how it ended, as `worker` says. A context manager.

    The server dies with this process, whatever ends it, and takes its workers along.
    """

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._futures: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None

    def __enter__(self) -> ForkWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def submit(self, job: dict[str, Any]) -> Future[dict[str, Any]]:
        """Start a job, a plain dict as `worker` describes it.

        Raises
        ------
        WorkerError
            If no process can be started.
        """
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            server = self._start()
            number = next(self._numbers)
            self._futures[number] = future
            future.set_running_or_notify_cancel()
            self._send(server, {"id": number, "job": job})
        return future

    def _start(self) -> subprocess.Popen[bytes]:
        if self._server is not None and self._server.poll() is not None:
            # Killed, by the kernel for want of memory perhaps: what comes next gets another.
            assert self._server.stdin is not None
            with contextlib.suppress(OSError):
                self._server.stdin.close()
            self._server = None
        if self._server is None:
            try:
                self._server = subprocess.Popen(
                    [sys.executable, "-P", worker.__file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise WorkerError(f"no worker can be started: {error}") from error
            self._futures = {}
            self._reader = threading.Thread(target=self._read, args=(self._server, self._futures), daemon=True)
            self._reader.start()
        return self._server

    def _send(self, server: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
        assert server.stdin is not None
        try:
            server.stdin.write(json.dumps(message).encode() + b"\n")
            server.stdin.flush()
        except OSError as error:
            raise WorkerError(f"the worker process is gone: {error}") from error

    def _read(self, server: subprocess.Popen[bytes], futures: dict[int, Future[dict[str, Any]]]) -> None:
        """Give a server's answers to its futures, until it ends."""
        assert server.stdout is not None
        for line in server.stdout:
            answer = json.loads(line)
            with self._lock:
                future = futures.pop(answer["id"])
            future.set_result(answer["ended"])
        server.stdout.close()
        with self._lock:
            left = list(futures.values())
            futures.clear()
        for future in left:
            future.set_exception(WorkerError("the worker process died"))

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to all that runs."""
        with self._lock:
            if self._server is not None and self._server.poll() is None:
                # It may die meanwhile, and then nothing runs any more.
                with contextlib.suppress(WorkerError):
                    for number in self._futures:
                        self._send(self._server, {"kill": number, "signal": int(sent)})

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the server, and with it what still runs."""
        server, self._server = self._server, None
        if server is None:
            return
        assert server.stdin is not None
        with contextlib.suppress(OSError):
            server.stdin.close()
        if wait:
            server.wait()
            if self._reader is not None and self._reader is not threading.current_thread():
                self._reader.join()


def default_jobs() -> int:
    """How many stages run at once without `-j`."""
    return len(os.sched_getaffinity(0))
