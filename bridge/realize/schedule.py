"""Which run goes next: the one with the longest way behind it, of those that the machine has room for.

    way        seconds from the start of a stage to the end of the plan along the slowest stages, as they took the
               last time; a stage that never ran counts a second
    room       job slots, memory, GPUs, and whatever else the user says that there is

A run that does not fit lets pass those that take nothing of what it waits for, so that it is not passed for ever.

Source: Graham, "Bounds on Multiprocessing Timing Anomalies" (1969): list scheduling by critical path.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.stages.plan import Node, Plan
from bridge.stages.policy import amount
from bridge.store.durable import write_file
from bridge.store.errors import DiskError
from bridge.store.layout import Store

from .errors import RealizeError
from .task import Task

__all__ = ["CPU", "Durations", "Queue", "machine"]

CPU, GPU, MEMORY = "cpu", "gpu", "mem"
_UNKNOWN = 1.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def machine(environ: Mapping[str, str], jobs: int) -> dict[str, int]:
    """What this machine has: job slots, bytes of memory, GPUs."""
    return {CPU: jobs, MEMORY: _memory(), GPU: len(_devices(environ))}


def _memory() -> int:
    """Bytes of memory, as far as the control group lets us have them."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def _devices(environ: Mapping[str, str]) -> list[str]:
    """The names of the GPUs that we may use, as CUDA_VISIBLE_DEVICES has them."""
    if _VISIBLE in environ:
        return [name for name in environ[_VISIBLE].split(",") if name]
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


class Durations:
    """How long stages took the last time, by name; a cache, which may be lost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._file = store.root / "cache" / "durations.json"
        self._seconds: dict[str, float] = {}
        self._changed = False
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            found = json.loads(self._file.read_bytes())
            self._seconds = {str(name): float(seconds) for name, seconds in found.items()}

    def note(self, stage: str, seconds: float) -> None:
        """Remember how long a run of a stage took."""
        self._seconds[stage] = round(max(0.0, seconds), 3)
        self._changed = True

    def save(self) -> None:
        """Write down what was noted; whoever can not write does without."""
        if self._changed:
            with contextlib.suppress(DiskError, OSError):
                self._file.parent.mkdir(exist_ok=True)
                write_file(self._store, self._file, json.dumps(self._seconds, sort_keys=True).encode())

    def ways(self, plan: Plan) -> dict[Node, float]:
        """Of each stage of a plan, the seconds from its start to the end of the plan."""
        behind: dict[Node, float] = {}
        for node in reversed(plan.nodes):
            own = 0.0 if node.source is not None else self._seconds.get(node.name, _UNKNOWN)
            way = behind[node] = own + behind.get(node, 0.0)
            for used in node.inputs:
                behind[used] = max(behind.get(used, 0.0), way)
        return behind


@dataclass(frozen=True, slots=True)
class Grant:
    """What a run has of the machine while it goes."""

    amounts: Mapping[str, int]
    devices: tuple[str, ...] = ()

    @property
    def environ(self) -> dict[str, str]:
        """What tells the run which GPUs are its own."""
        return {_VISIBLE: ",".join(self.devices)} if GPU in self.amounts else {}


@dataclass(slots=True)
class Queue:
    """The runs that wait for room.

    Parameters
    ----------
    capacity
        What there is of each resource.
    environ
        Where the GPUs that we may use are named, if not all are.
    """

    capacity: Mapping[str, int]
    environ: Mapping[str, str]
    _free: dict[str, int] = field(init=False)
    _devices: list[str] = field(init=False)
    _heap: list[tuple[float, int, Task]] = field(init=False, default_factory=list)
    _numbers: Iterator[int] = field(init=False, default_factory=itertools.count)

    def __post_init__(self) -> None:
        self._free = dict(self.capacity)
        # Where none are found and the user says that there are, they have the numbers that CUDA gives them.
        self._devices = _devices(self.environ) or [str(number) for number in range(self.capacity.get(GPU, 0))]

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, task: Task, way: float) -> None:
        """Let a run wait.

        Raises
        ------
        RealizeError
            If it needs more than there is.
        """
        for name, needed in _needs(task).items():
            have = self.capacity.get(name, 0)
            if needed > have:
                place = task.node.stage.place
                if name == MEMORY:
                    said = f"{_size(needed)} of memory, and there is {_size(have)}"
                else:
                    said = f"{needed} of {name}, and there are {have}"
                raise RealizeError(
                    f"the stage {task.node.name} needs {said}",
                    hint=f"nixbridge realize --resource {name}=AMOUNT says what there is",
                    file=place.file,
                    line=place.line,
                )
        heapq.heappush(self._heap, (-way, next(self._numbers), task))

    def take(self) -> Iterator[tuple[Task, Grant]]:
        """The runs that there is room for now, the most important first."""
        waiting = []
        held: set[str] = set()
        while self._heap and self._free[CPU] > 0 and CPU not in held:
            entry = heapq.heappop(self._heap)
            needs = _needs(entry[2])
            lacking = {name for name, needed in needs.items() if self._free[name] < needed}
            if lacking or not held.isdisjoint(needs):
                held |= lacking
                waiting.append(entry)
                continue
            for name, needed in needs.items():
                self._free[name] -= needed
            devices = tuple(self._devices.pop(0) for _ in range(needs.get(GPU, 0)) if self._devices)
            yield entry[2], Grant(needs, devices)
        for entry in waiting:
            heapq.heappush(self._heap, entry)

    def give_back(self, grant: Grant) -> None:
        """A run has ended."""
        for name, taken in grant.amounts.items():
            self._free[name] += taken
        self._devices += grant.devices

    def clear(self) -> list[Task]:
        """Forget those that wait; gives them."""
        tasks = [task for _, _, task in self._heap]
        self._heap.clear()
        return tasks


def _size(count: int) -> str:
    """Bytes as `resources=` has them."""
    for unit, power in (("T", 40), ("G", 30), ("M", 20)):
        if count >= 1 << power:
            return f"{count / (1 << power):.4g}{unit}"
    return str(count)


def _needs(task: Task) -> dict[str, int]:
    """What a run takes of each resource: a job slot at least."""
    return {CPU: 1} | {name: amount(value) for name, value in task.node.stage.policy.resources.items()}
