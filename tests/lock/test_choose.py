"""Which pin is whose: policies of one derivation, mapped stages, results that changed above."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.lock.choose import bring, changes, labels_of, pin_all, pinned
from bridge.lock.file import LockFile, read_lock, update_section
from bridge.lock.objects import Objects
from bridge.lock.pins import Pin, pins_in
from bridge.realize.engine import Options, realize
from bridge.realize.places import Places
from bridge.stages.load import load_targets
from bridge.stages.plan import Plan, instantiate
from bridge.store.layout import Store, open_store

POLICIES = """
from bridge import best, out, stage

@stage(realizations=3, match=best("score"))
def train(run, model=out("model")):
    model.write_text(str(run.index))
    run.log(score=run.index)

worst = train.options(match=best("score", lowest=True))
also_worst = train.options(match=best("score", lowest=True), realizations=2)

@stage
def compare(a=train, b=worst, c=also_worst, page=out("page")):
    page.write_text((a / "model").read_text() + (b / "model").read_text())
"""

SWEEP = """
from bridge import each, every, out, stage

@stage(realizations=2, match=every())
def train(run, model=out("model")):
    model.write_text(f"m{run.index}")

@stage
def judge(model=each(train.model), score=out("score")):
    score.write_text(model.read_text())
"""

Write = Callable[[str], str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A stage file of that text; gives its name."""

    def write(text: str) -> str:
        file = tmp_path / f"stages_{tmp_path.name}.py"
        file.write_text(text)
        return str(file)

    return write


def pin(plan: Plan, store: Store, folder: Path) -> dict[str, Pin]:
    """What is chosen now, written to a lock file and read again."""
    outcome = realize(plan, store, options=Options(dry_run=True))
    with Objects(Places(store, None)) as objects:
        made = pin_all(plan, outcome, objects, folder, lambda label: ())
    update_section(folder / "bridge.lock", "stages", lambda old: {label: one.to_json() for label, one in made.items()})
    found = pins_in(read_lock(folder / "bridge.lock"))
    assert found == made
    return found


def chosen(plan: Plan, store: Store, pins: dict[str, Pin] | None = None) -> dict[str, list[str]]:
    """The ids chosen, by the label in a lock."""
    options = Options() if pins is None else Options(pinned=pinned(plan, pins))
    found = realize(plan, store, options=options).choices
    return {label: [one.id for one in found[node].chosen] for node, label in labels_of(plan).items()}


def test_policies_of_one_derivation_have_pins_of_their_own(write: Write, store: Store, tmp_path: Path) -> None:
    plan = instantiate(load_targets(f"{write(POLICIES)}:compare"))
    first = chosen(plan, store)
    trains = [label for label in first if label.startswith("train")]
    assert len(trains) == 3
    assert len({tuple(first[label]) for label in trains}) == 2
    pins = pin(plan, store, tmp_path)
    realize(plan, store, options=Options(more={"train": 2}))
    assert chosen(plan, store) != first
    assert chosen(plan, store, pins) == first
    assert changes(plan, pins) == []


def test_a_policy_is_found_where_another_plan_gives_it_another_label(
    write: Write, store: Store, tmp_path: Path
) -> None:
    file = write(POLICIES)
    whole = instantiate(load_targets(f"{file}:compare"))
    chosen(whole, store)
    pins = pin(whole, store, tmp_path)
    alone = instantiate(load_targets(f"{file}:worst"))
    (only,) = pinned(alone, pins).values()
    lowest = next(one for one in pins.values() if "lowest" in one.matcher)
    assert only.ids == tuple(one.realization.id for one in lowest.realizations)


def test_a_mapped_stage_is_as_pinned_as_what_it_is_mapped_over(write: Write, store: Store, tmp_path: Path) -> None:
    plan = instantiate(load_targets(f"{write(SWEEP)}:judge"))
    first = chosen(plan, store)
    pins = pin(plan, store, tmp_path)
    assert changes(plan, pins) == []
    realize(plan, store, options=Options(more={"train": 1}))
    assert chosen(plan, store, pins) == first
    newer = pin(plan, store, tmp_path)
    [more] = changes(plan, {**newer, "judge": pins["judge"]})
    assert (more.label, more.what) == ("judge", "it is not pinned for all that it is mapped over: 3, and 2 are pinned")
    [fewer] = changes(plan, {**newer, "train": pins["train"]})
    assert fewer.what.startswith("it is pinned with other inputs: ")


def test_pinned_records_come_into_a_store_that_has_the_objects(write: Write, store: Store, tmp_path: Path) -> None:
    plan = instantiate(load_targets(f"{write(SWEEP)}:judge"))
    first = chosen(plan, store)
    pins = pin(plan, store, tmp_path)
    for record in store.trace.glob("*/*.json"):
        record.unlink()
    with Objects(Places(store, None)) as objects:
        bring(plan, pins, store, objects, lambda line: None)
    assert chosen(plan, store, pins) == first


def test_no_pins_are_all_missing(write: Write, tmp_path: Path) -> None:
    plan = instantiate(load_targets(f"{write(SWEEP)}:judge"))
    pins = pins_in(LockFile(tmp_path / "bridge.lock", {}, {}))
    assert {one.label: one.what for one in changes(plan, pins)} == {"train": "is not pinned", "judge": "is not pinned"}
