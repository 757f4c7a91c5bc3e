"""Why a stage would run now: what changed since its last realization, down to the first causes.

    realized     it would not run
    never        no stage of this name has a realization
    changed      its own part is another one: config, code, script …
    input        nothing of its own is: its inputs changed, or would run themselves
    count        more realizations are wanted than there are
    refused      the matcher takes none of those that there are
    gone         the bytes of what there was are gone
    failed       there are failures only
    builder      the local builder made them, and Nix is there to build

A stage is held against the realization that its user was last given; the target against the nearest one of its name
(`nearest`). Each stage is gone into once.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.realize.choosing import Choice, matcher_of, missing_of
from bridge.realize.engine import Outcome
from bridge.realize.errors import MatchError
from bridge.realize.matchers import needed, shown
from bridge.stages.plan import Node, Plan
from bridge.stages.values import PythonRecipe, SourceRecipe
from bridge.store.catalogue import Entry
from bridge.store.errors import RecordError

from .compare import FileChange, InputChange, Own, compare_derivations, compare_trees
from .diff import StageDiff, Value, code_changes, file_json, input_json, stage_json
from .ground import Ground
from .nearest import Last, last_of, nodes_of_inputs
from .parts import parts_of

__all__ = ["Because", "ChangedInput", "Reason", "causes", "why"]

Reason = Literal["realized", "never", "changed", "input", "count", "refused", "gone", "failed", "builder"]


@dataclass(frozen=True, slots=True)
class ChangedInput:
    """An input that is another one than the last realization was given.

    Parameters
    ----------
    what
        pending (it would run), derivation (it was made from another one), realization (another one was chosen), source
        (its contents changed), path, added, removed, or unknown (nothing tells what it was made from).
    node
        The stage that it comes from now.
    old, new
        The realizations, where they are known.
    files
        What changed in a source.
    """

    change: InputChange
    what: Literal["pending", "derivation", "realization", "source", "path", "added", "removed", "unknown"]
    node: Node | None = None
    old: Entry | None = None
    new: str | None = None
    files: tuple[FileChange, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            **input_json(self.change),
            "what": self.what,
            "stage": None if self.node is None else self.node.label,
            "old": None if self.old is None else self.old.id,
            "new": self.new,
            "files": [file_json(one) for one in self.files],
        }


@dataclass(frozen=True, slots=True)
class Because:
    """Why a stage would run, or that it would not.

    Parameters
    ----------
    missing
        How many realizations would be made at least.
    text
        The reason in words, where it is no difference.
    last
        The realization that it is held against.
    stage, inputs
        What differs from that.
    host
        What ran that and would run it now; nothing of it is hashed.
    among
        Of how many derivations of its name that one is the nearest; 0 where another stage or its own path says which.
    """

    node: Node
    reason: Reason
    missing: int
    text: str
    last: Entry | None = None
    stage: StageDiff = field(default_factory=lambda: StageDiff(Own((), None, ()), ()))
    inputs: tuple[ChangedInput, ...] = ()
    host: tuple[Value, ...] = ()
    among: int = 0

    @property
    def is_cause(self) -> bool:
        """Whether something starts here that does not follow from another stage of the plan."""
        follows = ("pending", "derivation")
        return (
            self.reason not in ("realized", "input", "changed")
            or bool(self.stage.own.changes or self.stage.own.code or self.stage.lost)
            or any(one.what not in follows for one in self.inputs)
        )

    def to_json(self) -> dict[str, Any]:
        found = stage_json(self.stage)
        return {
            "stage": self.node.label,
            "path": self.node.path,
            "runs": self.reason != "realized",
            "missing": self.missing,
            "reason": self.reason,
            "text": self.text,
            "last": None if self.last is None else {"id": self.last.id, "drv": self.last.drv, "nearestOf": self.among},
            **found,
            "inputs": [one.to_json() for one in self.inputs],
            "host": [{"key": list(one.key), "before": one.before, "after": one.after} for one in self.host],
        }


def why(plan: Plan, outcome: Outcome, ground: Ground) -> dict[Node, Because]:
    """Why a plan would run: of each stage on the way from the targets to the causes; then of any other that would.

    Those others are gone, and whatever uses them is there all the same.

    Parameters
    ----------
    outcome
        Of a dry run.
    """
    asked = _Asked(plan, outcome, ground)
    found: dict[Node, Because] = {}
    awaited = {used for node in outcome.pending for used in node.inputs}
    pending: list[tuple[Node, Entry | None]] = [(node, None) for node in outcome.pending if node not in awaited]
    pending += [(node, None) for node in reversed(plan.targets)]
    while pending:
        node, old = pending.pop()
        if node in found:
            continue
        found[node] = asked.explain(node, old)
        onward = [one for one in found[node].inputs if one.what in ("pending", "derivation")]
        pending += [(one.node, one.old) for one in reversed(onward) if one.node is not None]
    return found


def causes(plan: Plan, found: Mapping[Node, Because]) -> list[Because]:
    """The first causes: inputs before what uses them."""
    return [found[node] for node in plan.nodes if node in found and found[node].is_cause]


@dataclass(frozen=True, slots=True)
class _Asked:
    plan: Plan
    outcome: Outcome
    ground: Ground

    def explain(self, node: Node, old: Entry | None) -> Because:
        """Why a node would run; what differs between it and `old`, else its last realization."""
        if node.source is not None:
            return Because(node, "realized", 0, "it is a source")
        choice = self.outcome.choices.get(node)
        missing = self.outcome.pending.get(node, 0)
        if choice is not None and old is None:
            return Because(node, "realized", 0, _chosen(choice))
        if choice is None:
            there = self._there(node)
            if there:
                return self._not_enough(node, missing, there)
        held = last_of(self.plan, self.outcome, self.ground, node) if old is None else Last(old)
        if held is None:
            return Because(node, "never", missing, f"no stage named {node.name} has a realization")
        last = held.entry
        stage, inputs = self._differences(node, last)
        own = stage.own.changes or stage.own.code or stage.lost or not inputs
        reason: Reason = "realized" if choice is not None else "changed" if own else "input"
        text = ""
        if not (stage.own or stage.lost):
            waits_for = list(dict.fromkeys(one.node.label for one in inputs if one.node is not None))
            text = (
                f"it waits for {', '.join(waits_for)}; if that gives what it gave before, what there is counts"
                if inputs
                else f"nixbridge derivation diff {last.drv} {node.path} says more"
            )
        host = tuple(self._host(node, last))
        return Because(node, reason, missing, text, last, stage, inputs, host, held.among)

    # ------------------------------------------------------------ the derivation is known to the trace

    def _there(self, node: Node) -> list[Entry]:
        """The realizations of the resolved derivations that are short of some."""
        listed = [self.ground.of_derivation(one.path) for one in self.outcome.resolved.get(node, ())]
        return [one for found in listed for one in found] if all(listed) else []

    def _not_enough(self, node: Node, missing: int, there: list[Entry]) -> Because:
        candidates = self.outcome.candidates.get(node, ())
        ids = {one.id for one in candidates}
        whole = [one for one in there if one.result == "done"]
        gone = [one for one in whole if one.id not in ids and not self._lies(one)]
        local = [one for one in whole if one.id not in ids and one.runner == "local" and self._lies(one)]
        wanted = max(node.stage.policy.realizations, needed(matcher_of(node)))
        said = []
        reason: Reason = "count"
        if gone:
            said.append(f"the bytes of {_ids(gone)} are gone")
        if len(there) > len(whole):
            said.append(f"{len(there) - len(whole)} failed or were interrupted")
        if len(candidates) >= wanted:
            reason = "refused"
            try:
                missing_of(node, candidates, tried=True)
                said.append(f"the matcher {shown(matcher_of(node))} needs {missing} more")
            except MatchError as error:
                said.append(error.message)
        else:
            if local:
                only = "" if gone or candidates else "only "
                said.append(f"there is {only}{_ids(local)} of the local builder, and Nix builds it now")
            if candidates or (wanted > 1 and not local) or not said:
                said.insert(0, f"{wanted} realizations are wanted, there {_are(len(candidates))}")
            if not candidates:
                reason = "gone" if gone else "builder" if local else "failed"
        return Because(node, reason, missing, "; ".join(said), there[-1])

    def _lies(self, one: Entry) -> bool:
        return all(self.ground.find(path) is not None for path in one.outputs.values())

    # --------------------------------------------------------------------------- another derivation

    def _differences(self, node: Node, last: Entry) -> tuple[StageDiff, tuple[ChangedInput, ...]]:
        old = self.ground.derivation(last.drv)
        if old is None:
            return StageDiff(Own((), None, ()), (), (last.drv,)), ()
        chosen: dict[str, list[str]] = {}
        for used in node.inputs:
            choice = self.outcome.choices.get(used)
            if choice is not None and choice.chosen:
                for name in choice.chosen[0].outputs:
                    chosen[used.output(name)] = [one.outputs[name] for one in choice.chosen]
        own = compare_derivations(old, node.derivation, chosen)
        known = {one.path: one.code.files for one in node.objects if one.code is not None}
        return StageDiff(own, code_changes(self.ground, own, known)), tuple(self._inputs(node, own, last))

    def _inputs(self, node: Node, own: Own, last: Entry) -> Iterator[ChangedInput]:
        nodes = nodes_of_inputs(node, self.outcome)
        waiting: set[tuple[str, Node]] = set()
        several = {one.name for one in own.inputs if one.after is None}
        for change in own.inputs:
            now = None if change.after is None else nodes.get(change.after.object)
            old = None if change.before is None else self.ground.maker(change.before.object, last.started)
            if now is not None and now in self.outcome.pending:
                if (change.name, now) not in waiting:
                    yield ChangedInput(change, "pending", now, old)
                waiting.add((change.name, now))
            elif change.after is None:
                # How many of a list there will be, nobody knows before they are chosen.
                if change.name not in several & {name for name, _ in waiting}:
                    yield ChangedInput(change, "removed", None, old)
            elif change.before is None:
                yield ChangedInput(change, "added", now)
            elif change.before.object == change.after.object:
                yield ChangedInput(change, "path", now, old)
            else:
                yield self._other(change, now, old)
        seen = {used for _, used in waiting}
        for name, uses in parts_of(node.derivation).inputs.items():
            for use in uses:
                waited = nodes.get(use.object)
                if waited is not None and waited in self.outcome.pending and waited not in seen:
                    # Its path is known before it is built, and is the one that it had: nothing differs.
                    seen.add(waited)
                    old = self.ground.maker(use.object, last.started)
                    yield ChangedInput(InputChange(name, use, use), "pending", waited, old)

    def _other(self, change: InputChange, used: Node | None, old: Entry | None) -> ChangedInput:
        """An input that is there, and is another object than before."""
        assert change.before is not None
        assert change.after is not None
        if used is None:
            return ChangedInput(change, "unknown", None, old)
        if used.source is not None:
            place = self.ground.find(change.before.object)
            recipe = used.stage.recipe
            now = self.ground.find(used.path)
            if now is None and isinstance(recipe, SourceRecipe) and recipe.keep is None:
                now = recipe.path
            files = () if place is None or now is None else compare_trees(place, now)
            return ChangedInput(change, "source", used, old, files=files)
        if old is None:
            return ChangedInput(change, "unknown", used)
        choice = self.outcome.choices[used]
        new = next((one.id for one in choice.chosen if change.after.object in one.outputs.values()), None)
        same = any(old.drv == one.path for one in choice.resolved)
        return ChangedInput(change, "realization" if same else "derivation", used, old, new)

    def _host(self, node: Node, last: Entry) -> Iterator[Value]:
        """What would run a Python stage now and is another one than the last time."""
        if not isinstance(node.stage.recipe, PythonRecipe):
            return
        try:
            had = self.ground.record(last).host
        except RecordError:
            return
        now = {
            "implementation": platform.python_implementation(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "system": platform.system(),
        }
        for key, value in now.items():
            if key in had and had[key] != value:
                yield Value((key,), had[key], value)


def _chosen(choice: Choice) -> str:
    count = len(choice.candidates)
    which = f" of {count}" if count > 1 else ""
    return f"{shown(matcher_of(choice.node))}{which} takes {', '.join(one.id for one in choice.chosen)}"


def _ids(found: list[Entry]) -> str:
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(one.id for one in found[:3]) + more


def _are(count: int) -> str:
    return {0: "are none", 1: "is 1"}.get(count, f"are {count}")
