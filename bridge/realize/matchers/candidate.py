"""What a matcher chooses among."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.store.records import Records
from bridge.store.trace import Realization, Result

__all__ = ["Candidate", "Pool", "candidates_in", "metric_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """What the candidates of one resolved derivation have in common; a matcher gets those of one pool.

    Parameters
    ----------
    find
        Where the object at a store path lies on this machine.
    config
        The stage's.
    """

    records: Records
    find: Callable[[str], Path]
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A realization that a matcher may choose: what was recorded, and where its outputs lie.

    Parameters
    ----------
    row
        Its number among all realizations, oldest first.
    """

    pool: Pool
    row: int

    @property
    def id(self) -> str:
        return self.field("id")  # type: ignore[no-any-return]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What the stage logged."""
        return self.field("metrics")  # type: ignore[no-any-return]

    @property
    def outputs(self) -> Mapping[str, str]:
        """Output name to store path."""
        return self.field("outputs")  # type: ignore[no-any-return]

    @property
    def host(self) -> Mapping[str, Any]:
        """What ran it."""
        return self.field("host")  # type: ignore[no-any-return]

    @property
    def index(self) -> int:
        """Which of the stage's realizations it is."""
        return self.field("index")  # type: ignore[no-any-return]

    @property
    def started(self) -> float:
        """Seconds since the epoch."""
        return self.field("started")  # type: ignore[no-any-return]

    @property
    def stopped(self) -> float:
        return self.field("stopped")  # type: ignore[no-any-return]

    @property
    def result(self) -> Result:
        """Whether it is whole: done, failed or partial."""
        return self.field("result")  # type: ignore[no-any-return]

    @property
    def config(self) -> Mapping[str, Any]:
        """The stage's arguments that are neither inputs nor promises."""
        return self.pool.config

    @property
    def realization(self) -> Realization:
        """The whole record, from its file."""
        return self.pool.records[self.row]  # type: ignore[no-any-return]

    @property
    def paths(self) -> Mapping[str, Path]:
        """Output name to where the output lies on this machine."""
        return {name: self.pool.find(path) for name, path in self.outputs.items()}

    @property
    def path(self) -> Path:
        """Where the output `out` lies."""
        return self.paths["out"]

    def field(self, name: str) -> Any:
        """A field of the realization; those above cost no look at the record's own file."""
        return self.pool.records.column(name)[self.row]

    def __repr__(self) -> str:
        return f"<candidate {self.id}>"


def candidates_in(pool: Pool) -> list[Candidate]:
    """One for each of the pool's records, oldest first."""
    return [Candidate(pool, row) for row in range(len(pool.records))]


def metric_of(candidates: Sequence[Candidate], name: str) -> list[Any]:
    """A metric of each, None where there is none; this reads no other metric."""
    column = candidates[0].pool.records.column(f"metrics.{name}") if candidates else []
    return [column[one.row] for one in candidates]
