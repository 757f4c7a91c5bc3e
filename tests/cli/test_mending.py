"""`verify --repair` and `optimise` as users call them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from bridge.formats import nix32

from .conftest import Command


@pytest.fixture
def store(nixbridge: Command, environment: dict[str, str]) -> Path:
    """A store with results."""
    nixbridge("realize", "stages.py", "--builder", "local")
    return Path(environment["NIXBRIDGE_STORE"])


def damage_output(store: Path, stage: str) -> Path:
    """Change a file of what a stage gave."""
    [record] = store.glob(f"trace/*-{stage}.drv/*.json")
    path = json.loads(record.read_bytes())["outputs"]
    place = store / "store" / Path(next(iter(path.values()))).name
    file = next(one for one in (place, *place.rglob("*")) if one.is_file())
    file.chmod(0o644)
    file.write_text("something else")
    file.chmod(0o444)
    return place


def test_a_clean_store_is_left_alone(nixbridge: Command, store: Path) -> None:
    assert nixbridge("verify", "--repair").stdout == nixbridge("verify").stdout
    found = json.loads(nixbridge("verify", "--repair", "--json").stdout)
    assert (found["findings"], found["repaired"]) == ([], [])


def test_one_thing_is_said_to_be_one(nixbridge: Command, project: Path, tmp_path: Path) -> None:
    (project / "one.py").write_text("from bridge import text\n\nhello = text('hello', name='hello')\n")
    nixbridge("realize", "one.py", "--store", str(tmp_path / "other"))
    assert "1 object (" in nixbridge("verify", "--store", str(tmp_path / "other")).stdout


def test_what_is_damaged_is_dropped_and_made_again(nixbridge: Command, store: Path) -> None:
    place = damage_output(store, "clean")
    assert f"wrong: {place}" in nixbridge("verify", status=1).stdout
    said = nixbridge("verify", "--repair").stdout
    assert f"repaired: {place}" in said
    assert "the next realize runs it again" in said
    assert said.splitlines()[-1].endswith("clean")
    nixbridge("realize", "stages.py", "--builder", "local")
    assert place.exists()
    nixbridge("verify")


def test_what_is_damaged_comes_from_another_store(nixbridge: Command, store: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    subprocess.run(["cp", "-a", store, backup], check=True)
    place = damage_output(store, "clean")
    found = json.loads(nixbridge("verify", "--from", str(backup), "--json").stdout)
    assert [one["done"] for one in found["repaired"]] == [f"taken from {backup}"]
    assert found["findings"] == []
    assert place.exists()
    assert "would remove nothing" in nixbridge("gc", "--dry-run").stdout


def test_modes_and_times_are_set_again(nixbridge: Command, store: Path) -> None:
    place = next(store.glob("store/*-train"))
    os.utime(place, (5, 5))
    nixbridge("verify", status=1)
    assert "modes and times set" in nixbridge("verify", "--repair").stdout
    assert os.lstat(place).st_mtime == 1


@pytest.mark.parametrize("named", ["nowhere", "."])
def test_a_store_that_is_none_is_no_source(nixbridge: Command, store: Path, named: str) -> None:
    damage_output(store, "clean")
    assert "there is no store at" in nixbridge("verify", "--from", named, status=1).stderr
    assert "is the store itself" in nixbridge("verify", "--from", str(store), status=1).stderr
    nixbridge("verify", status=1)


def test_a_record_of_a_newer_release_is_told_and_kept(nixbridge: Command, store: Path) -> None:
    record = next(store.glob("trace/*-clean.drv/*.json"))
    data = json.dumps({**json.loads(record.read_bytes()), "version": 99}).encode()
    newer = record.with_name(f"{nix32.encode(hashlib.sha256(data).digest())[:16]}.json")
    newer.write_bytes(data)
    said = nixbridge("verify", "--repair", status=1).stdout
    assert "of version 99" in said
    assert newer.read_bytes() == data


def test_equal_files_of_results_become_one(nixbridge: Command, project: Path, store: Path) -> None:
    text = "from bridge import shell\n"
    text += "".join(f"o{n} = shell('yes | head -c 9000 > $out/same; echo {n} > $out/own')\n" for n in range(3))
    (project / "many.py").write_text(text)
    nixbridge("realize", "many.py", "--builder", "local")
    found = json.loads(nixbridge("optimise", "--json").stdout)
    # And the page of the report, which is the chosen model's text.
    assert found["files"] == 3
    assert found["freed"] >= 2 * 9000
    assert len({os.lstat(file).st_ino for file in store.glob("store/*/same")}) == 1
    assert nixbridge("optimise").stdout == "linked 0 files: 0 B\n"
    nixbridge("verify")
