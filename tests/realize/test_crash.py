"""`kill -9`, Ctrl-C and SIGTERM to real processes that realize: nothing is left running, the store stays clean."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from bridge.nix.installation import Installation
from bridge.store.layout import Store
from bridge.store.trace import realizations, resolved_derivations
from bridge.store.verify import verify

from .running import alive, assert_clean, drive, load, noted, run, wait_until, write_stages

# Each call that changes a store is killed in tests/campaign; here it is whatever moment comes.
ROUNDS = 40 if os.environ.get("NIXBRIDGE_CAMPAIGN") == "1" else 9

# Training that takes a moment, and results of many files, so that the ingest takes one as well.
TRAINING = """
import os, time
PIDS = {pids!r}
data = shell('echo > {pids}/$$; i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo $i > $out/f$i; done; sleep 0.05')

@stage(realizations=3, match=every())
def train(run, data=data, many=out("many")):
    open(f"{{PIDS}}/{{os.getpid()}}", "w").close()
    time.sleep(0.03)
    many.mkdir()
    for number in range(300):
        (many / str(number)).write_text(f"{{run.index}} {{number}} {{data}}")

report = shell('echo > {pids}/$$; cat $models/many/1 > $out/x', models=train.options(match=latest()))
"""


def has_begun(child: subprocess.Popen[str], pids: Path, before: int) -> bool:
    return len(noted(pids)) > before or child.poll() is not None


def everything(store: Store) -> set[str]:
    """The ids of all realizations."""
    return {one.id for drv in resolved_derivations(store) for one in realizations(store, drv)}


def test_kill_9_at_any_moment_leaves_a_clean_store_that_goes_on(store: Store, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    file = write_stages(tmp_path, TRAINING.format(pids=str(pids)))
    rng = random.Random(20)
    kept: set[str] = set()
    killed = 0
    for turn in range(ROUNDS):
        before = len(noted(pids))
        with drive(store, file, "rebuild=train" if turn % 2 else "jobs=3") as child:
            wait_until(partial(has_begun, child, pids, before))
            time.sleep(rng.uniform(0, 0.25))
            killed += child.poll() is None
            child.kill()
        assert verify(store).findings == []
        assert kept <= everything(store)
        kept = everything(store)
    assert killed > ROUNDS // 3
    wait_until(lambda: alive(noted(pids)) == [], 5)
    with drive(store, file) as child:
        said = child.communicate(timeout=20)[0]
        assert child.returncode == 0, said
    assert kept <= everything(store)
    assert verify(store).findings == []
    with drive(store, file) as child:
        assert child.communicate(timeout=20)[0] == said


INGEST = """
import sys, os
from pathlib import Path
from bridge.store import open_store
from bridge.store.durable import temporary
from bridge.store.objects import add_output
store = open_store(sys.argv[1])
print("ready", flush=True)
for turn in range(1000):
    tree = temporary(store)
    (tree / "sub").mkdir(parents=True)
    for number in range(40):
        (tree / "sub" / str(number)).write_text(f"{turn} {number}" * 100)
    add_output(store, "x", tree, ())
"""


def test_kill_9_while_objects_enter_leaves_a_clean_store(store: Store) -> None:
    rng = random.Random(3)
    # Later and later, for disks on which nothing is durable within a tenth of a second.
    for attempt in range(1, 40):
        with subprocess.Popen([sys.executable, "-c", INGEST, store.root], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(rng.uniform(0, 0.1 * attempt))
            child.kill()
        assert verify(store).findings == []
        if attempt >= 8 and any(store.info.iterdir()):
            return
    pytest.fail("nothing ever entered")


def test_kill_9_of_a_local_build_ends_its_builder_and_all_below_it(store: Store, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    text = f"s = shell('sleep 60 & echo > {pids}/$!; echo > {pids}/$$; echo half > $out/half; wait')"
    with drive(store, write_stages(tmp_path, text)) as child:
        wait_until(lambda: len(noted(pids)) == 2)
        assert len(alive(noted(pids))) == 2
        os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: alive(noted(pids)) == [], 2)
    report = verify(store)
    assert report.findings == []
    # The half that was built, and the working folder.
    assert len(report.rubbish) == 2


SLEEPING = {
    "training": """
        import os, time
        @stage(realizations=2)
        def s(a=out("a")):
            open(f"{pids}/{{os.getpid()}}", "w").close()
            time.sleep(60)
        """,
    "deaf training": """
        import os, signal, time
        @stage(realizations=2)
        def s(a=out("a")):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            open(f"{pids}/{{os.getpid()}}", "w").close()
            time.sleep(60)
        """,
    "local build": """
        s = shell('sleep 60 & echo > {pids}/$!; echo > {pids}/$$; wait')
        """,
    "local build without output": """
        s = shell('exec > /dev/null 2>&1; sleep 60 & echo > {pids}/$!; echo > {pids}/$$; wait')
        """,
}


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("what", SLEEPING)
def test_an_interrupt_ends_what_runs_and_leaves_nothing(
    store: Store, tmp_path: Path, what: str, sent: signal.Signals
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    with drive(store, write_stages(tmp_path, SLEEPING[what].format(pids=str(pids)))) as child:
        wait_until(lambda: len(noted(pids)) == 2 or child.poll() is not None)
        started = time.monotonic()
        child.send_signal(sent)
        said = child.communicate(timeout=15)[0]
    assert (child.returncode, said) == (130, "")
    assert time.monotonic() - started < (5 if what == "deaf training" else 2)
    assert alive(noted(pids)) == []
    assert_clean(store)
    assert everything(store) == set()
    assert not any(path.name.endswith("-s") for path in store.objects.iterdir())


def test_a_second_interrupt_ends_at_once_what_is_deaf(store: Store, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    file = write_stages(tmp_path, SLEEPING["deaf training"].format(pids=str(pids)))
    with drive(store, file) as child:
        wait_until(lambda: len(noted(pids)) == 2)
        started = time.monotonic()
        child.send_signal(signal.SIGINT)
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=15)
    assert time.monotonic() - started < 2.5
    assert alive(noted(pids)) == []
    assert verify(store).findings == []


@pytest.mark.nix
def test_an_interrupt_ends_a_build_of_nix(store: Store, tmp_path: Path, nix: Installation) -> None:
    text = "b = host('busybox')\ns = shell('echo begun; sleep 60', tools=[b])"
    with drive(store, write_stages(tmp_path, text), "nix", env=dict(nix.environ)) as child:
        wait_until(lambda: builders(nix))
        found = builders(nix)
        started = time.monotonic()
        child.terminate()
        assert child.wait(15) == 130
    assert time.monotonic() - started < 5
    wait_until(lambda: alive(found) == [], 3)
    assert_clean(store)


def builders(nix: Installation) -> list[int]:
    """Processes that sleep in a sandbox of this Nix."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "cmdline").read_bytes() == b"sleep\x0060\0":
                inside = str((entry / "root").readlink()) + (entry / "mountinfo").read_text()
                if str(nix.root) in inside:
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_what_a_killed_process_left_in_tmp_is_taken_back_by_the_next(store: Store, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    with drive(store, write_stages(tmp_path, SLEEPING["training"].format(pids=str(pids)))) as child:
        wait_until(lambda: len(noted(pids)) == 2)
        child.kill()
    wait_until(lambda: alive(noted(pids)) == [], 4)
    assert list(store.tmp.iterdir()) != []
    module = load(tmp_path, "t = shell('mkdir $out/x')")
    run(store, module.t)
    assert_clean(store)
