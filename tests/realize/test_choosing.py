"""Choosing for a stage: candidates, what is missing, and what is said where nothing can be chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bridge import best, by, every, exact, latest, only, some, stage, top, where
from bridge.realize.choosing import candidates_of, matcher_of, missing_of
from bridge.realize.errors import MatchError
from bridge.realize.matchers import Matcher, apply
from bridge.realize.places import Places
from bridge.stages.plan import Node, instantiate
from bridge.store.layout import Store
from bridge.store.trace import Realization, record

from .running import assert_clean, load, run


def train(run: Any, rate: float = 0.5, layers: Any = (1, 2)) -> None:
    pass


def node_of(match: Matcher | None = None, **policy: Any) -> Node:
    (node,) = instantiate([stage(train).options(match=match, **policy)]).nodes
    return node


def drv_of(node: Node) -> str:
    assert node.instantiated is not None
    return node.instantiated.path


def made(store: Store, node: Node, *metrics: dict[str, Any]) -> list[Realization]:
    """Realizations with these metrics and results of their own, oldest first."""
    found = []
    for number, one in enumerate(metrics):
        path = f"/nix/store/{number:0>32}-train"
        store.real_path(path).touch()
        store.info_file(path).touch()
        value = Realization(
            drv_of(node), {"out": path}, "train", drv_of(node), "python", number, 0.0, one, index=number
        )
        found.append(record(store, value))
    return found


def candidates(store: Store, node: Node, **how: Any) -> list[Any]:
    return candidates_of(Places(store, None), node, drv_of(node), **{"by_nix": False, **how})


@pytest.mark.parametrize("count", [3, 64, 65, 70, 150])
@pytest.mark.parametrize("rubbish", [0, 1000])
def test_what_has_no_bytes_is_no_candidate(store: Store, count: int, rubbish: int) -> None:
    node = node_of()
    found = made(store, node, *({"n": n} for n in range(count)))
    for number in range(rubbish):
        (store.info / f"{number}.json").touch()
    store.real_path(found[1].outputs["out"]).unlink()
    store.info_file(found[2].outputs["out"]).unlink()
    for _ in range(2):
        assert [one.metrics["n"] for one in candidates(store, node)] == [0, *range(3, count)]
        assert [one.id for one in candidates(store, node)] == [found[0].id, *(one.id for one in found[3:])]


def test_a_dangling_link_is_bytes(store: Store) -> None:
    node = node_of()
    found = made(store, node, *[{}] * 70)
    place = store.real_path(found[0].outputs["out"])
    place.unlink()
    place.symlink_to("nowhere")
    assert len(candidates(store, node)) == 70


def test_what_was_built_here_is_no_candidate_for_nix(store: Store) -> None:
    node = node_of()
    made(store, node, {})
    assert candidates(store, node, by_nix=True) == []


def test_a_candidate_knows_its_config_and_its_place(store: Store) -> None:
    node = node_of()
    (found,) = made(store, node, {})
    (one,) = candidates(store, node)
    assert one.config == {"rate": 0.5, "layers": [1, 2]}
    assert one.path == store.real_path(found.outputs["out"])
    assert one.realization == found
    assert apply(where(config={"rate": 0.5}), [one]) == [one]
    assert apply(where(config={"rate": 0.1}), [one]) is None


@pytest.mark.parametrize(
    ("match", "realizations", "have", "missing"),
    [
        (None, 1, 0, 1),
        (None, 1, 1, 0),
        (None, 5, 2, 3),
        (best("n", 4), 1, 0, 4),
        (best("n", 4), 1, 3, 1),
        (best("n", 4), 1, 4, 0),
        (where("n", above=1) >> top(2), 1, 0, 2),
        (where("n", above=1) >> top(2), 1, 3, 1),
        (where("n", above=1) >> top(2), 1, 4, 0),
        (where("n", above=9) >> top(2), 4, 4, 2),
        (where("n", above=9) >> top(2) | latest(), 4, 4, 0),
        (top(3) | top(), 1, 1, 2),
        (top() | top(3), 1, 1, 0),
        (every(), 3, 1, 2),
        (some(2), 1, 2, 0),
        (lambda found: None, 1, 1, 1),
    ],
)
def test_only_what_is_missing_is_to_be_made(
    store: Store, match: Matcher | None, realizations: int, have: int, missing: int
) -> None:
    node = node_of(match, realizations=realizations)
    made(store, node, *({"n": n} for n in range(have)))
    assert missing_of(node, candidates(store, node), tried=False) == missing


def refusal(store: Store, match: Matcher, *metrics: dict[str, Any]) -> MatchError:
    node = node_of(match)
    made(store, node, *metrics)
    with pytest.raises(MatchError) as caught:
        missing_of(node, candidates(store, node), tried=True)
    assert caught.value.file == __file__
    assert caught.value.line is not None
    return caught.value


def test_each_refusal_is_told(store: Store) -> None:
    matcher = where("accuracy", above=0.9) >> by("loss", lowest=True) >> top(2)
    metrics: list[dict[str, Any]] = [{"accuracy": 0.71}, {"accuracy": 0.95, "loss": 0.4}, {"accuracy": 0.99}]
    error = refusal(store, matcher, *metrics)
    first, *lines = error.message.splitlines()
    assert first == f"the matcher {matcher!r} of the stage train takes none of the candidates:"
    assert [line.split(": ", 1)[1] for line in lines] == [
        "accuracy 0.71 is not above 0.9",
        "the only one where top(2) needs 2: loss 0.4",
        "has no metric loss",
    ]
    assert all(line.startswith("  ") for line in lines)


def test_a_long_list_of_refusals_is_cut(store: Store) -> None:
    error = refusal(store, where("n", below=0), *({"n": n} for n in range(47)))
    assert len(error.message.splitlines()) == 12
    assert error.message.endswith("and 37 more")


def test_a_metric_that_none_has_is_named(store: Store) -> None:
    error = refusal(store, where("n", above=0) >> best("accurcy"), {"n": 1, "accuracy": 2})
    assert "has the metric 'accurcy'" in error.message
    assert error.hint == "they have accuracy, n; run.log(accurcy=…) records one"


def test_that_there_are_no_metrics_is_said(store: Store) -> None:
    assert "they have none" in (refusal(store, best("n"), {}).hint or "")


def test_no_candidates_at_all_is_said(store: Store) -> None:
    assert refusal(store, best("n")).message.endswith("takes none of the candidates:\n  none")


@pytest.mark.parametrize("match", [only(), exact("zz"), lambda found: 5, lambda found: 1 / 0])
def test_every_error_of_a_matcher_points_at_the_stage(store: Store, match: Any) -> None:
    refusal(store, match, {}, {})


def test_a_stage_without_a_matcher_has_what_suits_it() -> None:
    assert matcher_of(node_of()) == latest()
    assert matcher_of(node_of(top())) == top()
    (node,) = instantiate([replace(stage(train), policy=replace(stage(train).policy, deterministic=True))]).nodes
    assert matcher_of(node) == only()


# ------------------------------------------------------------------------------------- with the engine

STAGES = """
from bridge import by, top, where

@stage(realizations=4, match={match})
def train(run, size=out("size.txt")):
    size.write_text(str(run.index * 7 % 4))
    run.log(loss=run.index, even=run.index % 2 == 0)

@stage
def after(sizes=train.size, page=out("page")):
    many = isinstance(sizes, list)
    page.write_text(" ".join(one.read_text() for one in sizes) if many else "one " + sizes.read_text())
"""


@pytest.mark.parametrize(
    ("match", "page"),
    [
        ("where('loss', above=0) >> by('loss', lowest=True) >> top(2)", "3 2"),
        ("where(metric={'even': True}) >> latest()", "one 2"),
        ("by(lambda one: (one.path / 'size.txt').read_text()) >> top()", "one 3"),
        ("where('loss', above=9) | best('loss', 3)", "1 2 3"),
        ("where('loss', above=2)", "1"),
        ("where('loss', above=2) >> (lambda found: found[0])", "one 1"),
    ],
)
def test_a_composed_matcher_chooses_what_goes_on(store: Store, tmp_path: Path, match: str, page: str) -> None:
    module: ModuleType = load(tmp_path, STAGES.format(match=match))
    # One after the other, so that the order of their starts is that of their numbers.
    done = run(store, module.after, jobs=1)
    assert (done.path("after") / "page").read_text() == page
    assert run(store, module.after).started == []
    assert_clean(store)


def test_a_key_that_misses_its_file_is_told(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, STAGES.format(match="by(lambda one: (one.path / 'nothing').read_text())"))
    done = run(store, module.after)
    assert isinstance(done.failure, MatchError)
    assert "can not read" in done.failure.message
    assert "nothing: No such file" in done.failure.message
    assert done.failure.file is not None
