from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.realize.errors import RealizeError
from bridge.realize.order import Order
from bridge.stages.define import shell
from bridge.stages.plan import Node, Plan, instantiate

edges = st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=8)


def plan_of(uses: list[set[int]]) -> Plan:
    """Stages, each of which uses some of those before it."""
    stages = []
    for number, used in enumerate(uses):
        inputs = {f"i{one}": stages[one] for one in sorted(used) if one < number}
        stages.append(shell("true", name=f"s{number}", system="x86_64-linux", **inputs))
    return instantiate(stages)


def above(plan: Plan, node: Node) -> set[Node]:
    """All that need a node, at whatever distance."""
    found = {node}
    for one in plan.nodes:
        if found.intersection(one.inputs):
            found.add(one)
    return found - {node}


@given(edges)
def test_each_stage_is_ready_once_behind_all_that_it_uses(uses: list[set[int]]) -> None:
    plan = plan_of(uses)
    order = Order(plan)
    done: list[Node] = []
    while order.ready:
        node = order.ready.popleft()
        assert set(node.inputs) <= set(done)
        done.append(node)
        order.count_down(node)
    assert len(done) == len(plan.nodes)
    assert set(done) == set(plan.nodes)


@given(edges, st.integers(0, 7))
def test_a_failure_loses_those_above_it_once_and_no_other(uses: list[set[int]], number: int) -> None:
    plan = plan_of(uses)
    order = Order(plan)
    failing = plan.nodes[number % len(plan.nodes)]
    error = RealizeError("it failed")
    done: list[Node] = []
    lost: list[Node] = []
    while order.ready:
        node = order.ready.popleft()
        if node is failing:
            lost = order.fail(node, error)
            assert order.fail(node, error) == []
        else:
            done.append(node)
            order.count_down(node)
    assert len(lost) == len(set(lost))
    assert set(lost) == above(plan, failing)
    assert set(done) == set(plan.nodes) - {failing} - set(lost)
    assert order.failed == {failing: error}
