from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.realize.errors import MatchError
from bridge.realize.matchers import (
    Candidate,
    apply,
    best,
    every,
    exact,
    latest,
    needed,
    only,
    some,
    takes_many,
)
from bridge.store.trace import Realization

DRV = "/nix/store/" + "1" * 32 + "-x.drv"


def candidate(number: int, metrics: dict[str, Any] | None = None, output: str | None = None) -> Candidate:
    out = f"/nix/store/{output or number:0>32}-x"
    made = Realization(DRV, {"out": out}, "x", DRV, "python", float(number), 0.0, metrics or {}, id=f"id{number}")
    return Candidate(made, {"out": Path(out)})


THREE = [candidate(n, {"score": score}) for n, score in enumerate([0.5, 0.9, 0.7])]


def ids(chosen: Sequence[Candidate] | None) -> list[str] | None:
    return None if chosen is None else [one.id for one in chosen]


@pytest.mark.parametrize(
    ("matcher", "chosen"),
    [
        (best("score"), ["id1"]),
        (best("score", lowest=True), ["id0"]),
        (best("score", 2), ["id1", "id2"]),
        (best("score", 4), None),
        (best("other"), None),
        (latest(), ["id2"]),
        (latest(2), ["id2", "id1"]),
        (latest(4), None),
        (some(2), ["id0", "id1"]),
        (some(4), None),
        (every(), ["id0", "id1", "id2"]),
        (exact("id1"), ["id1"]),
        (exact("id2", "id0"), ["id2", "id0"]),
        (lambda candidates: candidates[-1], ["id2"]),
        (lambda candidates: tuple(candidates[:2]), ["id0", "id1"]),
        (lambda candidates: None, None),
        (lambda candidates: [], None),
    ],
)
def test_a_matcher_chooses(matcher: Any, chosen: list[str] | None) -> None:
    assert ids(apply(matcher, THREE)) == chosen


@pytest.mark.parametrize("matcher", [best("score"), latest(), some(1), every(), only()])
def test_nothing_is_never_enough(matcher: Any) -> None:
    assert apply(matcher, []) is None


@pytest.mark.parametrize("value", [None, "0.9", "nan", [1], float("nan")])
def test_best_passes_over_what_is_no_number(value: object) -> None:
    assert ids(apply(best("score"), [candidate(0, {"score": value}), candidate(1, {"score": 0})])) == ["id1"]
    assert apply(best("score"), [candidate(0, {"score": value})]) is None


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=8), st.integers(1, 8), st.booleans())
def test_of_equals_the_oldest_is_best(values: list[float], n: int, lowest: bool) -> None:
    candidates = [candidate(number, {"m": value}) for number, value in enumerate(values)]
    found = apply(best("m", n, lowest=lowest), candidates)
    order = sorted(candidates, key=lambda one: (one.metrics["m"] if lowest else -one.metrics["m"], int(one.id[2:])))
    assert found == (order[:n] if n <= len(values) else None)


def test_only_takes_the_oldest_of_equal_results_and_refuses_different_ones() -> None:
    same = [candidate(n, output="7") for n in range(3)]
    assert ids(apply(only(), same)) == ["id0"]
    with pytest.raises(MatchError, match="2 different results") as caught:
        apply(only(), [*same, candidate(8)])
    assert "exact" in (caught.value.hint or "")


def test_exact_refuses_what_is_not_there_and_what_is_not_one() -> None:
    with pytest.raises(MatchError, match="no realization 'zz'") as caught:
        apply(exact("zz"), THREE)
    assert caught.value.hint == "there are id0, id1, id2"
    with pytest.raises(MatchError, match="names 3 realizations"):
        apply(exact("id"), THREE)
    with pytest.raises(MatchError):
        exact()


@pytest.mark.parametrize("make", [latest, some, lambda n: best("m", n)])
@pytest.mark.parametrize("n", [0, -1, True, 1.5, "2", None])
def test_a_count_that_is_none_is_refused(make: Callable[[Any], object], n: object) -> None:
    with pytest.raises(MatchError, match="at least one realization"):
        make(n)


@pytest.mark.parametrize("chosen", [[candidate(99)], "id0", 5, iter(THREE), {"id0"}, [None], [THREE]])
def test_a_matcher_may_choose_only_what_it_was_given(chosen: Any) -> None:
    with pytest.raises(MatchError, match="chose what is no candidate"):
        apply(lambda candidates: chosen, THREE)


def test_a_matcher_that_raises_is_named() -> None:
    def broken(candidates: Sequence[Candidate]) -> None:
        raise KeyError("accuracy")

    with pytest.raises(MatchError, match=r"broken.*raised KeyError: 'accuracy'") as caught:
        apply(broken, THREE)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("matcher", "text", "count", "many"),
    [
        (best("a"), "best('a')", 1, False),
        (best("a", 2, lowest=True), "best('a', n=2, lowest=True)", 2, True),
        (latest(), "latest()", 1, False),
        (latest(3), "latest(3)", 3, True),
        (only(), "only()", 1, False),
        (every(), "every()", 1, True),
        (some(1), "some(1)", 1, True),
        (exact("a", "b"), "exact('a', 'b')", 1, False),
    ],
)
def test_a_matcher_says_what_it_is_and_needs(matcher: Any, text: str, count: int, many: bool) -> None:
    assert repr(matcher) == text
    assert needed(matcher) == count
    assert takes_many(matcher, THREE[:1]) == many
    assert takes_many(matcher, THREE[:2])


def test_a_candidate_shows_its_outputs() -> None:
    assert THREE[0].path == THREE[0].paths["out"]
    assert THREE[1].metrics["score"] == 0.9
