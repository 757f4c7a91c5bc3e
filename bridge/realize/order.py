"""The order of a plan: a stage comes to its turn once all that it uses is done, and never if some of that failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from bridge.formats.errors import BridgeError
from bridge.stages.plan import Node, Plan

__all__ = ["Order"]


class Order:
    """How far a plan is.

    Attributes
    ----------
    dependents
        Of each node those that use it.
    ready
        Those whose turn has come, in the order of the plan.
    failed
        Why those failed that did.
    """

    def __init__(self, plan: Plan) -> None:
        dependents: dict[Node, list[Node]] = {node: [] for node in plan.nodes}
        for node in plan.nodes:
            for used in node.inputs:
                dependents[used].append(node)
        self.dependents: Mapping[Node, Sequence[Node]] = dependents
        self.ready = deque(node for node in plan.nodes if not node.inputs)
        self.failed: dict[Node, BridgeError] = {}
        self._open = {node: len(node.inputs) for node in plan.nodes}
        self._lost: set[Node] = set()

    def count_down(self, node: Node) -> None:
        """A node is done: those that waited for nothing else are ready."""
        for dependent in self.dependents[node]:
            self._open[dependent] -= 1
            # One that failed in the same call of Nix as its inputs were made has had its try.
            if self._open[dependent] == 0 and dependent not in self._lost and dependent not in self.failed:
                self.ready.append(dependent)

    def fail(self, node: Node, error: BridgeError) -> list[Node]:
        """A node has failed: those that thereby never come to their turn."""
        self.failed[node] = error
        lost: list[Node] = []
        pending = deque([node])
        while pending:
            for dependent in self.dependents[pending.popleft()]:
                if dependent not in self._lost:
                    self._lost.add(dependent)
                    lost.append(dependent)
                    pending.append(dependent)
        return lost
