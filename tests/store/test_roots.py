"""Links, tags and kept plans are roots as long as they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.store.errors import StoreError
from bridge.store.layout import Store
from bridge.store.roots import add_link, delete_root, keep_plan, object_at, roots, stale_links, tag, tagged

from .filling import add_file
from .keeping import chain, derivation, realized


def test_a_link_is_a_root_while_it_leads_to_an_object(store: Store, tmp_path: Path) -> None:
    info = add_file(store, "model")
    link = tmp_path / "best"
    add_link(store, link, store.real_path(info.path))
    assert link.read_bytes() == b"hello\n"
    assert [(one.kind, one.name, one.objects) for one in roots(store)] == [("link", str(link), (info.path,))]
    link.unlink()
    assert roots(store) == []
    assert len(stale_links(store)) == 1


def test_a_link_takes_the_place_of_another_one_but_of_nothing_else(store: Store, tmp_path: Path) -> None:
    first, second = (add_file(store, name, name.encode()) for name in ("a", "b"))
    link = tmp_path / "best"
    add_link(store, link, store.real_path(first.path))
    add_link(store, link, store.real_path(second.path))
    assert [one.objects for one in roots(store)] == [(second.path,)]
    mine = tmp_path / "mine"
    mine.write_text("mine")
    with pytest.raises(StoreError, match="is no link to a result"):
        add_link(store, mine, store.real_path(first.path))
    assert mine.read_text() == "mine"
    other = tmp_path / "other"
    other.symlink_to(mine)
    with pytest.raises(StoreError, match="is no link to a result"):
        add_link(store, other, store.real_path(first.path))


def test_a_link_to_what_is_no_object_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no store object"):
        add_link(store, tmp_path / "best", tmp_path)
    assert not os.path.lexists(tmp_path / "best")


def test_a_link_that_becomes_a_file_or_leads_elsewhere_is_no_root(store: Store, tmp_path: Path) -> None:
    info = add_file(store, "model")
    link = tmp_path / "best"
    add_link(store, link, store.real_path(info.path))
    link.unlink()
    link.write_text("")
    assert roots(store) == []
    link.unlink()
    link.symlink_to(tmp_path)
    assert roots(store) == []


@pytest.mark.parametrize("inside", ["", "/", "/sub/file"])
def test_an_object_is_found_from_whatever_lies_in_it(store: Store, inside: str) -> None:
    path = "/nix/store/" + "0" * 32 + "-x"
    assert object_at(store, path + inside) == path
    assert object_at(store, f"{store.objects}/{path[11:]}{inside}") == path
    assert object_at(store, f"/srv/root/nix/store/{path[11:]}{inside}") == path


@pytest.mark.parametrize("place", ["", "/nix/store", "/nix/store/x", "/tmp/" + "0" * 32 + "-x"])
def test_what_lies_in_no_store_is_no_object(store: Store, place: str) -> None:
    assert object_at(store, place) is None


def test_a_tag_names_a_realization_and_moves_only_by_force(store: Store) -> None:
    clean, train = chain(store)
    tag(store, "paper", (train.drv, train.id))
    tag(store, "paper", (train.drv, train.id))
    with pytest.raises(StoreError, match=f"is that of {train.id}"):
        tag(store, "paper", (clean.drv, clean.id))
    assert tagged(store, "paper") == (train.drv, train.id)
    tag(store, "paper", (clean.drv, clean.id), force=True)
    assert [one.realizations for one in roots(store)] == [((clean.drv, clean.id),)]
    delete_root(store, "tag", "paper")
    assert roots(store) == []


def test_a_realization_that_is_gone_gets_no_tag(store: Store) -> None:
    with pytest.raises(StoreError, match="is gone"):
        tag(store, "paper", (derivation(store, "train"), "0" * 16))
    assert roots(store) == []


@pytest.mark.parametrize("name", ["", ".", "..", "-f", "a/b", "a b", "ä", "x" * 201, "0" * 16, "\n", "a\n"])
def test_what_is_no_name_is_refused(store: Store, name: str) -> None:
    one = realized(store, "train", derivation(store, "train"))
    for act in (lambda: tag(store, name, (one.drv, one.id)), lambda: keep_plan(store, name, "stages.py", [], [])):
        with pytest.raises(StoreError):
            act()
    assert roots(store) == []


def test_a_kept_plan_keeps_its_name_for_its_target(store: Store) -> None:
    clean, train = chain(store)
    named = [(one.drv, one.id) for one in (clean, train)]
    keep_plan(store, "all", "stages.py", named, [clean.drv])
    keep_plan(store, "all", "stages.py", named[:1], [])
    with pytest.raises(StoreError, match=r"keeps stages\.py"):
        keep_plan(store, "all", "others.py", named, [])
    assert [(one.name, one.realizations) for one in roots(store)] == [("all", (named[0],))]


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"target": 1, "objects": [], "realizations": []}',
        "[" * 100_000,
        "\xff",
        '{"target": "x", "objects": ["/etc/passwd"], "realizations": []}',
        '{"target": "x", "objects": [], "realizations": [["/nix/store/x", "y"]]}',
    ],
)
def test_a_damaged_plan_is_said_since_nobody_knows_what_it_keeps(store: Store, damage: str) -> None:
    keep_plan(store, "all", "stages.py", [], [])
    (store.roots / "plans" / "all").write_bytes(damage.encode("latin-1"))
    with pytest.raises(StoreError, match="can not be read") as caught:
        roots(store)
    assert "keep --delete all" in str(caught.value.hint)
    delete_root(store, "plan", "all")
    assert roots(store) == []


def test_a_misspelt_root_is_told_its_neighbours(store: Store) -> None:
    keep_plan(store, "submission", "stages.py", [], [])
    with pytest.raises(StoreError) as caught:
        delete_root(store, "plan", "submision")
    assert caught.value.hint == "did you mean submission?"
    with pytest.raises(StoreError) as caught:
        delete_root(store, "tag", "submission")
    assert caught.value.hint == "there are: none"
