"""GC roots, gc, rm and du as users call them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .conftest import Command


@pytest.fixture
def realized(nixbridge: Command) -> None:
    nixbridge("realize", "stages.py", "--builder", "local")


def chosen(nixbridge: Command) -> str:
    found = json.loads(nixbridge("realize", "stages.py:train", "--builder", "local", "--json").stdout)
    return next(
        one["id"]
        for stage in found["stages"]
        for one in stage.get("realizations", ())
        if one["chosen"] and stage["stage"] == "train"
    )


def ids(nixbridge: Command, kind: str, *arguments: str) -> list[str]:
    found = json.loads(nixbridge("gc", "--json", *arguments).stdout)
    return [one["name"] for one in found["items"] if one["kind"] == kind]


def test_gc_drops_no_result_unless_it_is_asked_to(nixbridge: Command, realized: None) -> None:
    assert nixbridge("gc").stdout == "removed nothing: 0 B\n"
    assert len(ids(nixbridge, "realization", "--unrooted", "--dry-run")) == 5
    assert len(ids(nixbridge, "realization", "--keep-last", "1", "--dry-run")) in (1, 2)
    assert "clean" in nixbridge("verify").stdout


def test_the_best_stay_with_what_they_were_made_from(nixbridge: Command, realized: None) -> None:
    best = chosen(nixbridge)
    assert len(ids(nixbridge, "realization", "--keep-best", "1:score", "--stage", "train")) == 2
    assert chosen(nixbridge) != best or nixbridge("rm", best, status=1)
    assert ids(nixbridge, "realization") == []
    assert "clean" in nixbridge("verify").stdout


def test_a_link_is_a_root_until_it_is_removed(nixbridge: Command, project: Path, realized: None) -> None:
    nixbridge("realize", "stages.py:train", "--builder", "local", "-o", "result")
    assert (project / "result" / "model.txt").is_file()
    # The chosen model, and what it was made from.
    assert len(ids(nixbridge, "realization", "--unrooted")) == 3
    assert (project / "result" / "model.txt").is_file()
    (project / "result").unlink()
    assert len(ids(nixbridge, "realization", "--unrooted")) == 2
    assert "0 objects" in nixbridge("verify").stdout


def test_a_tag_serves_as_an_id_and_keeps(nixbridge: Command, realized: None) -> None:
    best = chosen(nixbridge)
    nixbridge("tag", "paper", best)
    assert nixbridge("tag", "paper").stdout == f"{best}\n"
    assert json.loads(nixbridge("tag", "--list", "--json").stdout)[0]["id"] == best
    assert best not in ids(nixbridge, "realization", "--unrooted")
    assert "did you mean paper?" in nixbridge("tag", "--delete", "papre", status=1).stderr
    nixbridge("tag", "--delete", "paper")
    assert best in ids(nixbridge, "realization", "--unrooted")


def test_tags_are_listed_beside_a_kept_plan_that_is_damaged(
    nixbridge: Command, environment: dict[str, str], realized: None
) -> None:
    nixbridge("tag", "good", "stages.py:train")
    nixbridge("keep", "all", "stages.py")
    (Path(environment["NIXBRIDGE_STORE"]) / "roots" / "plans" / "all").write_text("{")
    assert "good" in nixbridge("tag", "--list").stdout


def test_a_kept_plan_keeps_all_that_was_chosen(nixbridge: Command, realized: None) -> None:
    assert "3 realizations" in nixbridge("keep", "all", "stages.py").stdout
    assert len(ids(nixbridge, "realization", "--unrooted")) == 2
    nixbridge("keep", "--delete", "all")
    assert len(ids(nixbridge, "realization", "--unrooted")) == 3


def test_rm_names_what_depends_and_refuses(nixbridge: Command, realized: None) -> None:
    best = chosen(nixbridge)
    refused = nixbridge("rm", best, status=1)
    assert f"was made from {best}" in refused.stdout
    dropped = nixbridge("rm", best, "--force")
    assert "its bytes stay" in dropped.stdout
    assert "clean" in nixbridge("verify").stdout
    assert "is no realization" in nixbridge("rm", best, status=1).stderr


def test_rm_takes_no_stages_name_for_its_newest_realization(nixbridge: Command, realized: None) -> None:
    refused = nixbridge("rm", "train", "--force", status=1)
    assert "train is a stage with 3 realizations" in refused.stderr
    assert "gc --stage train" in refused.stderr
    assert "report is a stage with 1 realization," in nixbridge("rm", "report", status=1).stderr
    listed = json.loads(nixbridge("ls", "--json").stdout)
    assert len(listed) == 5
    report = next(one["id"] for one in listed if one["stage"] == "report")
    # A tag may be called as a stage is: then one says which of them.
    nixbridge("tag", "train", report)
    assert "@train" in nixbridge("rm", "train", "--force", status=1).stderr
    nixbridge("rm", "@train", "--force")
    assert report not in nixbridge("ls").stdout
    assert len(json.loads(nixbridge("ls", "--json").stdout)) == 4


def test_rm_takes_store_paths_and_links(nixbridge: Command, project: Path, realized: None) -> None:
    found = json.loads(nixbridge("ls", "--json").stdout)
    report = next(one for one in found if one["stage"] == "report")
    assert "1 realization" in nixbridge("rm", report["outputs"]["out"]).stdout
    nixbridge("realize", "stages.py", "--builder", "local", "-o", "result")
    again = next(one["id"] for one in json.loads(nixbridge("ls", "report", "--json").stdout))
    assert f"result leads to {report['outputs']['out']}" in nixbridge("rm", "./result", status=1).stdout
    nixbridge("rm", "./result", "--force")
    assert again not in nixbridge("ls").stdout
    assert "clean" in nixbridge("verify").stdout


def test_a_link_leads_to_what_is_named_of_a_result(nixbridge: Command, project: Path, realized: None) -> None:
    train = json.loads(nixbridge("ls", "train", "--json").stdout)[-1]
    nixbridge("tag", "good", train["id"])
    place = Path(nixbridge("path", "stages.py:train").stdout.strip()).parent / Path(train["outputs"]["out"]).name
    wanted = {"good": "", "good^out": "", "good/model.txt": "/model.txt", "all": "", "file": "/model.txt"}
    for number, (reference, below) in enumerate(wanted.items()):
        nixbridge("link", reference, f"l{number}")
        assert os.readlink(project / f"l{number}") == f"{place}{below}", reference
        if number == 2:
            (project / "all").symlink_to("l0")
            (project / "file").symlink_to("l2")
    nixbridge("link", "stages.py:train/model.txt", "chosen")
    assert (project / "chosen").is_file()
    assert "has no output 'nope'" in nixbridge("link", "stages.py:train^nope", "nope", status=1).stderr
    assert not (project / "nope").is_symlink()
    nixbridge("rm", "@good", status=1)
    nixbridge("gc", "--unrooted", "--yes")
    assert (project / "l2").read_text() == (place / "model.txt").read_text()


def test_rm_drops_no_result_for_one_of_its_files(nixbridge: Command, project: Path, realized: None) -> None:
    train = json.loads(nixbridge("ls", "train", "--json").stdout)[0]
    nixbridge("link", train["id"], "made")
    for path in (f"{train['outputs']['out']}/model.txt", "made/model.txt"):
        refused = nixbridge("rm", path, "--force", status=1)
        assert f"{path} is a part of a result" in refused.stderr
        assert f"nixbridge rm {train['outputs']['out']}" in refused.stderr
    assert train["id"] in nixbridge("ls", "train").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--keep-best", "many"], "no number and metric"),
        (["--keep-best", "2:nothing"], "no realization has the metric"),
        (["--older-than", "soon"], "no length of time"),
        (["--max-size", "big"], "no size"),
        (["--stage", "train"], "not what goes"),
    ],
)
def test_what_gc_can_not_understand_is_said_and_nothing_goes(
    nixbridge: Command, realized: None, arguments: list[str], said: str
) -> None:
    refused = nixbridge("gc", *arguments, status=1)
    assert said in refused.stderr + refused.stdout
    assert len(ids(nixbridge, "realization", "--unrooted", "--dry-run")) == 5


def test_du_says_what_only_one_stage_needs(nixbridge: Command, realized: None) -> None:
    found = json.loads(nixbridge("du", "--json").stdout)
    assert {one["name"]: one["realizations"] for one in found["shares"]} == {"train": 3, "clean": 1, "report": 1}
    assert sum(one["alone"] for one in found["shares"]) + found["rest"] == found["total"]
    assert found["garbage"] == 0


def test_a_damaged_record_stops_gc(nixbridge: Command, environment: dict[str, str], realized: None) -> None:
    record = next(Path(environment["NIXBRIDGE_STORE"], "trace").glob("*-clean.drv/*.json"))
    record.chmod(0o644)
    record.write_text("{")
    assert "nobody knows what it needs" in nixbridge("gc", "--unrooted", status=1).stderr
