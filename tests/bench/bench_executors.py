"""A run on a Dask cluster, against a task of bare Dask that does nothing; target: at most twice as long.

Both have as many in flight as there are workers and wait for each result, as whoever needs the result must.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import measure

from bridge import instantiate
from bridge.realize.engine import Options, realize
from bridge.realize.executors import DaskExecutor, executor_named
from bridge.store.layout import open_store

WORKERS = 2
STAGES = """
from bridge import every, out, stage

@stage(realizations={count}, match=every())
def nothing(run, a=out("a")):
    a.touch()
"""


def bare(executor: Executor, count: int) -> None:
    """Tasks that are handed in and waited for by as many threads as there are workers."""
    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(lambda number: executor.submit(abs, number).result(), range(count)))


def ours(executor: Executor | None, folder: Path, count: int) -> Callable[[], None]:
    """Runs of a stage, into a new store each time."""
    stage = importlib.import_module(f"stages_{count}").nothing
    plan = instantiate([stage])

    def go() -> None:
        store = open_store(tempfile.mkdtemp(dir=folder))
        outcome = realize(plan, store, executor=executor, options=Options(jobs=WORKERS))
        assert len(outcome.choices[plan.targets[0]].chosen) == count

    return go


def main(count: int) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", Path.cwd()), prefix=".bench-") as made:
        folder = Path(made)
        os.environ["NIXBRIDGE_WORKER_CACHE"] = str(folder / "cache")
        (folder / f"stages_{count}.py").write_text(STAGES.format(count=count))
        sys.path.insert(0, made)
        with executor_named("dask", WORKERS) as named:
            executor = named.executor
            assert isinstance(executor, DaskExecutor)
            ours(executor, folder, count)()
            bare(executor, count)
            # In turns: a machine's speed changes.
            times = [
                (measure.function(lambda: bare(executor, count), 1), measure.function(ours(executor, folder, count), 1))
                for _ in range(5)
            ]
        task = sorted(time[0] for time in times)[2] / count
        run = sorted(time[1] for time in times)[2] / count
        fork = measure.function(ours(None, folder, count), 3) / count
    measure.row(f"{count} runs on Dask, {WORKERS} at once: each", run, "a task of bare Dask", task)
    measure.row(f"{count} runs by our own workers: each", fork, "a task of bare Dask", task)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 300)
