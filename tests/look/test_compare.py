"""Comparing trees: nothing differs from itself, and what differs is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.look.compare import compare_trees, text_changes

NAME = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)
TREE = st.recursive(
    st.binary(max_size=30) | st.text(max_size=30).map(str.encode) | st.just("link"),
    lambda deeper: st.dictionaries(NAME, deeper, max_size=3),
    max_leaves=6,
)


def lay(place: Path, tree: object) -> None:
    if isinstance(tree, bytes):
        place.write_bytes(tree)
    elif isinstance(tree, dict):
        place.mkdir()
        for name, one in tree.items():
            lay(place / name, one)
    else:
        place.symlink_to("nowhere")


@settings(max_examples=60, deadline=None)
@given(TREE)
def test_nothing_differs_from_itself_or_from_its_copy(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    folder = tmp_path_factory.mktemp("trees")
    lay(folder / "a", tree)
    lay(folder / "b", tree)
    assert compare_trees(folder / "a", folder / "a") == ()
    assert compare_trees(folder / "a", folder / "b") == ()
    shutil.rmtree(folder)


@settings(max_examples=60, deadline=None)
@given(TREE, TREE)
def test_two_trees_differ_if_and_only_if_something_is_named(
    tmp_path_factory: pytest.TempPathFactory, one: object, other: object
) -> None:
    folder = tmp_path_factory.mktemp("trees")
    lay(folder / "a", one)
    lay(folder / "b", other)
    assert bool(compare_trees(folder / "a", folder / "b")) == (one != other)
    shutil.rmtree(folder)


@given(st.dictionaries(st.text(max_size=3), st.text(max_size=30), max_size=3))
def test_no_text_differs_from_itself(texts: dict[str, str]) -> None:
    assert text_changes(texts, dict(texts)) == ()
