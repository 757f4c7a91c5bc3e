"""Two users: one shares a store, the other one has it below his own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Command

CHANGED = "\nfinal = shell('cat $page > $copy', page=report.page, copy=out('copy.txt'), builder='local')\n"


def state(folder: Path) -> str:
    return subprocess.run(
        ["find", folder, "-printf", "%p %i %T@ %m\n"], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def shared(nixbridge: Command, tmp_path: Path, project: Path) -> Iterator[Path]:
    """A store with results of the first user, in which nothing changes while it is shared."""
    folder = tmp_path / "shared"
    nixbridge("realize", "stages.py:report", NIXBRIDGE_STORE=str(folder))
    before = state(folder)
    yield folder
    assert state(folder) == before


def test_the_second_user_has_nothing_to_run(nixbridge: Command, shared: Path, tmp_path: Path, project: Path) -> None:
    lower = {"NIXBRIDGE_LOWER": str(shared)}
    done = nixbridge("realize", "stages.py:report", **lower)
    assert str(shared) in done.stdout
    assert not list((tmp_path / "store" / "trace").iterdir())
    before = {file.stem for file in shared.glob("trace/*/*.json")}
    assert {one["id"] for one in json.loads(nixbridge("ls", "--json", **lower).stdout)} == before
    assert len(nixbridge("history", "train", **lower).stdout.splitlines()) >= 4


def test_what_the_second_user_makes_is_his_own(nixbridge: Command, shared: Path, tmp_path: Path, project: Path) -> None:
    lower = {"NIXBRIDGE_LOWER": str(shared)}
    with (project / "stages.py").open("a") as file:
        file.write(CHANGED)
    nixbridge("realize", "stages.py:final", **lower)
    nixbridge("realize", "--more", "train=1", "stages.py:train", **lower)
    assert len(list((tmp_path / "store" / "trace").glob("*/*.json"))) == 2
    trains = json.loads(nixbridge("history", "train", "--json", **lower).stdout)
    assert sorted(one["index"] for one in (trains if isinstance(trains, list) else trains["realizations"])) == [
        0,
        1,
        2,
        3,
    ]
    checked = nixbridge("verify", **lower).stdout
    assert "clean" in checked
    assert "taken from below" in checked
    # The new realization may be the best one.
    nixbridge("realize", "stages.py:final", **lower)
    made = sorted((tmp_path / "store" / "trace").glob("*/*.json"))
    nixbridge("gc", **lower)
    nixbridge("realize", "stages.py:final", **lower)
    assert sorted((tmp_path / "store" / "trace").glob("*/*.json")) == made


def test_the_project_names_the_store_below(nixbridge: Command, shared: Path, tmp_path: Path, project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.nixbridge]\nlower = ["../shared"]\n')
    assert str(shared) in nixbridge("path", "stages.py:report").stdout
    why = nixbridge("why", "stages.py:train").stdout
    assert "train" in why
    (log, *_) = json.loads(nixbridge("ls", "--json").stdout)
    assert log["id"] in nixbridge("ls").stdout


def test_a_pack_from_both_stores_is_whole(nixbridge: Command, shared: Path, tmp_path: Path, project: Path) -> None:
    lower = {"NIXBRIDGE_LOWER": str(shared)}
    with (project / "stages.py").open("a") as file:
        file.write(CHANGED)
    nixbridge("realize", "stages.py:final", **lower)
    nixbridge("pack", "stages.py:final", "-o", str(tmp_path / "x.pack"), **lower)
    other = {"NIXBRIDGE_STORE": str(tmp_path / "other")}
    nixbridge("unpack", str(tmp_path / "x.pack"), **other)
    assert "clean" in nixbridge("verify", **other).stdout
    nixbridge("realize", "stages.py:final", **other)
    assert len(list((tmp_path / "other" / "trace").glob("*/*.json"))) == 6
    nixbridge("copy", "stages.py:final", "--to", str(tmp_path / "third"), **lower)
    assert "clean" in nixbridge("verify", NIXBRIDGE_STORE=str(tmp_path / "third")).stdout


def test_a_realization_below_is_not_dropped(nixbridge: Command, shared: Path) -> None:
    lower = {"NIXBRIDGE_LOWER": str(shared)}
    found = [one for one in json.loads(nixbridge("ls", "--json", **lower).stdout) if one["stage"] == "report"]
    done = nixbridge("rm", found[0]["id"], status=1, **lower)
    assert "of a store below" in done.stderr
    nixbridge("gc", "--older-than", "1s", **lower)


def test_a_lower_store_that_is_none_is_an_error(nixbridge: Command, tmp_path: Path) -> None:
    done = nixbridge("ls", status=1, NIXBRIDGE_LOWER=str(tmp_path / "nothing"))
    assert "there is no store at" in done.stderr
    assert "NIXBRIDGE_LOWER" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_store_on_a_disk_that_can_only_be_read_serves(
    nixbridge: Command, shared: Path, tmp_path: Path, project: Path
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    if subprocess.run(["mount", "--bind", "-o", "ro", shared, seen], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        lower = {"NIXBRIDGE_LOWER": str(seen)}
        with pytest.raises(OSError, match="Read-only"):
            (seen / "tmp" / "x").touch()
        with (project / "stages.py").open("a") as file:
            file.write(CHANGED)
        nixbridge("realize", "stages.py:final", **lower)
        for command in (["ls"], ["history", "train"], ["find"], ["du"], ["gc"], ["verify"], ["why", "stages.py:final"]):
            nixbridge(*command, **lower)
        (one,) = (one for one in json.loads(nixbridge("ls", "--json", **lower).stdout) if one["stage"] == "final")
        nixbridge("log", one["id"], **lower)
        nixbridge("diff", *(one.stem for one in list(shared.glob("trace/*-train.drv/*.json"))[:2]), **lower, status=0)
    finally:
        subprocess.run(["umount", seen], check=True)


def test_tags_of_the_store_below_are_listed_with_ones_own(nixbridge: Command, tmp_path: Path) -> None:
    folder = str(tmp_path / "shared")
    nixbridge("realize", "stages.py:report", NIXBRIDGE_STORE=folder)
    nixbridge("tag", "theirs", "report", NIXBRIDGE_STORE=folder)
    nixbridge("tag", "mine", "theirs", NIXBRIDGE_LOWER=folder)
    listed = json.loads(nixbridge("tag", "--list", "--json", NIXBRIDGE_LOWER=folder).stdout)
    assert [(one["tag"], one["stage"]) for one in listed] == [("mine", "report"), ("theirs", "report")]
