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
from typing import TYPE_CHECKING, Any

from .errors import WorkerDiedError, WorkerError

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["ForkWorkers", "default_jobs"]

_PROGRAM = os.path.join(os.path.dirname(__file__), "worker.py")


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
        # Imported late: often there is nothing to run.
        from concurrent.futures import Future

        future: Future[dict[str, Any]] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            number = next(self._numbers)
            message = {"id": number, "job": job}
            try:
                self._send(self._start(), message)
            except WorkerError:
                # Killed this moment: half a line starts nothing, so that another may have the job.
                self._leave()
                self._send(self._start(), message)
            self._futures[number] = future
        return future

    def _start(self) -> subprocess.Popen[bytes]:
        if self._server is not None and self._server.poll() is not None:
            # Killed, by the kernel for want of memory perhaps: what comes next gets another.
            self._leave()
        if self._server is None:
            try:
                self._server = subprocess.Popen(
                    [sys.executable, "-P", _PROGRAM],
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

    def _leave(self) -> None:
        """Have nothing to do with the server any more, which is dying; its reader waits for the end."""
        server, self._server = self._server, None
        if server is not None:
            server.kill()
            assert server.stdin is not None
            with contextlib.suppress(OSError):
                server.stdin.close()

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
            # Its stdin may take jobs for a moment longer: none must come here, where nobody answers any more.
            if self._server is server:
                self._leave()
            left = list(futures.values())
            futures.clear()
        for future in left:
            future.set_exception(WorkerDiedError("the process that starts them died"))
        server.wait()

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
