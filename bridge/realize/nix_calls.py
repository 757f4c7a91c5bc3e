"""What the calls of nix-build are asked for, one after the other: in batches, and each timeout for itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .task import Task

__all__ = ["calls", "with_inputs"]

_GOALS = 100
"""Goals in one call of nix-build: many more make Nix slow (a thousand take five times as long)."""


def calls(by_goal: Mapping[str, Task]) -> Iterator[tuple[list[str], float | None]]:
    """What one call of nix-build after the other is asked for, and the timeout that it has for each build.

    It has one for all: so stages of another timeout come in other calls, behind those that they need.
    """
    levels: dict[str, int] = {}
    groups: dict[tuple[int, float | None], list[str]] = {}
    for goal, task in by_goal.items():
        timeout = task.node.stage.policy.timeout
        level = 0
        for path in task.resolved.derivation.input_drvs:
            if path in levels:
                level = max(level, levels[path] + (by_goal[path].node.stage.policy.timeout != timeout))
        levels[goal] = level
        groups.setdefault((level, timeout), []).append(goal)
    for (_, timeout), group in sorted(groups.items(), key=lambda one: one[0][0]):
        needed = {path for goal in group for path in by_goal[goal].resolved.derivation.input_drvs}
        goals = [goal for goal in group if goal not in needed]
        for start in range(0, len(goals), _GOALS):
            yield goals[start : start + _GOALS], timeout


def with_inputs(by_goal: Mapping[str, Task], goals: Iterable[str]) -> set[str]:
    """Goals and those that they need."""
    found: set[str] = set()
    stack = list(goals)
    while stack:
        goal = stack.pop()
        if goal not in found:
            found.add(goal)
            stack += [path for path in by_goal[goal].resolved.derivation.input_drvs if path in by_goal]
    return found
