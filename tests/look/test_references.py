"""What somebody writes for a realization: each way alone, and what is called by more than one of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import instantiate
from bridge.look.errors import AmbiguousError
from bridge.look.files import spot_of
from bridge.look.ground import Ground
from bridge.look.references import named, one_named, refuse_several
from bridge.look.walk import walk
from bridge.realize.engine import realize
from bridge.stages.errors import TargetError
from bridge.store.catalogue import Entry
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree
from bridge.store.roots import tag
from tests.realize.running import load

STAGES = """
@stage(realizations=2)
def train(run, model=out("model.txt")):
    model.write_text(str(run.index))
    run.log(score=run.index)

@stage
def report(model=train.model, page=out("page.txt")):
    page.write_text(model.read_text())
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("references")
    store = open_store(folder / "store")
    realize(instantiate([load(folder, STAGES).report]), store)
    yield Ground(store)
    remove_tree(store.root)


@pytest.fixture
def store(ground: Ground) -> Iterator[Store]:
    """Without tags at its end."""
    yield ground.store
    for one in (ground.store.roots / "tags").glob("*"):
        one.unlink()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def first(ground: Ground, stage: str = "train") -> Entry:
    return ground.of_stage(stage)[0]


def written(ground: Ground, text: str) -> list[str]:
    with pytest.raises(AmbiguousError) as raised:
        named(ground, text)
    found = list(raised.value.written)
    assert all(one in raised.value.message for one in found)
    return found


def test_a_stage_a_tag_and_an_id_are_told_apart_by_a_sign(ground: Ground, store: Store) -> None:
    one = first(ground)
    tag(store, "good", (one.drv, one.id))
    for text in ("good", "@good", one.id, one.id[:9]):
        assert named(ground, text).entries == (one,)
    for text in ("train", ":train"):
        found = named(ground, text)
        assert (found.kind, len(found.entries)) == ("stage", 2)
    assert [one.id for one in walk("@good", store, nix=None)] == [one.id]


def test_a_tag_that_is_called_as_a_stage_is_ambiguous_with_each_told(ground: Ground, store: Store) -> None:
    one = first(ground)
    tag(store, "train", (one.drv, one.id))
    assert written(ground, "train") == ["@train", ":train"]
    assert named(ground, "@train").entries == (one,)
    assert len(named(ground, ":train").entries) == 2
    with pytest.raises(AmbiguousError):
        walk("train", store, nix=None)
    with pytest.raises(AmbiguousError):
        spot_of(ground, "train/model.txt")
    assert spot_of(ground, "@train/model.txt").object == one.outputs["out"]
    assert spot_of(ground, ":train/model.txt").object == one_named(ground, ":train").outputs["out"]


def test_a_link_that_is_called_as_a_stage_is_ambiguous(ground: Ground, here: Path) -> None:
    (here / "report").symlink_to(ground.lies(first(ground).outputs["out"]))
    assert written(ground, "report") == [":report", "./report"]
    assert named(ground, "./report").object == first(ground).outputs["out"]
    assert spot_of(ground, "./report/model.txt").below == "model.txt"


def test_what_is_no_way_into_the_store_makes_nothing_ambiguous(ground: Ground, here: Path) -> None:
    (here / "train").mkdir()
    (here / "train" / "model.txt").write_text("somebody's")
    assert named(ground, "train").kind == "stage"
    assert spot_of(ground, "train/model.txt").root.parent == ground.store.objects


def test_a_folder_of_links_that_is_called_as_a_stage_is_ambiguous(ground: Ground, here: Path) -> None:
    (here / "train").mkdir()
    (here / "train" / "model.txt").symlink_to(ground.lies(first(ground, "report").outputs["out"]))
    with pytest.raises(AmbiguousError) as raised:
        spot_of(ground, "train/model.txt")
    assert list(raised.value.written) == ["./train/model.txt", ":train/model.txt"]
    assert spot_of(ground, "./train/model.txt").object == first(ground, "report").outputs["out"]


def test_a_folder_of_links_is_entered_without_a_sign(ground: Ground, here: Path) -> None:
    (here / "results").mkdir()
    (here / "results" / "best").symlink_to(ground.lies(first(ground).outputs["out"]))
    assert spot_of(ground, "results/best").object == first(ground).outputs["out"]


def test_the_beginning_of_an_id_hides_no_name(ground: Ground, store: Store) -> None:
    one, other = ground.of_stage("train")
    beginning = one.id[:3]
    tag(store, beginning, (other.drv, other.id))
    assert named(ground, beginning).entries == (other,)


def test_an_id_that_several_begin_with_is_told_with_all(ground: Ground) -> None:
    ids = [one.id for one in ground.entries()]
    digit = max("01", key=lambda digit: sum(one.startswith(digit) for one in ids))
    assert sorted(written(ground, digit)) == sorted(one for one in ids if one.startswith(digit))


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("trian", "did you mean train?"),
        (":trian", "did you mean :train?"),
        ("@godo", "did you mean @good?"),
        ("godo", "did you mean good?"),
        ("@", "tag --list"),
        (":", "nixbridge ls"),
        ("", "nixbridge ls"),
    ],
)
def test_a_misspelt_name_is_told_with_what_is_near(ground: Ground, store: Store, reference: str, said: str) -> None:
    one = first(ground)
    tag(store, "good", (one.drv, one.id))
    with pytest.raises(TargetError) as raised:
        named(ground, reference)
    assert said in (raised.value.hint or "")


def test_what_drops_takes_no_stage_and_no_derivation(ground: Ground) -> None:
    one = first(ground)
    for text, what in (("train", "a stage with 2 realizations"), (":report", "a stage with 1 realization,")):
        with pytest.raises(TargetError, match=what):
            refuse_several(named(ground, text), text)
    with pytest.raises(TargetError, match="a derivation with 2 realizations"):
        refuse_several(named(ground, one.drv), one.drv)
    refuse_several(named(ground, one.id), one.id)


@given(text=st.text(max_size=40))
def test_any_text_is_a_reference_or_a_target_error(ground: Ground, text: str) -> None:
    if "\0" in text or os.path.lexists(text):
        return
    with contextlib.suppress(TargetError):
        assert named(ground, text).entries


def test_what_can_not_be_read_is_not_suggested_for_itself(ground: Ground, store: Store) -> None:
    (store.roots / "tags").mkdir(exist_ok=True)
    (store.roots / "tags" / "spoilt").write_text("no link")
    for text in ("spoilt", "@spoilt"):
        with pytest.raises(TargetError) as caught:
            named(ground, text)
        assert "spoilt?" not in (caught.value.hint or "")
    (store.roots / "tags" / "spoilt").unlink()


def test_what_is_no_store_path_is_said_once(ground: Ground) -> None:
    with pytest.raises(TargetError) as caught:
        named(ground, "/nix/store/nope/below")
    assert str(caught.value).count("is no store path") == 1
