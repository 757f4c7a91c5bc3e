"""Which realizations one asks `gc` to drop.

    older than, of a stage     only these may go; without either, all may
    keep last, keep best       of each stage so many stay; who is kept by one of them is kept; a stage that logs none of
                               the metrics stays whole, unless so many of the last are asked for
    max size                   of those that may go the oldest go first, until what is left is small enough
    unrooted                   all go that no root needs

Whatever a root needs stays in any case, as does what a realization that stays was made from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, get_args

from .catalogue import Catalogue
from .errors import StoreError

__all__ = ["Best", "By", "Policy", "droppable", "fitted", "parse_best", "parse_size", "parse_time"]

By = Literal["derivation", "name"]
"""What is one stage: with one code, config and inputs, or all with one name, also sweeps and older code."""

_BEST = re.compile(r"([1-9][0-9]*):(.+?)(:lowest)?")
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|min|h|d|w|y)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class Best:
    """So many of the best by a metric."""

    count: int
    metric: str
    lowest: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """What may go; nothing by default.

    Parameters
    ----------
    older_than
        Seconds.
    max_size
        Bytes of all archives that stay.
    stage
        The name of the only stage whose realizations may go.
    """

    keep_last: int | None = None
    keep_best: tuple[Best, ...] = ()
    older_than: float | None = None
    max_size: int | None = None
    unrooted: bool = False
    stage: str | None = None
    by: By = "derivation"

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise StoreError(f"--by {self.by}: there is no such thing", hint=f"one of {', '.join(get_args(By))}")
        if self.stage is not None and not self.asks:
            raise StoreError("--stage says of what, not what goes", hint="such as --keep-last 5, or --unrooted")

    @property
    def asks(self) -> bool:
        """Whether any realization may go."""
        return bool(
            self.keep_last is not None
            or self.keep_best
            or self.older_than is not None
            or self.max_size is not None
            or self.unrooted
        )


def droppable(policy: Policy, entries: Catalogue, now: float) -> list[int]:
    """The numbers of those that may go, oldest first; `max_size` is not looked at.

    Raises
    ------
    StoreError
        For a metric that no realization has.
    """
    if not policy.asks:
        return []
    metrics, started = entries.column("metrics"), entries.column("started")
    groups: dict[str, list[int]] = {}
    keys = entries.column("stage_drv" if policy.by == "derivation" else "stage")
    for number, (key, stage) in enumerate(zip(keys, entries.column("stage"), strict=True)):
        if policy.stage in (None, stage):
            groups.setdefault(key, []).append(number)
    stays: set[int] = set()
    for best in policy.keep_best:
        values = set(chain.from_iterable(metrics))
        if best.metric not in values:
            shown = ", ".join(sorted(values)) or "none at all"
            raise StoreError(f"no realization has the metric {best.metric!r}", hint=f"there are: {shown}")
    if policy.keep_best and policy.keep_last is None:
        # What a metric says nothing of is not dropped by it.
        wanted = {best.metric for best in policy.keep_best}
        groups = {
            group: numbers
            for group, numbers in groups.items()
            if any(not wanted.isdisjoint(metrics[number]) for number in numbers)
        }
    if policy.keep_last or policy.keep_best:
        results = entries.column("result")
        for numbers in groups.values():
            done = [number for number in numbers if results[number] == "done"]
            if policy.keep_last:
                stays.update(done[-policy.keep_last :])
            for best in policy.keep_best:
                scored = [(value, number) for number in done if (value := _value(metrics[number], best)) is not None]
                # Of equals the oldest, as matchers choose.
                scored.sort(key=lambda one: (-one[0], one[1]))
                stays.update(number for _, number in scored[: best.count])
    return sorted(
        number
        for number in chain.from_iterable(groups.values())
        if number not in stays and (policy.older_than is None or now - started[number] > policy.older_than)
    )


def _value(metrics: Mapping[str, Any], best: Best) -> float | None:
    value = metrics.get(best.metric)
    if not isinstance(value, int | float) or math.isnan(value):
        return None
    return -value if best.lowest else value


def fitted(droppable: Sequence[int], size_without: Callable[[Iterable[int]], int], limit: int) -> list[int]:
    """The fewest of those that may go, oldest first, without which the rest is not above a limit; all, if none will do.

    Parameters
    ----------
    size_without
        Bytes that are left without some of them.
    """
    low, high = 0, len(droppable)
    while low < high:
        middle = (low + high) // 2
        if size_without(droppable[:middle]) <= limit:
            high = middle
        else:
            low = middle + 1
    return list(droppable[:low])


def parse_best(text: str) -> Best:
    """`5:accuracy`, `1:loss:lowest`."""
    found = _BEST.fullmatch(text)
    if found is None:
        raise StoreError(f"--keep-best {text} says no number and metric", hint="such as 5:accuracy, 1:loss:lowest")
    return Best(int(found[1]), found[2], found[3] is not None)


def parse_time(text: str) -> float:
    """`30d`, `2h`, in seconds."""
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise StoreError(f"{text!r} is no length of time", hint=f"such as 30d; units are {', '.join(_SECONDS)}")
    return float(found[1]) * _SECONDS[found[2]]


def parse_size(text: str) -> int:
    """`10G`, `500 MiB`, in bytes; units are binary."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise StoreError(f"{text!r} is no size", hint="such as 10G or 500M")
    return int(float(found[1]) * _UNITS[found[2].upper()])
