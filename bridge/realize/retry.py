"""Try again what failed: as often as the stage says, each time after a longer while."""

from __future__ import annotations

from collections.abc import Callable

from bridge.store.trace import Realization

from .errors import BuildError
from .events import Retrying
from .task import Context, Task

__all__ = ["tried"]

_LONGEST_BACKOFF = 600.0
_MOST_DOUBLINGS = 1000


def tried(context: Context, task: Task, attempt: Callable[[int], Realization]) -> Realization:
    """What the first attempt gives that does not fail; each is told its number, from 1.

    Raises
    ------
    BuildError
        If all that the stage's policy allows have failed: that of the last one.
    Interrupted
        If the run was, also while it waits.
    """
    policy = task.node.stage.policy
    for number in range(1, policy.retries + 2):
        try:
            return attempt(number)
        except BuildError as error:
            if number > policy.retries:
                raise
            seconds = min(policy.backoff * 2.0 ** min(number - 1, _MOST_DOUBLINGS), _LONGEST_BACKOFF)
            context.report(Retrying(task.node, error, seconds))
            context.wait(seconds)
    raise AssertionError
