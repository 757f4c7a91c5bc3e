"""What can go wrong while stages are realized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.formats.errors import BridgeError

__all__ = [
    "BuildError",
    "ExecutorError",
    "FetchError",
    "GivenUpError",
    "Interrupted",
    "MatchError",
    "PromiseError",
    "RealizeError",
    "WorkerDiedError",
    "WorkerError",
]


class RealizeError(BridgeError):
    """Realizing failed; `failures` are the stages' own errors."""

    def __init__(self, message: str, *, failures: Sequence[BridgeError] = (), **place: Any) -> None:
        super().__init__(message, **place)
        self.failures = tuple(failures)


class BuildError(BridgeError):
    """A stage that failed: `stage`, the last lines of its `log_tail`, and where the whole log is.

    `reason` is a word for records: failed, raised, killed, timeout, cpu_time, memory, promise.
    """

    def __init__(
        self, message: str, *, stage: str, log_tail: Sequence[str] = (), reason: str = "failed", **place: Any
    ) -> None:
        super().__init__(message, **place)
        self.stage = stage
        self.log_tail = tuple(log_tail)
        self.reason = reason


class PromiseError(BuildError):
    """A stage that did not write what it promised."""


class FetchError(BuildError):
    """A file that no mirror gives, or that has another hash."""


class MatchError(BridgeError):
    """A matcher that can not choose, or that chose what it was not given."""


class WorkerError(BridgeError):
    """A worker process that can not be had."""


class WorkerDiedError(WorkerError):
    """A run over which worker after worker died."""


class GivenUpError(WorkerError):
    """A run that its executor has given up, for no fault of the run's: it can be handed in again."""


class ExecutorError(BridgeError):
    """An executor that can not be had."""


class Interrupted(BridgeError):  # noqa: N818
    """Realizing was interrupted; the store is clean and the same command goes on."""
