"""Which run goes next, and what it has of the machine."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bridge.realize.schedule import Durations, Queue
from bridge.realize.task import Task
from bridge.stages.plan import instantiate
from bridge.stages.values import Stage
from bridge.store.layout import Store

from .running import load, run

MACHINE = {"cpu": 8, "mem": 4 << 30, "gpu": 2}

GPUS = """
import os, time

@stage(realizations={count}, match=every(), resources={{"gpu": {each}}})
def train(run, x=out("x")):
    begun = time.time()
    time.sleep(0.3)
    x.write_text(str(run.index))
    run.log(visible=os.environ["CUDA_VISIBLE_DEVICES"], begun=begun, ended=time.time())

@stage
def other(run, x=out("x")):
    x.touch()
    run.log(visible=os.environ.get("CUDA_VISIBLE_DEVICES", "as it was"))
"""


def task(stage: Stage) -> Task:
    [node] = instantiate([stage]).targets
    assert node.instantiated is not None
    return Task(node, node.instantiated, ())


def names(queue: Queue) -> list[str]:
    return [one.node.name for one, _ in queue.take()]


@pytest.mark.parametrize(
    ("environ", "resources", "visible"),
    [
        ("4,GPU-8f2a", {}, {"4", "GPU-8f2a"}),
        (None, {"gpu": 2}, {"0", "1"}),
    ],
)
def test_each_run_has_gpus_of_its_own(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: str | None,
    resources: dict[str, int],
    visible: set[str],
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if environ is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", environ)
    module = load(tmp_path, GPUS.format(count=4, each=1))
    done = run(store, module.train, module.other, jobs=8, resources=resources)
    metrics = [one.metrics for one in done.choice("train").chosen]
    assert {one["visible"] for one in metrics} == visible
    for gpu in visible:
        spans = sorted((one["begun"], one["ended"]) for one in metrics if one["visible"] == gpu)
        assert all(ended <= begun for (_, ended), (begun, _) in itertools.pairwise(spans))
    assert done.choice("other").chosen[0].metrics["visible"] == (environ or "as it was")


def test_realizations_made_at_once_are_in_the_order_of_their_indices(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        import time

        @stage(realizations=12, match=every())
        def many(run, x=out("x")):
            time.sleep((7 * run.index % 12) / 50)
            x.write_text(str(run.index))

        @stage
        def use(many=many.x, x=out("x")):
            x.write_text(" ".join(path.read_text() for path in many))
        """,
    )
    done = run(store, module.use, jobs=12)
    assert (done.path("use") / "x").read_text() == " ".join(map(str, range(12)))


def test_a_run_may_have_several_gpus(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    done = run(store, load(tmp_path, GPUS.format(count=1, each=2)).train)
    assert done.choice("train").chosen[0].metrics["visible"] == "3,5"


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ('{"gpu": 3}', "needs 3 of gpu, and there are 2"),
        ('{"mem": "4100M"}', "needs 4.004G of memory, and there is 4G"),
        ('{"licence": 1}', "needs 1 of licence, and there are 0"),
    ],
)
def test_what_needs_more_than_there_is_fails_at_once(store: Store, tmp_path: Path, resources: str, said: str) -> None:
    module = load(tmp_path, f"@stage(resources={resources})\ndef s(x=out('x')): x.touch()")
    done = run(store, module.s, resources=MACHINE)
    assert said in str(done.failure)
    assert done.started == []


STAGES = """
small = shell("true", name="small").options(resources={"mem": "1G"})
half = shell("true", name="half").options(resources={"mem": "2G"})
large = shell("true", name="large").options(resources={"mem": "3G"})
plain = shell("true", name="plain")
card = shell("true", name="card").options(resources={"gpu": 1})
"""


@pytest.fixture
def stages(tmp_path: Path) -> ModuleType:
    return load(tmp_path, STAGES)


def queue(*waiting: tuple[Stage, float], **there: Any) -> Queue:
    found = Queue({**MACHINE, **there}, {})
    for stage, way in waiting:
        found.put(task(stage), way)
    return found


def test_the_longest_way_goes_first(stages: ModuleType) -> None:
    waiting = queue((stages.plain, 1.0), (stages.card, 3.0), (stages.small, 2.0), cpu=1)
    found = []
    while waiting:
        [(one, grant)] = waiting.take()
        found.append(one.node.name)
        waiting.give_back(grant)
    assert found == ["card", "small", "plain"]


def test_what_does_not_fit_lets_pass_what_takes_nothing_of_what_it_waits_for(stages: ModuleType) -> None:
    waiting = queue(
        (stages.half, 9.0), (stages.large, 8.0), (stages.small, 7.0), (stages.card, 6.0), (stages.plain, 5.0)
    )
    # The small one would fit beside, and large ones would wait for ever behind many small ones.
    assert names(waiting) == ["half", "card", "plain"]
    assert names(waiting) == []


def test_what_was_taken_is_given_back(stages: ModuleType) -> None:
    waiting = queue((stages.half, 9.0), (stages.large, 8.0), (stages.small, 7.0))
    [(_, grant)] = waiting.take()
    waiting.give_back(grant)
    assert names(waiting) == ["large", "small"]


def test_ways_are_as_long_as_stages_took_the_last_time(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        "a = shell('true')\nb = shell('true $a', a=a)\nc = shell('true $b', b=b)\nd = shell('true')\n"
        "e = shell('true $d $a', d=d, a=a)",
    )
    plan = instantiate([module.c, module.e])
    before = Durations(store)
    assert {node.name: way for node, way in before.ways(plan).items()} == {"a": 3, "b": 2, "c": 1, "d": 2, "e": 1}
    for name, seconds in (("a", 2.0), ("c", 0.5), ("d", 30.0), ("e", 0.25)):
        before.note(name, seconds)
    before.save()
    ways = {node.name: way for node, way in Durations(store).ways(plan).items()}
    assert ways == {"a": 3.5, "b": 1.5, "c": 0.5, "d": 30.25, "e": 0.25}


def test_durations_that_are_damaged_are_forgotten(store: Store, stages: ModuleType) -> None:
    (store.root / "cache").mkdir(exist_ok=True)
    (store.root / "cache" / "durations.json").write_text('{"plain": "soon"')
    assert set(Durations(store).ways(instantiate([stages.plain])).values()) == {1.0}


def test_many_that_wait_are_ordered_in_no_time(stages: ModuleType) -> None:
    waiting = Queue(MACHINE, {})
    one = task(stages.half)
    for number in range(20_000):
        waiting.put(one, float(number % 97))
    begun = time.monotonic()
    for _, grant in list(waiting.take()):
        waiting.give_back(grant)
    assert time.monotonic() - begun < 1
