"""Where the command finds itself: closed streams, a folder that is gone, no store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import NIXBRIDGE, Command


@pytest.mark.parametrize("command", ["cat report/page.txt", "log train", "gc --dry-run", "pack report -o -", "ls"])
def test_a_closed_output_is_no_fault(
    nixbridge: Command, project: Path, environment: dict[str, str], command: str
) -> None:
    nixbridge("realize", "stages.py", "--builder", "local")
    done = subprocess.run(
        f"{NIXBRIDGE} {command} >&-",
        shell=True,
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_without_any_stream_a_stage_prints_into_no_file_of_the_store(
    nixbridge: Command, project: Path, environment: dict[str, str]
) -> None:
    (project / "loud.py").write_text(
        "import os, sys\nfrom bridge import out, stage\n\n@stage\ndef loud(run, o=out('o')):\n"
        "    os.write(1, b'one')\n    os.write(2, b'two')\n    o.write_text('done')\n"
    )
    subprocess.run(f"{NIXBRIDGE} realize loud.py <&- >&- 2>&-", shell=True, cwd=project, env=environment, check=True)
    assert nixbridge("cat", "loud/o").stdout == "done"
    assert nixbridge("log", "loud").stdout == "onetwo"
    assert "clean" in nixbridge("verify").stdout


def test_a_working_folder_that_is_gone_is_said(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        f"cd {tmp_path}/gone && rmdir {tmp_path}/gone && {NIXBRIDGE} ls",
        shell=True,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the working folder is no longer there\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["find"],
        ["find", "*.txt"],
        ["history", "train"],
        ["tag", "--list"],
        ["tag", "good", "train"],
        ["keep", "--list"],
        ["report"],
        ["report", "train"],
    ],
)
def test_asking_a_store_that_is_not_there_makes_none(nixbridge: Command, tmp_path: Path, arguments: list[str]) -> None:
    missing = tmp_path / "misspelt"
    assert f"there is no store at {missing}" in nixbridge(*arguments, "--store", str(missing), status=1).stderr
    assert not missing.exists()


def test_a_file_that_can_not_be_used_is_named_and_not_the_output(environment: dict[str, str]) -> None:
    code = (
        "import sys, bridge.cli.main\nmain = sys.modules['bridge.cli.main']\n"
        "main.app = lambda **options: open('/proc/no such/file')\nmain.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: /proc/no such/file: No such file or directory\n")


@pytest.mark.parametrize(
    "arguments",
    [["report", "train", "-o"], ["pack", "train", "-o"], ["run-md", "page.md", "-o"]],
)
def test_a_folder_or_a_pipe_is_never_replaced_by_a_file(
    nixbridge: Command, project: Path, arguments: list[str]
) -> None:
    nixbridge("realize", "stages.py:train", "--builder", "local")
    (project / "page.md").write_text("# Nothing to run\n")
    subprocess.run(["mkfifo", project / "pipe"], check=True)
    for name in (".", "", "/", "..", "pipe", "stages.py/x"):
        assert "can not be written" in nixbridge(*arguments, name, status=1).stderr
    assert (project / "pipe").is_fifo()
    assert not list(project.glob(".*"))


def test_what_is_deleted_is_said_as_json(nixbridge: Command) -> None:
    nixbridge("realize", "stages.py", "--builder", "local")
    nixbridge("tag", "good", "stages.py:train")
    nixbridge("keep", "all", "stages.py")
    assert json.loads(nixbridge("tag", "--delete", "good", "--json").stdout) == {"deleted": "good"}
    assert json.loads(nixbridge("keep", "--delete", "all", "--json").stdout) == {"deleted": "all"}
