"""What is dropped by name goes, unless others need it."""

from __future__ import annotations

import pytest

from bridge.store.drop import Dropped, drop
from bridge.store.errors import StoreError
from bridge.store.holds import hold, release
from bridge.store.layout import Store, open_store
from bridge.store.roots import roots, tag
from bridge.store.trace import Realization, realizations

from .filling import add_file, assert_clean
from .keeping import chain, derivation, realized


def dropped(store: Store, one: Realization, *, force: bool = False) -> Dropped:
    release()
    found = drop(store, {(one.drv, one.id)}, [], force=force)
    assert_clean(store)
    return found


def test_a_realization_goes_with_its_record_its_bytes_and_its_log(store: Store) -> None:
    one = realized(store, "train", derivation(store, "train"), log="train-1")
    found = dropped(store, one)
    assert (found.dependents, [entry.id for entry in found.realizations], found.kept) == ((), [one.id], ())
    assert found.freed > 0
    assert realizations(store, one.drv) == []
    assert not store.is_valid(one.outputs["out"])
    assert list(store.logs.iterdir()) == list(store.trace.iterdir()) == []


def test_of_two_with_equal_bytes_the_bytes_of_one_stay_for_the_other(store: Store) -> None:
    drv = derivation(store, "train")
    first, second = (realized(store, "train", drv, at, content="same") for at in (1.0, 2.0))
    assert dropped(store, first).kept == (first.outputs["out"],)
    assert [one.id for one in realizations(store, drv)] == [second.id]
    assert dropped(store, second).kept == ()
    assert list(store.objects.iterdir()) == []


def test_nothing_is_done_where_another_was_made_from_it(store: Store) -> None:
    clean, train = chain(store)
    assert dropped(store, clean).dependents == (f"train {train.id} was made from {clean.id}",)
    assert [one.id for one in realizations(store, clean.drv)] == [clean.id]


def test_by_force_the_record_goes_and_bytes_that_others_refer_to_stay(store: Store) -> None:
    clean, train = chain(store)
    assert dropped(store, clean, force=True).kept == (clean.outputs["out"],)
    assert realizations(store, clean.drv) == []
    assert [one.id for one in realizations(store, train.drv)] == [train.id]


def test_two_that_depend_on_each_other_go_together(store: Store) -> None:
    named = {(one.drv, one.id) for one in chain(store)}
    release()
    assert drop(store, named, []).dependents == ()
    assert list(store.objects.iterdir()) == []
    assert_clean(store)


def test_a_tag_and_what_went_on_from_it_stand_against_it(store: Store) -> None:
    drv = derivation(store, "train")
    first = realized(store, "train", drv, result="partial")
    second = realized(store, "train", drv, 2.0, previous=first.id)
    tag(store, "paper", (drv, first.id))
    assert set(dropped(store, first).dependents) == {
        f"train {second.id} went on from {first.id}",
        f"the tag paper keeps {first.id}",
    }
    dropped(store, first, force=True)
    assert roots(store) == []


def test_what_a_process_uses_stands_against_it(store: Store) -> None:
    one = realized(store, "train", derivation(store, "train"))
    release()
    hold(store, one.outputs.values())
    found = drop(store, {(one.drv, one.id)}, [])
    assert found.dependents == (f"a running process uses {one.outputs['out']}",)


def test_an_object_without_a_realization_goes_by_its_path(store: Store) -> None:
    path = add_file(store, "source").path
    release()
    assert drop(store, [], [path]).dependents == ()
    assert not store.is_valid(path)


def test_an_object_that_a_realization_needs_stays(store: Store) -> None:
    source = add_file(store, "source").path
    one = realized(store, "train", derivation(store, "train", (source,)))
    release()
    assert drop(store, [], [source]).dependents == (f"train {one.id} needs {source}",)
    assert store.is_valid(source)


def test_what_is_in_a_store_below_is_not_dropped(store: Store) -> None:
    one = realized(store, "train", derivation(store, "train"))
    upper = open_store(store.root / "upper", [store.root])
    with pytest.raises(StoreError, match="only read"):
        drop(upper, {(one.drv, one.id)}, [], force=True)
