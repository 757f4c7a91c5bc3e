"""`show`, `path`, `ls`, `log`, `verify`, `doctor`, `--version`."""

from __future__ import annotations

import json
from pathlib import Path

from bridge import __version__

from .conftest import Command


def test_version_and_help(nixbridge: Command) -> None:
    assert nixbridge("--version").stdout == f"nixbridge {__version__}\n"
    shown = nixbridge("--help").stdout
    for command in ("realize", "show", "instantiate", "derivation", "path", "ls", "log", "verify", "hash", "doctor"):
        assert command in shown
    assert "STAGE.PARAM=VALUE" in nixbridge("realize", "--help").stdout


def test_show_lists_the_stages_inputs_first(nixbridge: Command) -> None:
    lines = nixbridge("show", "stages.py").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "words.txt", "clean", "train", "report"]
    assert "best('score')" in lines[3]
    shown = json.loads(nixbridge("show", "stages.py", "--json").stdout)
    assert [one["kind"] for one in shown] == ["source", "shell", "python", "shell"]
    assert shown[2]["missing"] == 3
    assert shown[2]["line"] == 8


def test_path_needs_what_is_realized(nixbridge: Command) -> None:
    done = nixbridge("path", "stages.py:report", status=1)
    assert "not realized: report" in done.stderr
    assert "nixbridge realize stages.py:report" in done.stderr
    made = nixbridge("realize", "stages.py:report").stdout
    assert nixbridge("path", "stages.py:report").stdout == made


def test_ls_lists_realizations(nixbridge: Command) -> None:
    assert "no realizations" in nixbridge("ls", "stages.py").stdout
    assert nixbridge("ls").stdout == ""
    nixbridge("realize", "stages.py")
    assert len(nixbridge("ls").stdout.splitlines()) == 1 + 5
    assert "best('score') of 3" in nixbridge("ls", "stages.py").stdout
    assert len(json.loads(nixbridge("ls", "--json").stdout)) == 5


def test_log_prints_what_a_stage_printed(nixbridge: Command, project: Path) -> None:
    file = project / "stages.py"
    file.write_text(file.read_text().replace("    score = guess", "    print('index', run.index)\n    score = guess"))
    nixbridge("realize", "stages.py")
    assert nixbridge("log", "stages.py:train").stdout.startswith("index ")
    for one in json.loads(nixbridge("ls", "--json").stdout):
        if one["stage"] == "train":
            assert nixbridge("log", one["id"][:8]).stdout == f"index {one['index']}\n"
    assert "nixbridge ls lists what there is" in nixbridge("log", "zzzz", status=1).stderr


def test_verify_finds_what_was_changed(nixbridge: Command, tmp_path: Path) -> None:
    result = Path(nixbridge("realize", "stages.py").stdout.strip())
    assert "clean" in nixbridge("verify").stdout
    page = result / "page.txt"
    page.chmod(0o644)
    page.write_text("other")
    done = nixbridge("verify", status=1)
    assert "its contents were changed" in done.stdout
    assert json.loads(nixbridge("verify", "--json", status=1).stdout)["findings"][0]["path"] == str(result)


def test_the_store_is_where_the_project_says(nixbridge: Command, project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.nixbridge]\nstore = "here"\n')
    path = nixbridge("realize", "stages.py", NIXBRIDGE_STORE="").stdout
    assert path.startswith(str(project / "here" / "store"))
    path = nixbridge("realize", "stages.py", "--store", "there").stdout
    assert path.startswith(str(project / "there" / "store"))
    (project / "pyproject.toml").write_text("[tool.nixbridge\n")
    assert "pyproject.toml: this is not TOML" in nixbridge("realize", "stages.py", NIXBRIDGE_STORE="", status=1).stderr


def test_doctor_says_what_is_here(nixbridge: Command, tmp_path: Path) -> None:
    shown = {one["what"]: one for one in json.loads(nixbridge("doctor", "--json").stdout)}
    assert shown["store"]["found"] == str(tmp_path / "store")
    assert "Nix" in shown
    alone = json.loads(nixbridge("doctor", "--json", PATH="/nonexistent").stdout)
    assert [one["found"] for one in alone if one["what"] == "Nix"] == ["not installed"]
    file = tmp_path / "file"
    file.touch()
    assert "can not be made" in nixbridge("doctor", "--store", str(file / "store"), status=1).stdout


def test_hash_path_is_that_of_its_bytes(nixbridge: Command, project: Path) -> None:
    (project / "hello").write_text("hello\n")
    flat = nixbridge("hash", "path", "hello", "--type", "flat", "--base", "base16").stdout.strip()
    assert flat == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert nixbridge("hash", "path", "hello").stdout.startswith("sha256-")
    assert "there is no base 'x'" in nixbridge("hash", "path", "hello", "--base", "x", status=1).stderr
    assert "can not be read: No such file" in nixbridge("hash", "path", "nope", status=1).stderr


def test_stages_may_share_a_name(nixbridge: Command, project: Path) -> None:
    file = project / "stages.py"
    file.write_text(file.read_text() + "\na = train(scale=3.0)\nb = train(scale=4.0)\n")
    made = nixbridge("realize", "stages.py").stdout
    assert len(made.splitlines()) == 3
    assert nixbridge("path", "stages.py").stdout == made
    assert len(json.loads(nixbridge("path", "stages.py", "--json").stdout)) == 3
    assert len(json.loads(nixbridge("instantiate", "stages.py", "--json").stdout)) == 3


def test_what_is_no_record_is_passed_over(nixbridge: Command, tmp_path: Path) -> None:
    made = nixbridge("realize", "stages.py").stdout
    trace = tmp_path / "store" / "trace"
    (trace / "stray").touch()
    for folder in list(trace.iterdir()):
        if folder.is_dir():
            (folder / ".abc.json.Xy12").touch()
    assert nixbridge("realize", "stages.py").stdout == made
    assert len(nixbridge("ls").stdout.splitlines()) == 1 + 5


def test_a_damaged_record_hides_no_other(nixbridge: Command, tmp_path: Path) -> None:
    nixbridge("realize", "stages.py")
    [folder] = (tmp_path / "store" / "trace").glob("*-report.drv")
    [file] = folder.iterdir()
    file.chmod(0o644)
    file.write_text("{")
    done = nixbridge("ls")
    assert len(done.stdout.splitlines()) == 1 + 4
    assert "is damaged" in done.stderr


def test_a_store_that_is_not_there_is_not_clean(nixbridge: Command, tmp_path: Path) -> None:
    assert "there is no store at" in nixbridge("verify", "--store", str(tmp_path / "typo"), status=1).stderr
    assert not (tmp_path / "typo").exists()


def test_ls_lists_also_what_the_matcher_can_not_choose_from(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py")
    file = project / "stages.py"
    file.write_text(file.read_text().replace('match=best("score")', 'match=exact("zzz")').replace("best,", "exact,"))
    assert "exact('zzz') of 3 realizations" in nixbridge("ls", "stages.py").stdout
