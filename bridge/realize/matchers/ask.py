"""What the engine asks of a matcher, be it a value or a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .candidate import Candidate
from .step import Matcher, Step, shape_of, why_not
from .where import Agrees

__all__ = ["contradicted", "metrics_named", "needed", "refusals", "takes_many"]


def needed(matcher: Matcher) -> int:
    """How many candidates the matcher needs at least, as far as it says."""
    return matcher.needed if isinstance(matcher, Step) else 1


def metrics_named(matcher: Matcher) -> tuple[str, ...]:
    """The metrics without which the matcher chooses nothing, as far as it says."""
    return matcher.metrics if isinstance(matcher, Step) else ()


def contradicted(matcher: Matcher, config: Mapping[str, Any]) -> bool:
    """Whether the matcher wants other arguments of the stage than it has, so that it never chooses any."""
    wanted = matcher.configs if isinstance(matcher, Step) else ()
    return not all(Agrees("config", one).holds(config, one) for one in wanted)


def takes_many(matcher: Matcher, chosen: Sequence[Candidate]) -> bool:
    """Whether the choice goes on as a list."""
    shape = shape_of(matcher)
    return len(chosen) > 1 if shape == "count" else shape != "one"


def refusals(matcher: Matcher, candidates: Sequence[Candidate]) -> list[tuple[Candidate, str]]:
    """The candidates, oldest first, with why a matcher that chose none refused each."""
    reasons = why_not(matcher, candidates)
    return [(one, reasons.get(one.row, "nothing is left to choose")) for one in candidates]
