"""Runs that fail: tried again, kept, ended at their limits; and what an interrupted run leaves to the next."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from bridge.formats.store_path import base_name
from bridge.realize.choosing import resolved_of
from bridge.realize.engine import Options, realize
from bridge.realize.errors import BuildError
from bridge.realize.events import Event, Finished, Retrying, Skipped, Started
from bridge.realize.places import Places
from bridge.realize.retry import tried
from bridge.realize.task import Context, Task
from bridge.stages.load import load_module
from bridge.stages.plan import instantiate
from bridge.store.holds import held_paths, release
from bridge.store.layout import Store
from bridge.store.objects import remove_tree
from bridge.store.trace import Realization, realizations, resolved_derivations

from .running import assert_clean, drive, load, run, wait_until, write_stages

HEAD = """
import os, sys, time
from pathlib import Path
"""


def recorded(store: Store) -> list[Realization]:
    found = [one for drv in resolved_derivations(store) for one in realizations(store, drv)]
    return sorted(found, key=lambda one: one.index)


def results(store: Store) -> list[str]:
    return [one.result for one in recorded(store)]


# ---------------------------------------------------------------------------------------- retrying


def test_a_run_is_tried_again_after_a_longer_while_each_time(store: Store, tmp_path: Path) -> None:
    count = tmp_path / "count"
    text = (
        HEAD
        + f"""
@stage(retries=3, backoff=0.05)
def s(run, x=out("x")):
    with open({str(count)!r}, "a") as file:
        file.write("x")
    if Path({str(count)!r}).stat().st_size < 3:
        raise OSError("not yet")
    x.touch()
"""
    )
    done = run(store, load(tmp_path, text).s)
    [one] = done.choice("s").chosen
    assert one.realization.attempts == 3
    assert [event.seconds for event in done.of(Retrying)] == [0.05, 0.1]
    assert results(store) == ["done"]
    assert_clean(store)


def test_a_run_that_always_fails_is_tried_as_often_as_said_and_no_more(store: Store, tmp_path: Path) -> None:
    done = run(store, load(tmp_path, "@stage(retries=2, backoff=0.01)\ndef s(x=out('x')): 1 / 0").s)
    assert len(done.of(Retrying)) == 2
    assert "ZeroDivisionError" in str(done.failure)
    assert_clean(store)


def test_no_number_of_retries_is_too_large(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = instantiate([load(tmp_path, "@stage(retries=1100, backoff=0.01)\ndef s(x=out('x')): pass").s])
    [node] = plan.nodes
    context = Context(store, Places(store, None), lambda event: None)
    waited: list[float | None] = []
    monkeypatch.setattr(context.cancelled, "wait", waited.append)

    def fails(number: int) -> Realization:
        raise BuildError(f"attempt {number}", stage="s")

    with pytest.raises(BuildError, match="attempt 1101"):
        tried(context, Task(node, resolved_of(node, {})[0], ()), fails)
    assert waited[:2] == [0.01, 0.02]
    assert waited[-1] == 600


# ------------------------------------------------------------------------------------------ keeping

KEEPS = (
    HEAD
    + """
@stage(realizations=4, match=best("score"), on_error="keep")
def train(run, model=out("model.txt")):
    print("training", run.index)
    model.write_text(str(run.index))
    run.log(score=run.index)
    if run.index in (1, 3):
        raise ValueError(f"diverged in {run.index}")

@stage
def use(model=train.model, x=out("x")):
    x.write_text(model.read_text())
"""
)


def test_a_kept_failure_is_a_realization_with_its_traceback_log_and_partial_output(
    store: Store, tmp_path: Path
) -> None:
    done = run(store, load(tmp_path, KEEPS).use)
    assert (done.path("use") / "x").read_text() == "2"
    assert [one.result for one in recorded(store) if one.stage == "train"] == ["done", "failed", "done", "failed"]
    failed = next(one for one in recorded(store) if one.result == "failed" and one.index == 1)
    assert failed.metrics == {"score": 1}
    assert failed.error is not None
    assert failed.error["message"].endswith("raised ValueError: diverged in 1")
    assert failed.error["reason"] == "raised"
    assert failed.error["line"] == 12
    folder = store.real_path(failed.outputs["out"])
    assert folder.name.endswith("-train-failed")
    assert sorted(path.name for path in folder.iterdir()) == ["failure.json", "log", "out"]
    assert (folder / "out/model.txt").read_text() == "1"
    assert (folder / "log").read_text().startswith("training 1\n")
    assert "ValueError: diverged" in (folder / "log").read_text()
    assert json.loads((folder / "failure.json").read_text())["reason"] == "raised"
    assert_clean(store)


def test_a_kept_failure_does_not_count_and_does_not_block_a_new_try(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, KEEPS)
    first = run(store, module.train)
    assert sorted(one.index for one in first.choice("train").candidates) == [0, 2]
    again = run(store, module.train)
    # Two are missing still; their numbers, and with them their seeds, are new ones.
    assert sorted(event.realization.index for event in again.of(Finished)) == [4, 5]
    assert run(store, module.train).started == []


def test_what_needs_a_stage_of_which_only_failures_were_kept_is_skipped_and_others_go_on(
    store: Store, tmp_path: Path
) -> None:
    text = (
        HEAD
        + """
@stage(on_error="keep")
def bad(x=out("x")):
    1 / 0

@stage
def above(x=bad.x, y=out("y")):
    y.touch()

@stage
def other(x=out("x")):
    time.sleep(0.5)
    x.touch()
"""
    )
    module = load(tmp_path, text)
    done = run(store, module.above, module.other)
    assert [event.node.name for event in done.of(Skipped)] == ["above"]
    assert "ZeroDivisionError" in str(done.failure)
    assert "(kept as " in str(done.failure)
    assert sorted(results(store)) == ["done", "failed"]
    assert_clean(store)


def test_what_the_matcher_refuses_is_not_hidden_by_a_kept_failure(store: Store, tmp_path: Path) -> None:
    done = run(store, load(tmp_path, KEEPS.replace('best("score")', 'where("score", above=9) >> top()')).train)
    assert "score 0 is not above 9" in str(done.failure)


def test_a_stage_may_handle_the_failure_of_another(store: Store, tmp_path: Path) -> None:
    text = (
        HEAD
        + """
import json

@stage(on_error="keep", match=latest() | where(result="failed") >> latest())
def bad(x=out("x")):
    1 / 0

@stage
def report(bad=bad, y=out("y")):
    y.write_text(json.loads((bad / "failure.json").read_text())["message"])
"""
    )
    done = run(store, load(tmp_path, text).report)
    assert (done.path("report") / "y").read_text() == "the stage bad raised ZeroDivisionError: division by zero"
    assert_clean(store)


def test_retries_come_before_keeping(store: Store, tmp_path: Path) -> None:
    done = run(store, load(tmp_path, "@stage(retries=1, backoff=0.01, on_error='keep')\ndef s(x=out('x')): 1 / 0").s)
    assert len(done.of(Retrying)) == 1
    assert [(one.result, one.attempts) for one in recorded(store)] == [("failed", 2)]


# ------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("limit", "body", "said", "reason"),
    [
        ("timeout=0.5", "time.sleep(60)", "was ended after its timeout of 0.5 s", "timeout"),
        ("cpu_time=1", "[None for _ in iter(int, 1)]", "used more than its cpu_time of 1 s", "cpu_time"),
        ("memory='300M'", "bytearray(1 << 30)", "raised MemoryError within its memory of 300M", "memory"),
        ("timeout=60", "os.kill(os.getpid(), 9)", "was killed by SIGKILL", "killed"),
        ("timeout=60", "pass", "did not write its promised output x", "promise"),
    ],
)
def test_each_limit_is_an_outcome_of_its_own(
    store: Store, tmp_path: Path, limit: str, body: str, said: str, reason: str
) -> None:
    text = HEAD + f"@stage({limit}, on_error='keep')\ndef s(x=out('x')):\n    {body}\n"
    done = run(store, load(tmp_path, text).s)
    assert isinstance(done.failure, BuildError)
    assert said in str(done.failure)
    assert done.failure.reason == reason
    [one] = recorded(store)
    assert one.error is not None
    assert one.error["reason"] == reason
    assert_clean(store)


def test_the_record_says_what_a_run_took(store: Store, tmp_path: Path) -> None:
    text = HEAD + "@stage\ndef s(x=out('x')):\n    x.write_bytes(b'x' * (50 << 20)); sum(range(3_000_000))\n"
    [one] = run(store, load(tmp_path, text).s).choice("s").chosen
    assert one.realization.usage["memory"] > 50 << 20
    assert one.realization.usage["cpu"] > 0.02


# ------------------------------------------------------------------------------- going on from there

RESUMES = (
    HEAD
    + """
@stage(previous=latest(), match=latest())
def train(run, x=out("x")):
    before = run.previous
    x.write_text((before.path / "x").read_text() + "+" if before else "start")
    run.log(epochs=(before.metrics["epochs"] if before else 0) + 10)
"""
)


def test_a_realization_goes_on_from_an_earlier_one_which_is_recorded(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, RESUMES)
    run(store, module.train)
    for _ in range(2):
        done = run(store, module.train, more={"train": 1})
    assert (done.path("train") / "x").read_text() == "start++"
    one, two, three = recorded(store)
    assert [one.previous, two.previous, three.previous] == [None, one.id, two.id]
    assert three.metrics == {"epochs": 30}
    assert one.drv == three.drv
    assert_clean(store)


def test_a_new_realization_may_go_on_from_one_of_an_older_derivation(store: Store, tmp_path: Path) -> None:
    text = (
        HEAD
        + """
@stage
def train(run, rate=1, x=out("x")):
    x.write_text(f"{rate}" + ((run.previous.path / "x").read_text() if run.previous else ""))
"""
    )
    module = load(tmp_path, text)
    run(store, module.train)
    [old] = recorded(store)
    done = run(store, module.train(rate=2), previous={"train": old})
    assert (done.path("train") / "x").read_text() == "21"


def test_a_realization_that_is_gone_can_not_be_gone_on_from(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, RESUMES)
    path = run(store, module.train).path("train")
    [old] = recorded(store)
    store.info_file(old.outputs["out"]).unlink()
    remove_tree(path)
    done = run(store, module.train, previous={"train": old})
    assert f"the realization {old.id} is not here any more" in str(done.failure)


def test_what_a_waiting_run_goes_on_from_is_kept_from_gc(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, RESUMES + "@stage\ndef first(x=out('x')): x.touch()")
    run(store, module.train)
    [old] = recorded(store)
    release()
    held = []

    def note(event: Event) -> None:
        # The other one waits for the only job slot.
        if isinstance(event, Started) and not held:
            held.append(held_paths(store)[0])

    plan = instantiate([module.first, module.train])
    realize(plan, store, options=Options(jobs=1, more={"train": 1}), report=note)
    assert base_name(old.outputs["out"]) in held[0]


def test_more_are_made_beyond_those_that_there_are(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, KEEPS.replace("if run.index in (1, 3)", "if False"))
    run(store, module.train)
    done = run(store, module.train, more={"train": 3})
    assert sorted(one.index for one in done.choice("train").candidates) == [0, 1, 2, 3, 4, 5, 6]


def test_a_realization_is_made_once_more_by_the_same_seed(store: Store, tmp_path: Path) -> None:
    text = HEAD + "@stage(realizations=2)\ndef s(run, x=out('x')):\n    x.write_text(str(run.seed))\n"
    module = load(tmp_path, text)
    run(store, module.s)
    old = recorded(store)[1]
    done = run(store, module.s, redo=(old,))
    [new] = done.of(Finished)
    assert (new.realization.index, new.realization.seed) == (old.index, old.seed)
    assert new.realization.outputs == old.outputs
    assert new.realization.id != old.id


def test_a_realization_of_another_derivation_can_not_be_made_again(store: Store, tmp_path: Path) -> None:
    text = HEAD + "@stage\ndef s(run, n=1, x=out('x')):\n    x.write_text(str(run.seed))\n"
    module = load(tmp_path, text)
    run(store, module.s)
    done = run(store, module.s(n=2), redo=tuple(recorded(store)))
    assert "is of another derivation of the stage s" in str(done.error)


# ------------------------------------------------------------------------------------- checkpoints

CHECKPOINTS = (
    HEAD
    + """
@stage(%s)
def train(run, x=out("x")):
    epochs = run.checkpoint() / "epochs"
    done = int(epochs.read_text()) if epochs.exists() else 0
    for epoch in range(done, 3):
        print("epoch", epoch, flush=True)
        epochs.write_text(str(epoch + 1))
        if epoch == 1 and done == 0:
            %s
    x.write_text(f"from {done}")
"""
)


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "raise ValueError"])
def test_the_next_try_goes_on_from_the_checkpoint(store: Store, tmp_path: Path, end: str) -> None:
    module = load(tmp_path, CHECKPOINTS % ("", end))
    assert run(store, module.train).error is not None
    assert len(list(store.checkpoints.iterdir())) == 1
    assert_clean(store)
    done = run(store, module.train)
    assert (done.path("train") / "x").read_text() == "from 2"
    assert list(store.checkpoints.iterdir()) == []
    assert_clean(store)


def test_a_retry_goes_on_from_the_checkpoint_too(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, CHECKPOINTS % ("retries=1, backoff=0.01", "raise ValueError"))
    assert (run(store, module.train).path("train") / "x").read_text() == "from 2"


@pytest.mark.parametrize("keep", [False, True])
def test_what_an_interrupted_run_had_is_kept_where_the_stage_keeps_failures(
    store: Store, tmp_path: Path, keep: bool
) -> None:
    file = write_stages(tmp_path, CHECKPOINTS % ("on_error='keep'" if keep else "", "time.sleep(60)"))
    with drive(store, file) as process:
        wait_until(lambda: any("epoch 1" in path.read_text() for path in store.logs.iterdir()), 20)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130
    assert results(store) == (["partial"] if keep else [])
    if keep:
        [one] = recorded(store)
        assert (store.real_path(one.outputs["out"]) / "epochs").read_text() == "2"
    assert_clean(store)
    done = run(store, load_module(str(file)).train)
    assert (done.path("train") / "x").read_text() == "from 2"
    [chosen] = done.choice("train").chosen
    assert chosen.index == 0
