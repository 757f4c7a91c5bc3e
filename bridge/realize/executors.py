"""Executors by name, for `--executor`.

fork                   workers of our own on this machine
dask                   a Dask cluster on this machine: a worker process for each job slot
dask://HOST:PORT       a Dask scheduler; also dask:tls://HOST:PORT, and dask:FILE for a scheduler file
MODULE:FACTORY         what a callable gives: a `concurrent.futures.Executor`, or a Dask client
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ExecutorError, GivenUpError, WorkerDiedError, WorkerError
from .workers import default_jobs

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["DaskExecutor", "Named", "executor_named"]

_CONNECT = 10.0
_INLINE = 1 << 16
"""Up to so many bytes go in the task itself."""
_NO_LIMIT = 1 << 50
_OURS = frozenset({"cpu", "mem"})
"""What a worker need not declare: its threads and its memory limit stand for them."""


@dataclass(frozen=True, slots=True)
class Named:
    """An executor, and how many runs at once it is good for; None is our own."""

    executor: Executor | None
    jobs: int


@contextlib.contextmanager
def executor_named(name: str, jobs: int | None) -> Iterator[Named]:
    """The executor of that name, which is closed afterwards.

    Parameters
    ----------
    jobs
        How many runs at once, where the user says it.

    Raises
    ------
    ExecutorError
        If there is none, or it can not be had.
    """
    if name == "fork":
        yield Named(None, jobs or default_jobs())
        return
    made = _dask(name.removeprefix("dask").removeprefix(":"), jobs) if _is_dask(name) else _from_factory(name, jobs)
    executor = _adapted(name, made)
    try:
        count = jobs or (executor.jobs if isinstance(executor, DaskExecutor) else default_jobs())
        if count == 0:
            raise ExecutorError(
                f"the scheduler of the executor {name} has no workers",
                hint="start some, or say with -j how many runs at once are to wait for them",
            )
        yield Named(executor, count)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _is_dask(name: str) -> bool:
    return name == "dask" or name.startswith(("dask:", "dask://"))


def _dask(where: str, jobs: int | None) -> Client:
    """A client of the scheduler there, or of a cluster on this machine."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ExecutorError(
            f"the executor dask needs Dask, which is not installed: {error}", hint="pip install 'nixbridge[dask]'"
        ) from error
    if not where:
        try:
            with _deaf_to_interrupts():
                cluster = LocalCluster(
                    n_workers=jobs or default_jobs(), threads_per_worker=1, processes=True, dashboard_address=None
                )
            return Client(cluster, timeout=_CONNECT)
        except (OSError, RuntimeError) as error:
            raise ExecutorError(f"no Dask cluster can be started: {error}") from error
    file = not where.startswith("//") and "://" not in where
    if file and not Path(where).is_file():
        raise ExecutorError(
            f"there is no scheduler file {where}", hint="dask scheduler --scheduler-file FILE writes it"
        )
    address = f"tcp:{where}" if where.startswith("//") else where
    try:
        return Client(scheduler_file=where, timeout=_CONNECT) if file else Client(address, timeout=_CONNECT)
    except (OSError, ValueError, TypeError) as error:
        raise ExecutorError(
            f"no Dask scheduler answers at {where.removeprefix('//')} within {_CONNECT:g} s: {error}",
            hint="is it running, and can this machine reach it?",
        ) from error


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started here leave a Ctrl-C to us, who share their terminal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _from_factory(name: str, jobs: int | None) -> Any:
    module, _, path = name.partition(":")
    if not path:
        raise ExecutorError(
            f"there is no executor {name!r}", hint="fork, dask, dask://HOST:PORT, or MODULE:FACTORY of your own"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        factory: Any = importlib.import_module(module)
        for part in path.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise ExecutorError(f"the executor {name} can not be found: {error}") from error
    if not callable(factory):
        raise ExecutorError(f"the executor {name} is no factory: {factory!r} can not be called")
    try:
        return factory(max_workers=jobs or default_jobs()) if _takes_count(factory) else factory()
    except Exception as error:
        raise ExecutorError(f"the executor {name} can not be made: {type(error).__name__}: {error}") from error


def _takes_count(factory: Callable[..., object]) -> bool:
    try:
        return "max_workers" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False


def _adapted(name: str, made: Any) -> Executor:
    if isinstance(made, Executor):
        return made
    distributed = sys.modules.get("distributed")
    if distributed is not None and isinstance(made, distributed.Client):
        return DaskExecutor(made)
    raise ExecutorError(
        f"the executor {name} is a {type(made).__name__}",
        hint="its factory must give a concurrent.futures.Executor or a distributed.Client",
    )


class DaskExecutor(Executor):
    """Runs functions as tasks of Dask, with the resources and on the workers that each needs.

    A task that is cancelled is one whose result nobody wants: the worker sees that, since Dask tells it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        found = client.scheduler_info(n_workers=-1) if _takes_n_workers(client) else client.scheduler_info()
        workers = found["workers"].values()
        self.jobs = sum(worker["nthreads"] for worker in workers)
        """How many tasks the workers do at once, when we came."""
        self._declared: dict[str, str] = {}
        self._capacity: dict[str, int] = {
            "cpu": self.jobs,
            "mem": sum(one["memory_limit"] or _NO_LIMIT for one in workers),
        }
        totals: dict[str, float] = {}
        for worker in workers:
            for resource, amount in (worker["resources"] or {}).items():
                self._declared[resource.lower()] = resource
                totals[resource.lower()] = totals.get(resource.lower(), 0) + amount
        self._capacity |= {resource: int(amount) for resource, amount in totals.items()}

    @property
    def capacity(self) -> Mapping[str, int]:
        """What all workers have together of each resource: `resources=` of stages, in lower case."""
        return self._capacity

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function anywhere."""
        if kwargs:
            raise TypeError("functions are run with positional arguments only")
        return self.start("nixbridge", {}, None, fn, *args)

    def start(
        self,
        label: str,
        resources: Mapping[str, int],
        worker: str | None,
        fn: Callable[..., Any],
        *args: Any,
    ) -> Future[Any]:
        """Run a function.

        Parameters
        ----------
        label
            What Dask's dashboard shows.
        resources
            What it takes of its worker's.
        worker
            Where it would best run.

        Raises
        ------
        WorkerError
            If the scheduler is gone.
        """
        if self._client.status != "running":
            raise _gone(self._client)
        known = {self._declared.get(name, name): size for name, size in resources.items() if self._is_dasks(name)}
        task = self._client.submit(
            fn,
            *args,
            key=f"{label}-{secrets.token_hex(8)}",
            resources=known or None,
            workers=None if worker is None else [worker],
            allow_other_workers=worker is not None,
            pure=False,
        )
        return asyncio.run_coroutine_threadsafe(_result(self._client, [task]), self._client.loop.asyncio_loop)

    def _is_dasks(self, name: str) -> bool:
        """Whether Dask is to look for a worker that has it."""
        return name in self._declared or name not in _OURS

    def send(self, data: bytes) -> Any:
        """What stands for bytes as an argument of several tasks: Dask moves them from worker to worker."""
        if len(data) <= _INLINE:
            return data
        return self._client.scatter(data, hash=False)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the scheduler; a cluster of our own ends with its client."""
        cluster = self._client.cluster
        # What it says on its way out is of no use to anybody.
        with contextlib.suppress(Exception):
            self._client.close(timeout=_CONNECT if wait else 2)
        if cluster is not None:
            with contextlib.suppress(Exception):
                cluster.close(timeout=_CONNECT)


def _takes_n_workers(client: Client) -> bool:
    """Newer releases tell of a few workers only, unless they are asked for all."""
    return "n_workers" in inspect.signature(client.scheduler_info).parameters


def _gone(client: Client) -> WorkerError:
    address = getattr(client.scheduler, "address", None) or "its address"
    return WorkerError(f"the Dask scheduler at {address} is gone", hint="start it again; the same command goes on")


async def _result(client: Client, holder: list[Any]) -> Any:
    """The result of a task; who stops waiting lets go of it, so that Dask cancels it."""
    from distributed.scheduler import KilledWorker

    task = holder.pop()
    try:
        return await task
    except KilledWorker as error:
        said = f"{error.allowed_failures + 1} workers died over it, the last one {error.last_worker.address}"
        raise WorkerDiedError(said) from None
    except CancelledError as error:
        raise _why(client, error) from None


def _why(client: Client, error: BaseException) -> WorkerError:
    if client.status != "running" or getattr(error, "reason", None) == "scheduler-connection-lost":
        return _gone(client)
    return GivenUpError(str(error))
