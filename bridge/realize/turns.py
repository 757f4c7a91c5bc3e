"""Whose turn it is where several processes want to run the same stage: locks on resolved derivations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from bridge.formats.derivation import Instantiated
from bridge.formats.store_path import base_name
from bridge.stages.plan import Node
from bridge.store.layout import Store
from bridge.store.locks import holder, try_lock

from .events import Reporter, Waiting

__all__ = ["Turns"]


class Turns:
    """The locks that a plan's nodes hold, and the nodes that wait for one."""

    def __init__(self, store: Store, report: Reporter) -> None:
        self._store = store
        self._report = report
        self._held: dict[Node, ExitStack] = {}
        self._holders: dict[str, Node] = {}
        self._waiting: dict[Node, None] = {}

    @property
    def waiting(self) -> list[Node]:
        """The nodes that did not get their locks when they were last asked for."""
        return list(self._waiting)

    def is_behind(self, node: Node, resolved: Sequence[Instantiated]) -> bool:
        """Whether another node of this plan makes realizations of the same; then the node waits until all are there."""
        if not self._holders or all(self._holders.get(base_name(one.path), node) is node for one in resolved):
            return False
        self._waiting[node] = None
        return True

    def take(self, node: Node, resolved: Sequence[Instantiated]) -> bool:
        """Take the locks of a node; if somebody else has one it waits, which is told once."""
        if node in self._held:
            return True
        stack = ExitStack()
        names = sorted({base_name(one.path) for one in resolved})
        for name in names:
            if not stack.enter_context(try_lock(self._store, name)):
                break
        else:
            for name in names:
                self._holders[name] = node
                stack.callback(self._holders.pop, name)
            self._held[node] = stack
            self._waiting.pop(node, None)
            return True
        stack.close()
        if node not in self._waiting:
            self._waiting[node] = None
            # Another policy of the same stage is no other process.
            if name not in self._holders:
                found = holder(self._store, name)
                self._report(Waiting(node, str(found) if found else "another process"))
        return False

    def release(self, node: Node) -> None:
        """Give back what a node holds, and have it wait no more."""
        self._waiting.pop(node, None)
        held = self._held.pop(node, None)
        if held is not None:
            held.close()

    def settle(self, node: Node) -> None:
        """Have a node wait no more."""
        self._waiting.pop(node, None)

    def close(self) -> None:
        for held in self._held.values():
            held.close()
        self._held.clear()
