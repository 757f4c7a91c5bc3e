"""What every matcher of ours has, and how matchers are put together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bridge.realize.errors import MatchError
from bridge.store.trace import Result

from .candidate import Candidate
from .words import mistake, text

__all__ = [
    "Chain",
    "Either",
    "Matcher",
    "Refused",
    "Shape",
    "Step",
    "answer",
    "apply",
    "lacking",
    "results_of",
    "shape_of",
    "shown",
    "visible",
    "why_not",
]

Matcher = Callable[[Sequence[Candidate]], Sequence[Candidate] | Candidate | None]

Shape = Literal["one", "list", "same", "count"]
"""How a choice goes on: as one, as a list, as it came (filters and orders), or by how many there are."""


class Refused(MatchError):  # noqa: N818
    """A matcher that no further run can satisfy."""


class Step(ABC):
    """A matcher that is a value."""

    __slots__ = ()

    needed: int = 1
    """How many candidates it needs at least."""
    shape: Shape = "same"
    metrics: tuple[str, ...] = ()
    """The metrics without which it chooses nothing."""
    configs: tuple[Mapping[str, Any], ...] = ()
    """What the stage's arguments must hold, or it chooses nothing, whatever runs."""
    results: frozenset[Result] | None = None
    """The results that it asks to see, where it says so: failures are shown to nobody who does not."""

    @abstractmethod
    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        """Those that it gives on."""

    @abstractmethod
    def why_not(self, candidates: Sequence[Candidate]) -> dict[int, str]:
        """The rows of those that it does not give on, each with the reason."""

    def lacking(self, candidates: Sequence[Candidate]) -> int:
        """How many more would be needed at least, where these are not enough."""
        return max(1, self.needed - len(candidates))

    def key_text(self, one: Candidate) -> str | None:
        """The key that a candidate was put in order by, as a reason shows it; None if this is no order."""
        return None

    def __rshift__(self, then: Matcher) -> Chain:
        return _chain(self, then)

    def __rrshift__(self, first: Matcher) -> Chain:
        return _chain(first, self)

    def __or__(self, other: Matcher) -> Matcher:
        return _either(self, other)

    def __ror__(self, other: Matcher) -> Matcher:
        return _either(other, self)


def apply(matcher: Matcher, candidates: Sequence[Candidate]) -> list[Candidate] | None:
    """What a matcher gives for candidates; None for none.

    Raises
    ------
    MatchError
        If it gives what it was not given, or fails.
    """
    try:
        # A function may sort what it gets.
        chosen = matcher(candidates if isinstance(matcher, Step) else list(candidates))
    except MatchError:
        raise
    except Exception as error:
        raise MatchError(f"the matcher {shown(matcher)} raised {type(error).__name__}: {error}") from error
    if chosen is None:
        return None
    if isinstance(chosen, Candidate):
        chosen = [chosen]
    if not isinstance(matcher, Step):
        given = set(map(id, candidates))
        if not isinstance(chosen, Sequence) or not all(id(one) in given for one in chosen):
            raise MatchError(
                f"the matcher {shown(matcher)} chose what is no candidate: {chosen!r}",
                hint="return candidates that it was given",
            )
    return list(chosen) or None


# ------------------------------------------------------------------------------------------ together


@dataclass(frozen=True, slots=True)
class Chain(Step):
    """One step after the other."""

    steps: tuple[Matcher, ...]

    @property
    def needed(self) -> int:  # type: ignore[override]
        return max(one.needed for one in self.steps if isinstance(one, Step))

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return next((shape for one in reversed(self.steps) if (shape := shape_of(one)) != "same"), "same")

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(dict.fromkeys(name for one in self.steps if isinstance(one, Step) for name in one.metrics))

    @property
    def configs(self) -> tuple[Mapping[str, Any], ...]:  # type: ignore[override]
        return tuple(config for one in self.steps if isinstance(one, Step) for config in one.configs)

    @property
    def results(self) -> frozenset[Result] | None:  # type: ignore[override]
        asked = [one.results for one in self.steps if isinstance(one, Step) and one.results is not None]
        return frozenset().union(*asked) if asked else None

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        left = candidates
        for step in self.steps:
            given = apply(step, left)
            if given is None:
                return None
            left = given
        return left

    def why_not(self, candidates: Sequence[Candidate]) -> dict[int, str]:
        found: dict[int, str] = {}
        left: Sequence[Candidate] = candidates
        keys: dict[int, str] = {}
        for step in self.steps:
            takes = isinstance(step, Step) and step.shape != "same"
            for row, reason in why_not(step, left).items():
                found[row] = f"{reason}: {keys[row]}" if row in keys and takes else reason
            left = apply(step, left) or ()
            if isinstance(step, Step):
                keys |= {one.row: key for one in left if (key := step.key_text(one)) is not None}
        return found

    def lacking(self, candidates: Sequence[Candidate]) -> int:
        left = candidates
        for number, step in enumerate(self.steps):
            given = apply(step, left)
            if given is None:
                return self._lacking(number, left)
            left = given
        return 1

    def _lacking(self, number: int, left: Sequence[Candidate]) -> int:
        step = self.steps[number]
        if not isinstance(step, Step) or step.shape != "same":
            return lacking(step, left)
        # One run tells whether a metric that none has is only misspelt.
        if any(all(name not in one.metrics for one in left) for name in step.metrics):
            return 1
        return max(1, *(one.needed for one in self.steps[number:] if isinstance(one, Step)))

    def __repr__(self) -> str:
        return " >> ".join(f"({one!r})" if isinstance(one, Either) else shown(one) for one in self.steps)


@dataclass(frozen=True, slots=True)
class Either(Step):
    """The first that gives any."""

    options: tuple[Matcher, ...]

    @property
    def needed(self) -> int:  # type: ignore[override]
        first = self.options[0]
        return first.needed if isinstance(first, Step) else 1

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        shapes = {shape_of(one) for one in self.options}
        if len(shapes) == 1:
            return shapes.pop()
        return "list" if shapes & {"list", "same"} else "count"

    @property
    def results(self) -> frozenset[Result] | None:  # type: ignore[override]
        return frozenset().union(*map(results_of, self.options))

    def __call__(self, candidates: Sequence[Candidate]) -> Sequence[Candidate] | None:
        refused: list[Refused] = []
        for option in self.options:
            try:
                chosen = apply(option, visible(option, candidates))
            except Refused as error:
                refused.append(error)
                continue
            if chosen is not None:
                return chosen
        if len(refused) == len(self.options):
            raise refused[0]
        return None

    def why_not(self, candidates: Sequence[Candidate]) -> dict[int, str]:
        found: dict[int, list[str]] = {one.row: [] for one in candidates}
        for option in self.options:
            try:
                reasons = why_not(option, visible(option, candidates))
            except Refused as error:
                reasons = dict.fromkeys(found, error.message)
            for row, reason in reasons.items():
                if reason not in found[row]:
                    found[row].append(reason)
        return {row: ", and ".join(reasons) for row, reasons in found.items() if reasons}

    def lacking(self, candidates: Sequence[Candidate]) -> int:
        for option in self.options:
            try:
                given = visible(option, candidates)
                if apply(option, given) is None:
                    return lacking(option, given)
            except Refused:
                # No run helps it.
                continue
        return 1

    def __repr__(self) -> str:
        return " | ".join(map(shown, self.options))


def _chain(*parts: Matcher) -> Chain:
    return Chain(tuple(step for one in parts for step in (one.steps if isinstance(one, Chain) else (_checked(one),))))


def _either(*parts: Matcher) -> Matcher:
    options: list[Matcher] = []
    for one in parts:
        for option in one.options if isinstance(one, Either) else (_checked(one),):
            # What gave none gives none again.
            if option not in options:
                options.append(option)
    return options[0] if len(options) == 1 else Either(tuple(options))


def _checked(matcher: Matcher) -> Matcher:
    if not callable(matcher):
        raise mistake(f"{matcher!r} is no matcher", 'such as best("accuracy") or a function')
    return matcher


# ------------------------------------------------------------------------- for functions as for values


def shape_of(matcher: Matcher) -> Shape:
    return matcher.shape if isinstance(matcher, Step) else "count"


_DONE: frozenset[Result] = frozenset({"done"})


def results_of(matcher: Matcher) -> frozenset[Result]:
    """The results that a matcher sees: whole ones, unless it asks for others."""
    asked = matcher.results if isinstance(matcher, Step) else None
    return _DONE if asked is None else asked


def visible(matcher: Matcher, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Those candidates that the matcher is shown."""
    results = results_of(matcher)
    column = candidates[0].pool.records.column("result") if candidates else []
    if all(column[one.row] in results for one in candidates):
        return candidates
    return [one for one in candidates if column[one.row] in results]


def lacking(matcher: Matcher, candidates: Sequence[Candidate]) -> int:
    return matcher.lacking(candidates) if isinstance(matcher, Step) else 1


def why_not(matcher: Matcher, candidates: Sequence[Candidate]) -> dict[int, str]:
    if isinstance(matcher, Step):
        return matcher.why_not(candidates)
    taken = {one.row for one in apply(matcher, candidates) or ()}
    return {one.row: f"{shown(matcher)} does not take it" for one in candidates if one.row not in taken}


def shown(matcher: Callable[[Any], object]) -> str:
    """A matcher or a key as its user wrote it; a function by its name."""
    return repr(matcher) if isinstance(matcher, Step) else getattr(matcher, "__name__", repr(matcher))


def answer(function: Callable[[Candidate], object], one: Candidate) -> str:
    """What a function says of a candidate, as a reason shows it."""
    try:
        return f"{shown(function)} gives {text(function(one))}"
    except OSError as error:
        return f"{shown(function)} can not read {error.filename}: {error.strerror or error}"
    except LookupError as error:
        return f"{shown(function)} finds no {error}"
