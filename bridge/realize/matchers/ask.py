"""What the engine asks of a matcher, be it a value or a function."""

from __future__ import annotations

from collections.abc import Sequence

from .candidate import Candidate
from .step import Matcher, Step, shape_of, why_not

__all__ = ["metrics_named", "needed", "refusals", "takes_many"]


def needed(matcher: Matcher) -> int:
    """How many candidates the matcher needs at least, as far as it says."""
    return matcher.needed if isinstance(matcher, Step) else 1


def metrics_named(matcher: Matcher) -> tuple[str, ...]:
    """The metrics without which the matcher chooses nothing, as far as it says."""
    return matcher.metrics if isinstance(matcher, Step) else ()


def takes_many(matcher: Matcher, chosen: Sequence[Candidate]) -> bool:
    """Whether the choice goes on as a list."""
    shape = shape_of(matcher)
    return len(chosen) > 1 if shape == "count" else shape != "one"


def refusals(matcher: Matcher, candidates: Sequence[Candidate]) -> list[tuple[Candidate, str]]:
    """The candidates, oldest first, with why a matcher that chose none refused each."""
    reasons = why_not(matcher, candidates)
    return [(one, reasons.get(one.row, "nothing is left to choose")) for one in candidates]
