"""Of the realizations that stages of one name have, the one that a stage is held against.

    the newest of the very stage derivation, if there is one
    else of each resolved derivation the newest, and of these the one that has the most in common with the stage

What is in common is asked level by level: the stage's own config, inputs and code first, then those of what its inputs
were made from, and so on, as long as several are alike. Of those that are alike to the end, the newest one is taken. So
a variant of a sweep is held against the same variant, also where the two differ in nothing but what they were given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bridge.realize.engine import Outcome
from bridge.stages.plan import Node, Plan
from bridge.store.catalogue import Entry

from .ground import Ground
from .parts import Use, parts_of

__all__ = ["Last", "last_of", "nodes_of_inputs"]

_NEWEST = 500
"""Among so many of the newest derivations of a name is looked."""
_READ = 5000
"""So many pairs of derivations are compared for one stage, wherever that ends."""

_Distance = tuple[int, int, int]
"""How many config values, inputs and codes differ."""
_Pair = tuple[Node, Entry]
_Uses = Mapping[str, tuple[Use, ...]]


@dataclass(frozen=True, slots=True)
class Last:
    """What a stage is held against.

    Parameters
    ----------
    among
        How many derivations of that name it is the nearest of; 0 where it is of the very same one.
    """

    entry: Entry
    among: int = 0


def nodes_of_inputs(node: Node, outcome: Outcome) -> dict[str, Node]:
    """By the paths and placeholders that stand for them, the nodes that a node uses."""
    found: dict[str, Node] = {}
    for used in node.inputs:
        outputs = [used.path] if used.instantiated is None else map(used.output, used.derivation.outputs)
        choice = outcome.choices.get(used)
        chosen = [] if choice is None else [path for one in choice.chosen for path in one.outputs.values()]
        found |= dict.fromkeys([*outputs, *chosen], used)
    return found


def last_of(plan: Plan, outcome: Outcome, ground: Ground, node: Node) -> Last | None:
    """The realization that a node is held against; None if no stage of its name has one."""
    found = ground.of_stage(node.name)
    same = [one for one in found if one.stage_drv == node.path]
    if same:
        return Last(same[-1])
    # What is another stage of the plan was not this one before.
    others = {one.path for one in plan.nodes}
    newest = {one.drv: one for one in found if one.stage_drv not in others} or {one.drv: one for one in found}
    if not newest:
        return None
    candidates = sorted(newest.values(), key=lambda one: (one.started, one.id), reverse=True)[:_NEWEST]
    return Last(_nearest(_Alike(outcome, ground), node, candidates), len(candidates))


def _nearest(alike: _Alike, node: Node, candidates: Sequence[Entry]) -> Entry:
    """The candidate, of several newest first, that has the most in common with a node."""
    fronts: list[tuple[Entry, list[_Pair]]] = [(one, [(node, one)]) for one in candidates]
    left = _READ
    while len(fronts) > 1 and left > 0:
        looked = [(alike.compared(front), one) for one, front in fronts]
        left -= sum(len(front) for _, front in fronts)
        best = min(distance for (distance, _), _ in looked)
        fronts = []
        seen = set()
        for (distance, further), one in looked:
            # Those that were made from the same are alike from here on.
            made_from = tuple((used, maker.drv) for used, maker in further)
            if distance == best and made_from not in seen:
                seen.add(made_from)
                fronts.append((one, further))
        if not any(further for _, further in fronts):
            break
    return fronts[0][0]


@dataclass(frozen=True, slots=True)
class _Alike:
    outcome: Outcome
    ground: Ground

    def compared(self, front: Sequence[_Pair]) -> tuple[_Distance, list[_Pair]]:
        """How far stages are from realizations, and what is to be compared next: what they were made from."""
        config = inputs = codes = 0
        further: dict[tuple[Node, str], _Pair] = {}
        for node, one in front:
            had = self.ground.parts(one.drv)
            if had is None:
                # Nobody knows any more what it was: anything known is nearer.
                config, inputs = config + 1000, inputs + 1000
                continue
            has = parts_of(node.derivation)
            config += sum(has.config.get(key) != had.config.get(key) for key in {*has.config, *had.config})
            codes += has.code != had.code
            for used, use in self._differing(node, has.inputs, had.inputs):
                maker = None if used is None or use is None else self.ground.maker(use.object, one.started)
                if used is None or maker is None:
                    inputs += 1
                else:
                    further.setdefault((used, maker.drv), (used, maker))
        return (config, inputs, codes), list(further.values())

    def _differing(self, node: Node, has: _Uses, had: _Uses) -> Iterator[tuple[Node | None, Use | None]]:
        """Inputs that are not the same object: the stage that one comes from now, and what it was."""
        nodes = nodes_of_inputs(node, self.outcome)
        for name in {**has, **had}:
            now, before = has.get(name, ()), had.get(name, ())
            for number in range(max(len(now), len(before))):
                use = before[number] if number < len(before) else None
                used = nodes.get(now[number].object) if number < len(now) else None
                if used is None or use is None:
                    if number >= len(now) or now[number] != use:
                        yield None, None
                elif nodes.get(use.object) is not used:
                    yield (None if used.source is not None else used), use
