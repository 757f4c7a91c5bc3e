"""How a stage is realized: what nothing of enters a hash."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeGuard, get_args

from .place import Place

__all__ = ["OPTIONS", "Builder", "OnError", "Policy", "amount"]

Builder = Literal["auto", "nix", "local"]
OnError = Literal["fail", "keep"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a stage is realized; nothing of it enters a hash.

    Parameters
    ----------
    realizations
        How many the trace should hold before one is chosen.
    match
        The matcher; None takes what suits the recipe (`only` or `latest`).
    builder
        Where a deterministic stage is built: by Nix, by the local builder, or by Nix if it is there.
    deterministic
        Whether all realizations are taken to be the same.
    on_error
        What becomes of a run that fails: `fail` leaves nothing of it and fails the stage; `keep` stores it as a
        failed realization, and the stage goes on with the others.
    retries, backoff
        How often a run that failed is tried again, and the seconds before the first of these; each later one
        waits twice as long.
    timeout, cpu_time
        Seconds of the clock, or of the processors, after which a run is ended.
    memory
        Bytes that one process of a run may take; a text such as `8G` will do.
    resources
        What a run takes of the machine while it goes, such as `{"gpu": 1, "mem": "8G"}`.
    environ
        Names of environment variables of the user that a run may see, such as `HF_TOKEN`.
    previous
        A matcher that picks, of the realizations that there are, the one that a new one goes on from.
    existing
        Whether it is never run: what it gives must be there.
    """

    realizations: int = 1
    match: Callable[..., Any] | None = None
    builder: Builder = "auto"
    deterministic: bool = False
    on_error: OnError = "fail"
    retries: int = 0
    backoff: float = 1.0
    timeout: float | None = None
    cpu_time: float | None = None
    memory: int | str | None = None
    resources: Mapping[str, int | float | str] = field(default_factory=dict)
    environ: Sequence[str] = ()
    previous: Callable[..., Any] | None = None
    existing: bool = False

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory is None else amount(self.memory)

    def __post_init__(self) -> None:
        self._check_limits()
        if not isinstance(self.realizations, int) or isinstance(self.realizations, bool) or self.realizations < 1:
            raise Place.caller().error(f"realizations must be a whole number above 0, not {self.realizations!r}")
        if self.match is not None and not callable(self.match):
            raise Place.caller().error(
                f"match must be a matcher, not {self.match!r}", hint='such as best("accuracy") or a function'
            )
        if self.builder not in ("auto", "nix", "local"):
            raise Place.caller().error(f"builder must be auto, nix or local, not {self.builder!r}")
        if self.deterministic and self.realizations != 1:
            raise Place.caller().error(
                "a deterministic stage has one realization",
                hint="drop realizations=, or say that it is not deterministic",
            )

    def _check_limits(self) -> None:
        if self.on_error not in get_args(OnError):
            raise Place.caller().error(f"on_error must be fail or keep, not {self.on_error!r}")
        if not isinstance(self.retries, int) or isinstance(self.retries, bool) or self.retries < 0:
            raise Place.caller().error(f"retries must be a whole number, 0 or more, not {self.retries!r}")
        for name, seconds in (("backoff", self.backoff), ("timeout", self.timeout), ("cpu_time", self.cpu_time)):
            if seconds is not None and not (_is_number(seconds) and 0 < seconds < math.inf):
                raise Place.caller().error(f"{name} must be a number of seconds above 0, not {seconds!r}")
        if isinstance(self.environ, str) or not all(isinstance(name, str) for name in self.environ):
            raise Place.caller().error(
                f"environ must be names of variables, not {self.environ!r}", hint='such as ["HF_TOKEN"]'
            )
        if not isinstance(self.resources, Mapping) or not all(isinstance(name, str) for name in self.resources):
            raise Place.caller().error(
                f"resources must be a dict of names and amounts, not {self.resources!r}", hint='such as {"gpu": 1}'
            )
        try:
            for value in (*self.resources.values(), *([] if self.memory is None else [self.memory])):
                amount(value)
        except ValueError as error:
            raise Place.caller().error(str(error), hint='write a number, or a text such as "8G" or "512M"') from None


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def amount(value: object) -> int:
    """How much a resource's amount is; of texts the unit is binary: `8G` is 8 << 30.

    Raises
    ------
    ValueError
        For what is no amount.
    """
    if _is_number(value) and 0 < value < math.inf:
        return math.ceil(value)
    if isinstance(value, str):
        found = _AMOUNT.fullmatch(value.strip())
        if found is not None:
            return math.ceil(float(found[1]) * _UNITS[found[2].upper()])
    raise ValueError(f"{value!r} is no amount of a resource")


_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTkmgt]?)(?:i?[bB])?")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


OPTIONS = tuple(field.name for field in fields(Policy) if field.name not in ("deterministic", "existing"))
"""What `Stage.options` takes."""
