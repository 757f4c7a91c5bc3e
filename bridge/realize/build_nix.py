"""Hand deterministic stages to Nix: bring it what they need, have nix-build build, root what comes back."""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bridge.formats.derivation import DRV_SUFFIX, derivation_references
from bridge.formats.errors import BridgeError
from bridge.formats.store_path import STORE_PATH, base_name, name_part
from bridge.nix import activity
from bridge.nix.build import build, log_command
from bridge.nix.errors import NixBuildError, NixCancelledError
from bridge.stages.plan import Evaluated, Evaluator, Node
from bridge.stages.resolve import question
from bridge.store.durable import disk_errors
from bridge.store.holds import hold
from bridge.store.objects import add_texts
from bridge.store.trace import Realization, record

from .errors import BuildError, Interrupted
from .events import Aside, Line, Note, Phase, Started
from .kept import never_kept
from .nix_calls import calls, with_inputs
from .nix_store import NixStore
from .sources import bring_source
from .task import Context, Task, printable

__all__ = ["KEPT", "NixBuilder"]

_IGNORED = re.compile(r"ignoring the (?:client|user)-specified setting '([^']+)'")
KEPT = re.compile(r"""keeping build directory (['"])(.+)\1""")
_NOT_NIXS = ("retries", "cpu_time", "memory", "environ")
"""What of a stage's policy Nix does not hold."""
_TIMED_OUT = re.compile(r"timed out after \d+ seconds")


@dataclass(frozen=True, slots=True)
class Built:
    """What came of a call of nix-build, by derivation; those that are in neither were not reached."""

    made: Mapping[str, Realization]
    failed: Mapping[str, BridgeError]


@dataclass(slots=True)
class _Seen:
    """What nix-build told of a derivation: times since the epoch, the last lines."""

    started: float = 0.0
    stopped: float = 0.0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=20))


@dataclass(slots=True)
class NixBuilder:
    """Nix, as the engine uses it."""

    context: Context
    nix_store: NixStore
    evaluator: Evaluator | None = None
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _made: dict[str, Realization] = field(default_factory=dict)
    _evaluated: dict[str, Evaluated] = field(default_factory=dict)
    _told: set[Node] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # ------------------------------------------------------------------------------- building

    def build(
        self, tasks: Sequence[Task], *, keep_going: bool, jobs: int, settings: Mapping[str, str] | None = None
    ) -> Built:
        """Build tasks with nix-build.

        Parameters
        ----------
        settings
            Of Nix by name; its `max-jobs` goes before `jobs`.

        Raises
        ------
        NixError
            If nothing could be built for a reason that is no stage's.
        """
        failed: dict[str, BridgeError] = {}
        every = tasks
        tasks = self._prepared(self._evaluate(every, failed), failed)
        unprepared = {task.node for task in every if task.resolved.path in failed}
        by_drv = {self._goal(task): task for task in tasks}
        for task in tasks:
            self._say_what_is_not_held(task.node)
        seen = self._seen
        seen.update((path, _Seen()) for path in by_drv)
        asides: dict[str, Aside] = {}

        def on_event(event: activity.Event) -> None:
            if isinstance(event, activity.Message) and (ignored := _IGNORED.search(event.text)):
                self.context.report(Note(f"Nix takes no notice of {ignored[1]}: its daemon does not trust this user"))
            if isinstance(event, activity.Message) and (kept := KEPT.search(event.text)):
                self.context.report(Note(f"Nix keeps what a failed build worked in: {kept[2]}"))
            drv = getattr(event, "drv", None)
            if drv not in by_drv:
                aside = _aside(event, asides)
                if aside is not None:
                    self.context.report(aside)
                return
            node, log = by_drv[drv].node, seen[drv]
            match event:
                case activity.BuildStarted(machine=machine):
                    log.started = time.time()
                    self.context.report(Started(node, f"nix on {machine}" if machine else "nix"))
                case activity.BuildFinished():
                    log.stopped = time.time()
                case activity.Phase(name=name):
                    self.context.report(Phase(node, name))
                case activity.Line(text=text):
                    log.lines.append(printable(text))
                    self.context.report(Line(node, text))

        with self.nix_store.connection() as nix:
            for task in tasks:
                for path in self._outputs(task).values():
                    nix.add_temp_root(path)
        errors: list[NixBuildError] = []
        asked: set[str] = set()
        for wanted, timeout in calls(by_drv):
            # Nix would try again what it could not build in an earlier call.
            lost = self._lost(by_drv, asked) if errors else set()
            goals = [goal for goal in wanted if goal not in lost]
            asked |= with_inputs(by_drv, goals)
            limits = {} if timeout is None else {"timeout": str(math.ceil(timeout))}
            try:
                build(
                    self.nix_store.installation,
                    [one for path in goals for one in self._installables(by_drv[path])],
                    on_event=on_event,
                    keep_going=keep_going,
                    keep_failed=self.context.keep_failed,
                    options={"max-jobs": str(jobs), **(settings or {}), **limits},
                    cancel=self.context.cancelled,
                )
            except NixCancelledError as error:
                raise Interrupted("interrupted") from error
            except NixBuildError as error:
                errors.append(error)
                if not keep_going:
                    break
        made = self.finished(tasks)
        blamed = self._blamed(errors, [task for task in tasks if task.resolved.path not in made])
        if errors and not made and not blamed:
            raise errors[0]
        unmade = {task.node for task in tasks if task.resolved.path not in made} | unprepared
        for task in tasks:
            # Without keep_going, Nix stops others when one fails: these did not fail.
            goal = self._goal(task)
            to_blame = keep_going or not blamed or goal in blamed
            if task.resolved.path not in made and to_blame and unmade.isdisjoint(task.node.inputs):
                failed[task.resolved.path] = _failure(task, goal, errors, seen[goal])
        return Built(made, failed)

    def _lost(self, by_goal: Mapping[str, Task], asked: Iterable[str]) -> set[str]:
        """Of the goals those that were asked for and are not there, and what needs them."""
        made = self.finished([by_goal[goal] for goal in asked])
        lost = {goal for goal in asked if by_goal[goal].resolved.path not in made}
        for goal, task in by_goal.items():
            if not lost.isdisjoint(task.resolved.derivation.input_drvs):
                lost.add(goal)
        return lost

    def _say_what_is_not_held(self, node: Node) -> None:
        """Tell once of a stage what of its policy Nix has nothing for."""
        lost = [name for name in _NOT_NIXS if getattr(node.stage.policy, name)]
        if lost and node not in self._told:
            self.context.report(Note(f"Nix builds {node.name}, and has no {', '.join(lost)}: the local builder has"))
        if node.stage.policy.on_error == "keep" and node not in self._told:
            self.context.report(Note(never_kept(node)))
        self._told.add(node)

    def finished(self, tasks: Sequence[Task]) -> dict[str, Realization]:
        """Record and root those tasks whose outputs Nix has by now, also of a call that still runs."""
        with self._lock:
            new = self._take([task for task in tasks if task.resolved.path not in self._made])
            self._made.update((one.drv, one) for one in new)
            paths = [task.resolved.path for task in tasks]
            return {path: self._made[path] for path in paths if path in self._made}

    def _evaluate(self, tasks: Sequence[Task], failed: dict[str, BridgeError]) -> list[Task]:
        """Have Nix evaluate the stages that are written in Nix, their inputs brought first; gives what can go on."""
        asked = []
        for task in tasks:
            if task.node.evaluated_late:
                try:
                    for path in task.resolved.derivation.input_srcs:
                        if all(one.path != path for one in task.node.objects):
                            self._bring(task.node, path)
                    asked.append(task)
                except BridgeError as error:
                    failed[task.resolved.path] = error
        if asked:
            assert self.evaluator is not None
            answers = self.evaluator.evaluate([question(task.node, task.resolved) for task in asked])
            for task, answer in zip(asked, answers, strict=True):
                if isinstance(answer, BridgeError):
                    place = task.node.stage.place
                    failed[task.resolved.path] = place.error(f"the stage {task.node.name}: {answer}", hint=answer.hint)
                else:
                    self._evaluated[task.resolved.path] = answer
        return [task for task in tasks if task.resolved.path not in failed]

    def _bring(self, node: Node, path: str) -> None:
        """Have an input in the Nix store: a source as it is, or what was chosen."""
        source = next((used.source for used in node.inputs if used.source is not None and used.path == path), None)
        if source is None:
            self.nix_store.push(path)
            return
        with self.nix_store.connection() as nix:
            if not nix.is_valid_path(path):
                bring_source(nix, source)

    def _goal(self, task: Task) -> str:
        """The derivation that Nix builds for a task: of a stage written in Nix, what it was evaluated to."""
        evaluated = self._evaluated.get(task.resolved.path)
        return task.resolved.path if evaluated is None else evaluated.instantiated.path

    def _blamed(self, errors: Sequence[NixBuildError], unmade: Sequence[Task]) -> set[str]:
        """The goals that failed: by themselves, or, where Nix evaluated them, by something that they are built from."""
        failed = {path for error in errors for path in error.failed}
        blamed = {self._goal(task) for task in unmade} & failed
        if failed and not blamed:
            for task in unmade:
                if task.node.needs_nix and not failed.isdisjoint(self.nix_store.closure([self._goal(task)])):
                    blamed.add(self._goal(task))
        return blamed

    def _installables(self, task: Task) -> list[str]:
        """What nix-build is asked for: all outputs, of which a cache would else give one only."""
        evaluated = self._evaluated.get(task.resolved.path)
        drv = task.resolved.derivation if evaluated is None else evaluated.instantiated.derivation
        return [f"{self._goal(task)}!{name}" for name in drv.outputs]

    def _outputs(self, task: Task) -> dict[str, str]:
        """The outputs' paths by name; none where they are not known yet."""
        evaluated = self._evaluated.get(task.resolved.path)
        drv = task.resolved.derivation if evaluated is None else evaluated.instantiated.derivation
        found = {name: path for name in drv.outputs if (path := drv.output_path(name)) is not None}
        if len(found) < len(drv.outputs) and (task.node.foreign or evaluated is not None):
            # Content-addressed: Nix knows once it is built.
            with self.nix_store.connection() as nix:
                known = nix.query_derivation_output_map(self._goal(task))
            found = {name: path for name, path in known.items() if path is not None}
            found = found if len(found) == len(drv.outputs) else {}
        if evaluated is not None and "out" not in found and evaluated.output in found:
            found["out"] = found[evaluated.output]
        return found

    def _prepared(self, tasks: Sequence[Task], failed: dict[str, BridgeError]) -> list[Task]:
        """Those tasks that Nix has all inputs for; why not, for the others."""
        try:
            self.nix_store.prepare(tasks, self._evaluated)
            return list(tasks)
        except BuildError:
            ready = []
            for task in tasks:
                try:
                    self.nix_store.prepare([task], self._evaluated)
                    ready.append(task)
                except BuildError as error:
                    failed[task.resolved.path] = error
            return ready

    def _take(self, tasks: Sequence[Task]) -> list[Realization]:
        """Record and root what there is now."""
        store = self.context.store
        made: list[Realization] = []
        now = time.time()
        with self.nix_store.connection() as nix:
            valid = nix.query_valid_paths([path for task in tasks for path in self._outputs(task).values()])
            # Ours to keep: it says later what was built, also where the record is moved to.
            built = [task.resolved for task in tasks if valid.issuperset(self._outputs(task).values())]
            add_texts(
                store, [(one.path, one.aterm, tuple(sorted(derivation_references(one.derivation)))) for one in built]
            )
            for task in tasks:
                outputs = self._outputs(task)
                if not outputs or not valid.issuperset(outputs.values()):
                    continue
                # A root that no record needs is rubbish otherwise.
                hold(store, outputs.values())
                for path in outputs.values():
                    link = store.roots / f"nix-{base_name(path)}"
                    with disk_errors(f"the root {link} can not be made"), contextlib.suppress(FileExistsError):
                        os.symlink(path, link)
                    nix.add_indirect_root(str(link))
                seen = self._seen.get(self._goal(task), _Seen())
                one = Realization(
                    drv=task.resolved.path,
                    outputs=outputs,
                    stage=task.node.name,
                    stage_drv=task.node.path,
                    runner="nix",
                    started=seen.started or now,
                    stopped=seen.stopped or now,
                    host={"nix": self.nix_store.installation.version_text()},
                )
                made.append(record(store, one))
        return made


def _failure(task: Task, goal: str, errors: Sequence[NixBuildError], seen: _Seen) -> BuildError:
    """Why a task gave nothing: Nix's own words where they are about this one."""
    name, place = task.node.name, task.node.stage.place
    own = [error.message for error in errors if error.failed == (goal,)]
    if not own and not seen.started:
        own = [error.message for error in errors if goal not in error.failed]
    hint = errors[0].hint if errors else None
    said = own[0] if own else f"the builder of {goal} failed"
    return BuildError(
        f"Nix can not build the stage {name}: {said}",
        stage=name,
        reason="timeout" if _TIMED_OUT.search(said) else "failed",
        log_tail=list(seen.lines) or (errors[0].log_tail if errors else ()),
        hint=f"the whole log: {log_command(goal)}" if seen.started else hint,
        file=place.file,
        line=place.line,
    )


def _aside(event: activity.Event, known: dict[str, Aside]) -> Aside | None:
    """What an event says of something that is no stage's; `known` holds what is going on, by derivation or number."""
    match event:
        case activity.BuildStarted(drv, machine) if STORE_PATH.fullmatch(drv):
            aside = Aside(drv, "build", name_part(drv).removesuffix(DRV_SUFFIX), machine)
        case activity.Phase(drv, name) if drv in known:
            aside = replace(known[drv], phase=printable(name), line="")
        case activity.Line(drv, text) if drv in known:
            aside = replace(known[drv], line=printable(text))
        case activity.BuildFinished(drv) if drv in known:
            aside = replace(known[drv], ended=True)
        case activity.Transfer(number, what, source, done, expected, ended):
            name = name_part(what) if STORE_PATH.fullmatch(what) else printable(what)
            # Nix does not tell the last bytes of what it copied to the end.
            done = expected if ended and done and expected else done
            aside = Aside(f"transfer {number}", "download", name, source, done=done, expected=expected, ended=ended)
        case _:
            return None
    if aside.ended:
        known.pop(aside.key, None)
    else:
        known[aside.key] = aside
    return aside
