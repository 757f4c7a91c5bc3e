"""Where the nodes of a graph are drawn: a layer each for the longest way to them, few crossings within.

Source: Sugiyama, Tagawa, Toda, "Methods for visual understanding of hierarchical system structures" (1981), with
edges that leap over layers left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["layered"]

_SWEEPS = 4


def layered(uses: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """The layer and the row of each node; each layer is centred.

    Parameters
    ----------
    uses
        Of each node the numbers of those that it uses, which come to its left. Edges that close a circle are passed
        over.
    """
    order, inputs = _without_circles(uses)
    users: list[list[int]] = [[] for _ in uses]
    for node, used in enumerate(inputs):
        for one in used:
            users[one].append(node)
    layer = [0] * len(uses)
    for node in order:
        layer[node] = max((layer[one] + 1 for one in inputs[node]), default=0)
    for node in order:
        if not inputs[node] and users[node]:
            # A source stands beside what uses it first.
            layer[node] = min(layer[one] for one in users[node]) - 1
    layers: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for node in order:
        layers[layer[node]].append(node)
    place = [0.0] * len(uses)
    for listed in layers:
        _number(listed, place)
    for sweep in range(_SWEEPS):
        beside, ways = (inputs, layers[1:]) if sweep % 2 == 0 else (users, layers[-2::-1])
        for listed in ways:
            listed.sort(key=lambda node: _mean([place[one] for one in beside[node]], place[node]))
            _number(listed, place)
    tallest = max(map(len, layers), default=0)
    return [(layer[node], place[node] + (tallest - 1) / 2) for node in range(len(uses))]


def _number(listed: Sequence[int], place: list[float]) -> None:
    for row, node in enumerate(listed):
        place[node] = row - (len(listed) - 1) / 2


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _without_circles(uses: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The nodes, each behind what it uses; and what each uses, without the edges that close circles."""
    order: list[int] = []
    kept: list[list[int]] = [[] for _ in uses]
    state = bytearray(len(uses))
    for start in range(len(uses)):
        if state[start]:
            continue
        state[start] = 1
        stack = [(start, iter(dict.fromkeys(uses[start])))]
        while stack:
            node, left = stack[-1]
            for used in left:
                if state[used] == 1:
                    continue
                kept[node].append(used)
                if state[used] == 0:
                    state[used] = 1
                    stack.append((used, iter(dict.fromkeys(uses[used]))))
                    break
            else:
                state[node] = 2
                order.append(node)
                stack.pop()
    return order, kept
