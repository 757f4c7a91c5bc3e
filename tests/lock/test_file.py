"""The file bridge.lock: read, changed a section at a time, by any number of processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.lock.errors import LockFileError
from bridge.lock.file import LOCK_NAME, line_of, read_lock, update_section

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
entries = st.dictionaries(st.text(), st.dictionaries(st.text(), json_values))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / LOCK_NAME


def test_a_file_that_does_not_exist_is_empty(path: Path) -> None:
    found = read_lock(path)
    assert (found.flakes, found.stages) == ({}, {})


@settings(deadline=None, max_examples=25)
@given(flakes=entries, stages=entries)
def test_what_is_written_is_read(flakes: Any, stages: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, LOCK_NAME)
        update_section(path, "flakes", lambda _: flakes)
        update_section(path, "stages", lambda _: stages)
        found = read_lock(path)
    assert (found.flakes, found.stages) == (flakes, stages)


def test_the_file_is_in_a_stable_order_with_one_value_a_line(path: Path) -> None:
    update_section(path, "stages", lambda _: {"b": {"z": 1, "a": 2}, "a": {}})
    assert path.read_text() == (
        '{\n  "flakes": {},\n  "stages": {\n    "a": {},\n    "b": {\n      "a": 2,\n      "z": 1\n    }\n  },\n'
        '  "version": 1\n}\n'
    )


def test_the_other_section_stays(path: Path) -> None:
    update_section(path, "flakes", lambda _: {"nixpkgs": {"rev": "1"}})
    update_section(path, "stages", lambda now: {**now, "train": {}})
    assert read_lock(path).flakes == {"nixpkgs": {"rev": "1"}}


def test_a_change_that_changes_nothing_leaves_the_file_alone(path: Path) -> None:
    update_section(path, "stages", lambda _: {"train": {}})
    before = path.stat().st_ino
    update_section(path, "stages", lambda now: now)
    assert path.stat().st_ino == before


def _add(path: Path, section: Any, name: str) -> None:
    update_section(path, section, lambda now: {**now, name: {"pid": os.getpid()}})


def test_processes_at_once_lose_nothing_of_each_other(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    jobs = [(path, section, str(number)) for number in range(6) for section in ("flakes", "stages")]
    with context.Pool(4) as pool:
        pool.starmap(_add, jobs)
    found = read_lock(path)
    assert set(found.flakes) == set(found.stages) == {str(number) for number in range(6)}
    assert os.listdir(path.parent) == [LOCK_NAME]


def test_a_change_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    update_section(path, "stages", lambda _: {"train": {}})
    before = path.read_bytes()

    def fails(now: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        update_section(path, "stages", fails)
    with pytest.raises(ValueError, match="Out of range"):
        update_section(path, "stages", lambda _: {"train": {"loss": float("nan")}})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [LOCK_NAME]


def test_a_file_of_a_newer_nixbridge_is_refused_with_what_to_do(path: Path) -> None:
    path.write_text('{\n  "stages": {},\n  "version": 2\n}\n')
    with pytest.raises(LockFileError, match="version 2") as caught:
        read_lock(path)
    assert (caught.value.line, caught.value.hint) == (3, "update nixbridge")
    with pytest.raises(LockFileError, match="version 2"):
        update_section(path, "stages", lambda _: {})


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "not JSON"),
        ('{\n "version": 1,\n oops\n}', 3, "not JSON"),
        ('{\n<<<<<<< HEAD\n "version": 1\n}', 2, "not JSON"),
        ("[]", 1, "no version"),
        ("{}", 1, "no version"),
        ('{"version": "1"}', 1, "no version"),
        ('{"version": true}', 1, "no version"),
        ('{\n "version": 1,\n "stages": []\n}', 3, "stages must be an object"),
        ('{\n "version": 1,\n "stages": {\n  "a": {},\n  "b": 1\n }\n}', 5, "b must be an object"),
        ('{\n "version": 1,\n "flakes": {\n  "a": {},\n  "a": {}\n }\n}', 4, "'a' stands twice"),
        ("[" * 100_000, 1, "not JSON"),
    ],
)
def test_what_is_malformed_is_refused_with_its_line(path: Path, text: str, line: int, message: str) -> None:
    path.write_text(text)
    with pytest.raises(LockFileError, match=message) as caught:
        read_lock(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)
    before = path.read_bytes()
    with pytest.raises(LockFileError):
        update_section(path, "flakes", lambda _: {})
    assert path.read_bytes() == before


def test_a_conflict_of_a_merge_is_named(path: Path) -> None:
    path.write_text('{\n<<<<<<< HEAD\n "version": 1\n}')
    with pytest.raises(LockFileError) as caught:
        read_lock(path)
    assert "merge" in (caught.value.hint or "")


def test_bytes_that_are_no_text_are_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LockFileError, match="no lock file"):
        read_lock(path)


def test_a_folder_in_its_place_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(LockFileError, match="can not be read"):
        read_lock(path)


def test_a_missing_folder_is_refused(path: Path) -> None:
    with pytest.raises(LockFileError, match="folder"):
        update_section(path.parent / "none" / LOCK_NAME, "stages", lambda _: {})


def test_a_link_stays_a_link(path: Path) -> None:
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    path.symlink_to(elsewhere / "real.lock")
    update_section(path, "stages", lambda _: {"train": {}})
    assert path.is_symlink()
    assert json.loads((elsewhere / "real.lock").read_text())["stages"] == {"train": {}}


def test_an_entry_is_found_by_its_line(path: Path) -> None:
    update_section(path, "stages", lambda _: {"a": {"x": 1}, 'train(lr="0.1")': {"x": 2}})
    text = path.read_text().split("\n")
    assert '"x": 2' in text[line_of(path, "stages", 'train(lr="0.1")', "x") - 1]
