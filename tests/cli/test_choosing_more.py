"""`realize --more|--redo|--from|--resource`, `check`, `adopt`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.nix.installation import Installation

from .conftest import Command

STAGES = """
import os
from bridge import *

@stage(realizations=2, match=best("score"))
def train(run, model=out("model.txt")):
    model.write_text(f"{run.seed}" + ((run.previous.path / "model.txt").read_text() if run.previous else ""))
    run.log(score=run.index)

@stage
def luck(x=out("a/x"), y=out("y")):
    x.write_bytes(os.urandom(8))
    y.write_text("y")
"""


@pytest.fixture
def stages(project: Path) -> Path:
    file = project / "more.py"
    file.write_text(STAGES)
    return file


def listed(nixbridge: Command, target: str) -> list[dict[str, Any]]:
    [found] = json.loads(nixbridge("ls", target, "--json").stdout)
    return sorted(found["realizations"], key=lambda one: (one["index"], one["started"]))


def test_more_realizations_are_made(nixbridge: Command, stages: Path) -> None:
    nixbridge("realize", "more.py:train")
    nixbridge("realize", "more.py:train", "--more", "train=2")
    assert [one["index"] for one in listed(nixbridge, "more.py:train")] == [0, 1, 2, 3]


def test_a_variant_is_named_by_its_label(nixbridge: Command, stages: Path) -> None:
    stages.write_text(STAGES.replace("(run, model", "(run, lr=1, model") + "\nother = train(lr=2)\n")
    nixbridge("realize", "more.py")
    nixbridge("realize", "more.py", "--more", "train(lr=2)=3")
    found = json.loads(nixbridge("ls", "more.py", "--json").stdout)
    assert {one["label"]: len(one["realizations"]) for one in found} == {"train(lr=1)": 2, "train(lr=2)": 5, "luck": 1}


def test_a_realization_is_made_again_by_its_seed(nixbridge: Command, stages: Path) -> None:
    nixbridge("realize", "more.py:train")
    old = listed(nixbridge, "more.py:train")[0]
    nixbridge("realize", "more.py:train", "--redo", old["id"][:6])
    found = listed(nixbridge, "more.py:train")
    assert [one["index"] for one in found] == [0, 0, 1]
    assert found[0]["outputs"] == found[1]["outputs"]


def test_a_realization_goes_on_from_another(nixbridge: Command, stages: Path) -> None:
    nixbridge("realize", "more.py:train")
    old = listed(nixbridge, "more.py:train")[0]
    [path] = nixbridge("realize", "more.py:train", "--from", f"train={old['id']}").stdout.splitlines()
    before = Path(nixbridge("path", "more.py:train").stdout.strip()).parent / Path(old["outputs"]["out"]).name
    assert Path(path, "model.txt").read_text().endswith((before / "model.txt").read_text())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--more", "train"], "'train' says no name and value"),
        (["--more", "train=0"], "'0' is no number of realizations"),
        (["--more", "other=1"], "other"),
        (["--redo", "zzzz"], "'zzzz' is no realization, stage, tag or path"),
        (["--from", "train=zzzz"], "'zzzz' is no realization"),
        (["--resource", "gpu=many"], "'many' is no amount of a resource"),
    ],
)
def test_wrong_wishes_are_refused(nixbridge: Command, stages: Path, arguments: list[str], said: str) -> None:
    assert said in nixbridge("realize", "more.py:train", *arguments, status=1).stderr


def test_a_stage_that_needs_what_is_not_there_says_so(nixbridge: Command, project: Path) -> None:
    (project / "more.py").write_text(
        "from bridge import *\n@stage(resources={'tpu': 2})\ndef s(x=out('x')): x.touch()\n"
    )
    said = nixbridge("realize", "more.py", status=1).stderr
    assert "the stage s needs 2 of tpu, and there are 0" in said
    assert "--resource tpu=AMOUNT" in said
    nixbridge("realize", "more.py", "--resource", "tpu=4")


def test_is_it_built(nixbridge: Command, stages: Path) -> None:
    before = json.loads(nixbridge("realize", "more.py:train", "--dry-run", "--json").stdout)
    assert before["built"] is False
    assert before["stages"][0]["missing"] == 2
    nixbridge("realize", "more.py:train")
    after = json.loads(nixbridge("realize", "more.py:train", "--dry-run", "--json").stdout)
    assert after["built"] is True
    assert after["stages"][0]["match"] == "best('score')"


# -------------------------------------------------------------------------------------------- check


def test_check_finds_the_same_where_the_seed_decides(nixbridge: Command, stages: Path) -> None:
    nixbridge("realize", "more.py:train")
    before = listed(nixbridge, "more.py:train")
    assert nixbridge("check", "more.py:train").stdout.endswith(": the same\n")
    assert listed(nixbridge, "more.py:train") == before
    assert "clean" in nixbridge("verify").stdout


def test_check_names_the_files_that_differ_and_fails(nixbridge: Command, stages: Path) -> None:
    nixbridge("realize", "more.py:luck")
    said = nixbridge("check", "more.py:luck", status=1).stdout
    assert said.splitlines()[1:] == ["  contents: a/x"]
    [found] = json.loads(nixbridge("check", "more.py", "--stage", "luck", "--json", status=1).stdout)
    assert found["differences"] == [{"output": "out", "path": "a/x", "what": "contents"}]


def test_check_needs_a_stage_that_is_realized(nixbridge: Command, stages: Path) -> None:
    assert "the stage train is not realized" in nixbridge("check", "more.py:train", status=1).stderr


def test_check_runs_what_the_local_builder_built(nixbridge: Command, project: Path) -> None:
    (project / "more.py").write_text(
        "from bridge import *\n"
        "same = shell('echo 1 > $out/x')\n"
        "other = shell('od -An -N4 -tx4 /dev/urandom > $out/x; echo 1 > $out/y')\n"
    )
    nixbridge("realize", "more.py", "--builder", "local")
    nixbridge("check", "more.py:same", "--builder", "local")
    assert "contents: x" in nixbridge("check", "more.py:other", "--builder", "local", status=1).stdout
    assert "clean" in nixbridge("verify").stdout


@pytest.mark.nix
def test_check_lets_nix_check_what_nix_built(nixbridge: Command, nix: Installation, project: Path) -> None:
    (project / "more.py").write_text(
        "from bridge import *\n"
        "busybox = host('busybox')\n"
        "same = shell('echo 1 > $out/x', tools=[busybox])\n"
        "other = shell('head -c 8 /dev/urandom > $out/x; echo 1 > $out/y', tools=[busybox])\n"
    )
    env = dict(nix.environ)
    nixbridge("realize", "more.py", **env)
    assert nixbridge("check", "more.py:same", "--stage", "same", **env).stdout.endswith(": the same\n")
    assert "contents: x" in nixbridge("check", "more.py:other", "--stage", "other", status=1, **env).stdout
    # Nix keeps the folder of such a build, and the other result.
    temporary = project.parent / "temporary"
    temporary.mkdir()
    said = json.loads(
        nixbridge("check", "more.py:other", "--json", status=1, **env | {"TMPDIR": str(temporary)}).stdout
    )
    assert [one["left"] for one in said] == [[]]
    assert list(temporary.iterdir()) == []
    assert not [path for path in nix.real_path("/nix/store/x").parent.iterdir() if path.name.endswith(".check")]


def test_check_runs_stages_where_the_executor_says(nixbridge: Command, stages: Path, project: Path) -> None:
    (project / "pool.py").write_text(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def make(max_workers):\n    open('made', 'w').close()\n    return ThreadPoolExecutor(max_workers)\n"
    )
    nixbridge("realize", "more.py:train")
    said = nixbridge("check", "more.py:train", "--executor", "pool:make").stdout
    assert said.endswith(": the same\n")
    assert (project / "made").exists()
    assert "clean" in nixbridge("verify").stdout
    assert "there is no executor 'pol'" in nixbridge("check", "more.py:train", "--executor", "pol", status=1).stderr


# -------------------------------------------------------------------------------------------- adopt


def test_a_renamed_stage_takes_its_realizations_over(nixbridge: Command, stages: Path, project: Path) -> None:
    nixbridge("realize", "more.py:train")
    old = listed(nixbridge, "more.py:train")
    [shown] = json.loads(nixbridge("show", "more.py:train", "--json").stdout)
    stages.write_text(STAGES.replace("def train", "def fit"))
    ids = nixbridge("adopt", shown["path"], "more.py:fit", "--why", "renamed").stdout.split()
    assert len(ids) == 2
    assert nixbridge("realize", "more.py:fit", "--dry-run").stderr.endswith("nothing to run\n")
    new = listed(nixbridge, "more.py:fit")
    assert [one["outputs"] for one in new] == [one["outputs"] for one in old]
    [record] = [json.loads(file.read_text()) for file in (project.parent / "store" / "trace").rglob(f"{ids[0]}.json")]
    assert record["adopted"]["why"] == "renamed"
    assert record["adopted"]["id"] in [one["id"] for one in old]
    assert "@" in record["adopted"]["who"]
    assert "clean" in nixbridge("verify").stdout


def test_one_realization_is_adopted_by_its_id(nixbridge: Command, stages: Path) -> None:
    nixbridge("realize", "more.py:train")
    [old, _] = listed(nixbridge, "more.py:train")
    stages.write_text(STAGES.replace("def train", "def fit"))
    [made] = json.loads(nixbridge("adopt", old["id"], "more.py:fit", "--json").stdout)
    assert made["adopted"]["id"] == old["id"]
    # Once more is no more.
    again = json.loads(nixbridge("adopt", old["id"], "more.py:fit", "--json").stdout)
    assert again == [made]


def test_what_can_not_be_adopted_is_refused(nixbridge: Command, stages: Path) -> None:
    nixbridge("realize", "more.py:train")
    [old, _] = listed(nixbridge, "more.py:train")
    assert "already" in nixbridge("adopt", old["id"], "more.py:train", status=1).stderr
    assert "names 2 stages" in nixbridge("adopt", old["id"], "more.py", status=1).stderr
    said = nixbridge("adopt", old["id"], "more.py:luck", status=1).stderr
    assert f"{old['id']} lacks what the stage luck promises as x (a/x)" in said
    missing = f"/nix/store/{'0' * 32}-x.drv"
    assert f"there is no realization of {missing}" in nixbridge("adopt", missing, "more.py:luck", status=1).stderr


def test_only_what_is_whole_and_there_is_adopted(nixbridge: Command, stages: Path, project: Path) -> None:
    text = "from bridge import *\n@stage(on_error='keep')\ndef s(run, x=out('x')):\n    x.touch(); 1 / run.index\n"
    stages.write_text(text)
    nixbridge("realize", "more.py:s", status=1)
    nixbridge("realize", "more.py:s")
    stages.write_text(text.replace("def s", "def t"))
    found = json.loads(nixbridge("ls", "--json").stdout)
    failed, done = sorted(found, key=lambda one: str(one["index"]))
    assert "is failed" in nixbridge("adopt", failed["id"], "more.py:t", status=1).stderr
    for place in (project.parent / "store" / "store").glob("*-s"):
        place.rename(project.parent / "away")
    assert "is not there any more" in nixbridge("adopt", done["id"], "more.py:t", status=1).stderr
