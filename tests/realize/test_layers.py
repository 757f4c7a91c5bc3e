"""Realizing with results in a store below: builders, workers and Nix find them where they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.nix.installation import Installation
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree

from .running import assert_clean, load, run

STAGES = """
busybox = host("busybox")

@stage(realizations=2, match=best("index"))
def train(run, model=out("model.txt")):
    model.write_text(f"model {run.index}")
    run.log(index=run.index)

@stage
def judge(model=train.model, note=out("note.txt")):
    note.write_text(f"{model}: {model.read_text()}")

shown = shell("cat $model > $out/shown", model=train.model, tools=[busybox], shell=busybox / "bin/sh")
both = collect(judged=judge, model=train.model)
"""


@pytest.fixture
def layered(store: Store, tmp_path: Path) -> Iterator[Store]:
    """A store of one's own over `store`."""
    found = open_store(tmp_path / "own", [store.root])
    yield found
    remove_tree(found.root)


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def test_a_worker_gets_the_real_place_of_an_input_below(store: Store, layered: Store, tmp_path: Path) -> None:
    module = load(tmp_path, STAGES)
    run(store, module.train)
    objects, records = names(store.objects), names(store.trace)
    done = run(layered, module.judge)
    assert done.started == [("judge", "python")]
    place = store.place_of(done.choice("train").chosen[0].outputs["out"])
    assert (done.path("judge") / "note.txt").read_text() == f"{place}/model.txt: model 1"
    assert done.path("judge").is_relative_to(layered.root)
    assert (names(store.objects), names(store.trace)) == (objects, records)
    assert_clean(layered)


def test_what_is_missing_gets_the_numbers_after_those_below(store: Store, layered: Store, tmp_path: Path) -> None:
    module = load(tmp_path, STAGES)
    run(store, module.train)
    done = run(layered, module.train.options(realizations=4))
    assert sorted(one.field("index") for one in done.choice("train").candidates) == [0, 1, 2, 3]
    assert len(list(layered.trace.glob("*/*.json"))) == 2


def test_the_local_builder_reads_what_is_below(store: Store, layered: Store, tmp_path: Path) -> None:
    module = load(tmp_path, STAGES)
    run(store, module.train)
    done = run(layered, module.shown)
    assert (done.path("shown") / "shown").read_text() == "model 1"
    assert_clean(layered)


def test_a_collection_of_what_is_below_leads_to_copies_beside_it(store: Store, layered: Store, tmp_path: Path) -> None:
    module = load(tmp_path, STAGES)
    run(store, module.judge)
    found = run(layered, module.both).path("both")
    assert found.is_relative_to(layered.root)
    assert (found / "model").read_text() == "model 1"
    assert (found / "judged").resolve().is_relative_to(layered.root)
    assert_clean(layered)


@pytest.mark.nix
def test_nix_is_brought_what_is_below(store: Store, layered: Store, tmp_path: Path, nix: Installation) -> None:
    module = load(tmp_path, STAGES)
    run(store, module.train)
    done = run(layered, module.shown, nix=nix)
    assert done.started == [("shown", "nix")]
    assert (done.path("shown") / "shown").read_text() == "model 1"
    assert not any("shown" in name for name in names(store.roots))
    assert any("shown" in name for name in names(layered.roots))
    assert_clean(layered)
