"""`lock`, `realize --locked`, `push-cache`, `push-nix`, `init`: what a user types, sees, and may do wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command


def locked(project: Path) -> dict[str, Any]:
    stages: dict[str, Any] = json.loads((project / "bridge.lock").read_text())["stages"]
    return stages


def rewrite(project: Path, old: str, new: str) -> None:
    file = project / "stages.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_lock_pins_what_is_chosen_of_every_stage(nixbridge: Command, project: Path) -> None:
    [path] = nixbridge("realize", "stages.py:train").stdout.splitlines()
    said = nixbridge("lock", "stages.py:train").stdout
    train = locked(project)["train"]
    assert set(locked(project)) == {"clean", "train"}
    assert "train: best('score')" in said
    [one] = train["realizations"]
    assert Path(one["outputs"]["out"]["path"]).name == Path(path).name
    assert one["record"]["metrics"]["score"] > 0
    assert (train["matcher"], train["file"], train["many"]) == ("best('score')", "stages.py", False)


def test_what_is_not_realized_can_not_be_pinned(nixbridge: Command, project: Path) -> None:
    assert "not realized yet" in nixbridge("lock", "stages.py", status=1).stderr
    assert not (project / "bridge.lock").exists()


def test_locking_again_changes_nothing(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py")
    nixbridge("lock", "stages.py")
    before = (project / "bridge.lock").read_bytes()
    nixbridge("lock", "stages.py")
    assert (project / "bridge.lock").read_bytes() == before


def test_locked_takes_what_is_pinned_though_a_better_one_came(nixbridge: Command) -> None:
    first = nixbridge("realize", "stages.py:train").stdout
    nixbridge("lock", "stages.py:train")
    best = first
    while best == first:
        best = nixbridge("realize", "stages.py:train", "--more", "train=3").stdout
    assert nixbridge("realize", "stages.py:train", "--locked").stdout == first
    assert nixbridge("realize", "stages.py:train").stdout == best


def test_a_changed_plan_is_refused_and_what_changed_is_named(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py")
    nixbridge("lock", "stages.py")
    assert nixbridge("lock", "--check", "stages.py").stdout == ""
    rewrite(project, "random.random() * scale", "random.random() + scale")
    said = nixbridge("realize", "stages.py", "--locked", status=1).stderr
    assert "train: its code, its config or its environment changed" in said
    assert "report: what it uses changed: train" in said
    assert "hint: nixbridge lock stages.py" in said
    check = nixbridge("lock", "--check", "stages.py", status=1)
    assert [line.partition(":")[0] for line in check.stdout.splitlines()] == ["train", "report"]
    found = json.loads(nixbridge("lock", "--check", "--json", "stages.py", status=1).stdout)
    assert [one["stage"] for one in found] == ["train", "report"]


def test_a_stage_that_is_gone_is_named(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py")
    nixbridge("lock", "stages.py")
    file = project / "stages.py"
    file.write_text(file.read_text().partition("report =")[0])
    assert "report: the plan no longer has it" in nixbridge("lock", "--check", "stages.py", status=1).stdout
    nixbridge("lock", "stages.py")
    assert set(locked(project)) == {"clean", "train"}


def test_a_stage_that_is_not_pinned_is_named(nixbridge: Command) -> None:
    nixbridge("realize", "stages.py")
    nixbridge("lock", "stages.py:train")
    assert "report: is not pinned" in nixbridge("realize", "stages.py", "--locked", status=1).stderr


def test_diff_shows_metrics_before_and_after(nixbridge: Command) -> None:
    first = nixbridge("realize", "stages.py:train").stdout
    nixbridge("lock", "stages.py:train")
    assert "nothing would change" in nixbridge("lock", "--diff", "stages.py:train").stderr
    while nixbridge("realize", "stages.py:train", "--more", "train=3").stdout == first:
        pass
    shown = nixbridge("lock", "--diff", "stages.py:train").stdout.splitlines()
    assert shown[0].split() == ["stage", "metric", "before", "after", "change"]
    assert "another choice" in shown[1]
    assert shown[2].split()[0] == "score"
    assert shown[2].split()[-1].startswith("+")
    [one] = json.loads(nixbridge("lock", "--diff", "--json", "stages.py:train").stdout)
    assert one["metrics"]["score"]["after"] > one["metrics"]["score"]["before"]


def test_another_machine_gets_what_is_pinned_from_the_cache(nixbridge: Command, project: Path, tmp_path: Path) -> None:
    [first] = nixbridge("realize", "stages.py").stdout.splitlines()
    cache = tmp_path / "cache"
    nixbridge("push-cache", str(cache), "stages.py:train", "stages.py:clean")
    assert "does not have" in nixbridge("lock", "stages.py", "--cache", cache.as_uri(), status=1).stderr
    nixbridge("push-cache", str(cache), "stages.py")
    nixbridge("lock", "stages.py", "--cache", cache.as_uri())
    other = str(tmp_path / "other")
    [again] = nixbridge("realize", "stages.py", "--locked", NIXBRIDGE_STORE=other).stdout.splitlines()
    assert Path(again).name == Path(first).name
    assert (Path(again) / "page.txt").read_bytes() == (Path(first) / "page.txt").read_bytes()
    assert other in again
    nixbridge("verify", NIXBRIDGE_STORE=other)


def test_without_a_cache_what_is_not_here_is_named(nixbridge: Command, tmp_path: Path) -> None:
    nixbridge("realize", "stages.py")
    nixbridge("lock", "stages.py")
    said = nixbridge("realize", "stages.py", "--locked", status=1, NIXBRIDGE_STORE=str(tmp_path / "other")).stderr
    assert "of the stage train is not here" in said
    assert "nixbridge push-cache, then nixbridge lock --cache URL" in said


def test_a_cache_with_another_content_is_refused(nixbridge: Command, tmp_path: Path) -> None:
    nixbridge("realize", "stages.py:train")
    cache = tmp_path / "cache"
    nixbridge("push-cache", str(cache), "stages.py:train", "stages.py:clean", "--compress", "none")
    nixbridge("lock", "stages.py:train", "--cache", cache.as_uri())
    for file in (cache / "nar").iterdir():
        file.write_bytes(file.read_bytes().replace(b".", b","))
    other = str(tmp_path / "other")
    said = nixbridge("realize", "stages.py:train", "--locked", status=1, NIXBRIDGE_STORE=other).stderr
    assert "has another content than the lock file says" in said
    assert not list((tmp_path / "other" / "store").iterdir())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"score": ', '"score": 9', "was edited"),
        ('"narHash": "sha256-', '"narHash": "sha256-0000', "narHash|hash|digest"),
        ('"hash": "sha256-', '"hash": "sha256-AAAA', "hash|digest"),
    ],
)
def test_a_lock_that_was_edited_is_refused_with_its_line(
    nixbridge: Command, project: Path, old: str, new: str, message: str
) -> None:
    nixbridge("realize", "stages.py:train")
    nixbridge("lock", "stages.py:train")
    file = project / "bridge.lock"
    before, found, after = file.read_text().rpartition(old)
    file.write_text(before + new + (after if len(new) == len(old) + 1 else after[4:]))
    said = nixbridge("realize", "stages.py:train", "--locked", status=1).stderr
    assert found
    assert re.search(rf"bridge\.lock:\d+: .*({message})", said), said
    nixbridge("lock", "stages.py:train")
    nixbridge("realize", "stages.py:train", "--locked")


def test_a_lock_of_a_newer_nixbridge_is_refused(nixbridge: Command, project: Path) -> None:
    (project / "bridge.lock").write_text('{"version": 2}')
    said = nixbridge("lock", "--check", "stages.py", status=1).stderr
    assert "a newer nixbridge wrote this" in said
    assert "hint: update nixbridge" in said


def test_a_damaged_entry_is_written_anew(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py:train")
    (project / "bridge.lock").write_text('{"version": 1, "stages": {"train": {}}}')
    said = nixbridge("realize", "stages.py:train", "--locked", status=1).stderr
    assert "nixbridge lock writes it anew" in said
    nixbridge("lock", "stages.py:train")
    nixbridge("lock", "--check", "stages.py:train")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--check", "--diff"], "--check and --diff do not go together"),
        (["--check", "--cache", "file:///x"], "--cache and --check do not go together"),
        (["--no-cache", "--cache", "file:///x"], "--cache and --no-cache do not go together"),
        (["--cache", "."], "hint: write file:///"),
        (["--cache", "file://cache"], "is no URL of a binary cache"),
        (["--cache", "s3://cache"], "is no URL of a binary cache"),
    ],
)
def test_options_that_make_no_sense_are_refused(nixbridge: Command, options: list[str], said: str) -> None:
    assert said in nixbridge("lock", "stages.py", *options, status=1).stderr


def test_the_hint_of_check_has_the_settings(nixbridge: Command) -> None:
    said = nixbridge("lock", "--check", "stages.py:train", "--set", "train.scale=3", status=1).stderr
    assert "hint: nixbridge lock stages.py:train --set train.scale=3" in said


def test_a_pushed_file_has_all_that_lock_pins(nixbridge: Command, project: Path, tmp_path: Path) -> None:
    nixbridge("realize", "stages.py")
    cache = tmp_path / "the cache"
    nixbridge("push-cache", cache.as_uri(), "stages.py")
    assert (cache / "nix-cache-info").exists()
    nixbridge("lock", "stages.py", "--cache", cache.as_uri())
    assert locked(project)["clean"]["caches"] == [cache.as_uri()]
    said = nixbridge("push-cache", "s3://bucket", "stages.py", status=1).stderr
    assert "push-cache writes into a folder" in said


def test_lock_wants_a_target(nixbridge: Command) -> None:
    assert "needs a target" in nixbridge("lock", status=1).stderr


def test_two_files_with_stages_of_one_name_are_refused(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py:clean")
    nixbridge("lock", "stages.py:clean")
    shutil.copy(project / "stages.py", project / "more.py")
    nixbridge("realize", "more.py:clean")
    assert "stages.py is pinned already, and more.py has a stage of this name" in (
        nixbridge("lock", "more.py:clean", status=1).stderr
    )


def test_results_of_the_local_builder_are_said_to_be_none_for_nix(nixbridge: Command) -> None:
    nixbridge("realize", "stages.py")
    assert "note: report was built by the local builder" in nixbridge("lock", "stages.py").stderr


def test_push_cache_takes_ids_and_pushes_nothing_twice(nixbridge: Command, tmp_path: Path) -> None:
    nixbridge("realize", "stages.py:train")
    [train] = json.loads(nixbridge("lock", "stages.py:train", "--json").stdout)[-1:]
    cache = str(tmp_path / "cache")
    [first] = json.loads(nixbridge("push-cache", cache, train["realizations"][0], "--json").stdout)
    [again] = json.loads(nixbridge("push-cache", cache, "stages.py:train", "--json").stdout)
    assert (first["added"], again["added"]) == (True, False)
    assert first["path"] == again["path"]


def test_push_cache_says_what_is_wrong(nixbridge: Command, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    assert "not realized: train" in nixbridge("push-cache", cache, "stages.py:train", status=1).stderr
    assert "no realization" in nixbridge("push-cache", cache, "zzzz", status=1).stderr
    nixbridge("realize", "stages.py:train")
    said = nixbridge("push-cache", cache, "stages.py:train", "--compress", "lz4", status=1).stderr
    assert "there is no compression 'lz4'" in said
    missing = nixbridge("push-cache", cache, "stages.py:train", "--secret-key-file", "no", status=1).stderr
    assert "the secret key no can not be read" in missing


@pytest.mark.parametrize("template", ["minimal", "ml"])
def test_init_starts_a_project_that_realizes_and_whose_test_passes(
    nixbridge: Command, project: Path, template: str
) -> None:
    said = nixbridge("init", "--template", template, "new")
    assert "git add" in said.stderr
    new = project / "new"
    assert {".envrc", ".gitignore", "flake.nix", "stages.py"} <= {one.name for one in new.iterdir()}
    assert len((new / "flake.nix").read_text().splitlines()) <= 15
    [path] = nixbridge("realize", "new/stages.py:report", "--builder", "local").stdout.splitlines()
    assert "best of" in (Path(path) / "report.txt").read_text()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."], cwd=new, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "has .envrc" in nixbridge("init", "new", status=1).stderr


def test_init_knows_its_templates(nixbridge: Command) -> None:
    assert "there are minimal, ml" in nixbridge("init", "--template", "no", "new", status=1).stderr
