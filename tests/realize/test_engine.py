"""Pipelines from end to end with the local builder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from bridge.formats.derivation import DRV_SUFFIX
from bridge.formats.hashes import Hash
from bridge.formats.store_path import MAX_NAME_LENGTH, base_name
from bridge.realize.choosing import Pinned
from bridge.realize.engine import Options, realize
from bridge.realize.errors import BuildError, MatchError, RealizeError
from bridge.realize.events import Chosen, Event, Failed, Finished, Skipped, Started
from bridge.realize.matchers import best, every, latest, where
from bridge.stages.errors import TargetError
from bridge.stages.plan import instantiate
from bridge.store.durable import temporary
from bridge.store.holds import release
from bridge.store.layout import Store
from bridge.store.locks import try_lock
from bridge.store.objects import remove_tree
from bridge.store.trace import realizations, record, resolved_derivations

from .running import assert_clean, load, run

PIPELINE = """
SCORES = [5, 9, 7, 1, 2, 3, 4, 10, 6]
data = source("data.txt")
clean = shell('sort -u "$src" > "$out/data.txt"', src=data)

@stage(realizations=3, match=best("score"))
def train(run, data=clean / "data.txt", model=out("sub/model.txt")):
    model.write_text(data.read_text() + str(SCORES[run.index]))
    run.log(score=SCORES[run.index])

report = shell('cat "$model" > "$out/report.txt"', model=train.model)
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> ModuleType:
    (tmp_path / "data.txt").write_text("b\na\nb\n")
    return load(tmp_path, PIPELINE)


def test_a_pipeline_runs_once_and_then_nothing_runs(store: Store, pipeline: ModuleType) -> None:
    first = run(store, pipeline.report)
    assert sorted(first.started) == [("clean", "local"), ("report", "local"), *[("train", "python")] * 3]
    assert (first.path("report") / "report.txt").read_text() == "a\nb\n9"
    again = run(store, pipeline.report)
    assert again.started == []
    assert [event.node.name for event in again.of(Chosen)] == ["clean", "train", "report"]
    assert again.path("report") == first.path("report")
    assert_clean(store)


def test_a_rebuild_adds_and_what_is_above_follows_only_a_new_choice(store: Store, pipeline: ModuleType) -> None:
    rebuild = {"rebuild": frozenset({"train"})}
    first = run(store, pipeline.report)
    same = run(store, pipeline.report, **rebuild)
    assert same.started == [("train", "python")] * 3
    assert len(same.choice("train").candidates) == 6
    assert same.path("report") == first.path("report")
    other = run(store, pipeline.report, **rebuild)
    assert sorted(other.started) == [("report", "local"), *[("train", "python")] * 3]
    assert other.choice("train").chosen[0].metrics == {"score": 10}
    assert (other.path("report") / "report.txt").read_text().endswith("10")
    assert sorted(one.realization.index for one in other.choice("train").candidates) == list(range(9))
    assert_clean(store)


def test_a_dry_run_says_what_is_missing_and_runs_nothing(store: Store, pipeline: ModuleType) -> None:
    dry = run(store, pipeline.report, dry_run=True)
    assert dry.outcome is not None
    assert {node.name: count for node, count in dry.outcome.pending.items()} == {"clean": 1, "train": 3, "report": 1}
    assert dry.started == []
    assert list(store.objects.iterdir()) == []
    run(store, pipeline.report)
    dry = run(store, pipeline.report, dry_run=True)
    assert dry.outcome is not None
    assert dry.outcome.pending == {}
    more = run(store, pipeline.train.options(realizations=5), dry_run=True)
    assert more.outcome is not None
    assert list(more.outcome.pending.values()) == [2]


def test_a_dry_run_knows_the_derivations_above_a_stage_whose_matcher_gives_a_list(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        "c = shell('echo hi > $out/x', match=every())\n@stage\ndef use(c=c, x=out('x')): x.write_text(repr(c))",
    )
    plan = instantiate([module.use])
    dry, done = realize(plan, store, options=Options(dry_run=True)), realize(plan, store)
    [use] = plan.targets
    assert [one.path for one in dry.resolved[use]] == [one.path for one in done.choices[use].resolved]


def test_a_dry_run_of_what_is_pinned_leaves_the_store_as_it_is(store: Store, pipeline: ModuleType) -> None:
    plan = instantiate([pipeline.clean])
    [node] = plan.targets
    [chosen] = realize(plan, store).choices[node].chosen
    release()
    before = sorted(store.root.rglob("*"))
    options = Options(dry_run=True, pinned={node: Pinned((chosen.id,), many=False)})
    assert realize(plan, store, options=options).choices[node].chosen[0].id == chosen.id
    assert sorted(store.root.rglob("*")) == before


def test_more_realizations_are_added_to_those_that_are_there(store: Store, pipeline: ModuleType) -> None:
    run(store, pipeline.train)
    done = run(store, pipeline.train.options(realizations=5))
    assert done.started == [("train", "python")] * 2
    assert run(store, pipeline.train.options(match=best("score", 6))).started == [("train", "python")]


def test_equal_results_of_several_runs_are_several_realizations_and_one_object(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        @stage(realizations=5, match=every())
        def same(a=out("a")):
            a.write_text("always")
        """,
    )
    done = run(store, module.same)
    (drv,) = resolved_derivations(store)
    assert len(realizations(store, drv)) == 5
    assert len({one.path for one in done.choice("same").chosen}) == 1
    assert sum(path.name.endswith("-same") for path in store.objects.iterdir()) == 1
    assert_clean(store)


def test_several_chosen_arrive_as_a_list(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        @stage(realizations=3, match=best("n", 2))
        def many(run, a=out("a")):
            a.write_text(str(run.index))
            run.log(n=run.index)

        @stage
        def listed(models=many.a, plain=[many / "a"], x=out("x")):
            assert isinstance(models, list) and models == plain
            x.write_text(" ".join(model.read_text() for model in models))

        joined = shell('cat $models > $out/x', models=many.a)
        """,
    )
    done = run(store, module.listed, module.joined)
    assert (done.path("listed") / "x").read_text() == "2 1"
    assert (done.path("joined") / "x").read_text() == "21"


def test_one_stage_under_two_matchers_in_one_plan_runs_as_often_as_needed(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        @stage(realizations=3, match=best("n"))
        def train(run, a=out("a")):
            a.write_text(str(run.index))
            run.log(n=run.index)

        worst = train.options(match=best("n", lowest=True))
        both = shell('cat $a $b > $out/x', a=train.a, b=worst.a)
        """,
    )
    done = run(store, module.both)
    assert done.started.count(("train", "python")) == 3
    assert (done.path("both") / "x").read_text() == "20"


def test_a_stage_asked_for_twice_is_one(store: Store, pipeline: ModuleType) -> None:
    assert len(run(store, pipeline.clean, pipeline.clean).started) == 1


def test_a_source_as_target_enters_the_store(store: Store, pipeline: ModuleType) -> None:
    done = run(store, pipeline.data)
    assert done.outcome is not None
    (node,) = done.outcome.choices
    assert store.real_path(node.path).read_text() == "b\na\nb\n"
    assert_clean(store)


def test_an_object_that_is_gone_is_made_again(store: Store, pipeline: ModuleType) -> None:
    first = run(store, pipeline.report)
    (one,) = first.choice("clean").chosen
    store.info_file(one.realization.outputs["out"]).unlink()
    remove_tree(one.path)
    again = run(store, pipeline.report)
    assert again.started == [("clean", "local")]
    assert_clean(store)


# ------------------------------------------------------------------------------------------ matchers


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ("best('other')", "has the metric 'other'"),
        ("only()", "only() found 2 different results"),
        ("exact('zzz')", "there is no realization 'zzz'"),
        ("lambda found: 1 / 0", "raised ZeroDivisionError"),
        ("lambda found: 'x'", "chose what is no candidate"),
        ("lambda found: None", "takes none of the candidates"),
    ],
)
def test_a_matcher_that_can_not_choose_fails_its_stage_and_keeps_the_runs(
    store: Store, tmp_path: Path, match: str, said: str
) -> None:
    module = load(
        tmp_path,
        f"""
        @stage(realizations=2, match={match})
        def s(run, a=out("a")):
            a.write_text(str(run.index))
            run.log(n=run.index)
        above = shell(': $x', x=s)
        """,
    )
    done = run(store, module.above)
    assert isinstance(done.failure, MatchError)
    assert said in done.failure.message
    assert [event.node.name for event in done.of(Skipped)] == ["above"]
    assert len(run(store, module.s.options(match=best("n"))).choice("s").candidates) == 2
    assert_clean(store)


SPELT = """
@stage(realizations=2, match=every())
def s(run, rate=0.1, a=out("a")):
    a.write_text(str(run.index))
    run.log(accuracy=run.index)
"""


def test_a_misspelt_metric_costs_no_run(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, SPELT)
    run(store, module.s)
    for match in (best("acuracy"), where("acurracy", above=0) >> latest()):
        done = run(store, module.s.options(match=match))
        assert done.started == []
        assert done.failure.hint is not None
        assert done.failure.hint.startswith("is it accuracy? they have accuracy;")
    # Of another name one run may tell; what falls back needs none.
    assert len(run(store, module.s.options(match=best("loss"))).started) == 1
    assert run(store, module.s.options(match=best("acuracy") | latest())).choice("s").chosen


def test_arguments_that_a_stage_does_not_have_cost_no_run(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, SPELT)
    done = run(store, module.s.options(match=where(config={"rate": 0.2}) >> every()))
    assert done.started == []
    assert done.failure.message == (
        "the matcher where(config={'rate': 0.2}) >> every() of the stage s wants other arguments than the stage has"
    )
    assert done.failure.hint == "it has rate=0.1"
    fallen = run(store, module.s.options(match=where(config={"rate": 0.2}) >> every() | every()))
    assert len(fallen.choice("s").chosen) == 2
    assert len(run(store, module.s.options(match=where(config={"rate": 0.1}))).choice("s").chosen) == 2


# ------------------------------------------------------------------------------------------ failures

FAILING = """
import time
@stage
def bad(run, a=out("a")):
    raise ValueError("bad")

@stage
def slow(run, marks=MARKS, a=out("a")):
    open(marks + "/slow", "w").close()
    time.sleep(SECONDS)
    a.touch()

quick = shell('mkdir $out/x')
above = shell(': $x', x=bad)
top = shell(': $x $y', x=above, y=slow)
"""


def failing(folder: Path, seconds: float) -> ModuleType:
    return load(folder, FAILING.replace("MARKS", repr(str(folder))).replace("SECONDS", str(seconds)))


def test_siblings_finish_with_keep_going(store: Store, tmp_path: Path) -> None:
    module = failing(tmp_path, 0.3)
    done = run(store, module.top, module.quick, keep_going=True)
    assert isinstance(done.failure, BuildError)
    assert done.failure.stage == "bad"
    assert {event.node.name for event in done.of(Finished)} == {"slow", "quick"}
    assert [(event.node.name, event.because.name) for event in done.of(Skipped)] == [("above", "bad"), ("top", "bad")]
    assert run(store, module.slow, module.quick).started == []
    assert_clean(store)


def test_a_stage_that_there_is_no_room_for_is_left_to_other_processes(store: Store, tmp_path: Path) -> None:
    text = "@stage(resources={'gpu': 900})\ndef big(x=out('x')): x.touch()\n\n@stage\ndef ok(x=out('x')): x.touch()"
    module = load(tmp_path, text)
    plan = instantiate([module.big, module.ok])
    free = []

    def note(event: Event) -> None:
        if isinstance(event, Finished):
            with try_lock(store, base_name(plan.targets[0].path)) as taken:
                free.append(taken)

    with pytest.raises(RealizeError):
        realize(plan, store, options=Options(keep_going=True), report=note)
    assert free == [True]


def test_siblings_are_stopped_without_keep_going(store: Store, tmp_path: Path) -> None:
    module = failing(tmp_path, 60)
    done = run(store, module.slow, module.top, jobs=2)
    assert isinstance(done.failure, BuildError)
    assert done.failure.stage == "bad"
    assert [event.node.name for event in done.of(Failed)] == ["bad"]
    assert done.of(Finished) == []
    assert_clean(store)


def test_all_failures_are_told(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, "a = shell('exit 1')\nb = shell('exit 2')\nc = shell('mkdir $out/x')")
    done = run(store, module.a, module.b, module.c, keep_going=True)
    assert done.error is not None
    assert {error.stage for error in done.error.failures if isinstance(error, BuildError)} == {"a", "b"}
    assert done.error.message == "2 stages failed"


def test_a_failed_stage_runs_again_next_time(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, f"s = shell('cat {tmp_path}/late > $out/x')")
    assert isinstance(run(store, module.s).failure, BuildError)
    (tmp_path / "late").write_text("now")
    assert (run(store, module.s).path("s") / "x").read_text() == "now"


@pytest.mark.parametrize("name", ["clean", "report"])
def test_a_deterministic_stage_is_not_rebuilt(store: Store, pipeline: ModuleType, name: str) -> None:
    done = run(store, pipeline.report, rebuild=frozenset({name}))
    assert done.error is not None
    assert "deterministic" in done.error.message
    assert done.events == []


def test_a_rebuild_of_nothing_is_refused(store: Store, pipeline: ModuleType) -> None:
    with pytest.raises(TargetError, match="no stage of this plan is named 'no'"):
        run(store, pipeline.report, rebuild=frozenset({"no"}))


def test_without_nix_a_stage_that_asks_for_it_fails(store: Store, pipeline: ModuleType) -> None:
    done = run(store, pipeline.report, builder="nix")
    assert isinstance(done.failure, RealizeError)
    assert "needs Nix" in done.failure.message


def test_an_error_of_the_reporter_ends_everything(store: Store, tmp_path: Path) -> None:
    def report(event: Event) -> None:
        if isinstance(event, Started):
            raise OverflowError("my terminal")

    module = failing(tmp_path, 60)
    with pytest.raises(OverflowError):
        realize(instantiate([module.slow]), store, report=report)
    assert_clean(store)


def test_a_damaged_record_fails_its_stage_with_the_way_out(store: Store, pipeline: ModuleType) -> None:
    run(store, pipeline.clean)
    (drv,) = resolved_derivations(store)
    (store.trace / drv[11:] / "broken.json").write_text("")
    done = run(store, pipeline.clean)
    assert done.failure.hint == "run nixbridge verify"


def test_what_dead_processes_left_is_taken_back(store: Store, pipeline: ModuleType) -> None:
    left = store.tmp / temporary(store).name.replace("-" + temporary(store).name.split("-")[1], "-4194305")
    left.mkdir()
    run(store, pipeline.clean)
    assert_clean(store)


def test_a_full_disk_is_told_once_for_each_stage_and_leaves_a_clean_store(small_store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        import os
        @stage
        def python(a=out("a")):
            a.write_bytes(os.urandom(1 << 20))
        local = shell('head -c 1000000 /dev/urandom > $out/x')
        """
        + f"fetched = fetchurl('file://{tmp_path}/big', hash='sha256:{'0' * 64}')\n",
    )
    (tmp_path / "big").write_bytes(bytes(1 << 20))
    done = run(small_store, module.python, module.local, module.fetched, keep_going=True, jobs=1)
    assert done.error is not None
    assert len(done.error.failures) == 3
    assert [one for one in done.error.failures if "No space left" not in one.message] == []
    assert_clean(small_store)
    small = load(tmp_path, "s = shell('mkdir $out/x')")
    assert run(small_store, small.s).error is None


def test_fetches_of_the_same_bytes_under_other_names_are_other_objects(store: Store, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_bytes(b"foo")
    line = f"fetchurl('file://{tmp_path}/data.txt', hash='{Hash.of(b'foo').sri}', name='f%d')"
    module = load(tmp_path, f"s0 = source('data.txt')\ns1 = {line % 1}\ns2 = {line % 2}")
    done = run(store, module.s0, module.s1, module.s2)
    assert {event.node.name for event in done.of(Finished)} == {"f1", "f2"}
    assert len([one for one in store.objects.iterdir() if one.suffix != ".drv"]) == 3
    assert_clean(store)


def test_records_of_a_run_that_was_elsewhere_do_not_count_without_their_bytes(
    store: Store, pipeline: ModuleType
) -> None:
    first = run(store, pipeline.train)
    one = first.choice("train").chosen[0].realization
    record(store, replace(one, outputs={"out": "/nix/store/" + "0" * 32 + "-train"}, metrics={"score": 99}))
    again = run(store, pipeline.train)
    assert len(again.choice("train").candidates) == 3
    assert again.choice("train").chosen[0].metrics["score"] == 9


def test_a_stage_may_have_the_longest_name_that_nix_allows(store: Store, tmp_path: Path) -> None:
    python = "p" * (MAX_NAME_LENGTH - len("-code"))
    shell = "s" * (MAX_NAME_LENGTH - len(DRV_SUFFIX))
    module = load(
        tmp_path,
        f"""
        @stage(name="{python}")
        def made(run, text=out("text")):
            run.checkpoint()
            text.write_text("made")
        used = shell("cat $made/text > $out/text", name="{shell}", made=made)
        """,
    )
    assert (run(store, module.used).path(shell) / "text").read_text() == "made"
    assert_clean(store)


def test_policies_of_one_derivation_choose_once_all_its_runs_have_ended(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        @stage(realizations=3, match=best("score"))
        def made(run, text=out("text")):
            import time
            time.sleep(0 if run.index else 1)
            run.log(score=run.index)
            text.touch()
        worst = made.options(realizations=1, match=best("score", lowest=True))
        @stage
        def both(a=made, b=worst, text=out("text")):
            text.touch()
        """,
    )
    first = run(store, module.both, jobs=3)
    assert first.outcome is not None
    chosen = [choice.chosen for node, choice in first.outcome.choices.items() if node.name == "made"]
    assert [one.metrics["score"] for [one] in chosen] == [2, 0]
    assert run(store, module.both).started == []
