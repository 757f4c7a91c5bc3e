"""`each(…)`: a stage that is made once for each realization that was chosen of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.nix.installation import Installation
from bridge.stages.errors import StageError
from bridge.stages.plan import instantiate
from bridge.store.layout import Store

from .running import assert_clean, load, run

SWEEP = """
@stage(realizations=3, match=every())
def train(run, model=out("model")):
    model.write_text(f"m{run.index}")

@stage
def judge(model=each(train.model), whole=each(train), score=out("score")):
    assert (whole / "model") == model
    score.write_text(f"{model.read_text()}!")

@stage
def report(scores=judge.score, page=out("page")):
    page.write_text(" ".join(sorted(score.read_text() for score in scores)))
"""


def test_a_mapped_stage_is_made_for_each_and_a_reducing_one_gets_the_list(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, SWEEP)
    done = run(store, module.report)
    assert (done.path("report") / "page").read_text() == "m0! m1! m2!"
    choice = done.choice("judge")
    assert len(choice.chosen) == len(choice.resolved) == 3
    assert [one.realization.drv for one in choice.chosen] == [one.path for one in choice.resolved]
    assert_clean(store)
    again = run(store, module.report)
    assert again.started == []


def test_one_more_above_is_one_more_below(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, SWEEP)
    run(store, module.report)
    done = run(store, module.report, more={"train": 1})
    assert done.started == [("train", "python"), ("judge", "python"), ("report", "python")]
    assert (done.path("report") / "page").read_text() == "m0! m1! m2! m3!"


def test_each_realization_of_a_mapped_stage_may_be_many(store: Store, tmp_path: Path) -> None:
    text = SWEEP.replace("@stage\ndef judge(", "@stage(realizations=2, match=every())\ndef judge(")
    done = run(store, load(tmp_path, text).report)
    assert (done.path("report") / "page").read_text() == "m0! m0! m1! m1! m2! m2!"


def test_mapping_over_one_is_a_list_of_one(store: Store, tmp_path: Path) -> None:
    done = run(store, load(tmp_path, SWEEP.replace("realizations=3, match=every()", "")).report)
    assert (done.path("report") / "page").read_text() == "m0!"


def test_a_mapped_stage_shares_realizations_with_one_that_takes_a_single(store: Store, tmp_path: Path) -> None:
    text = SWEEP + "\nlast = train.options(match=latest())\nalone = judge(model=last.model, whole=last)\n"
    module = load(tmp_path, text)
    run(store, module.judge)
    assert run(store, module.alone).started == []


def test_equal_results_are_mapped_over_once(store: Store, tmp_path: Path) -> None:
    done = run(store, load(tmp_path, SWEEP.replace('f"m{run.index}"', '"m"')).report)
    assert (done.path("report") / "page").read_text() == "m!"
    assert done.started.count(("judge", "python")) == 1


def test_a_failure_of_one_fails_the_stage_and_the_others_stay(store: Store, tmp_path: Path) -> None:
    text = SWEEP.replace('score.write_text(f"', 'assert model.read_text() != "m1", "bad"\n    score.write_text(f"')
    module = load(tmp_path, text)
    done = run(store, module.report)
    assert "AssertionError: bad" in str(done.failure)
    assert_clean(store)
    again = run(store, module.report)
    assert ("judge", "python") in again.started


def test_it_maps_over_one_stage_only(tmp_path: Path) -> None:
    text = SWEEP + "\n@stage\ndef two(a=each(train), b=each(judge), x=out('x')): pass\n"
    with pytest.raises(StageError, match="the stage two is mapped over train and judge at once"):
        instantiate([load(tmp_path, text).two])


@pytest.mark.nix
def test_nix_builds_a_mapped_stage_for_each(store: Store, tmp_path: Path, nix: Installation) -> None:
    text = """
    busybox = host("busybox")

    @stage(realizations=3, match=every())
    def train(run, model=out("model")):
        model.write_text(f"m{run.index}")

    judge = shell('echo "$(cat $model)!" > $out/score', model=each(train.model), tools=[busybox])
    report = shell('for one in $scores; do cat $one; done > $out/page', scores=judge / "score", tools=[busybox])
    """
    done = run(store, load(tmp_path, text).report, nix=nix)
    assert sorted((done.path("report") / "page").read_text().split()) == ["m0!", "m1!", "m2!"]
    assert [where for name, where in done.started if name == "judge"] == ["nix"] * 3
    assert_clean(store)
