"""Several processes realize the same plan at once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bridge.nix.installation import Installation
from bridge.realize.events import Waiting
from bridge.store.layout import Store
from bridge.store.trace import realizations, resolved_derivations
from bridge.store.verify import verify

from .running import alive, assert_clean, drive, load, noted, run, wait_until, write_stages

PLAN = """
import os
first = shell('echo x >> {marks}/first; sleep 0.2; echo 1 > $out/x')

@stage(realizations=4, match=every())
def train(run, first=first / "x", model=out("m")):
    with open("{marks}/train", "a") as file:
        file.write(f"{{run.index}}\\n")
    model.write_bytes(os.urandom(8))

best_one = train.options(match=some(1))

@stage(deterministic=True)
def page(models=train.model, x=out("x")):
    with open("{marks}/page", "a") as file:
        file.write("x\\n")
    x.write_bytes(b"".join(model.read_bytes() for model in models))

last = shell('echo x >> {marks}/last; cat $page > $out/x', page=page.x)
"""


@pytest.mark.parametrize("processes", [2, 4])
def test_each_stage_runs_as_often_as_one_process_would_run_it(store: Store, tmp_path: Path, processes: int) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    file = write_stages(tmp_path, PLAN.format(marks=marks))
    children = [drive(store, file, f"go={tmp_path}/go") for _ in range(processes)]
    (tmp_path / "go").touch()
    said = [child.communicate(timeout=30)[0] for child in children]
    assert [child.returncode for child in children] == [0] * processes, said
    assert len(set(said)) == 1
    assert {path.name: sorted(path.read_text().split()) for path in marks.iterdir()} == {
        "first": ["x"],
        "train": ["0", "1", "2", "3"],
        "page": ["x"],
        "last": ["x"],
    }
    counts = sorted(len(realizations(store, drv)) for drv in resolved_derivations(store))
    assert counts == [1, 1, 1, 4]
    assert len(json.loads(said[0])["train"]) == 4
    assert_clean(store)


@pytest.mark.nix
def test_two_processes_with_nix_record_each_stage_once(store: Store, tmp_path: Path, nix: Installation) -> None:
    text = """
    b = host('busybox')
    one = shell('sleep 0.2; echo 1 > $out/x', tools=[b])
    two = shell('cat $one/x > $out/x', one=one, tools=[b])
    @stage(realizations=2, match=best("n"))
    def train(run, two=two / "x", m=out("m")):
        m.write_text(two.read_text() + str(run.index))
        run.log(n=run.index)
    three = shell('cat $m > $out/x', m=train.m, tools=[b])
    """
    file = write_stages(tmp_path, text)
    children = [drive(store, file, "nix", f"go={tmp_path}/go", env=dict(nix.environ)) for _ in range(2)]
    (tmp_path / "go").touch()
    said = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    assert len(set(said)) == 1
    assert sorted(len(realizations(store, drv)) for drv in resolved_derivations(store)) == [1, 1, 1, 2]
    assert_clean(store)


def test_who_waits_is_told_for_whom_and_goes_on_when_that_one_is_killed(store: Store, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    text = f"""
    import os, time
    @stage
    def s(a=out("a")):
        open("{pids}/" + str(os.getpid()), "w").close()
        if len(os.listdir("{pids}")) == 1:
            time.sleep(60)
        a.touch()
    """
    file = write_stages(tmp_path, text)
    with drive(store, file) as child:
        wait_until(lambda: len(noted(pids)) == 1)
        with drive(store, file) as second:
            time.sleep(0.6)
            assert second.poll() is None
            child.kill()
            assert second.wait(10) == 0
    wait_until(lambda: alive(noted(pids)) == [], 4)
    assert verify(store).findings == []


def test_the_one_who_is_waited_for_is_named(store: Store, tmp_path: Path) -> None:
    file = write_stages(tmp_path, f"s = shell('echo > {tmp_path}/begun; sleep 0.5; mkdir $out/x')")
    module = load(tmp_path, file.read_text())
    with drive(store, file) as child:
        wait_until((tmp_path / "begun").exists)
        done = run(store, module.s)
        assert child.wait(10) == 0
    (waiting,) = done.of(Waiting)
    assert waiting.holder.startswith(f"process {child.pid} on ")
    assert done.started == []
    assert_clean(store)
