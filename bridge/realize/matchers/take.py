"""Orders and takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.realize.errors import MatchError

from .candidate import Candidate, metric_of
from .step import Refused, Shape, Step, answer, shown
from .words import cut, mistake, numeric, text

__all__ = ["best", "by", "every", "exact", "latest", "only", "some", "top"]

Key = Callable[[Candidate], Any]


@dataclass(frozen=True, slots=True)
class By(Step):
    key: str | Key
    lowest: bool

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.key,) if isinstance(self.key, str) else ()

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        if isinstance(self.key, str):
            keys: Iterable[Any] = map(numeric, metric_of(candidates, self.key))
        else:
            keys = map(self._key, candidates)
        keyed = [(key, one) for key, one in zip(keys, candidates, strict=True) if key is not None]
        try:
            # Stable, also in reverse: of equals the oldest stays, so that a rebuild does not change the choice.
            keyed.sort(key=lambda pair: pair[0], reverse=not self.lowest)
        except TypeError as error:
            raise MatchError(f"the keys of {self!r} have no order: {error}") from error
        return [one for _, one in keyed]

    def _key(self, one: Candidate) -> Any:
        """The candidate's key, or None if it has none."""
        if isinstance(self.key, str):
            return numeric(one.metrics.get(self.key))
        try:
            key = self.key(one)
        except (OSError, LookupError):
            return None
        return None if isinstance(key, float) and math.isnan(key) else key

    def key_text(self, one: Candidate) -> str:
        """The candidate's key as a reason shows it."""
        return f"{self.key if isinstance(self.key, str) else shown(self.key)} {text(self._key(one))}"

    def why_not(self, candidates: Sequence[Candidate]) -> dict[int, str]:
        keyless = [one for one in candidates if self._key(one) is None]
        if isinstance(self.key, str):
            return {one.row: lacks_number(one, self.key) for one in keyless}
        return {one.row: answer(self.key, one) for one in keyless}

    def __repr__(self) -> str:
        key = repr(self.key) if isinstance(self.key, str) else shown(self.key)
        return f"by({key}{', lowest=True' if self.lowest else ''})"


def lacks_number(one: Candidate, metric: str) -> str:
    """Why a candidate has no place in the order of a metric."""
    if metric not in one.metrics:
        return f"has no metric {metric}"
    return f"{metric} is {one.metrics[metric]!r}, which is no number"


@dataclass(frozen=True, slots=True)
class Take(Step):
    """The first `n` in the order given."""

    n: int

    @property
    def needed(self) -> int:  # type: ignore[override]
        return self.n

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return "one" if self.n == 1 else "list"

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        return None if len(candidates) < self.n else self.ordered(candidates)[: self.n]

    def ordered(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        return candidates

    def why_not(self, candidates: Sequence[Candidate]) -> dict[int, str]:
        if len(candidates) < self.n:
            there = "the only one" if len(candidates) == 1 else f"one of {len(candidates)}"
            return {one.row: f"{there} where {self!r} needs {self.n}" for one in candidates}
        return {one.row: self.beyond for one in self.ordered(candidates)[self.n :]}

    @property
    def beyond(self) -> str:
        return f"not among the first {self.n}"


@dataclass(frozen=True, slots=True)
class Top(Take):
    @property
    def beyond(self) -> str:
        return f"not among the top {self.n}"

    def __repr__(self) -> str:
        return "top()" if self.n == 1 else f"top({self.n})"


@dataclass(frozen=True, slots=True)
class Some(Take):
    shape = "list"

    def __repr__(self) -> str:
        return f"some({self.n})"


@dataclass(frozen=True, slots=True)
class Latest(Take):
    def ordered(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        return sorted(candidates, key=lambda one: one.row, reverse=True)

    @property
    def beyond(self) -> str:
        return f"not among the latest {self.n}"

    def __repr__(self) -> str:
        return "latest()" if self.n == 1 else f"latest({self.n})"


@dataclass(frozen=True, slots=True)
class Best(Step):
    """An order and a take in one word."""

    metric: str
    n: int
    lowest: bool

    @property
    def needed(self) -> int:  # type: ignore[override]
        return self.n

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return "one" if self.n == 1 else "list"

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.metric,)

    def _long(self) -> Step:
        return By(self.metric, self.lowest) >> Top(self.n)

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        return self._long()(candidates)

    def why_not(self, candidates: Sequence[Candidate]) -> dict[int, str]:
        return self._long().why_not(candidates)

    def lacking(self, candidates: Sequence[Candidate]) -> int:
        return self._long().lacking(candidates)

    def __repr__(self) -> str:
        more = (f", n={self.n}" if self.n != 1 else "") + (", lowest=True" if self.lowest else "")
        return f"best({self.metric!r}{more})"


@dataclass(frozen=True, slots=True)
class Every(Step):
    shape = "list"

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        return candidates

    def why_not(self, candidates: Sequence[Candidate]) -> dict[int, str]:
        return {}

    def __repr__(self) -> str:
        return "every()"


@dataclass(frozen=True, slots=True)
class Only(Step):
    shape = "one"

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        different = {tuple(sorted(one.outputs.items())): one for one in reversed(candidates)}
        if len(different) > 1:
            raise Refused(
                f"only() found {len(different)} different results: {cut(one.id for one in different.values())}",
                hint="the stage is not deterministic: give it another matcher, or exact(…) to name one",
            )
        return list(different.values())

    def why_not(self, candidates: Sequence[Candidate]) -> dict[int, str]:
        taken = {one.row for one in self(candidates) or ()}
        return {one.row: "has the same result as an older one" for one in candidates if one.row not in taken}

    def __repr__(self) -> str:
        return "only()"


@dataclass(frozen=True, slots=True)
class Exact(Step):
    ids: tuple[str, ...]

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return "one" if len(self.ids) == 1 else "list"

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        found = []
        for wanted in self.ids:
            named = [one for one in candidates if one.id.startswith(wanted)]
            if len(named) > 1:
                raise Refused(f"exact({wanted!r}) names {len(named)} realizations", hint="write more of the id")
            if not named:
                raise Refused(
                    f"there is no realization {wanted!r}", hint=f"there are {cut(one.id for one in candidates)}"
                )
            found += named
        return found

    def why_not(self, candidates: Sequence[Candidate]) -> dict[int, str]:
        taken = {one.row for one in self(candidates) or ()}
        return {one.row: f"not named by {self!r}" for one in candidates if one.row not in taken}

    def __repr__(self) -> str:
        return f"exact({', '.join(map(repr, self.ids))})"


# ------------------------------------------------------------------------------------- what users call


def by(key: str | Key, *, lowest: bool = False) -> By:
    """All that have the key, the highest (or lowest) first; of equals the first stays first.

    Parameters
    ----------
    key
        The name of a metric, or a function of a candidate. A candidate has no such key where the metric is no
        number, and where the function gives None or NaN, or misses a file (`OSError`) or an item (`LookupError`).
    """
    if not isinstance(key, str) and not callable(key):
        raise mistake(f"by() orders by a metric or a function, not by {key!r}")
    return By(key, lowest)


def top(n: int = 1) -> Top:
    """The first `n` in the order given, for n > 1 a list."""
    return Top(_count(n))


def best(metric: str, n: int = 1, *, lowest: bool = False) -> Best:
    """The `n` realizations with the highest (or lowest) value of a metric: `by(metric) >> top(n)`."""
    return Best(metric, _count(n), lowest)


def latest(n: int = 1) -> Latest:
    """The `n` that started last, the last one first."""
    return Latest(_count(n))


def only() -> Only:
    """The one result; an error where there are different ones."""
    return Only()


def every() -> Every:
    """All, in the order given; always a list."""
    return Every()


def some(n: int) -> Some:
    """The first `n` in the order given, which are the oldest without another order; always a list."""
    return Some(_count(n))


def exact(*ids: str) -> Exact:
    """The realizations with these ids, or beginnings of ids."""
    if not ids:
        raise mistake("exact() needs the id of a realization")
    return Exact(ids)


def _count(n: int) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise mistake(f"a matcher chooses at least one realization, not {n!r}")
    return n
