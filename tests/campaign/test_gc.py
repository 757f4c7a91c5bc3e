"""Garbage is collected beside running builds, and by collectors that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.store.gc import collect
from bridge.store.layout import Store
from bridge.store.policy import Policy
from bridge.store.trace import realizations, resolved_derivations
from bridge.store.verify import verify
from tests.realize.running import write_stages

STAGES = """
import os
first = shell('echo first > $out/x', name='first')

@stage(realizations=2, match=best("n"))
def middle(run, number=0, data=first / "x", x=out("x")):
    x.write_bytes(os.urandom(8) + data.read_bytes())
    run.log(n=run.index)

slow_copy = 'cat $data > $out/x; sleep 0.02; cat $data > $out/y'
last = [shell(slow_copy, data=middle(number=n) / "x", name=f'last{n}') for n in range(4)]
"""
LOOP = """
import os, sys, time
from bridge.realize.engine import Options, realize
from bridge.stages.load import load_targets
from bridge.stages.plan import instantiate
from bridge.store.holds import release
from bridge.store.layout import open_store
store, plan, rounds = open_store(sys.argv[1]), instantiate(load_targets(sys.argv[2])), 0
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    found = realize(plan, store, options=Options(jobs=2))
    for node, choice in found.choices.items():
        for one in choice.chosen:
            for path in one.paths.values():
                # What this process was given is there as long as it lives.
                assert (path / "x").exists(), path
    rounds += 1
    # The next round is that of a process that has nothing yet.
    release()
print(rounds)
"""
COLLECT = """
import sys
from bridge.store.gc import collect
from bridge.store.layout import open_store
from bridge.store.policy import Policy
count = 0
while True:
    collect(open_store(sys.argv[1]), Policy(unrooted=True))
    count += 1
    print(count, flush=True)
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_processes_need_survives_a_collector_that_takes_all_it_may(
    store: Store, tmp_path: Path, whole: bool, figure: Callable[[str], None]
) -> None:
    file = write_stages(tmp_path, STAGES)
    seconds, crowd = (60, 8) if whole else (4, 3)
    children = [start(LOOP, store.root, file, seconds) for _ in range(crowd)]
    collector = start(COLLECT, store.root)
    said = [child.communicate(timeout=seconds + 120) for child in children]
    ended = collector.poll()
    collector.kill()
    out, errors = collector.communicate()
    assert [(child.returncode, text[1]) for child, text in zip(children, said, strict=True)] == [(0, "")] * crowd
    assert ended is None, errors
    rounds, collections = sum(int(text[0]) for text in said), len(out.splitlines())
    assert rounds >= crowd
    assert collections >= 2
    assert verify(store).findings == []
    collect(store, Policy(unrooted=True))
    assert verify(store).rubbish == []
    assert list(store.objects.iterdir()) == []
    figure(f"{crowd} processes, {rounds} rounds beside {collections} collections: nothing needed was lost")


def test_a_killed_collector_leaves_a_clean_store(
    store: Store, tmp_path: Path, whole: bool, figure: Callable[[str], None]
) -> None:
    file = write_stages(tmp_path, STAGES)
    chance = random.Random(5)
    kills = 0
    for _ in range(60 if whole else 4):
        made = start(LOOP, store.root, file, 0.01)
        assert made.communicate(timeout=60)[1] == ""
        collector = start(COLLECT, store.root)
        time.sleep(chance.uniform(0.15, 0.4))
        os.kill(collector.pid, signal.SIGKILL)
        collector.communicate()
        kills += 1
        # No record names what is gone, and what is registered is whole, with all that it refers to.
        assert verify(store).findings == []
        for drv in resolved_derivations(store):
            for one in realizations(store, drv):
                assert all(store.is_valid(path) for path in one.outputs.values())
    collect(store)
    assert verify(store).rubbish == []
    assert list(store.tmp.iterdir()) == []
    figure(f"a collector killed {kills} times: always clean")


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_build_that_runs_is_no_rubbish(store: Store, tmp_path: Path, dry_run: bool) -> None:
    file = write_stages(tmp_path, f"slow = shell('echo half > $out/x; touch {tmp_path}/go; sleep 1; echo > $out/y')")
    child = start(LOOP, store.root, file, 0.01)
    while not (tmp_path / "go").exists():
        time.sleep(0.01)
    found = collect(store, Policy(unrooted=True), dry_run=dry_run)
    assert found.items == ()
    assert child.communicate(timeout=30)[1] == ""
    assert verify(store).findings == []
