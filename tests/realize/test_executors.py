"""Executors that are not ours, with real worker processes; those that do not share the store are in a mount namespace
of their own, where the store's folder is an empty one."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from bridge.realize.elsewhere import _LOAD, _code
from bridge.realize.engine import Options, realize
from bridge.realize.errors import BuildError, ExecutorError, RealizeError, WorkerError
from bridge.realize.executors import DaskExecutor, Named, executor_named
from bridge.stages.load import load_module
from bridge.stages.plan import instantiate
from bridge.store.errors import OutputError
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree
from bridge.store.trace import realizations, resolved_derivations

from .running import alive, assert_clean, run, wait_until

distributed = pytest.importorskip("distributed")

HEAD = "import os, sys, time, signal, subprocess\nfrom bridge import every, only, out, source, stage\n"
# What Dask says of its own sockets when a process of it is killed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class Cluster:
    """A scheduler and workers, each a process with a group of its own."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    @property
    def name(self) -> str:
        return f"dask:{self.file}"

    def start(self, *command: str | Path, **environ: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"log-{len(self.processes)}").open("wb")
        process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), **environ},
            start_new_session=True,
            cwd=self.folder,
        )
        log.close()
        self.processes.append(process)
        return process

    def scheduler(self, **environ: str) -> subprocess.Popen[bytes]:
        dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        process = self.start(
            *dask, "--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", self.file, **environ
        )
        wait_until(lambda: self.file.exists() and self.file.read_text().endswith("}"), 20)
        return process

    def worker(self, *options: str, hide: Path | None = None, **environ: str) -> subprocess.Popen[bytes]:
        """A worker; with `hide`, one that does not see that folder, and has no nixbridge."""
        dask = [sys.executable, "-P", "-m", "distributed.cli.dask_worker", "--scheduler-file", str(self.file)]
        dask += ["--no-dashboard", "--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder / "dask")]
        if hide is None:
            return self.start(*dask, *options, **environ)
        script = 'mount -t tmpfs none "$0" && exec "$@"'
        return self.start("unshare", "--mount", "sh", "-c", script, hide, *dask, *options, **environ)

    def end(self) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers that share the store, one of them with a resource."""
    cluster = Cluster(tmp_path_factory.mktemp("shared"))
    cluster.scheduler()
    cluster.worker()
    cluster.worker("--resources", "GPU=2", WITH_GPU="yes")
    with distributed.Client(scheduler_file=str(cluster.file)) as client:
        client.wait_for_workers(2, timeout=20)
        yield cluster
    cluster.end()


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hidden")


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, hidden: Path) -> Iterator[Cluster]:
    """Two workers that do not see the folder `hidden`."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can hide a folder")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here")
    cluster = Cluster(tmp_path_factory.mktemp("apart"))
    cluster.scheduler()
    cluster.worker(hide=hidden)
    cluster.worker(hide=hidden)
    with distributed.Client(scheduler_file=str(cluster.file)) as client:
        client.wait_for_workers(2, timeout=20)
        yield cluster
    cluster.end()


@pytest.fixture
def far_store(hidden: Path) -> Iterator[Store]:
    found = open_store(hidden / f"store-{secrets.token_hex(4)}")
    yield found
    remove_tree(found.root)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster for a test that breaks it."""
    cluster = Cluster(tmp_path)
    cluster.scheduler()
    yield cluster
    cluster.end()


def load(folder: Path, text: str) -> Any:
    """Stages from a file that is small when it is pruned: it has no `import *`."""
    file = folder / f"stages_{secrets.token_hex(4)}.py"
    file.write_text(HEAD + text)
    return load_module(str(file))


COUNT = """
@stage(realizations=6, match=every())
def s(run, a=out("a")):
    a.write_text(f"{run.index} {run.seed}")
    print("to the log")
    run.log(pid=os.getpid(), parent=os.getppid())
"""


def check_count(store: Store, folder: Path, executor: Executor | None) -> set[int]:
    """Realize six; gives the processes that forked them."""
    done = run(store, load(folder, COUNT).s, executor=executor)
    found = [one.realization for one in done.choice("s").chosen]
    assert sorted(one.index for one in found) == list(range(6))
    assert len({one.metrics["pid"] for one in found}) == 6
    assert all((store.logs / str(one.log)).read_text() == "to the log\n" for one in found)
    assert {done.choice("s").chosen[0].path.joinpath("a").read_text().split()[0]} <= set("012345")
    assert_clean(store)
    return {one.metrics["parent"] for one in found}


# ---------------------------------------------------------------------------------------- any executor

FACTORIES: dict[str, Callable[[], Executor]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "spawned processes": lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")),
}


@pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
def test_an_executor_of_the_standard_library_runs_stages(
    store: Store, tmp_path: Path, make: Callable[[], Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with make() as executor:
        assert 1 <= len(check_count(store, tmp_path, executor)) <= 2


def test_a_factory_is_found_by_name_and_its_executor_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"factory_{secrets.token_hex(4)}"
    (tmp_path / f"{name}.py").write_text(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "class Mine(ThreadPoolExecutor):\n    pass\n"
        "def plain():\n    return Mine(1)\n"
        "number = 3\ndef wrong():\n    return 3\ndef broken():\n    raise ValueError('no')\n"
    )
    monkeypatch.chdir(tmp_path)
    with executor_named(f"{name}:plain", 3) as named:
        assert (type(named.executor).__name__, named.jobs) == ("Mine", 3)
        executor = named.executor
    assert executor is not None
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(print)
    with executor_named("concurrent.futures:ThreadPoolExecutor", 5) as named:
        assert named.executor._max_workers == 5  # type: ignore[union-attr]
    for wrong, said in {
        f"{name}:nothing": "can not be found",
        "no_such_module:x": "can not be found",
        f"{name}:number": "no factory",
        f"{name}:wrong": "is a int",
        f"{name}:broken": "ValueError: no",
        "slurm": "no executor",
        "dask:nowhere.json": "no scheduler file",
    }.items():
        with pytest.raises(ExecutorError, match=said), executor_named(wrong, 1):
            pass


def test_a_scheduler_that_does_not_answer_is_one_error() -> None:
    script = """
from bridge.realize import executors
executors._CONNECT = 0.5
try:
    with executors.executor_named("dask://127.0.0.1:1", 1):
        pass
except executors.ExecutorError as error:
    print(error.message)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout.startswith("no Dask scheduler answers at 127.0.0.1:1 within 0.5 s"), done.stderr


def test_fork_is_our_own() -> None:
    with executor_named("fork", 3) as named:
        assert named == Named(None, 3)


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExecutorError) as caught, executor_named("dask", 1):
        pass
    assert caught.value.hint == "pip install 'nixbridge[dask]'"


def test_an_executor_that_is_closed_is_one_error(store: Store, tmp_path: Path) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    done = run(store, load(tmp_path, COUNT).s, executor=executor)
    assert isinstance(done.failure, WorkerError)
    assert_clean(store)


def test_a_broken_pool_is_one_error(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = """
@stage
def s(a=out("a")):
    pool = int(open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[1])
    os.kill(pool, signal.SIGKILL)
    time.sleep(60)
"""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        done = run(store, load(tmp_path, text).s, executor=executor)
    assert isinstance(done.failure, WorkerError)
    assert "BrokenProcessPool" in done.failure.message
    assert_clean(store)


# --------------------------------------------------------------------------------- Dask, the store shared


def test_dask_runs_stages_and_says_how_many_at_once(shared: Cluster, store: Store, tmp_path: Path) -> None:
    with executor_named(shared.name, None) as named:
        assert named.jobs == 2
        assert len(check_count(store, tmp_path, named.executor)) == 2
    with executor_named(shared.name, 7) as named:
        assert named.jobs == 7
        # Again by workers that know the code already.
        check_count(open_store(tmp_path / "again"), tmp_path, named.executor)


def test_a_cluster_of_our_own_has_a_process_for_each_job(store: Store, tmp_path: Path) -> None:
    script = f"""
if __name__ == "__main__":
    import sys
    sys.path.insert(0, {str(Path(__file__).parents[2])!r})
    from pathlib import Path
    from bridge.realize.executors import executor_named
    from bridge.store.layout import open_store
    from tests.realize.test_executors import check_count
    with executor_named("dask", 2) as named:
        assert named.jobs == 2
        print(len(check_count(open_store({str(store.root)!r}), Path({str(tmp_path)!r}), named.executor)))
"""
    file = tmp_path / "cluster.py"
    file.write_text(script)
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, env=environ, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("2\n", 0), done.stderr


def test_resources_of_a_stage_choose_its_worker(shared: Cluster, store: Store, tmp_path: Path) -> None:
    text = """
@stage(realizations=3, match=every(), resources={"gpu": 1, "mem": "1M"}, environ=["WITH_GPU"])
def s(run, a=out("a")):
    a.write_text(os.environ.get("WITH_GPU", "no"))
    run.log(visible=os.environ.get("CUDA_VISIBLE_DEVICES", "as the worker has it"))

@stage(resources={"gpu": 3})
def many(a=out("a")):
    a.touch()

@stage(resources={"tpu": 1})
def other(a=out("a")):
    a.touch()
"""
    module = load(tmp_path, text)
    with executor_named(shared.name, None) as named:
        assert isinstance(named.executor, DaskExecutor)
        assert named.executor.capacity["gpu"] == 2
        chosen = run(store, module.s, executor=named.executor, jobs=2).choice("s").chosen
        failures = [run(store, one, executor=named.executor, jobs=2).failure for one in (module.many, module.other)]
    assert {(one.path / "a").read_text() for one in chosen} == {"yes"}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "as the worker has it")
    assert {one.metrics["visible"] for one in chosen} == {visible}
    assert ["there are 2" in failures[0].message, "there are 0" in failures[1].message] == [True, True]


def test_a_timeout_holds_there(shared: Cluster, store: Store, tmp_path: Path) -> None:
    text = '@stage(timeout=0.5)\ndef s(a=out("a")):\n    time.sleep(60)\n'
    with executor_named(shared.name, None) as named:
        done = run(store, load(tmp_path, text).s, executor=named.executor)
    assert isinstance(done.failure, BuildError)
    assert done.failure.reason == "timeout"
    assert_clean(store)


def test_a_stage_that_fails_is_told_as_it_is_here(shared: Cluster, store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, '@stage\ndef s(a=out("a")):\n    print("before")\n    raise ValueError("no")\n')
    with executor_named(shared.name, None) as named:
        failure = run(store, module.s, executor=named.executor).failure
    assert isinstance(failure, BuildError)
    assert (failure.message, failure.line) == ("the stage s raised ValueError: no", 6)
    assert failure.log_tail[0] == "before"
    assert_clean(store)


KILL = """
@stage(match=only())
def s(run, marks="{marks}", times={times}, a=out("a")):
    tries = len(os.listdir(marks))
    open(f"{{marks}}/{{os.getpid()}}", "w")
    a.write_text("half")
    if tries < times:
        worker = int(open(f"/proc/{{os.getppid()}}/stat").read().rpartition(")")[2].split()[1])
        os.kill(worker, signal.SIGKILL)
        time.sleep(60)
    assert os.listdir(run.out) == ["a"]
    a.write_text("whole")
"""


def test_a_run_whose_worker_dies_is_made_by_another_one_and_recorded_once(tmp_path: Path, store: Store) -> None:
    cluster = Cluster(tmp_path)
    try:
        cluster.scheduler(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1")
        for _ in range(4):
            cluster.worker()
        found = []
        with executor_named(cluster.name, 2) as named:
            for times in (1, 9):
                marks = tmp_path / f"marks{times}"
                marks.mkdir()
                text = KILL.format(marks=marks, times=times)
                found.append(run(store, load(tmp_path, text).s, executor=named.executor))
                pids = [int(path.name) for path in marks.iterdir()]
                # Dask may begin it once more while it makes sure that a worker is dead; what counts is one record.
                assert len(pids) >= 2
                wait_until(lambda pids=pids: alive(pids) == [], 4)
    finally:
        cluster.end()
    once, always = found
    assert (once.path("s") / "a").read_text() == "whole"
    (drv,) = resolved_derivations(store)
    assert len(realizations(store, drv)) == 1
    assert isinstance(always.failure, BuildError)
    assert always.failure.reason == "killed"
    assert "workers that died: 2 workers died over it" in always.failure.message
    assert_clean(store)


SLEEP = """
@stage(realizations=2, match=every())
def s(run, marks="{marks}", a=out("a")):
    signal.signal(signal.SIGTERM, signal.SIG_IGN if run.index else signal.SIG_DFL)
    child = subprocess.Popen(["sleep", "60"])
    open(f"{{marks}}/{{os.getpid()}}", "w")
    open(f"{{marks}}/{{child.pid}}", "w")
    time.sleep(60)
"""


def test_a_scheduler_that_goes_away_is_one_error(own: Cluster, store: Store, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    own.worker()
    own.worker()
    failed: list[Exception] = []
    module = load(tmp_path, SLEEP.format(marks=marks))

    def go() -> None:
        with executor_named(own.name, 2) as named:
            try:
                realize(instantiate([module.s]), store, executor=named.executor, options=Options(jobs=2))
            except RealizeError as error:
                failed.extend(error.failures)

    thread = threading.Thread(target=go)
    thread.start()
    wait_until(lambda: len(list(marks.iterdir())) == 4, 20)
    os.killpg(own.processes[0].pid, signal.SIGKILL)
    thread.join(20)
    assert not thread.is_alive()
    (error,) = failed
    assert isinstance(error, WorkerError)
    assert "is gone" in error.message
    wait_until(lambda: alive(int(path.name) for path in marks.iterdir()) == [], 8)
    assert resolved_derivations(store) == []
    assert_clean(store)


DRIVER = """
import sys
from pathlib import Path
from bridge.realize.elsewhere import _LOAD, _code
from bridge.realize.engine import Options, realize
from bridge.realize.executors import executor_named
from bridge.stages.load import load_targets
from bridge.stages.plan import instantiate
from bridge.store.layout import open_store
with executor_named(sys.argv[1], 2) as named:
    plan = instantiate(load_targets(sys.argv[3]))
    realize(plan, open_store(sys.argv[2]), executor=named.executor, options=Options(jobs=2))
"""


def start_driver(cluster: Cluster, store: Store, folder: Path, marks: Path) -> subprocess.Popen[bytes]:
    (folder / "driver.py").write_text(DRIVER)
    (folder / "stages.py").write_text(HEAD + SLEEP.format(marks=marks))
    driver = subprocess.Popen(
        [sys.executable, folder / "driver.py", cluster.name, store.root, folder / "stages.py"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: len(list(marks.iterdir())) == 4, 20)
    return driver


@pytest.mark.parametrize(("sharing", "sent"), [(True, signal.SIGINT), (False, signal.SIGINT), (True, signal.SIGKILL)])
def test_what_runs_ends_when_the_engine_is_interrupted_or_killed(
    shared: Cluster, apart: Cluster, store: Store, far_store: Store, tmp_path: Path, sharing: bool, sent: signal.Signals
) -> None:
    cluster, used = (shared, store) if sharing else (apart, far_store)
    marks = tmp_path / "marks"
    marks.mkdir()
    driver = start_driver(cluster, used, tmp_path, marks)
    os.kill(driver.pid, sent)
    # One of the runs ignores the signal that asks, its child does not.
    assert driver.wait(20) != 0
    wait_until(lambda: alive(int(path.name) for path in marks.iterdir()) == [], 10)
    if sent == signal.SIGINT:
        assert_clean(used)
    else:
        # What the dead one left is taken back by the next.
        check_count(used, tmp_path, None)


# ------------------------------------------------------------------------------- workers that are apart


def test_workers_that_do_not_share_the_store_get_inputs_and_send_outputs_whole(
    apart: Cluster, far_store: Store, tmp_path: Path
) -> None:
    text = """
tree = source("tree")

@stage
def first(tree=tree, a=out("a"), many=out("deep/er")):
    assert sorted(os.listdir(tree)) == ["big", "empty", "link", "run.sh", "ü"]
    assert os.access(tree / "run.sh", os.X_OK) and not os.access(tree / "big", os.X_OK)
    assert os.readlink(tree / "link") == "../away"
    a.write_bytes((tree / "big").read_bytes())
    many.mkdir()
    (many / "no\\nname").symlink_to("nowhere")
    (many / "exe").write_text("x")
    (many / "exe").chmod(0o755)
    os.link(many / "exe", many / "same")
    (many / "closed").mkdir(mode=0o000)
    open(os.fsencode(many) + b"/\\xff", "w").close()

@stage(realizations=4, match=every())
def s(run, big=first / "a", some=[first / "deep", tree], b=out("b")):
    assert len(some) == 2 and os.access(some[0] / "er" / "same", os.X_OK)
    b.write_text(str(run.index) + str(os.path.getsize(big)))
    run.log(where=str(some[0]), store=os.path.isdir(STORE))
""".replace("STORE", repr(str(far_store.root / "store")))
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "big").write_bytes(os.urandom(200_000))
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("../away")
    (tree / "ü").write_text("ü")
    module = load(tmp_path, text)
    with executor_named(apart.name, None) as named:
        done = run(far_store, module.s, executor=named.executor, jobs=named.jobs)
        chosen = done.choice("s").chosen
        assert {(one.path / "b").read_text()[1:] for one in chosen} == {"200000"}
        assert {one.metrics["store"] for one in chosen} == {False}
        assert {str(apart.folder) in one.metrics["where"] for one in chosen} == {True}
    assert_clean(far_store)
    # The same paths that a run here gives, so nothing was lost on either way.
    again = open_store(tmp_path / "again")
    assert run(again, module.first).choice("first").chosen[0].outputs == done.choice("first").chosen[0].outputs


def test_large_objects_go_through_a_folder_that_both_see(apart: Cluster, far_store: Store, tmp_path: Path) -> None:
    text = """
import hashlib
@stage
def first(salt=SALT, a=out("a")):
    a.write_bytes(os.urandom(5 << 20))

@stage
def s(run, big=first / "a", b=out("b")):
    b.write_bytes(big.read_bytes() + bytes(6 << 20))
    run.log(digest=hashlib.sha256(big.read_bytes()).hexdigest())
""".replace("SALT", repr(secrets.token_hex(4)))
    cache = tmp_path / "folder"
    cache.mkdir()
    module = load(tmp_path, text)
    with executor_named(apart.name, None) as named:
        done = run(far_store, module.s, executor=named.executor, executor_cache=cache)
    assert (done.path("s") / "b").stat().st_size == 11 << 20
    (left,) = cache.iterdir()
    assert left.stat().st_size > 5 << 20
    assert_clean(far_store)


def test_an_altered_copy_in_a_workers_cache_is_not_used(own: Cluster, hidden: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can hide a folder")
    store = open_store(hidden / "altered")
    (tmp_path / "data").write_text("right")
    text = 'data = source("data")\n@stage\ndef s(n={}, data=data, a=out("a")):\n    a.write_text(data.read_text())\n'
    for number in range(2):
        worker = own.worker(hide=hidden)
        with executor_named(own.name, 1) as named:
            done = run(store, load(tmp_path, text.format(number)).s, executor=named.executor)
        assert (done.path("s") / "a").read_text() == "right"
        (copy,) = (own.folder / "cache/nixbridge/worker/objects").glob("*-data")
        copy.write_text("wrong")
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    assert_clean(store)
    remove_tree(store.root)


def test_what_no_archive_holds_and_failures_with_their_log_and_checkpoint_come_back(
    apart: Cluster, far_store: Store, tmp_path: Path
) -> None:
    text = """
@stage
def pipe(a=out("a")):
    os.mkfifo(a)

@stage(retries=1, backoff=0.01)
def again(run, a=out("a")):
    kept = run.checkpoint() / "kept"
    print("tried")
    if not kept.exists():
        kept.write_text("so far")
        raise ValueError("once")
    a.write_text(kept.read_text())
"""
    module = load(tmp_path, text)
    with executor_named(apart.name, None) as named:
        failed = run(far_store, module.pipe, executor=named.executor).failure
        done = run(far_store, module.again, executor=named.executor)
    assert isinstance(failed, OutputError)
    assert "is a pipe" in failed.message
    assert (done.path("again") / "a").read_text() == "so far"
    assert_clean(far_store)


def test_the_shipped_code_needs_the_standard_library_only(tmp_path: Path) -> None:
    package, files = _code()
    (tmp_path / "given.json").write_text(json.dumps({"package": package, "files": files, "load": _LOAD}))
    script = """
import json, sys
given = json.load(open(sys.argv[1]))
exec(given["load"])
assert load(given["package"], given["files"]) is None
print(json.dumps([name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names]))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, tmp_path / "given.json"],
        capture_output=True,
        text=True,
        env={"NIXBRIDGE_WORKER_CACHE": str(tmp_path / "cache")},
        check=True,
    )
    assert {name.partition(".")[0] for name in json.loads(done.stdout)} == {package.partition(".")[0], "__main__"}
