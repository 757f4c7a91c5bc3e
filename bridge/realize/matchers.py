"""Matchers: from the candidates of one resolved derivation to the chosen ones.

A matcher is a function of the candidates, oldest first; it gives those it chooses, in its order, or None
for "not enough". Those here are values with a readable repr, and know how many candidates they need.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.store.trace import Realization

from .errors import MatchError

__all__ = ["Candidate", "Matcher", "apply", "best", "every", "exact", "latest", "needed", "only", "some", "takes_many"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A realization that a matcher may choose: what was recorded, and where its outputs lie.

    Parameters
    ----------
    paths
        Output name to where the output lies on this machine.
    """

    realization: Realization
    paths: Mapping[str, Path]

    @property
    def id(self) -> str:
        return self.realization.id

    @property
    def metrics(self) -> Mapping[str, Any]:
        return self.realization.metrics

    @property
    def path(self) -> Path:
        """Where the output `out` lies."""
        return self.paths["out"]


Matcher = Callable[[Sequence[Candidate]], Sequence[Candidate] | Candidate | None]


@dataclass(frozen=True, slots=True)
class Best:
    metric: str
    n: int
    lowest: bool

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        scored = [(value, one) for one in candidates if (value := _number(one.metrics.get(self.metric))) is not None]
        if len(scored) < self.n:
            return None
        # Stable: of equals the oldest stays, so that a rebuild does not change the choice for nothing.
        scored.sort(key=lambda pair: pair[0] if self.lowest else -pair[0])
        return [one for _, one in scored[: self.n]]

    def __repr__(self) -> str:
        more = (f", n={self.n}" if self.n != 1 else "") + (", lowest=True" if self.lowest else "")
        return f"best({self.metric!r}{more})"


@dataclass(frozen=True, slots=True)
class Latest:
    n: int

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        return None if len(candidates) < self.n else list(reversed(candidates))[: self.n]

    def __repr__(self) -> str:
        return "latest()" if self.n == 1 else f"latest({self.n})"


@dataclass(frozen=True, slots=True)
class Some:
    n: int

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        return None if len(candidates) < self.n else list(candidates[: self.n])

    def __repr__(self) -> str:
        return f"some({self.n})"


@dataclass(frozen=True, slots=True)
class Every:
    n: int = 1

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        return list(candidates) or None

    def __repr__(self) -> str:
        return "every()"


@dataclass(frozen=True, slots=True)
class Only:
    n: int = 1

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        different = {tuple(sorted(one.realization.outputs.items())): one for one in reversed(candidates)}
        if len(different) > 1:
            listed = ", ".join(one.id for one in different.values())
            raise MatchError(
                f"only() found {len(different)} different results: {listed}",
                hint="the stage is not deterministic: give it another matcher, or exact(…) to name one",
            )
        return list(different.values()) or None

    def __repr__(self) -> str:
        return "only()"


@dataclass(frozen=True, slots=True)
class Exact:
    ids: tuple[str, ...]

    @property
    def n(self) -> int:
        return len(self.ids)

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        found = []
        for wanted in self.ids:
            named = [one for one in candidates if one.id.startswith(wanted)]
            if len(named) > 1:
                raise MatchError(f"exact({wanted!r}) names {len(named)} realizations", hint="write more of the id")
            if not named:
                have = ", ".join(one.id for one in candidates) or "none"
                raise MatchError(f"there is no realization {wanted!r}", hint=f"there are {have}")
            found += named
        return found

    def __repr__(self) -> str:
        return f"exact({', '.join(map(repr, self.ids))})"


_Counted = Best | Latest | Some | Every | Only | Exact


def best(metric: str, n: int = 1, *, lowest: bool = False) -> Best:
    """The `n` realizations with the highest (or lowest) value of a metric."""
    return Best(metric, _count(n), lowest)


def latest(n: int = 1) -> Latest:
    """The `n` that started last, the last one first."""
    return Latest(_count(n))


def only() -> Only:
    """The one result; an error where there are different ones."""
    return Only()


def every() -> Every:
    """All that there are, oldest first; always a list."""
    return Every()


def some(n: int) -> Some:
    """The `n` oldest; always a list."""
    return Some(_count(n))


def exact(*ids: str) -> Exact:
    """The realizations with these ids, or beginnings of ids."""
    if not ids:
        raise MatchError("exact() needs the id of a realization")
    return Exact(ids)


def _count(n: int) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise MatchError(f"a matcher chooses at least one realization, not {n!r}")
    return n


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not math.isnan(value):
        return float(value)
    return None


def needed(matcher: Matcher) -> int:
    """How many candidates the matcher needs at least, as far as it says."""
    return matcher.n if isinstance(matcher, _Counted) and not isinstance(matcher, Exact) else 1


def takes_many(matcher: Matcher, chosen: Sequence[Candidate]) -> bool:
    """Whether the choice goes on as a list."""
    return isinstance(matcher, Every | Some) or needed(matcher) > 1 or len(chosen) > 1


def apply(matcher: Matcher, candidates: Sequence[Candidate]) -> list[Candidate] | None:
    """What the matcher chooses.

    Raises
    ------
    MatchError
        If it gives what it was not given, or fails.
    """
    try:
        chosen = matcher(candidates)
    except MatchError:
        raise
    except Exception as error:
        raise MatchError(f"the matcher {matcher!r} raised {type(error).__name__}: {error}") from error
    if chosen is None:
        return None
    if isinstance(chosen, Candidate):
        chosen = [chosen]
    if not isinstance(chosen, Sequence) or not all(one in candidates for one in chosen):
        raise MatchError(
            f"the matcher {matcher!r} chose what is no candidate: {chosen!r}",
            hint="return candidates that it was given",
        )
    return list(chosen) or None
