"""Which realization `why` holds a stage against, where there are variants of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from bridge import instantiate
from bridge.look.ground import Ground
from bridge.look.nearest import Last
from bridge.look.why import Because, causes, why
from bridge.realize.engine import Options, realize
from bridge.stages.load import load_module
from bridge.stages.plan import Plan
from bridge.stages.values import Stage
from bridge.store.catalogue import Entry
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree

STAGES = """
from bridge import out, stage, text

small = text("1", name="small.txt")
large = text("2", name="large.txt")

@stage
def prepare(data=small, seed=0, table=out("table.txt")):
    table.write_text(f"{data.read_text()} {seed}")

@stage
def train(data=prepare.table, rate=0.1, depth=3, model=out("model.txt")):
    model.write_text(f"{data.read_text()} {rate} {depth}")

@stage
def report(model=train.model, page=out("page.txt")):
    page.write_text(model.read_text())

def for_rate(rate):
    return report(model=train(rate=rate).model)

def for_data(data):
    return report(model=train(data=prepare(data=data).table).model)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store")
    yield found
    remove_tree(found.root)


def load(folder: Path, text: str) -> ModuleType:
    """A version of the stage file: another one of the same name, as after an edit."""
    version = folder / f"version-{len(list(folder.iterdir()))}"
    version.mkdir()
    (version / "nearest_stages.py").write_text(text)
    sys.modules.pop("nearest_stages", None)
    return load_module(str(version / "nearest_stages.py"))


def made(store: Store, stage: Stage) -> Entry:
    """The realization of a stage, made now."""
    plan = instantiate([stage])
    chosen = realize(plan, store).choices[plan.targets[0]].chosen[0]
    return next(one for one in Ground(store).entries() if one.id == chosen.id)


def asked(store: Store, stage: Stage) -> tuple[Plan, dict[str, Because], list[str]]:
    plan = instantiate([stage])
    found = why(plan, realize(plan, store, options=Options(dry_run=True)), Ground(store))
    return plan, {node.name: one for node, one in found.items()}, [one.node.name for one in causes(plan, found)]


def test_after_a_sweep_a_variant_is_held_against_itself(store: Store, tmp_path: Path) -> None:
    stages = load(tmp_path, STAGES)
    before = {rate: made(store, stages.for_rate(rate)) for rate in (0.3, 0.1, 0.2)}
    changed = load(tmp_path, STAGES.replace('{rate} {depth}")', '{rate} {depth}!")'))
    for rate, old in before.items():
        _, said, first = asked(store, changed.for_rate(rate))
        assert said["report"].last == old
        assert said["report"].among == 3
        assert first == ["train"]
        # Nothing but the code: the config is that of the variant.
        assert said["train"].stage.own.changes == ()
        assert said["train"].stage.code


def test_variants_are_told_apart_by_what_they_were_given_further_up(store: Store, tmp_path: Path) -> None:
    stages = load(tmp_path, STAGES)
    before = [made(store, stages.for_data(data)) for data in (stages.small, stages.large)]
    changed = load(tmp_path, STAGES.replace('{data.read_text()} {seed}"', '{data.read_text()} {seed}!"'))
    for data, old in zip((changed.small, changed.large), before, strict=True):
        _, said, first = asked(store, changed.for_data(data))
        assert said["report"].last == old
        assert first == ["prepare"]
        assert not any(one.what == "source" for one in said["prepare"].inputs)


def test_the_nearest_config_counts_before_the_newest(store: Store, tmp_path: Path) -> None:
    stages = load(tmp_path, STAGES)
    near = made(store, stages.train(rate=0.5, depth=7))
    made(store, stages.train(rate=0.7, depth=9))
    _, said, _ = asked(store, stages.train(rate=0.6, depth=7))
    assert (said["train"].last, said["train"].among) == (near, 2)
    assert [change.key for change in said["train"].stage.own.changes] == [("config", "rate")]


def test_of_those_that_are_alike_the_newest_is_taken(store: Store, tmp_path: Path) -> None:
    for mark in "abc":
        last = made(store, load(tmp_path, STAGES.replace('{rate} {depth}")', f'{{rate}} {{depth}}{mark}")')).train)
    _, said, _ = asked(store, load(tmp_path, STAGES).train)
    assert said["train"].last == last


def test_code_that_came_back_is_nearer_than_newer_code(store: Store, tmp_path: Path) -> None:
    old = load(tmp_path, STAGES)
    first = made(store, old.train)
    made(store, load(tmp_path, STAGES.replace('{rate} {depth}")', '{rate} {depth}?")')).train)
    _, said, _ = asked(store, old.train(rate=0.2))
    assert said["train"].last == first
    assert not said["train"].stage.code


def test_what_is_held_against_is_told_in_json(store: Store, tmp_path: Path) -> None:
    stages = load(tmp_path, STAGES)
    old = made(store, stages.train)
    _, said, _ = asked(store, stages.train(rate=9.0))
    value = json.loads(json.dumps(said["train"].to_json()))
    assert value["last"] == {"id": old.id, "drv": old.drv, "nearestOf": 1}


def test_a_derivation_that_is_lost_is_the_last_to_be_taken(store: Store, tmp_path: Path) -> None:
    stages = load(tmp_path, STAGES)
    known = made(store, stages.train(rate=0.5, depth=1))
    lost = made(store, stages.train(rate=0.1, depth=2))
    store.info_file(lost.drv).unlink()
    store.real_path(lost.drv).unlink()
    _, said, _ = asked(store, stages.train(rate=0.1, depth=3))
    assert said["train"].last == known


def test_why_of_a_large_sweep_is_quick(store: Store, tmp_path: Path) -> None:
    stages = load(tmp_path, STAGES)

    def sweep(module: ModuleType) -> Plan:
        return instantiate([module.train(rate=number / 1000) for number in range(150)])

    realize(sweep(stages), store)
    plan = sweep(load(tmp_path, STAGES.replace('{rate} {depth}")', '{rate} {depth}!")')))
    outcome = realize(plan, store, options=Options(dry_run=True))
    begin = time.perf_counter()
    found = why(plan, outcome, Ground(store))
    took = time.perf_counter() - begin
    for node in plan.targets:
        assert found[node].stage.own.changes == ()
    assert took < 2


def test_of_the_same_stage_derivation_the_newest_counts(store: Store, tmp_path: Path) -> None:
    stages = load(tmp_path, STAGES)
    made(store, stages.train)
    plan = instantiate([stages.train])
    outcome = realize(plan, store, options=Options(rebuild=frozenset(["train"])))
    from bridge.look.nearest import last_of

    newest = max(Ground(store).of_stage("train"), key=lambda one: one.started)
    assert last_of(plan, outcome, Ground(store), plan.targets[0]) == Last(newest)
