"""What is said of candidates and of mistakes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from bridge.realize.errors import MatchError
from bridge.stages.place import Place

__all__ = ["cut", "mistake", "numeric", "text"]

_LISTED = 10


def numeric(value: object) -> float | None:
    """A value that has a place in an order, or None."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return None if math.isnan(number) else number


def text(value: object) -> str:
    """A value as a reason shows it."""
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def cut(texts: Iterable[Any], between: str = ", ") -> str:
    """The first few, and how many more there are."""
    listed = [str(one) for one in texts]
    more = len(listed) - _LISTED
    return between.join(listed[:_LISTED]) + (f"{between}and {more} more" if more > 0 else "") if listed else "none"


def mistake(message: str, hint: str | None = None) -> MatchError:
    """An error of who wrote a matcher, which points there."""
    place = Place.caller()
    return MatchError(message, hint=hint, file=place.file, line=place.line)
