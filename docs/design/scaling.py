"""The simulation behind scaling.md: the real engine and the real store, with workers that only let time pass.

    python docs/design/scaling.py [WORKERS …]

A fake worker takes a second for a run and then leaves what a real one would. Half of the measure is what one
process can coordinate, since all else grows with the workers; the other half is what each realization leaves behind.
"""

from __future__ import annotations

import heapq
import importlib
import itertools
import json
import os
import pickle
import random
import resource
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge import instantiate
from bridge.formats import nar
from bridge.realize.engine import Options, realize
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree

SECONDS = 1.0
ROUNDS = 3
INPUT = 1_000_000
STAGES = """
from bridge import every, out, source, stage

data = source("data")

@stage(realizations={count}, match=every())
def train(run, data=data, model=out("model")): ...
"""


@dataclass
class FakeWorkers(Executor):
    """So many workers, which share the store or not; a thread lets their time pass."""

    count: int
    shared: bool
    sent: int = 0
    returned: int = 0
    calls: int = 0
    _known: dict[int, set[str]] = field(default_factory=dict)
    _due: list[tuple[float, int, Future[Any], dict[str, Any]]] = field(default_factory=list)
    _ready: threading.Condition = field(default_factory=threading.Condition)
    _numbers: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        scope = args[1]
        future: Future[Any] = Future()
        known = self._known.setdefault(random.randrange(self.count), set())
        job = json.loads(scope["message"])["job"]
        with self._ready:
            self.calls += 1
            self.sent += len(pickle.dumps(scope))
            if "files" in scope:
                known.add("code")
            known.update(path for path, _ in scope["nars"])
            answer = {"needs": [], "apart": False, "folder": False, "worker": None}
            lacking = [] if self.shared else [path for path in job["objects"] if path not in known]
            if "code" not in known:
                future.set_result(answer | {"code": True})
            elif lacking or (not self.shared and scope["blobs"]["positions"] is None):
                future.set_result(answer | {"needs": lacking, "apart": True})
            else:
                heapq.heappush(self._due, (time.monotonic() + SECONDS, next(self._numbers), future, job))
                self._ready.notify()
        return future

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._ready.wait(self._due[0][0] - time.monotonic() if self._due else None)
                _, number, future, job = heapq.heappop(self._due)
            answer = self._answer(job, number)
            with self._ready:
                self.returned += len(pickle.dumps(answer))
            future.set_result(answer)

    def _answer(self, job: dict[str, Any], number: int) -> dict[str, Any]:
        ended = {"exit": 0, "timed_out": False, "cpu": SECONDS, "memory": 1 << 26}
        result = json.dumps({"metrics": {"loss": number}, "host": {"python": "3.11"}}).encode()
        model = random.Random(number).randbytes(1000)
        if self.shared:
            attempt = Path(job["out"]).with_name(f"attempt-{number}")
            (attempt / "out").mkdir(parents=True)
            (attempt / "out/model").write_bytes(model)
            (attempt / "result.json").write_bytes(result)
            return {"ended": ended, "attempt": str(attempt)}
        archive = bytearray()
        nar.dump(nar.Directory({"model": nar.Regular(model)}), archive.extend)
        out = {"nar": bytes(archive)}
        texts = {"result": zlib.compress(result), "log": zlib.compress(b"")}
        return {"ended": ended, "out": out, "checkpoint": None, **texts}


def bytes_of(store: Store) -> tuple[int, int]:
    """Files and bytes of a store."""
    sizes = [os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(store.root) for name in names]
    return len(sizes), sum(sizes)


def simulate(folder: Path, workers: int, shared: bool) -> None:
    count = workers * ROUNDS
    name = f"simulated_{workers}"
    (folder / f"{name}.py").write_text(STAGES.format(count=count))
    importlib.invalidate_caches()
    plan = instantiate([importlib.import_module(name).train])
    store = open_store(folder / f"store-{workers}-{shared}")
    fake = FakeWorkers(workers, shared)
    options = Options(jobs=workers)
    begun, busy = time.monotonic(), time.process_time()
    realize(plan, store, executor=fake, options=options)
    took, busy = time.monotonic() - begun, time.process_time() - busy
    files, size = bytes_of(store)
    begun = time.monotonic()
    realize(plan, store, options=options)
    again = time.monotonic() - begun
    remove_tree(store.root)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{workers:>7} {'shared' if shared else 'apart':>6} {count:>6} {took:7.1f} {count / took:7.0f}"
        f" {100 * ROUNDS * SECONDS / took:6.0f} {busy / count * 1e3:8.2f} {fake.calls / count:6.2f}"
        f" {fake.sent / count / 1e3:8.1f} {fake.returned / count / 1e3:6.1f} {files / count:6.1f}"
        f" {(size - INPUT) / count / 1e3:7.1f} {again * 1e3:7.0f} {memory:6.0f}",
        flush=True,
    )


def main(counts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "data").write_bytes(os.urandom(INPUT))
        sys.path.insert(0, made)
        print(
            "workers  store   runs       s  runs/s busy %  CPU ms  calls  kB out  kB in  files  kB kept  no-op ms   MB"
        )
        for workers in counts:
            # What goes to workers that are apart does not depend on how many there are.
            for shared in (True, False) if workers <= 300 else (True,):
                simulate(folder, workers, shared)


if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:]] or [10, 100, 300, 1000])
