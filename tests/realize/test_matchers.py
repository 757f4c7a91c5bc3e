from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge
from bridge.realize.errors import MatchError
from bridge.realize.matchers import (
    Candidate,
    Matcher,
    Pool,
    Refused,
    apply,
    best,
    by,
    candidates_in,
    every,
    exact,
    lacking,
    latest,
    metrics_named,
    needed,
    only,
    refusals,
    some,
    takes_many,
    top,
    where,
)
from bridge.store.records import Records
from bridge.store.trace import Realization

DRV = "/nix/store/" + "1" * 32 + "-x.drv"
HOST = {"python": "3.11.7", "machine": "x86_64", "packages": {"numpy": "2.1.0"}}


def pool(
    *metrics: dict[str, Any],
    outputs: Sequence[object] | None = None,
    started: Sequence[float] | None = None,
    folder: str = "/nowhere",
) -> list[Candidate]:
    """Candidates id0, id1, … with these metrics, oldest first."""
    names = outputs or range(len(metrics))
    times = started or range(len(metrics))
    made = [
        Realization(DRV, {"out": f"{name:0>32}"}, "x", DRV, "python", float(time), 0.0, one, HOST, id=f"id{number}")
        for number, (one, name, time) in enumerate(zip(metrics, names, times, strict=True))
    ]
    config = {"rate": 0.1, "deep": {"layers": 3, "name": "a"}, "fast": True}
    return candidates_in(Pool(Records.of(made), lambda path: Path(folder, path), config))


def scores(*values: object) -> list[Candidate]:
    return pool(*({"score": value} for value in values))


THREE = scores(0.5, 0.9, 0.7)


def ids(chosen: Sequence[Candidate] | None) -> list[str] | None:
    return None if chosen is None else [one.id for one in chosen]


def last(candidates: Sequence[Candidate]) -> Candidate:
    return candidates[-1]


def score(one: Candidate) -> Any:
    return one.metrics["score"]


def good(one: Candidate) -> bool:
    return bool(one.metrics["score"] > 0.6)


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
        (top(), ["id0"]),
        (top(2), ["id0", "id1"]),
        (top(4), None),
        (every(), ["id0", "id1", "id2"]),
        (exact("id1"), ["id1"]),
        (exact("id2", "id0"), ["id2", "id0"]),
        (lambda candidates: candidates[-1], ["id2"]),
        (lambda candidates: tuple(candidates[:2]), ["id0", "id1"]),
        (lambda candidates: None, None),
        (lambda candidates: [], None),
        (by("score"), ["id1", "id2", "id0"]),
        (by("score", lowest=True), ["id0", "id2", "id1"]),
        (by(score), ["id1", "id2", "id0"]),
        (by(lambda one: None), None),
        (by(lambda one: float("nan")), None),
        (by(lambda one: one.metrics["nothing"]), None),
        (by(lambda one: one.path.read_text()), None),
        (by(lambda one: (one.id != "id1", one.metrics["score"])), ["id2", "id0", "id1"]),
        (where("score", above=0.5), ["id1", "id2"]),
        (where("score", at_least=0.5), ["id0", "id1", "id2"]),
        (where("score", below=0.9), ["id0", "id2"]),
        (where("score", at_most=0.7, above=0.5), ["id2"]),
        (where("score", above=1), None),
        (where("score"), ["id0", "id1", "id2"]),
        (where(metric="score", above=0.8), ["id1"]),
        (where("loss"), None),
        (where(metric={"score": 0.7}), ["id2"]),
        (where(metric={"score": 0.7, "loss": 1}), None),
        (where(config={"rate": 0.1}), ["id0", "id1", "id2"]),
        (where(config={"deep": {"layers": 3}}), ["id0", "id1", "id2"]),
        (where(config={"deep": {"layers": 4}}), None),
        (where(config={"fast": True}), ["id0", "id1", "id2"]),
        (where(config={"fast": 1}), None),
        (where(host={"python": "3.11"}), ["id0", "id1", "id2"]),
        (where(host={"python": "3.1"}), None),
        (where(host={"packages": {"numpy": "2"}}), ["id0", "id1", "id2"]),
        (where(good), ["id1", "id2"]),
        (where(lambda one: one.metrics["nothing"] > 1), None),
        (where(lambda one: one.path.stat()), None),
        (where(good) >> by("score", lowest=True) >> top(), ["id2"]),
        (where("score", below=0.9) >> latest(), ["id2"]),
        (by("score") >> latest(2), ["id2", "id1"]),
        (by("score") >> some(2), ["id1", "id2"]),
        (by("score") >> every(), ["id1", "id2", "id0"]),
        (latest(2) >> best("score", lowest=True), ["id2"]),
        (where(good) >> last, ["id2"]),
        (last >> top(), ["id2"]),
        ((lambda found: None) >> top(), None),
        (where(good) >> only(), Refused),
        (where("score", above=0.8) >> only(), ["id1"]),
        (where("score", above=0.8) >> exact("id0"), Refused),
        (where("loss") | latest(), ["id2"]),
        (top(4) | top(2) | top(), ["id0", "id1"]),
        (where("score", above=0.8) >> top(2) | latest(), ["id2"]),
        (last | top(), ["id2"]),
        ((lambda found: None) | top(), ["id0"]),
        (only() | best("score"), ["id1"]),
        (exact("zz") | latest(), ["id2"]),
        (exact("zz") | only(), Refused),
        (exact("zz") | top(4), None),
        ((where("loss") | where(good)) >> top(), ["id1"]),
    ],
)
def test_a_matcher_chooses(matcher: Any, chosen: list[str] | type[MatchError] | None) -> None:
    if isinstance(chosen, type):
        with pytest.raises(chosen):
            apply(matcher, THREE)
    else:
        assert ids(apply(matcher, THREE)) == chosen


@pytest.mark.parametrize(
    "matcher",
    [best("a"), latest(), some(1), every(), only(), top(), by("a"), where("a"), by("a") >> top(), top() | every()],
)
def test_nothing_is_never_enough(matcher: Any) -> None:
    assert apply(matcher, []) is None


@pytest.mark.parametrize("value", [None, "0.9", "nan", [1], float("nan"), 10**400])
def test_best_passes_over_what_is_no_number(value: object) -> None:
    assert ids(apply(best("score"), scores(value, 0))) == ["id1"]
    assert apply(best("score"), scores(value)) is None
    assert apply(where("score", above=0), scores(value)) is None
    assert apply(where("score"), scores(value)) is not None


# ---------------------------------------------------------------------------------------------- laws

METRICS = st.lists(st.dictionaries(st.sampled_from("ab"), st.integers(0, 3) | st.floats(allow_nan=False)), max_size=8)
FILTERS = st.builds(
    lambda name, bound, limit: where(name, **{bound: limit}),
    st.sampled_from("ab"),
    st.sampled_from(["above", "below", "at_least", "at_most"]),
    st.integers(0, 3),
)
ORDERS = st.builds(lambda name, lowest: by(name, lowest=lowest), st.sampled_from("ab"), st.booleans())
TAKES = st.builds(lambda take, n: take(n), st.sampled_from([top, some, latest]), st.integers(1, 4)) | st.just(every())
STEPS: st.SearchStrategy[Any] = st.recursive(
    FILTERS | ORDERS | TAKES | st.builds(best, st.sampled_from("ab"), st.integers(1, 3)),
    lambda inner: st.builds(lambda a, b: a >> b, inner, inner) | st.builds(lambda a, b: a | b, inner, inner),
    max_leaves=6,
)


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=8), st.integers(1, 8), st.booleans())
def test_of_equals_the_oldest_is_best(values: list[float], n: int, lowest: bool) -> None:
    candidates = scores(*values)
    found = apply(best("score", n, lowest=lowest), candidates)
    order = sorted(candidates, key=lambda one: (score(one) if lowest else -score(one), int(one.id[2:])))
    assert ids(found) == (ids(order[:n]) if n <= len(values) else None)


@given(METRICS, st.sampled_from("ab"), st.integers(1, 4), st.booleans())
def test_best_is_by_and_top(metrics: list[dict[str, Any]], name: str, n: int, lowest: bool) -> None:
    candidates = pool(*metrics)
    assert apply(best(name, n, lowest=lowest), candidates) == apply(by(name, lowest=lowest) >> top(n), candidates)


@given(METRICS, FILTERS, FILTERS)
def test_filters_commute(metrics: list[dict[str, Any]], one: Any, other: Any) -> None:
    candidates = pool(*metrics)
    assert apply(one >> other, candidates) == apply(other >> one, candidates)


@given(METRICS, STEPS, STEPS, STEPS)
def test_then_and_fall_back_are_associative_and_idempotent(
    metrics: list[dict[str, Any]], a: Any, b: Any, c: Any
) -> None:
    candidates = pool(*metrics)
    assert a | a == a
    assert (a >> b) >> c == a >> (b >> c)
    assert (a | b) | c == a | (b | c)
    assert apply(a | b, candidates) == (apply(a, candidates) or apply(b, candidates))
    first = apply(a, candidates)
    assert apply(a >> b, candidates) == (first and apply(b, first))


@given(METRICS, STEPS)
def test_what_is_chosen_was_given_once_and_was_enough(metrics: list[dict[str, Any]], matcher: Any) -> None:
    candidates = pool(*metrics)
    chosen = apply(matcher, candidates)
    if chosen is None:
        assert lacking(matcher, candidates) >= 1
        assert [one for one, _ in refusals(matcher, candidates)] == candidates
        assert all(reason != "nothing is left to choose" for _, reason in refusals(matcher, candidates))
    else:
        assert len({one.row for one in chosen}) == len(chosen) > 0
        assert takes_many(matcher, chosen) or len(chosen) == 1


@given(STEPS)
def test_a_repr_evaluates_to_the_same_matcher(matcher: Any) -> None:
    assert (
        eval(repr(matcher), dict(vars(bridge), **{name: getattr(bridge, name) for name in bridge.__all__})) == matcher
    )


# --------------------------------------------------------------------------------------- what it says


def test_only_takes_the_oldest_of_equal_results_and_refuses_different_ones() -> None:
    assert ids(apply(only(), pool({}, {}, {}, outputs=[7, 7, 7]))) == ["id0"]
    with pytest.raises(MatchError, match="2 different results") as caught:
        apply(only(), pool({}, {}, {}, outputs=[7, 7, 8]))
    assert "exact" in (caught.value.hint or "")


def test_exact_refuses_what_is_not_there_and_what_is_not_one() -> None:
    with pytest.raises(MatchError, match="no realization 'zz'") as caught:
        apply(exact("zz"), THREE)
    assert caught.value.hint == "there are id0, id1, id2"
    with pytest.raises(MatchError, match="names 3 realizations"):
        apply(exact("id"), THREE)
    with pytest.raises(MatchError) as caught:
        apply(exact("zz"), pool(*[{}] * 47))
    assert (caught.value.hint or "").endswith("id9, and 37 more")


@pytest.mark.parametrize("make", [latest, some, top, lambda n: best("m", n)])
@pytest.mark.parametrize("n", [0, -1, True, 1.5, "2", None])
def test_a_count_that_is_none_is_refused(make: Callable[[Any], object], n: object) -> None:
    with pytest.raises(MatchError, match="at least one realization"):
        make(n)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (exact, "needs the id"),
        (where, "says nothing"),
        (lambda: where(5), "name of a metric or a function, not 5"),
        (lambda: where(above=3), "says nothing of a metric"),
        (lambda: where(good, above=3), "says nothing of a metric"),
        (lambda: where("a", metric="b"), "name of one metric"),
        (lambda: where("a", above="3"), "is a number, not '3'"),
        (lambda: where("a", above=float("nan")), "is a number, not nan"),
        (lambda: where(metric=["a"]), "takes names and values"),
        (lambda: where(metric={}), "takes names and values"),
        (lambda: where(config={"a": object()}), "holds what JSON does not"),
        (lambda: where(since="tomorrow"), "is no time: 'tomorrow'"),
        (lambda: where(since="2 months"), "is no time"),
        (lambda: where(since=5), "is no time: 5"),
        (lambda: by(5), "not by 5"),
        (lambda: top() >> 5, "5 is no matcher"),
        (lambda: top() | "latest", "'latest' is no matcher"),
    ],
)
def test_what_is_no_matcher_is_refused_where_it_is_written(make: Callable[[], object], said: str) -> None:
    with pytest.raises(MatchError, match=re.escape(said)) as caught:
        make()
    assert caught.value.file == __file__


@pytest.mark.parametrize("chosen", [[scores(1)[0]], "id0", 5, iter(THREE), {"id0"}, [None], [THREE]])
@pytest.mark.parametrize("around", [lambda matcher: matcher, lambda matcher: where("score") >> matcher | top()])
def test_a_matcher_may_choose_only_what_it_was_given(chosen: Any, around: Any) -> None:
    with pytest.raises(MatchError, match="chose what is no candidate"):
        apply(around(lambda candidates: chosen), THREE)


def test_a_step_may_choose_only_what_the_step_before_gave() -> None:
    with pytest.raises(MatchError, match="chose what is no candidate"):
        apply(where(good) >> (lambda candidates: THREE[0]), THREE)


@pytest.mark.parametrize("around", [lambda broken: broken, where, by])
def test_a_matcher_that_raises_is_named(around: Any) -> None:
    def broken(candidates: object) -> None:
        raise ZeroDivisionError("by zero")

    with pytest.raises(MatchError, match=r"broken\)? raised ZeroDivisionError: by zero") as caught:
        apply(around(broken), THREE)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_keys_without_an_order_are_an_error() -> None:
    with pytest.raises(MatchError, match=r"the keys of by\(score\) have no order"):
        apply(by(score), scores("a", 1))


def test_a_function_may_sort_what_it_gets() -> None:
    given = list(THREE)
    assert ids(apply(lambda found: found.sort(key=score) or found, given)) == ["id0", "id2", "id1"]  # type: ignore[attr-defined, func-returns-value]
    assert given == THREE


@pytest.mark.parametrize(
    ("matcher", "text", "count", "many"),
    [
        (best("a"), "best('a')", 1, False),
        (best("a", 2, lowest=True), "best('a', n=2, lowest=True)", 2, True),
        (latest(), "latest()", 1, False),
        (latest(3), "latest(3)", 3, True),
        (top(), "top()", 1, False),
        (top(3), "top(3)", 3, True),
        (only(), "only()", 1, False),
        (every(), "every()", 1, True),
        (some(1), "some(1)", 1, True),
        (exact("a"), "exact('a')", 1, False),
        (exact("a", "b"), "exact('a', 'b')", 1, True),
        (by("a"), "by('a')", 1, True),
        (by(score, lowest=True), "by(score, lowest=True)", 1, True),
        (where("a", below=1, above=0), "where('a', above=0, below=1)", 1, True),
        (
            where(good, metric={"a": [1]}, config={"b": None}, host={"c": "d"}, since="2h"),
            "where(good, metric={'a': [1]}, config={'b': None}, host={'c': 'd'}, since='2h')",
            1,
            True,
        ),
        (where("a") >> by("b") >> top(3), "where('a') >> by('b') >> top(3)", 3, True),
        (top(5) >> where("a") >> top(), "top(5) >> where('a') >> top()", 5, False),
        (top() >> where("a"), "top() >> where('a')", 1, False),
        (top(2) >> last, "top(2) >> last", 2, None),
        (last >> where("a"), "last >> where('a')", 1, None),
        (top(2) | latest(), "top(2) | latest()", 2, True),
        (latest() | top(2), "latest() | top(2)", 1, True),
        (latest() | top(), "latest() | top()", 1, False),
        (last | top(), "last | top()", 1, None),
        (top() | where("a"), "top() | where('a')", 1, True),
        (where("a") >> (top(2) | every()), "where('a') >> (top(2) | every())", 2, True),
        (where("a") >> top(2) | every(), "where('a') >> top(2) | every()", 2, True),
        (last, None, 1, None),
    ],
)
def test_a_matcher_says_what_it_is_and_needs(matcher: Any, text: str | None, count: int, many: bool | None) -> None:
    assert text is None or repr(matcher) == text
    assert needed(matcher) == count
    assert takes_many(matcher, THREE[:1]) == bool(many)
    assert takes_many(matcher, THREE[:2]) == (many is not False)


@pytest.mark.parametrize(
    ("matcher", "count"),
    [
        (top(5), 2),
        (where(good) >> top(5), 3),
        (where(good) >> top(5) | top(9), 3),
        (best("loss", 2), 1),
        (where("score", above=1) >> top(2), 2),
        (where("loss"), 1),
        (lambda found: None, 1),
        ((lambda found: None) >> top(9), 1),
        (top(9) >> where("score"), 6),
        (only() | top(4), 1),
        (where(good) >> only() | top(5), 2),
    ],
)
def test_what_lacks_is_counted_behind_the_filters(matcher: Matcher, count: int) -> None:
    assert lacking(matcher, THREE) == count


@pytest.mark.parametrize(
    ("matcher", "names"),
    [
        (best("a"), ("a",)),
        (where("a", above=1, metric={"b": 1}) >> by("c") >> top(), ("a", "b", "c")),
        (by(score), ()),
        (best("a") | latest(), ()),
        (last, ()),
    ],
)
def test_a_matcher_names_its_metrics(matcher: Matcher, names: tuple[str, ...]) -> None:
    assert metrics_named(matcher) == names


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("matcher", "reasons"),
    [
        (where("score", above=0.9), ["score 0.5 is not above 0.9", "score 0.9 is not above 0.9", "score 'x' …"]),
        (where("loss"), ["has no metric loss"] * 3),
        (where(metric={"score": 1}), ["metric score is 0.5, not 1", "metric score is 0.9, not 1", "metric score is …"]),
        (where(metric={"loss": 1}), ["has no metric loss"] * 3),
        (where(config={"rate": 1}), ["argument rate is 0.1, not 1"] * 3),
        (where(host={"python": "3.12"}), ["host fact python is '3.11.7', not '3.12'"] * 3),
        (where(since="2020-01-01"), ["older than 2020-01-01: of 1970-01-01 …"] * 3),
        (where(lambda one: False), ["<lambda> gives False"] * 3),
        (where(lambda one: one.metrics["a"]), ["<lambda> finds no 'a'"] * 3),
        (by(lambda one: (one.path / "m").read_text()), ["<lambda> can not read /nowhere/000… No such file …"] * 3),
        (by(lambda one: None), ["<lambda> gives None"] * 3),
        (top(4), ["one of 3 where top(4) needs 4"] * 3),
        (
            best("score", 3),
            ["one of 2 where top(3) needs 3: score 0.5", "one of 2 … score 0.9", "score is 'x', which …"],
        ),
        (
            by("score") >> top() >> where("loss"),
            ["not among the top 1: score 0.5", "has no metric loss", "score is 'x', which …"],
        ),
        (latest(2) >> where("a"), ["not among the latest 2", "has no metric a", "has no metric a"]),
        (some(1) >> where("a"), ["has no metric a", "not among the first 1", "not among the first 1"]),
        (exact("id1") >> where("a"), ["not named by exact('id1')", "has no metric a", "not named by exact('id1')"]),
        (last >> where("a"), ["last does not take it", "last does not take it", "has no metric a"]),
        (where("score", below=0.6) >> top(2), ["the only one where top(2) needs 2", "score 0.9 is …", "score 'x' …"]),
        (where("a") | where("b"), ["has no metric a, and has no metric b"] * 3),
        (exact("zz") | top(4), ["there is no realization 'zz', and one of 3 where top(4) needs 4"] * 3),
    ],
)
def test_each_candidate_is_told_why_it_was_refused(matcher: Matcher, reasons: list[str]) -> None:
    found = refusals(matcher, scores(0.5, 0.9, "x"))
    assert [one.id for one, _ in found] == ["id0", "id1", "id2"]
    for (_, reason), short in zip(found, reasons, strict=True):
        wanted = short.replace("score 'x' …", "score is 'x', which is no number")
        assert re.fullmatch(".*".join(map(re.escape, wanted.split("…"))), reason), (reason, wanted)


def test_only_says_which_results_are_the_same() -> None:
    found = refusals(only() >> where("a"), pool({}, {}, outputs=[1, 1]))
    assert [reason for _, reason in found] == ["has no metric a", "has the same result as an older one"]


# -------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("since", "chosen"),
    [
        ("90 min", ["id2"]),
        ("1.5h", ["id2"]),
        ("3 Hours", ["id1", "id2"]),
        ("2 days", ["id1", "id2"]),
        ("1w", ["id0", "id1", "id2"]),
        (timedelta(hours=3), ["id1", "id2"]),
        (timedelta(seconds=0.5), None),
        ("1970-01-01", ["id0", "id1", "id2"]),
        (date(1970, 1, 3), ["id0", "id1", "id2"]),
        (datetime.now(UTC) - timedelta(hours=1), ["id2"]),
        (datetime.now() - timedelta(hours=1), ["id2"]),
        ("2999-01-01T12:00:00+00:00", None),
    ],
)
def test_since_is_a_span_or_a_date(since: Any, chosen: list[str] | None) -> None:
    now = datetime.now().timestamp()
    candidates = pool({}, {}, {}, started=[now - 3 * 86400, now - 2 * 3600, now - 60])
    matcher = where(since=since)
    assert ids(apply(matcher, candidates)) == chosen
    assert eval(repr(matcher), {"where": where}) == matcher


# --------------------------------------------------------------------------------------- candidates


def test_a_candidate_shows_what_was_recorded() -> None:
    one = THREE[1]
    assert one.path == one.paths["out"] == Path("/nowhere", f"{1:0>32}")
    assert one.metrics["score"] == 0.9
    assert one.realization.id == one.id == "id1"
    assert (one.started, one.stopped, one.index, one.host) == (1.0, 0.0, 0, HOST)
    assert repr(one) == "<candidate id1>"


def test_a_key_may_read_files(tmp_path: Path) -> None:
    candidates = pool({}, {}, {}, folder=str(tmp_path))
    for one, size in zip(candidates[:2], ["10", "200"], strict=True):
        one.path.mkdir()
        (one.path / "size").write_text(size)
    matcher = by(lambda one: int((one.path / "size").read_text())) >> top(2)
    assert ids(apply(matcher, candidates)) == ["id1", "id0"]
    reason = {one.id: reason for one, reason in refusals(matcher >> where("a"), candidates)}["id2"]
    assert reason.endswith("size: No such file or directory")
