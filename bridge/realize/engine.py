"""Realizing a plan: for each stage, choose among what there is, or make what is missing and choose again.

    resolve → candidates in the trace → matcher → done
              or: lock, look again, run, record, match again

The engine owns the graph: one thread decides, others run and build. It reports events and prints nothing.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.formats.derivation import Instantiated
from bridge.formats.errors import BridgeError
from bridge.nix.installation import Installation
from bridge.stages.plan import Node, Plan
from bridge.store.durable import dead_temporaries
from bridge.store.holds import hold, using
from bridge.store.layout import Store
from bridge.store.objects import remove_tree
from bridge.store.trace import Realization

from .builders import Builders
from .choosing import (
    Choice,
    Expected,
    candidates_of,
    expected_of,
    matcher_of,
    missing_of,
    previous_of,
    resolved_of,
    seed_of,
    unused_indices,
)
from .errors import BuildError, Interrupted, MatchError, RealizeError
from .events import Chosen, Failed, Finished, Note, Reporter, Skipped
from .matchers import Candidate, apply, takes_many
from .options import Asked, Options, asked_of
from .order import Order
from .places import Places
from .runs import Runs
from .schedule import Durations
from .sources import add_source
from .task import Context, Task
from .turns import Turns
from .workers import ForkWorkers

if TYPE_CHECKING:
    # Imported late, like all that only a run or a build needs: often there is nothing to do.
    from concurrent.futures import Executor, Future, ThreadPoolExecutor

    from .elsewhere import Elsewhere

__all__ = ["Options", "Outcome", "realize"]

_MOMENT = 0.05
"""Seconds for which `gc` is kept out at a time."""

_POLL = 0.05
_NIX_POLL = 0.3
_NIX_CALLS = 4
_GRACE = 3.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Parameters
    ----------
    choices
        Of each stage that could be chosen for.
    pending
        Dry run: how many runs each other stage needs at least; of one that is not among `resolved`, if it runs at all.
    candidates
        Dry run: what there is of the pending stages.
    resolved
        Dry run: the resolved derivations of the pending stages, where they do not wait for what others give.
    """

    choices: dict[Node, Choice]
    pending: dict[Node, int]
    candidates: dict[Node, tuple[Candidate, ...]]
    resolved: dict[Node, tuple[Instantiated, ...]]


def realize(
    plan: Plan,
    store: Store,
    *,
    nix: Installation | None = None,
    options: Options | None = None,
    report: Reporter = lambda event: None,
    executor: Executor | None = None,
) -> Outcome:
    """Realize a plan.

    Parameters
    ----------
    nix
        The Nix to build with, if there is one.
    executor
        What runs Python stages; forks without it. It stays open.

    Raises
    ------
    RealizeError
        With the failures of the stages.
    KeyboardInterrupt
        When interrupted; everything that ran is ended and the store is clean.
    """
    engine = _Engine(plan, store, nix, options or Options(), report, executor)
    return engine.run()


class _Engine:
    def __init__(
        self,
        plan: Plan,
        store: Store,
        nix: Installation | None,
        options: Options,
        report: Reporter,
        executor: Executor | None,
    ) -> None:
        self._plan = plan
        self._options = options
        self._asked = asked_of(plan, options)
        self._report = report
        self._context = Context(store, Places(store, nix), report, options.keep_failed, options.debugger)
        self._builders = Builders(self._context, plan, nix, options.builder)
        self._executor = ForkWorkers() if executor is None else _elsewhere(executor, store, options)

        self._order = Order(plan)
        self._choices: dict[Node, Choice] = {}
        self._to_hold: list[str] = []
        self._pending: dict[Node, int] = {}
        self._candidates_seen: dict[Node, tuple[Candidate, ...]] = {}
        self._resolved_seen: dict[Node, tuple[Instantiated, ...]] = {}
        self._expected: dict[Node, Expected] = {}
        self._for_nix: list[Task] = []
        self._in_nix: set[Node] = set()
        self._nix_thread: ThreadPoolExecutor | None = None
        self._turns = Turns(store, report)
        self._tried: set[Node] = set()
        self._kept: dict[Node, BuildError] = {}
        self._running: dict[Future[Any], Task | list[Task]] = {}
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._is_clean = False
        self._durations = Durations(store)
        self._ways = self._durations.ways(plan)
        self._runs = Runs(self._executor, options.jobs, options.resources)

    # ---------------------------------------------------------------------------------- the loop

    def run(self) -> Outcome:
        self._builders.check()
        try:
            self._loop()
        except BaseException:
            self._abort()
            raise
        finally:
            self._close()
        self._durations.save()
        if self._order.failed:
            failures = list(self._order.failed.values())
            count = f"{len(failures)} stages failed" if len(failures) > 1 else "1 stage failed"
            raise RealizeError(count, failures=failures)
        return Outcome(self._choices, self._pending, self._candidates_seen, self._resolved_seen)

    def _loop(self) -> None:
        while True:
            self._consider_ready()
            if self._stops():
                self._abort()
                return
            self._start_runs()
            self._start_nix()
            waiting = self._turns.waiting
            if not self._running and not waiting:
                return
            self._wait(_POLL if waiting else _NIX_POLL)
            self._order.ready.extend(self._turns.waiting)

    def _wait(self, timeout: float) -> None:
        """Take what has ended, or wait for the first that does."""
        try:
            ended = [self._ended.get(timeout=timeout)]
        except queue.Empty:
            self._look_at_nix()
            return
        while not self._ended.empty():
            ended.append(self._ended.get())
        for future in ended:
            self._finish(future, self._running.pop(future))

    def _consider_ready(self) -> None:
        """Consider all nodes whose inputs are chosen, and those that thereby become such.

        Many at a time keep `gc` out and are then held together: for each of them that costs more than looking at it.
        """
        store = self._context.store
        ready = self._order.ready
        while ready:
            until = time.monotonic() + _MOMENT
            # A dry run leaves the store as it is.
            with contextlib.nullcontext() if self._options.dry_run else using(store):
                while ready and time.monotonic() < until:
                    self._guard(ready.popleft())
                    if self._stops():
                        ready.clear()
                hold(store, self._to_hold)
            self._to_hold.clear()

    def _guard(self, node: Node) -> None:
        try:
            self._consider(node)
        except MatchError as error:
            # Where there are only failures, the last one says more than that there is nothing to choose.
            resolved = self._resolved(node) or []
            nothing = not any(self._candidates(node, one) for one in resolved)
            self._fail(node, self._kept.get(node, error) if nothing else error)
        except BridgeError as error:
            self._fail(node, error)

    def _stops(self) -> bool:
        """Whether a failure ends the others: not where the user says so, and not one that its stage keeps."""
        return not self._options.keep_going and any(node not in self._kept for node in self._order.failed)

    def _consider(self, node: Node) -> None:
        """Choose for a node whose inputs are chosen, or start what is missing."""
        if node in self._in_nix:
            # It is in a call together with an input that is done by now; it comes again once it is done itself.
            return
        if node.source is not None:
            if node in self._plan.targets and not self._options.dry_run:
                add_source(self._context.store, node.source)
            self._done(Choice(node, (), (), (), many=False))
            return
        resolved = self._resolved(node)
        if resolved is None:
            self._will_run(node, node.stage.policy.realizations)
            return
        if self._take_pinned(node, resolved):
            return
        if self._options.dry_run:
            self._look(node, self._look_at(node, resolved))
            return
        if self._turns.is_behind(node, resolved):
            return
        found, missing = self._try(node, resolved)
        if any(missing) and self._turns.take(node, resolved):
            # What another process did while we waited counts.
            found, missing = self._try(node, resolved)
            if any(missing):
                self._start(node, found, missing)

    def _try(self, node: Node, resolved: Sequence[Instantiated]) -> tuple[list[_Found], list[int]]:
        """Choose if nothing is missing."""
        found = self._look_at(node, resolved)
        missing = [self._missing(node, one) for one in found]
        if not any(missing):
            self._choose(node, found)
        return found, missing

    def _take_pinned(self, node: Node, resolved: Sequence[Instantiated]) -> bool:
        """Choose what is pinned of a node; not where that is to be made again."""
        pinned = self._options.pinned.get(node)
        if pinned is None:
            return False
        candidates = {one.id: one for found in self._look_at(node, resolved) for one in found.candidates}
        self._keep_from_gc(candidates.values())
        gone = [identity for identity in pinned.ids if identity not in candidates]
        if gone and node.stage.policy.deterministic:
            return False
        if gone:
            raise RealizeError(
                f"the pinned realization {gone[0]} of the stage {node.name} is not here",
                hint="copy it from the store that has it, or pin it with a cache: nixbridge lock --cache URL",
            )
        chosen = tuple(candidates[identity] for identity in pinned.ids)
        self._done(Choice(node, tuple(resolved), tuple(candidates.values()), chosen, pinned.many))
        return True

    def _look(self, node: Node, found: list[_Found]) -> None:
        """Say what there is, also where the matcher can not choose."""
        try:
            missing = sum(self._missing(node, one) for one in found)
        except MatchError as error:
            self._report(Note(f"{node.name}: {error}"))
            missing = 1
        if missing:
            resolved = tuple(one.resolved for one in found)
            self._candidates_seen[node] = tuple(candidate for one in found for candidate in one.candidates)
            self._resolved_seen[node] = resolved
            expected = expected_of(node, resolved)
            if expected is not None:
                # So what uses it is known as well, and may be there already.
                self._expected[node] = expected
            self._will_run(node, missing)
        else:
            self._choose(node, found)

    def _resolved(self, node: Node) -> list[Instantiated] | None:
        """The resolved derivations, or None where (dry run) nobody knows yet what an input will be."""
        known: Mapping[Node, Choice | Expected] = self._choices
        if self._expected:
            known = {used: self._choices.get(used) or self._expected[used] for used in node.inputs if self._knows(used)}
        if node.waits and any(used not in known for used in node.inputs):
            return None
        return resolved_of(node, known)

    def _knows(self, node: Node) -> bool:
        return node in self._choices or node in self._expected

    def _look_at(self, node: Node, resolved: Sequence[Instantiated]) -> list[_Found]:
        return [_Found(one, self._candidates(node, one)) for one in resolved]

    def _candidates(self, node: Node, resolved: Instantiated) -> list[Candidate]:
        return candidates_of(self._context.places, node, resolved.path, by_nix=self._builders.is_delegated(node))

    def _missing(self, node: Node, found: _Found) -> int:
        """How many realizations must be made before the matcher is asked (again)."""
        if node.stage.policy.existing:
            return self._existing(node, found)
        if node in self._asked:
            return self._asked[node].count
        return missing_of(node, found.candidates, tried=node in self._tried)

    def _existing(self, node: Node, found: _Found) -> int:
        """Nothing is missing of a stage that is never run: of few the matcher takes what it can.

        Raises
        ------
        RealizeError
            If there is nothing.
        """
        if not found.candidates:
            place = node.stage.place
            raise RealizeError(
                f"the stage {node.name} is not realized, and realized(…) never runs it",
                hint=f"realize it first: nixbridge realize {place.file}:{node.name}",
                file=place.file,
                line=place.line,
            )
        return missing_of(node, found.candidates, tried=True)

    def _choose(self, node: Node, found: list[_Found]) -> None:
        self._turns.release(node)
        matcher = matcher_of(node)
        chosen = [one for each in found for one in apply(matcher, each.candidates) or []]
        candidates = [one for each in found for one in each.candidates]
        many = node.mapped is not None or takes_many(matcher, chosen)
        self._keep_from_gc(chosen)
        self._report(Chosen(node, matcher, candidates, chosen))
        resolved = tuple(one.resolved for one in found)
        self._done(Choice(node, resolved, tuple(candidates), tuple(chosen), many))

    def _keep_from_gc(self, found: Iterable[Candidate | Realization]) -> None:
        """Have the outputs held once this moment ends; a dry run holds nothing."""
        if not self._options.dry_run:
            self._to_hold += [path for one in found for path in one.outputs.values()]

    def _done(self, choice: Choice) -> None:
        self._choices[choice.node] = choice
        self._count_down(choice.node)

    def _will_run(self, node: Node, count: int) -> None:
        self._pending[node] = count
        self._count_down(node)

    def _count_down(self, node: Node) -> None:
        self._turns.settle(node)
        self._order.count_down(node)

    # ---------------------------------------------------------------------------- starting

    def _start(self, node: Node, found: Sequence[_Found], missing: Sequence[int]) -> None:
        asked = self._asked.pop(node, Asked())
        self._clean_up()
        if self._builders.nix_for(node) is not None:
            self._for_nix += [Task(node, one.resolved, ()) for one, count in zip(found, missing, strict=True) if count]
            return
        tasks = []
        for one, count in zip(found, missing, strict=True):
            drv = one.resolved.path
            previous = asked.previous or previous_of(node, one.candidates)
            # The runs may wait long for their turn.
            self._keep_from_gc([previous] if previous is not None else [])
            indices = [made.index for made in asked.redo if made.drv == drv]
            indices += unused_indices(self._context.store, drv, count - len(indices))
            tasks += [Task(node, one.resolved, (), index, seed_of(drv, index), previous) for index in indices]
        self._runs.put(tasks, self._ways[node])

    def _start_runs(self) -> None:
        """Start the most important of what waits, as far as there is room."""
        if not self._runs:
            return
        from .make import Maker

        nix = self._builders.nix
        maker = Maker(self._context, self._executor, self._choices, None if nix is None else nix.nix_store)
        for future, task in self._runs.start(maker.make):
            self._run(future, task)

    def _clean_up(self) -> None:
        """Take back what dead processes left, once, before anything is made."""
        if not self._is_clean:
            self._is_clean = True
            for path in dead_temporaries(self._context.store):
                remove_tree(path)

    # ------------------------------------------------------------------------------------ Nix

    def _start_nix(self) -> None:
        """Hand Nix all that it can build now, in one go, if it is not busy."""
        if not self._for_nix:
            return
        if sum(isinstance(tasks, list) for tasks in self._running.values()) >= _NIX_CALLS:
            return
        nix = self._builders.nix
        assert nix is not None
        tasks, self._for_nix = self._with_dependents(self._for_nix), []
        if self._nix_thread is None:
            from concurrent.futures import ThreadPoolExecutor

            self._nix_thread = ThreadPoolExecutor(_NIX_CALLS, thread_name_prefix="nix")
        self._in_nix.update(task.node for task in tasks)
        future = self._nix_thread.submit(
            nix.build,
            list(tasks),
            keep_going=self._options.keep_going,
            jobs=self._options.jobs,
            settings=self._options.nix_options,
        )
        self._run(future, tasks)

    def _with_dependents(self, tasks: list[Task]) -> list[Task]:
        """The tasks, and those above them that Nix can build in the same call."""
        group = list(tasks)
        nodes = {task.node for task in tasks}
        pending = deque(nodes)
        while pending:
            for node in self._order.dependents[pending.popleft()]:
                if node in nodes or node.waits or node.instantiated is None or not self._builders.is_delegated(node):
                    continue
                if not all(used in nodes or used in self._choices for used in node.inputs):
                    continue
                # In this order: what another process did before we had the lock counts.
                if not self._turns.take(node, [node.instantiated]) or self._candidates(node, node.instantiated):
                    self._turns.release(node)
                    continue
                group.append(Task(node, node.instantiated, ()))
                nodes.add(node)
                pending.append(node)
        return group

    # ------------------------------------------------------------------------------ finishing

    def _run(self, future: Future[Any], what: Task | list[Task]) -> None:
        self._running[future] = what
        future.add_done_callback(self._ended.put)

    def _finish(self, future: Future[Any], what: Task | list[Task]) -> None:
        if isinstance(what, list):
            self._finish_nix(future, what)
            return
        node = what.node
        self._runs.end(future, node)
        error = future.exception()
        if error is None:
            made = future.result()
            self._tried.add(node)
            self._report(Finished(node, made))
            if made.result == "done":
                self._durations.note(node.name, made.stopped - made.started)
            else:
                self._kept[node] = _kept_failure(made)
        elif isinstance(error, BridgeError):
            self._fail(node, error)
        else:
            raise error
        if not self._runs.left(node):
            if node in self._order.failed:
                self._turns.release(node)
            else:
                self._order.ready.append(node)

    def _look_at_nix(self) -> None:
        """Go on with what Nix has finished of a call that still runs, where something waits for it."""
        for tasks in [tasks for tasks in self._running.values() if isinstance(tasks, list)]:
            group = {task.node for task in tasks}
            awaited = [
                task for task in tasks if any(dependent not in group for dependent in self._order.dependents[task.node])
            ]
            if not awaited or self._builders.nix is None:
                continue
            made = self._builders.nix.finished(awaited)
            tasks[:] = [task for task in tasks if task.resolved.path not in made]
            for task in awaited:
                if task.resolved.path in made:
                    self._take_from_nix(task.node, made[task.resolved.path], tasks)

    def _take_from_nix(self, node: Node, made: Realization, left: Sequence[Task]) -> None:
        self._tried.add(node)
        self._durations.note(node.name, made.stopped - made.started)
        self._report(Finished(node, made))
        # Of a mapped stage more may still be on their way.
        if all(task.node is not node for task in left):
            self._in_nix.discard(node)
            if all(used in self._choices for used in node.inputs):
                self._order.ready.append(node)

    def _finish_nix(self, future: Future[Any], tasks: list[Task]) -> None:
        error = future.exception()
        if error is not None and not isinstance(error, BridgeError):
            raise error
        made: Mapping[str, Realization] = {} if error is not None else future.result().made
        failed: Mapping[str, BridgeError] = {} if error is not None else future.result().failed
        left = [task for task in tasks if task.resolved.path in made]
        while left:
            task = left.pop()
            self._take_from_nix(task.node, made[task.resolved.path], left)
        for task in tasks:
            node, drv = task.node, task.resolved.path
            if drv in made:
                continue
            self._in_nix.discard(node)
            if drv in failed:
                self._fail(node, failed[drv])
            elif isinstance(error, BridgeError) and all(used in self._choices for used in node.inputs):
                self._fail(node, error)
            else:
                self._turns.release(node)

    def _fail(self, node: Node, error: BridgeError) -> None:
        # Other runs of the stage may still go on; then the last one of them releases it.
        if not self._runs.left(node):
            self._turns.release(node)
        if node in self._order.failed or isinstance(error, Interrupted):
            return
        self._report(Failed(node, error))
        for lost in self._order.fail(node, error):
            self._turns.release(lost)
            self._report(Skipped(lost, node))

    def _abort(self) -> None:
        """End everything that runs."""
        from concurrent.futures import wait

        self._context.cancelled.set()
        self._order.ready.clear()
        self._runs.clear()
        for future in self._running:
            future.cancel()
        left = set(self._running)
        for sent in (signal.SIGTERM, signal.SIGKILL):
            if left:
                self._executor.stop(sent)
            _, left = wait(left, timeout=_GRACE)
        self._running.clear()

    def _close(self) -> None:
        if self._context.cancelled.is_set():
            # Where a second Ctrl-C came while the first was obeyed.
            self._executor.stop(signal.SIGKILL)
        self._runs.close()
        if self._nix_thread is not None:
            self._nix_thread.shutdown(wait=True, cancel_futures=True)
        self._executor.shutdown()
        self._builders.close()
        self._turns.close()


@dataclass(frozen=True, slots=True)
class _Found:
    """A resolved derivation and what there is of it."""

    resolved: Instantiated
    candidates: list[Candidate]


def _elsewhere(executor: Executor, store: Store, options: Options) -> Elsewhere:
    # Imported late: most runs need none of it.
    from .elsewhere import Elsewhere

    return Elsewhere(executor, store, options.executor_cache)


def _kept_failure(made: Realization) -> BuildError:
    """The error of a failure that was kept as a realization."""
    error = made.error or {}
    return BuildError(
        f"{error['message']} (kept as {made.id})",
        stage=made.stage,
        reason=error["reason"],
        file=error["file"],
        line=error["line"],
        hint=f"nixbridge log {made.id}",
    )
