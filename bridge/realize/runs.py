"""The runs of Python stages, and what else is made here: as many at a time as the machine has room for."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.stages.plan import Node
from bridge.store.trace import Realization

from .schedule import CPU, Grant, Queue, machine
from .task import Task
from .workers import ForkWorkers

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from .elsewhere import Elsewhere

__all__ = ["Runs"]


class Runs:
    """Those that wait, and those that go.

    Parameters
    ----------
    executor
        What makes Python stages.
    jobs
        How many go at a time, at most.
    resources
        What there is, where the user says so.
    """

    def __init__(self, executor: ForkWorkers | Elsewhere, jobs: int, resources: Mapping[str, int]) -> None:
        self._jobs = jobs
        self._is_here = isinstance(executor, ForkWorkers)
        there = None if isinstance(executor, ForkWorkers) else executor.capacity
        capacity = machine(os.environ, jobs) if there is None else {**there, CPU: jobs}
        self._queue = Queue({**capacity, **resources}, os.environ)
        self._threads: ThreadPoolExecutor | None = None
        self._grants: dict[Future[Realization], Grant] = {}
        self._left: Counter[Node] = Counter()

    def put(self, tasks: list[Task], way: float) -> None:
        """Let the runs of a stage wait for room.

        Raises
        ------
        RealizeError
            If one needs more than there is.
        """
        for task in tasks:
            self._queue.put(task, way)
        self._left.update(task.node for task in tasks)

    def start(self, make: Callable[[Task], Realization]) -> Iterator[tuple[Future[Realization], Task]]:
        """Start the most important of those that wait, as far as there is room."""
        if self._threads is None:
            # Imported late, like all that only a run needs.
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(self._jobs, thread_name_prefix="realize")
        for task, grant in self._queue.take():
            # Which GPUs a run gets elsewhere, its worker knows.
            environ = grant.environ if self._is_here else {}
            future = self._threads.submit(make, replace(task, environ=environ, started=time.time()))
            self._grants[future] = grant
            yield future, task

    def end(self, future: Future[Realization], node: Node) -> None:
        """A run of a stage has ended: there is room for others."""
        self._left[node] -= 1
        self._queue.give_back(self._grants.pop(future))

    def left(self, node: Node) -> int:
        """How many runs of a stage have not ended yet."""
        return self._left[node]

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def clear(self) -> None:
        """Forget those that wait."""
        self._queue.clear()

    def close(self) -> None:
        """Wait for those that go."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
