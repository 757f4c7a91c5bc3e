"""Which realizations a policy lets go; whatever it says, what stays has all that it needs."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats import nix32
from bridge.formats.store_path import base_name
from bridge.store.catalogue import Catalogue, Entry
from bridge.store.errors import StoreError
from bridge.store.gc import wanted_by
from bridge.store.inventory import Inventory
from bridge.store.needs import Graph
from bridge.store.policy import Best, Policy, droppable, fitted, parse_best, parse_size, parse_time

NOW = 1000.0


def path(name: str) -> str:
    return f"/nix/store/{nix32.encode(random.Random(name).randbytes(20))}-{name}"


def entry(number: int, stage: str = "train", drv: str | None = None, **fields: object) -> Entry:
    values: dict[str, object] = {
        "drv": drv or path(f"{stage}.drv"),
        "stage_drv": drv or path(f"{stage}.drv"),
        "id": f"{number:016}",
        "stage": stage,
        "started": float(number),
        "stopped": number + 1.0,
        "index": 0,
        "runner": "python",
        "result": "done",
        "outputs": {"out": path(f"{stage}-{number}")},
        "metrics": {"score": float(number % 3)},
    }
    return Entry(**(values | fields))  # type: ignore[arg-type]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Realizations, each made from some of those before it, and the objects that they are and were made from."""
    count = draw(st.integers(1, 12))
    entries: list[Entry] = []
    references: dict[str, list[str]] = {}
    for number in range(count):
        stage = draw(st.sampled_from("abc"))
        made_from = draw(st.lists(st.sampled_from(entries), max_size=2)) if entries else []
        inputs = sorted({one.outputs["out"] for one in made_from})
        drv = path(f"{stage}{draw(st.integers(0, 1))}-{''.join(one.id[-2:] for one in made_from)}.drv")
        before = draw(st.sampled_from([None, *(one.id for one in entries)]))
        # Sometimes two realizations have one output.
        output = path(f"{stage}-{draw(st.integers(0, 6))}")
        score = draw(st.sampled_from([0.0, 1.0, 2.0, math.nan]))
        result = draw(st.sampled_from(["done", "done", "failed", "partial"]))
        entries.append(
            entry(number, stage, drv, outputs={"out": output}, metrics={"score": score}, previous=before, result=result)
        )
        references[drv] = inputs
        references.setdefault(output, draw(st.lists(st.sampled_from(inputs), max_size=1)) if inputs else [])
    names = [base_name(one) for one in references]
    rows = {name: row for row, name in enumerate(names)}
    found = [[rows[base_name(one)] for one in paths] for paths in references.values()]
    sizes = [draw(st.integers(0, 9)) for _ in names]
    return Graph(Catalogue.of(entries), Inventory(names, rows, sizes, found))


policies = st.builds(
    Policy,
    keep_last=st.none() | st.integers(0, 3),
    keep_best=st.lists(st.builds(Best, st.integers(1, 3), st.just("score"), st.booleans()), max_size=2).map(tuple),
    older_than=st.none() | st.sampled_from([0.0, 995.0, 2000.0]),
    max_size=st.none() | st.integers(0, 60),
    unrooted=st.booleans(),
    by=st.sampled_from(["derivation", "name"]),
)


@given(graphs(), policies, st.data())
def test_whatever_the_policy_what_a_root_needs_stays_and_all_it_was_made_from(
    graph: Graph, policy: Policy, data: st.DataObject
) -> None:
    kept = data.draw(st.sets(st.sampled_from(range(len(graph.entries)))))
    needed = wanted_by(graph, policy, kept, set(), NOW)
    assert kept <= needed.realizations
    names = {graph.inventory.names[row] for row in needed.objects}
    for number in needed.realizations:
        one = graph.entries[number]
        assert {base_name(one.drv), *map(base_name, one.outputs.values())} <= names
        before = graph.previous_of(number)
        assert before is None or before in needed.realizations
    for row in needed.objects:
        # With all that they refer to; and what has a realization has one that stays, so that it can be explained.
        assert needed.objects.issuperset(graph.inventory.references[row])
        owners = graph.by_output.get(graph.inventory.names[row])
        assert owners is None or needed.realizations.intersection(owners)


@given(graphs(), policies)
def test_without_a_policy_nothing_goes_but_what_was_finished_since(graph: Graph, policy: Policy) -> None:
    done = {(one.drv, one.index) for one in graph.entries if one.result == "done"}
    needed = wanted_by(graph, Policy(), set(), set(), NOW)
    for number in set(range(len(graph.entries))) - needed.realizations:
        one = graph.entries[number]
        assert one.result == "partial"
        assert (one.drv, one.index) in done
    asked = wanted_by(graph, policy, set(), set(), NOW)
    if not policy.asks:
        assert asked == needed
    assert asked.realizations <= needed.realizations


@given(graphs(), st.integers(0, 5), st.sampled_from(["derivation", "name"]))
def test_keep_last_keeps_the_newest_of_each_stage(graph: Graph, count: int, by: str) -> None:
    policy = Policy(keep_last=count, by=by)  # type: ignore[arg-type]
    goes = droppable(policy, graph.entries, NOW)
    groups: dict[str, list[int]] = {}
    for number, one in enumerate(graph.entries):
        if one.result == "done":
            groups.setdefault(one.stage_drv if by == "derivation" else one.stage, []).append(number)
    for numbers in groups.values():
        assert [number for number in numbers if number not in goes] == numbers[max(0, len(numbers) - count) :]


@given(graphs(), st.integers(0, 60))
def test_max_size_takes_the_fewest_oldest_that_will_do(graph: Graph, limit: int) -> None:
    goes = droppable(Policy(max_size=limit), graph.entries, NOW)

    def left(count: int) -> int:
        rows = graph.needed(set(range(len(graph.entries))).difference(goes[:count]), set()).objects
        return sum(graph.inventory.sizes[row] for row in rows)

    taken = fitted(goes, lambda numbers: left(len(list(numbers))), limit)
    assert taken == goes[: len(taken)]
    assert left(len(taken)) <= limit or taken == goes
    assert not taken or left(len(taken) - 1) > limit


def test_the_best_stay_and_of_equals_the_oldest() -> None:
    entries = [entry(number) for number in range(6)]
    assert droppable(Policy(keep_best=(Best(3, "score"),)), Catalogue.of(entries), NOW) == [0, 3, 4]
    assert droppable(Policy(keep_best=(Best(1, "score", lowest=True),)), Catalogue.of(entries), NOW) == [1, 2, 3, 4, 5]
    both = Policy(keep_last=1, keep_best=(Best(1, "score"),))
    assert droppable(both, Catalogue.of(entries), NOW) == [0, 1, 3, 4]


@pytest.mark.parametrize("value", [math.nan, None, "high", [1], True])
def test_a_metric_that_is_no_number_is_never_the_best_but_a_truth_is_one(value: object) -> None:
    entries = [entry(0, metrics={"score": -1.0}), entry(1, metrics={"score": value})]
    assert droppable(Policy(keep_best=(Best(1, "score"),)), Catalogue.of(entries), NOW) == (
        [0] if value is True else [1]
    )


def test_a_failed_run_is_none_of_the_last_or_best() -> None:
    entries = [entry(0), entry(1, result="failed", metrics={"score": 9.0})]
    assert droppable(Policy(keep_last=1), Catalogue.of(entries), NOW) == [1]
    assert droppable(Policy(keep_best=(Best(1, "score"),)), Catalogue.of(entries), NOW) == [1]


def test_age_and_stage_say_which_may_go_at_all() -> None:
    entries = [entry(1, "a"), entry(2, "b"), entry(999, "a")]
    assert droppable(Policy(older_than=500), Catalogue.of(entries), NOW) == [0, 1]
    assert droppable(Policy(older_than=500, stage="a"), Catalogue.of(entries), NOW) == [0]
    assert droppable(Policy(unrooted=True, stage="b"), Catalogue.of(entries), NOW) == [1]


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1), ("2 min", 120), ("1.5h", 5400), ("30d", 2592000), ("1w", 604800)]
)
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("7", 7), ("1K", 1024), ("10g", 10 << 30), ("1.5 MiB", 1572864), ("2TB", 2 << 40)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "d", "-1d", "1", "1 month", "1d1h", "٣d", "nan", "1e3d"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="no length of time"):
        parse_time(text)


@pytest.mark.parametrize("text", ["", "G", "-1G", "1X", "1 1", "inf", "1P"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="no size"):
        parse_size(text)


def test_metrics_are_read_with_their_direction() -> None:
    assert parse_best("5:accuracy") == Best(5, "accuracy")
    assert parse_best("1:val:loss:lowest") == Best(1, "val:loss", lowest=True)


@pytest.mark.parametrize("text", ["", "5", "accuracy", "0:accuracy", "-1:x", "1:", "x:5"])
def test_what_is_no_number_and_metric_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="no number and metric"):
        parse_best(text)


@pytest.mark.parametrize("fields", [{"by": "size"}, {"stage": "train"}])
def test_a_policy_that_makes_no_sense_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(StoreError):
        Policy(**fields)  # type: ignore[arg-type]


def test_keep_best_drops_nothing_of_a_stage_that_logs_no_such_metric() -> None:
    found = [entry(number) for number in range(3)] + [entry(3, "report", metrics={}), entry(4, "report", metrics={})]
    assert droppable(Policy(keep_best=(Best(1, "score"),)), Catalogue.of(found), NOW) == [0, 1]
    assert droppable(Policy(keep_best=(Best(1, "score"),), keep_last=1), Catalogue.of(found), NOW) == [0, 1, 3]
