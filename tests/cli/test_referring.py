"""References on the command line: each command reads them alike, and none takes one thing for another."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .conftest import NIXBRIDGE, Command

COMMANDS = [
    ["ls", "train"],
    ["ls", "train/model.txt"],
    ["cat", "train/model.txt"],
    ["tree", "train"],
    ["history", "train"],
    ["log", "train"],
    ["note", "train", "text"],
    ["diff", "train", "report"],
    ["diff", "report", "train"],
    ["report", "train"],
    ["ui", "train"],
    ["link", "train", "made"],
    ["tag", "other", "train"],
    ["rm", "train"],
    ["pack", "train", "-o", "made.pack"],
    ["copy", "train", "--to", "made"],
    ["push-cache", "made", "train"],
    ["adopt", "train", "stages.py:report"],
    ["realize", "stages.py", "--redo", "train"],
    ["realize", "stages.py", "--from", "train=train"],
]


@pytest.fixture
def tagged(nixbridge: Command) -> str:
    """The id of a realization of train with a tag that is called train."""
    nixbridge("realize", "stages.py")
    identity = json.loads(nixbridge("ls", "train", "--json").stdout)[0]["id"]
    said = nixbridge("tag", "train", identity).stderr
    assert "train is also the stage with 3 realizations: write @train" in said
    return str(identity)


def test_every_command_tells_what_is_ambiguous_and_does_nothing(
    nixbridge: Command, tagged: str, project: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*.json"))
    for command in COMMANDS:
        said = nixbridge(*command, status=1).stderr
        assert "may mean 2 things" in said, command
        assert "@train" in said
        assert ":train" in said
    assert sorted(tmp_path.rglob("*.json")) == before
    assert not list(project.glob("made*"))


def test_with_its_sign_each_is_understood(nixbridge: Command, tagged: str, project: Path) -> None:
    assert nixbridge("cat", "@train/model.txt").stdout == nixbridge("cat", f"{tagged}/model.txt").stdout
    assert json.loads(nixbridge("tree", "@train", "--json").stdout) == json.loads(
        nixbridge("tree", tagged, "--json").stdout
    )
    assert len(json.loads(nixbridge("ls", ":train", "--json").stdout)) == 3
    assert len(json.loads(nixbridge("history", ":train", "--json").stdout)) == 3
    assert nixbridge("diff", "@train", tagged, "--exit-code").stdout.count(tagged) == 2
    assert nixbridge("ls", ":train^out/").stdout == "model.txt\n"
    for command in (
        ["note", "@train", "text"],
        ["link", "@train", "made"],
        ["report", ":train", "-o", "made.html"],
        ["pack", ":train", "-o", "made.pack"],
        ["copy", "@train", "--to", "copied"],
        ["push-cache", "cache", "@train"],
        ["realize", "stages.py", "--redo", "@train"],
    ):
        nixbridge(*command)
    packed = json.loads(nixbridge("unpack", "--list", "made.pack", "--json").stdout)
    assert sum(one["stage"] == "train" for one in packed["records"]) == 3
    nixbridge("tag", "--delete", "train")
    assert len(nixbridge("ls", "train").stdout.splitlines()) == 1 + 4


def test_a_tag_that_is_called_as_the_stage_file_is_ambiguous(nixbridge: Command, tagged: str) -> None:
    nixbridge("tag", "stages.py", tagged)
    said = nixbridge("ls", "stages.py", status=1).stderr
    assert "./stages.py  the stage file" in said
    assert "@stages.py  the tag of" in said
    assert nixbridge("ls", "@stages.py").stdout == "model.txt\n"
    assert "report" in nixbridge("ls", "./stages.py").stdout
    assert "train" in nixbridge("ls", "stages.py:train").stdout


def test_a_module_is_a_target_where_nothing_else_is_called_so(nixbridge: Command, project: Path, tagged: str) -> None:
    (project / "json.py").write_text("")
    (project / "pipeline.py").write_text((project / "stages.py").read_text())
    # Its function is another one, so that nothing is realized of it but what is no Python.
    assert "clean: only() of 1 realization\n" in nixbridge("ls", "pipeline").stdout
    assert nixbridge("ls", "pipeline:train").stdout == "train: no realizations\n"
    nixbridge("tag", "pipeline", tagged)
    assert nixbridge("ls", "pipeline").stdout == "model.txt\n"
    # A module of Python's own has no stages: whoever writes its name means something else.
    assert "is no realization, stage, tag or path" in nixbridge("ls", "tokenize", status=1).stderr


def test_a_target_lists_what_is_named_of_it(nixbridge: Command, tagged: str) -> None:
    assert "clean" not in nixbridge("ls", "stages.py:train").stdout
    assert "clean" in nixbridge("ls", "stages.py").stdout
    assert nixbridge("ls", "stages.py:words").stdout.endswith("-words.txt\n")
    assert "which has no realizations" in nixbridge("log", "stages.py:words", status=1).stderr


def test_rm_takes_no_target_and_no_derivation(nixbridge: Command, tagged: str) -> None:
    assert "is a target" in nixbridge("rm", "stages.py:train", status=1).stderr
    drv = json.loads(nixbridge("ls", tagged[:16], "--json").stdout)
    assert drv
    [path] = {one["drv"] for one in json.loads(nixbridge("ls", ":train", "--json").stdout)}
    assert "is a derivation with 3 realizations" in nixbridge("rm", path, "--force", status=1).stderr
    assert len(json.loads(nixbridge("ls", path, "--json").stdout)) == 3


def test_a_store_that_is_empty_or_not_there_is_told(nixbridge: Command, tmp_path: Path) -> None:
    for command in (["ls"], ["ls", "train"], ["cat", "train/x"], ["log", "train"], ["tag", "x", "train"]):
        said = nixbridge(*command, "--store", str(tmp_path / "nowhere"), status=1).stderr
        assert "there is no store at" in said or "nothing is realized in it yet" in said, command
    nixbridge("realize", "stages.py:words")
    said = nixbridge("ls", "train", status=1).stderr
    assert "nothing is realized in it yet" in said


def test_files_with_odd_names_are_told_and_given(
    nixbridge: Command, project: Path, environment: dict[str, str]
) -> None:
    (project / "odd.py").write_text(
        "from bridge import out, stage\n\n@stage\ndef odd(run, d=out('a folder')):\n    d.mkdir()\n"
        "    for name in ('with blanks', 'new\\nline', 'ünï', '-dash', '@at', ':colon'):\n"
        "        (d / name).write_text(name)\n"
    )
    nixbridge("realize", "odd.py")
    for name in ("with blanks", "new\nline", "ünï", "-dash", "@at", ":colon"):
        assert nixbridge("cat", f"odd/a folder/{name}").stdout == name
        assert nixbridge("cat", f"odd.py:odd/a folder/{name}").stdout == name
    assert len(json.loads(nixbridge("ls", "odd/a folder", "--json").stdout)) == 6
    told = subprocess.run(
        f"{NIXBRIDGE} tree odd | head -n 1", shell=True, cwd=project, env=environment, capture_output=True, check=True
    )
    assert told.stderr == b""


def test_a_file_of_a_result_that_ends_as_a_stage_file_does_is_given(nixbridge: Command, project: Path) -> None:
    (project / "code.py").write_text(
        "from bridge import out, stage\n\n@stage\ndef code(run, d=out('d')):\n    d.mkdir()\n"
        "    (d / 'made.py').write_text('raise SystemExit(1)')\n"
    )
    nixbridge("realize", "code.py")
    [found] = json.loads(nixbridge("ls", ":code", "--json").stdout)
    nixbridge("tag", "paper", found["id"])
    nixbridge("link", "paper", "result")
    for reference in (found["id"], found["id"][:5], "paper", "@paper", "code", ":code", "code^out", "code.py:code"):
        assert nixbridge("cat", f"{reference}/d/made.py").stdout == "raise SystemExit(1)", reference
    for reference in (found["outputs"]["out"], "result", "./result"):
        assert nixbridge("cat", f"{reference}/d/made.py").stdout == "raise SystemExit(1)", reference
    listed = nixbridge("find", "*.py").stdout.split()
    assert [nixbridge("ls", one).stdout for one in listed] == ["made.py\n"]
    assert "has no 'other.py'" in nixbridge("cat", "paper/d/other.py", status=1).stderr
    for target in ("./code.py", str(project / "code.py")):
        assert json.loads(nixbridge("ls", target, "--json").stdout)[0]["stage"] == "code"
    assert "there is no file nowhere/stages.py" in nixbridge("ls", "nowhere/stages.py", status=1).stderr
