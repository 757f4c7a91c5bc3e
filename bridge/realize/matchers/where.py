"""Filters: `where(…)`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol, get_args

from bridge.store.trace import Result

from .candidate import Candidate, metric_of
from .step import Step, answer, shown
from .take import lacks_number
from .words import mistake, numeric, text

__all__ = ["where"]


class Test(Protocol):
    """One condition; `argument` is what it is in the call of `where`."""

    @property
    def argument(self) -> str: ...

    def keep(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]: ...

    def why_not(self, one: Candidate) -> str:
        """Of one that it does not keep."""


@dataclass(frozen=True, slots=True)
class Where(Step):
    tests: tuple[Test, ...]

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        bound = [one.metric for one in self.tests if isinstance(one, Bounds)]
        equal = [one.wanted for one in self.tests if isinstance(one, Agrees) and one.field == "metrics"]
        return (*bound, *(name for wanted in equal for name in wanted))

    @property
    def configs(self) -> tuple[Mapping[str, Any], ...]:  # type: ignore[override]
        return tuple(one.wanted for one in self.tests if isinstance(one, Agrees) and one.field == "config")

    @property
    def results(self) -> frozenset[Result] | None:  # type: ignore[override]
        asked = frozenset(one.result for one in self.tests if isinstance(one, Ended))
        return asked or None

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        left = candidates
        for test in self.tests:
            left = test.keep(left)
        return left

    def why_not(self, candidates: Sequence[Candidate]) -> dict[int, str]:
        found: dict[int, str] = {}
        left = candidates
        for test in self.tests:
            kept = test.keep(left)
            rows = {one.row for one in kept}
            found |= {one.row: test.why_not(one) for one in left if one.row not in rows}
            left = kept
        return found

    def __repr__(self) -> str:
        return f"where({', '.join(one.argument for one in self.tests)})"


_BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "above": ("above", lambda have, bound: have > bound),
    "below": ("below", lambda have, bound: have < bound),
    "at_least": ("at least", lambda have, bound: have >= bound),
    "at_most": ("at most", lambda have, bound: have <= bound),
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """A metric is there, and a number inside bounds if there are any."""

    metric: str
    bounds: tuple[tuple[str, float], ...]

    @property
    def argument(self) -> str:
        return ", ".join([repr(self.metric), *(f"{name}={bound!r}" for name, bound in self.bounds)])

    def keep(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        if not self.bounds:
            return [one for one in candidates if self.metric in one.metrics]
        values = metric_of(candidates, self.metric)
        return [one for one, value in zip(candidates, values, strict=True) if self._inside(numeric(value))]

    def _inside(self, have: float | None) -> bool:
        return have is not None and all(_BOUNDS[name][1](have, bound) for name, bound in self.bounds)

    def why_not(self, one: Candidate) -> str:
        have = numeric(one.metrics.get(self.metric))
        if have is None:
            return lacks_number(one, self.metric)
        name, bound = next((name, bound) for name, bound in self.bounds if not _BOUNDS[name][1](have, bound))
        return f"{self.metric} {text(one.metrics[self.metric])} is not {_BOUNDS[name][0]} {text(bound)}"


_FIELDS = {"metrics": "metric", "config": "config", "host": "host"}
_NOUNS = {"metrics": "metric", "config": "argument", "host": "host fact"}


@dataclass(frozen=True, slots=True)
class Agrees:
    """What is recorded holds certain values; other keys do not matter."""

    field: str
    wanted: Mapping[str, Any]

    @property
    def argument(self) -> str:
        return f"{_FIELDS[self.field]}={self.wanted!r}"

    def keep(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        have = [getattr(one, self.field) for one in candidates]
        # Most hosts and configs are one object.
        agrees = {id(value): self.holds(value, self.wanted) for value in {id(value): value for value in have}.values()}
        return [one for one, value in zip(candidates, have, strict=True) if agrees[id(value)]]

    def holds(self, have: Any, wanted: Any) -> bool:
        """Whether what is recorded agrees with what is wanted, as deep as that goes."""
        if isinstance(wanted, Mapping) and isinstance(have, Mapping):
            return all(key in have and self.holds(have[key], value) for key, value in wanted.items())
        if isinstance(wanted, bool) or isinstance(have, bool):
            return wanted is have
        # 3.11 is also 3.11.7.
        version = self.field == "host" and isinstance(have, str) and have.startswith(f"{wanted}.")
        return bool(have == wanted) or version

    def why_not(self, one: Candidate) -> str:
        have = getattr(one, self.field)
        name = next(key for key, value in self.wanted.items() if key not in have or not self.holds(have[key], value))
        if name not in have:
            return f"has no {_NOUNS[self.field]} {name}"
        return f"{_NOUNS[self.field]} {name} is {text(have[name])}, not {text(self.wanted[name])}"


@dataclass(frozen=True, slots=True)
class Since:
    """It started at a time or later."""

    when: str

    @property
    def argument(self) -> str:
        return f"since={self.when!r}"

    def keep(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        earliest = _seconds(self.when)
        return [one for one in candidates if one.started >= earliest]

    def why_not(self, one: Candidate) -> str:
        return f"older than {self.when}: of {datetime.fromtimestamp(one.started):%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True, slots=True)
class Ended:
    """It is whole, failed or partial."""

    result: Result

    @property
    def argument(self) -> str:
        return f"result={self.result!r}"

    def keep(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        return [one for one in candidates if one.result == self.result]

    def why_not(self, one: Candidate) -> str:
        return f"is {one.result}, not {self.result}"


@dataclass(frozen=True, slots=True)
class Predicate:
    """A function of the candidate says so."""

    function: Callable[[Candidate], object]

    @property
    def argument(self) -> str:
        return shown(self.function)

    def keep(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        return [one for one in candidates if self._holds(one)]

    def _holds(self, one: Candidate) -> bool:
        try:
            return bool(self.function(one))
        except (OSError, LookupError):
            return False

    def why_not(self, one: Candidate) -> str:
        return answer(self.function, one)


# ---------------------------------------------------------------------------------------------- times

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(
    r"\s*(\d+(?:\.\d+)?)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?)\s*", re.ASCII | re.IGNORECASE
)


def _seconds(when: str) -> float:
    """The seconds since the epoch that a text stands for now.

    Raises
    ------
    ValueError
        If it is neither a date nor a span.
    """
    span = _SPAN.fullmatch(when)
    if span is not None:
        return time.time() - float(span[1]) * _UNITS[span[2][0].lower()]
    return datetime.fromisoformat(when).timestamp()


def _when(value: str | date | timedelta) -> str:
    """A time as a text."""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():f}".rstrip("0").rstrip(".") + " s"
    return value.isoformat() if isinstance(value, date) else value


# ------------------------------------------------------------------------------------- what users call


def where(
    test: str | Callable[[Candidate], object] | None = None,
    /,
    *,
    above: float | None = None,
    below: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    metric: str | Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    since: str | date | timedelta | None = None,
    host: Mapping[str, Any] | None = None,
    result: Result | None = None,
) -> Where:
    """Those candidates for which all of this holds, in the order given.

    Parameters
    ----------
    test
        The name of a metric that must be there, or a function of a candidate. The function holds not where it
        misses a file (`OSError`) or an item (`LookupError`).
    above, below, at_least, at_most
        Bounds of the metric that `test` or `metric` names; what is no number is outside.
    metric
        A name, as `test`, or names and values: `{"optimizer": "adam"}`.
    config, host
        Names and values of the stage's arguments, and of what ran it: `{"python": "3.11"}`; there 3.11 is also 3.11.7.
    since
        When it started at the earliest: a span back from now ("2h", "7 days", a timedelta), or a date, local if
        it names no zone ("2026-01-01", a datetime).

    result
        `failed` or `partial`: what matchers are not shown unless they ask like this.

    Raises
    ------
    MatchError
        If that is no filter.
    """
    if isinstance(metric, str):
        if test is not None:
            raise mistake("where() takes the name of one metric", "write where(…) >> where(…)")
        test, metric = metric, None
    given = {"above": above, "below": below, "at_least": at_least, "at_most": at_most}
    bounds = tuple((name, bound) for name, bound in given.items() if bound is not None)
    for name, bound in bounds:
        if numeric(bound) is None:
            raise mistake(f"where({name}=…) is a number, not {bound!r}")
    if bounds and not isinstance(test, str):
        raise mistake(f"where({bounds[0][0]}=…) says nothing of a metric", 'write where("accuracy", above=0.9)')
    tests: list[Test] = []
    if isinstance(test, str):
        tests.append(Bounds(test, bounds))
    elif callable(test):
        tests.append(Predicate(test))
    elif test is not None:
        raise mistake(f"where() takes the name of a metric or a function, not {test!r}")
    for field, wanted in (("metrics", metric), ("config", config), ("host", host)):
        if wanted is not None:
            tests.append(Agrees(field, _plain(_FIELDS[field], wanted)))
    if since is not None:
        tests.append(Since(_time(since)))
    if result is not None:
        if result not in get_args(Result):
            raise mistake(f"where(result=…) is none of {', '.join(get_args(Result))}: {result!r}")
        tests.append(Ended(result))
    if not tests:
        raise mistake("where() says nothing", 'such as where("accuracy", above=0.9) or where(since="2h")')
    return Where(tuple(tests))


def _plain(name: str, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """A copy, as JSON holds it: so are records and config."""
    try:
        copy = json.loads(json.dumps(wanted))
    except (TypeError, ValueError, RecursionError) as error:
        raise mistake(f"where({name}=…) holds what JSON does not: {error}", "use a function of a candidate") from None
    if not isinstance(copy, dict) or not copy:
        raise mistake(f"where({name}=…) takes names and values, not {wanted!r}")
    return copy


def _time(since: str | date | timedelta) -> str:
    try:
        when = _when(since)
        _seconds(when)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError):
        raise mistake(
            f"where(since=…) is no time: {since!r}", 'such as "2h", "7 days", "2026-01-01" or a datetime'
        ) from None
    return when
