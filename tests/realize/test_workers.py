"""The server of workers, as a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.realize import workers
from bridge.realize.errors import WorkerDiedError
from bridge.realize.workers import ForkWorkers, default_jobs

from .running import alive, wait_until

Job = Callable[[str], dict[str, Any]]


@pytest.fixture
def executor() -> Iterator[ForkWorkers]:
    found = ForkWorkers()
    yield found
    found.shutdown()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    numbers = iter(range(1000))

    def make(body: str) -> dict[str, Any]:
        folder = tmp_path / f"job{next(numbers)}"
        (folder / "code").mkdir(parents=True)
        (folder / "work").mkdir()
        (folder / "code" / "mod.py").write_text(f"import os, sys, time, signal\ndef main():\n    {body}\n")
        names = ("code", "out", "work", "log", "result")
        return {
            **{name: str(folder / name) for name in names},
            "arguments": {},
            "checkpoint": str(folder / "checkpoint"),
            "environ": {},
            "keep": ["PATH"],
            "function": "mod:main",
            "index": 0,
            "limits": {},
            "positions": None,
            "debugger": None,
            "previous": None,
            "run": None,
            "seed": 1,
        }

    return make


def test_jobs_run_at_once_and_each_gives_its_status(executor: ForkWorkers, job: Job) -> None:
    started = time.monotonic()
    bodies = ["time.sleep(0.3)", "os._exit(7)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)", "1/0"]
    futures = [executor.submit(job(body)) for body in bodies * 4]
    assert [future.result(10)["exit"] for future in futures] == [0, 7, -9, -15, 0] * 4
    assert time.monotonic() - started < 1.2


def test_a_job_is_a_process_of_its_own(executor: ForkWorkers, job: Job) -> None:
    jobs = [job("print(os.getpid(), os.getcwd(), sys.stdin.read() == '')") for _ in range(2)]
    for one in jobs:
        executor.submit(one).result(10)
    said = [Path(one["log"]).read_text().split() for one in jobs]
    assert said[0][0] != said[1][0]
    assert [line[1:] for line in said] == [[one["work"], "True"] for one in jobs]


def test_stop_ends_what_runs(executor: ForkWorkers, job: Job) -> None:
    ignoring = job("signal.signal(15, signal.SIG_IGN); open('ready', 'w'); time.sleep(60)")
    obeying = job("open('ready', 'w'); time.sleep(60)")
    futures = [executor.submit(one) for one in (ignoring, obeying)]
    wait_until(lambda: all((Path(one["work"]) / "ready").exists() for one in (ignoring, obeying)))
    executor.stop(signal.SIGTERM)
    assert futures[1].result(10)["exit"] == -15
    assert not futures[0].done()
    executor.stop(signal.SIGKILL)
    assert futures[0].result(10)["exit"] == -9


def test_a_server_that_dies_fails_its_jobs_and_another_takes_the_next(executor: ForkWorkers, job: Job) -> None:
    one = job("open('ready', 'w'); time.sleep(5)")
    future = executor.submit(one)
    wait_until((Path(one["work"]) / "ready").exists)
    assert executor._server is not None
    executor._server.kill()
    with pytest.raises(WorkerDiedError, match="died"):
        future.result(10)
    assert executor.submit(job("pass")).result(10)["exit"] == 0


def test_a_server_that_answers_no_more_gets_no_job_more(
    executor: ForkWorkers, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As one does that is killed: its pipes go one after the other, and jobs may go into the one without an error.
    program = tmp_path / "mute.py"
    program.write_text("import os, time\nos.read(0, 1)\nos.close(1)\ntime.sleep(60)\n")
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_PROGRAM", str(program))
        mute = executor.submit(job("pass"))
    with pytest.raises(WorkerDiedError):
        mute.result(10)
    assert executor.submit(job("pass")).result(10)["exit"] == 0


def test_a_server_that_takes_no_job_more_is_replaced(
    executor: ForkWorkers, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "deaf.py"
    closed = tmp_path / "closed"
    program.write_text(f"import os, time\nos.close(0)\nopen({str(closed)!r}, 'w')\ntime.sleep(60)\n")
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_PROGRAM", str(program))
        executor._start()
    wait_until(closed.exists)
    assert executor.submit(job("pass")).result(10)["exit"] == 0


def test_what_a_job_leaves_running_is_ended_with_it(executor: ForkWorkers, job: Job) -> None:
    one = job("import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid)")
    assert executor.submit(one).result(10)["exit"] == 0
    wait_until(lambda: alive([int(Path(one["log"]).read_text())]) == [], 2)


def test_a_job_is_ended_at_its_timeout_with_all_that_it_started(executor: ForkWorkers, job: Job) -> None:
    body = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    one = {**job(body), "limits": {"timeout": 0.5}}
    started = time.monotonic()
    ended = executor.submit(one).result(20)
    assert ended["timed_out"]
    assert ended["exit"] == -signal.SIGKILL
    assert time.monotonic() - started < 5
    wait_until(lambda: alive([int(Path(one["log"]).read_text())]) == [], 2)


def test_a_timeout_may_be_longer_than_the_kernel_waits(executor: ForkWorkers, job: Job) -> None:
    ended = executor.submit({**job("pass"), "limits": {"timeout": 30 * 86400}}).result(20)
    assert (ended["exit"], ended["timed_out"]) == (0, False)


def test_a_job_is_ended_when_it_has_used_its_processor_time(executor: ForkWorkers, job: Job) -> None:
    ended = executor.submit({**job("[None for _ in iter(int, 1)]"), "limits": {"cpu_time": 1}}).result(20)
    assert ended["exit"] == -signal.SIGXCPU
    assert not ended["timed_out"]
    assert ended["cpu"] >= 0.9


def test_a_job_can_not_take_more_memory_than_it_may(executor: ForkWorkers, job: Job) -> None:
    one = {**job("x = bytearray(1 << 30); x[::4096] = bytes(len(x) // 4096)"), "limits": {"memory": 1 << 28}}
    ended = executor.submit(one).result(20)
    assert "MemoryError" in json.loads(Path(one["result"]).read_bytes())["error"]["message"]
    assert ended["memory"] < 1 << 29


def test_workers_die_with_the_process_that_has_them(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE, text=True) as owner:
        wait_until((tmp_path / "pid").exists)
        wait_until(lambda: (tmp_path / "pid").read_text() != "")
        pid = int((tmp_path / "pid").read_text())
        os.kill(owner.pid, signal.SIGKILL)
    wait_until(lambda: alive([pid]) == [], 4)


OWNER = """
import sys
from pathlib import Path
from bridge.realize import worker
from bridge.realize.workers import ForkWorkers
folder = Path(sys.argv[1])
(folder / "mod.py").write_text(
    "import os, time, signal\\n"
    "def main():\\n"
    "    signal.signal(15, signal.SIG_IGN)\\n"
    f"    open({str(folder / 'pid')!r}, 'w').write(str(os.getpid()))\\n"
    "    time.sleep(60)\\n"
)
names = ("out", "log", "result")
job = {name: str(folder / name) for name in names} | {
    "code": str(folder), "work": str(folder), "arguments": {}, "function": "mod:main",
    "index": 0, "positions": None, "run": None, "seed": 1,
    "checkpoint": str(folder / "checkpoint"), "environ": {}, "keep": ["PATH"], "limits": {}, "previous": None,
    "debugger": None,
}
ForkWorkers().submit(job).result()
"""


def test_nothing_is_started_unasked(executor: ForkWorkers) -> None:
    executor.stop()
    assert executor._server is None
    assert default_jobs() >= 1


def test_no_descriptor_stays_open(job: Job) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with ForkWorkers() as executor:
            assert executor.submit(job("pass")).result(10)["exit"] == 0
    assert len(os.listdir("/proc/self/fd")) == before
