"""The environments that users work in: `develop`, `print-dev-env`, direnv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.cli.bash import declare, quote

from .conftest import NIXBRIDGE, Command

VALUES = st.binary(max_size=40).map(lambda data: data.replace(b"\0", b"")) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20
).map(str.encode)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@settings(deadline=None, max_examples=40)
@given(values=st.lists(VALUES, min_size=1, max_size=20))
def test_any_value_survives_bashs_eval(locale: str, values: list[bytes]) -> None:
    texts = [os.fsdecode(value) for value in values]
    text = declare({f"V{number}": value for number, value in enumerate(texts)})
    names = " ".join(f'"$V{number}"' for number in range(len(texts)))
    done = subprocess.run(
        ["bash", "--norc", "-c", f'eval "$(cat)"; printf "%s\\0" {names}'],
        input=os.fsencode(text),
        env={"PATH": os.environ["PATH"], "LC_ALL": locale},
        capture_output=True,
        check=True,
    )
    assert done.stdout.split(b"\0")[:-1] == values
    assert done.stderr == b""


def test_values_are_shown_as_people_would_write_them() -> None:
    assert quote("a b") == "'a b'"
    assert quote("it's") == r"'it'\''s'"
    assert quote("ü") == "'ü'"
    assert quote("a\n'\\\x01") == r"$'a\n\'\\\001'"
    assert declare({"a-b": "x", "c": "1"}) == "export c='1'\n"


def test_a_command_runs_in_the_environment_of_a_stage(nixbridge: Command) -> None:
    done = nixbridge("develop", "stages.py:clean", "-c", 'run_stage && cat $out/sorted.txt; echo $words; echo "$HOME"')
    one, two, words, home = done.stdout.splitlines()
    assert (one, two) == ("one", "two")
    assert words.endswith("-words.txt")
    assert home.endswith("/home")
    assert nixbridge("ls").stdout == ""


def test_all_that_follows_is_the_command_word_by_word_as_with_nix(nixbridge: Command) -> None:
    words = ["printf", "<%s>", "$name", "--builder", "it's"]
    assert nixbridge("develop", "stages.py:clean", "-c", *words).stdout == "<$name><--builder><it's>"
    assert nixbridge("develop", "-c", "printf", "%s", "-c").stdout == "-c"
    assert nixbridge("develop", "stages.py:clean", "-c", "sh", "-c", "echo $name; exit 3", status=3).stdout == "clean\n"
    assert nixbridge("develop", "stages.py:clean", "--command=echo $name").stdout == "clean\n"
    assert "requires an argument" in nixbridge("develop", "stages.py:clean", "-c", status=2).stderr


def test_the_scratch_folder_is_gone_and_the_status_is_the_commands(nixbridge: Command) -> None:
    done = nixbridge("develop", "stages.py:clean", "-c", "mkdir $out; echo $out; exit 7", status=7)
    assert not Path(done.stdout.strip()).exists()


def test_a_python_stage_has_variables_as_well(nixbridge: Command) -> None:
    done = nixbridge("develop", "stages.py:train", "-c", "cat $data; echo $scale; echo $model")
    one, two, scale, model = done.stdout.splitlines()
    assert (one, two, scale) == ("one", "two", "2.0")
    assert model.endswith("/out/model.txt")


def test_without_a_terminal_the_commands_come_from_standard_input(nixbridge: Command) -> None:
    done = nixbridge("develop", "stages.py:clean", stdin=b"echo $name; false\nexit 4\n", status=4)
    assert done.stdout == "clean\n"


def test_the_environment_is_printed_for_eval(nixbridge: Command, project: Path, environment: dict[str, str]) -> None:
    text = nixbridge("print-dev-env", "stages.py:report").stdout
    shell = 'eval "$(cat)"; mkdir -p $out; run_stage; cat outputs/out/page.txt; echo; command -v ls'
    done = subprocess.run(
        ["bash", "--norc", "-c", shell],
        input=text,
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[1:] == ["2", shutil.which("ls")]


def test_the_json_is_as_nix_prints_it(nixbridge: Command, project: Path) -> None:
    found = json.loads(nixbridge("print-dev-env", "--json", "stages.py:report").stdout)
    assert set(found) == {"bashFunctions", "variables"}
    assert set(found["bashFunctions"]) == {"run_stage"}
    assert found["variables"]["out"] == {"type": "exported", "value": f"{project}/outputs/out"}
    assert found["variables"]["page"] == {"type": "exported", "value": f"{project}/outputs/out/page.txt"}
    assert "TMPDIR" not in found["variables"]


def test_without_a_target_it_is_the_python_that_runs_nixbridge(nixbridge: Command) -> None:
    assert nixbridge("develop", "-c", "command -v nixbridge").stdout.strip() == str(NIXBRIDGE)
    text = nixbridge("print-dev-env").stdout
    assert f"export PATH='{NIXBRIDGE.parent}'" in text


@pytest.mark.nix
def test_a_flake_that_git_does_not_track_is_named(nixbridge: Command, project: Path) -> None:
    (project / "flake.nix").write_text("{ outputs = _: { }; }")
    subprocess.run(["git", "init", "-q", project], check=True)
    assert f"git add {project}/flake.nix" in nixbridge("develop", "-c", "true", status=1).stderr
    subprocess.run(["git", "-C", project, "add", "flake.nix"], check=True)
    assert "git add" not in nixbridge("develop", "-c", "true", status=1).stderr


def test_what_is_no_stage_is_refused(nixbridge: Command) -> None:
    assert "is a source" in nixbridge("develop", "stages.py:words", "-c", "true", status=1).stderr
    assert "no stage 'reprot'" in nixbridge("print-dev-env", "stages.py:reprot", status=1).stderr


@pytest.mark.skipif(shutil.which("direnv") is None, reason="direnv is not installed: apt-get install direnv")
def test_direnv_enters_the_environment_of_a_stage(project: Path, environment: dict[str, str]) -> None:
    (project / ".envrc").write_text('eval "$(nixbridge direnvrc)"\nuse nixbridge stages.py:clean\n')
    environ = {**environment, "PATH": f"{NIXBRIDGE.parent}:{environment['PATH']}"}
    subprocess.run(["direnv", "allow"], cwd=project, env=environ, check=True, capture_output=True)
    command = ["direnv", "exec", ".", "sh", "-c", "echo $name $words; command -v nixbridge"]
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=True)
    name, words, program = done.stdout.split()
    assert name == "clean"
    assert Path(words).read_text() == "two\none\ntwo\n"
    assert program == str(NIXBRIDGE)
    watched = subprocess.run(
        ["direnv", "export", "json"], cwd=project, env=environ, capture_output=True, text=True, check=True
    )
    assert json.loads(watched.stdout)["name"] == "clean"


@pytest.mark.skipif(shutil.which("direnv") is None, reason="direnv is not installed: apt-get install direnv")
def test_direnv_says_so_where_the_environment_can_not_be_had(project: Path, environment: dict[str, str]) -> None:
    (project / ".envrc").write_text('eval "$(nixbridge direnvrc)"\nuse nixbridge stages.py:nothing\n')
    environ = {**environment, "PATH": f"{NIXBRIDGE.parent}:{environment['PATH']}"}
    subprocess.run(["direnv", "allow"], cwd=project, env=environ, check=True, capture_output=True)
    done = subprocess.run(
        ["direnv", "exec", ".", "true"], cwd=project, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "no stage 'nothing'" in done.stderr
