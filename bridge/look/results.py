"""What came of a plan, as it is walked over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from bridge.nix.installation import Installation
from bridge.store.catalogue import Entry
from bridge.store.layout import Store
from bridge.store.trace import Realization

from .errors import unknown
from .ground import Ground
from .realized import Realized, Source
from .several import Family, Realizations

if TYPE_CHECKING:
    from bridge.realize.engine import Outcome
    from bridge.stages.plan import Node, Plan

__all__ = ["Results", "entry_of"]


class _Lazy(Mapping[str, Realizations]):
    """The stages of a plan, each looked at when it is asked for."""

    def __init__(self, names: Sequence[str], look: Callable[[str], Realizations]) -> None:
        self._names, self._look = dict.fromkeys(names), look

    def __getitem__(self, name: str) -> Realizations:
        if name not in self._names:
            raise KeyError(name)
        return self._look(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Results(Family):
    """What came of a plan: by each stage's name what was chosen of it.

    Stages that share a name are together under it, and alone under their labels: `r["train(lr=0.1)"]`.

    Parameters
    ----------
    plan, outcome
        As `realize` took and the engine gave them.
    """

    def __init__(self, plan: Plan, outcome: Outcome, store: Store, nix: Installation | None) -> None:
        self.plan, self.outcome, self.store = plan, outcome, store
        self._nix = nix
        labels = [node.label for node in plan.nodes]
        super().__init__("this plan", _Lazy(labels, self._look))

    def __getitem__(self, name: str) -> Realizations:
        if name in self.plan.names:
            return self._look(name)
        raise unknown("this plan", str(name), self.plan.names)

    def __contains__(self, name: object) -> bool:
        return name in self.plan.names

    @cached_property
    def _ground(self) -> Ground:
        ground = Ground(self.store, self._nix)
        for choice in self.outcome.choices.values():
            for resolved in choice.resolved:
                ground.known[resolved.path] = resolved.derivation
            for one in choice.chosen:
                entry = entry_of(one.realization)
                for path in one.outputs.values():
                    ground.made.setdefault(path, []).append(entry)
        return ground

    def _look(self, name: str) -> Realizations:
        found: list[Realized | Source] = []
        missing = []
        nodes = self.plan.names[name]
        for node in nodes:
            choice = self.outcome.choices.get(node)
            if node.source is not None:
                found.append(Source(self._ground, node.path))
            elif choice is not None:
                found += [Realized(self._ground, entry_of(one.realization)) for one in choice.chosen]
            else:
                missing.append(f"{self.outcome.pending.get(node, 1)} to be made of {node.label}")
        return Realizations(f"the stage {name}", found, f"not realized: {', '.join(missing)}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in self.plan.names if name.isidentifier())})

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.plan.names)

    def nodes(self) -> Sequence[Node]:
        """The plan's nodes, inputs first."""
        return self.plan.nodes

    def _repr_html_(self) -> str:
        from .html import results_html

        return results_html(self)


def entry_of(one: Realization) -> Entry:
    """A record as the catalogue has it."""
    return Entry(
        drv=one.drv,
        stage_drv=one.stage_drv,
        id=one.id,
        stage=one.stage,
        started=one.started,
        stopped=one.stopped,
        index=one.index,
        runner=one.runner,
        result=one.result,
        outputs=one.outputs,
        metrics=one.metrics,
        size=None,
    )
