"""`nixbridge realize`: what it prints, what it runs, how it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from bridge.store.objects import remove_tree

from .conftest import NIXBRIDGE, Command


def test_the_path_of_the_result_is_all_that_goes_to_standard_output(nixbridge: Command) -> None:
    done = nixbridge("realize", "stages.py:report")
    [path] = done.stdout.splitlines()
    assert (Path(path) / "page.txt").read_text().endswith(" 2")
    assert "best('score') of 3 realizations" in done.stderr
    assert "→" in done.stderr


def test_a_second_run_runs_nothing_and_prints_the_same_path(nixbridge: Command) -> None:
    first = nixbridge("realize", "stages.py:report")
    again = nixbridge("realize", "stages.py:report")
    assert again.stdout == first.stdout
    assert "running" not in again.stderr


def test_without_a_stage_all_that_no_other_uses_are_realized(nixbridge: Command) -> None:
    assert nixbridge("realize", "stages.py").stdout == nixbridge("realize", "stages.py:report").stdout


def test_a_module_is_a_target_too(nixbridge: Command) -> None:
    assert nixbridge("realize", "stages:report").stdout == nixbridge("realize", "stages.py:report").stdout


def test_rebuild_adds_realizations_and_the_best_of_all_is_chosen(nixbridge: Command) -> None:
    nixbridge("realize", "stages.py:report")
    done = json.loads(nixbridge("realize", "stages.py:report", "--rebuild", "train", "--json").stdout)
    [train] = [stage for stage in done["stages"] if stage["stage"] == "train"]
    scores = [one["metrics"]["score"] for one in train["realizations"]]
    assert len(scores) == 6
    assert [one["metrics"]["score"] for one in train["realizations"] if one["chosen"]] == [max(scores)]


def test_a_comment_rebuilds_nothing_and_a_helper_does(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py:report")
    file = project / "stages.py"
    file.write_text(file.read_text().replace("    score = guess", "    # a comment\n\n    score = guess"))
    assert "nothing to run" in nixbridge("realize", "stages.py:report", "--dry-run").stderr
    file.write_text(file.read_text().replace("random.random() * scale", "random.random() + scale"))
    assert nixbridge("realize", "stages.py:report", "--dry-run").stdout.splitlines() == [
        "would run train (3 realizations)",
        "may run report: it depends on what comes of train",
    ]


def test_a_dry_run_says_just_what_is_missing(nixbridge: Command, project: Path) -> None:
    def dry() -> list[str]:
        return nixbridge("realize", "stages.py:report", "--dry-run", "--builder", "local").stdout.splitlines()

    assert dry() == ["would run clean", "would run train (3 realizations)", "would run report"]
    nixbridge("realize", "stages.py:report", "--builder", "local")
    assert "to run" not in nixbridge("show", "stages.py", "--builder", "local").stdout
    [clean] = nixbridge("path", "stages.py:clean", "--builder", "local").stdout.split()
    remove_tree(Path(clean))
    # Its path is known before it is built again, and so is what was made from it.
    assert dry() == ["would run clean"]
    shown = nixbridge("show", "stages.py", "--builder", "local").stdout.splitlines()
    assert shown[0].split()[:5] == ["stage", "kind", "have", "to", "run"]
    assert [line.split()[2:4] for line in shown[2:]] == [["0", "1"], ["3", "best('score')"], ["1", "only()"]]
    done = nixbridge("realize", "stages.py:report", "--builder", "local").stderr
    assert [line for line in done.splitlines() if "running" in line] == ["clean[1] running (local)"]
    assert dry() == []


def test_a_dry_run_says_what_depends_on_what_comes_of_others(nixbridge: Command) -> None:
    nixbridge("realize", "stages.py:report", "--builder", "local")
    arguments = ["realize", "stages.py:report", "--dry-run", "--builder", "local", "--rebuild", "train"]
    assert nixbridge(*arguments).stdout.splitlines() == [
        "would run train (3 realizations)",
        "may run report: it depends on what comes of train",
    ]
    stages = json.loads(nixbridge(*arguments, "--json").stdout)["stages"]
    assert {one["stage"]: one["waitsFor"] for one in stages if one["missing"]} == {"train": [], "report": ["train"]}


def test_dry_run_changes_nothing(nixbridge: Command, tmp_path: Path) -> None:
    nixbridge("realize", "stages.py:report", "--dry-run")
    assert not [file for file in (tmp_path / "store").rglob("*") if file.is_file()]


def test_set_makes_a_variant(nixbridge: Command) -> None:
    plain = nixbridge("realize", "stages.py:train").stdout
    other = nixbridge("realize", "stages.py:train", "--set", "train.scale=8").stdout
    assert plain != other
    assert nixbridge("realize", "stages.py:train").stdout == plain


def test_wrong_settings_say_what_there_is(nixbridge: Command) -> None:
    said = nixbridge("realize", "stages.py", "--set", "train.no=1", status=1).stderr
    assert "the stage train has no argument 'no'" in said
    assert "there are data, model, scale" in said
    assert "clean" in nixbridge("realize", "stages.py", "--set", "no.scale=1", status=1).stderr
    assert "STAGE.PARAM=VALUE" in nixbridge("realize", "stages.py", "--set", "scale", status=1).stderr


def test_a_failing_stage_points_into_the_users_file(nixbridge: Command, project: Path) -> None:
    file = project / "stages.py"
    file.write_text(file.read_text().replace("return random.random() * scale", "return 1 / 0"))
    done = nixbridge("realize", "stages.py:report", status=1)
    line = file.read_text().splitlines().index("    return 1 / 0") + 1
    assert f"stages.py:{line}: the stage train raised ZeroDivisionError: division by zero" in done.stderr
    assert "report: not realized, since train failed" in done.stderr
    assert "hint: the whole log: " in done.stderr
    assert done.stdout == ""
    nixbridge("verify")


def test_a_missing_promise_fails_and_nothing_enters_the_store(nixbridge: Command, project: Path) -> None:
    file = project / "stages.py"
    file.write_text(file.read_text().replace("    model.write_text(", "    str("))
    done = nixbridge("realize", "stages.py:train", status=1)
    assert "did not write its promised output model (model.txt)" in done.stderr
    listed = json.loads(nixbridge("ls", "--json").stdout)
    assert {one["stage"] for one in listed} == {"clean"}


def test_what_is_no_target_is_told_with_what_there_is(nixbridge: Command, project: Path) -> None:
    assert "there is no file nope.py" in nixbridge("realize", "nope.py", status=1).stderr
    assert "it defines words, clean, train, report" in nixbridge("realize", "stages.py:nope", status=1).stderr
    assert "there is no module 'nope.stages'" in nixbridge("realize", "nope.stages", status=1).stderr
    (project / "broken.py").write_text("x = (\n")
    assert "broken.py:1: " in nixbridge("realize", "broken.py", status=1).stderr
    (project / "raising.py").write_text("import os\nos.nope\n")
    assert (
        "raising.py:2: importing raising raised AttributeError" in nixbridge("realize", "raising.py", status=1).stderr
    )


def test_wrong_usage_exits_with_2(nixbridge: Command) -> None:
    assert "TARGET" in nixbridge("realize", status=2).stderr
    nixbridge("realize", "stages.py", "--nope", status=2)
    nixbridge("nope", status=2)
    assert "auto, nix, local" in nixbridge("realize", "stages.py", "--builder", "x", status=1).stderr


def test_colours_only_where_they_are_wanted(nixbridge: Command) -> None:
    assert "\x1b" not in nixbridge("realize", "stages.py").stderr
    assert "\x1b" in nixbridge("realize", "stages.py", FORCE_COLOR="1").stderr
    assert "\x1b" not in nixbridge("realize", "stages.py", FORCE_COLOR="1", NO_COLOR="1").stderr


def test_a_full_output_is_one_message(nixbridge: Command, project: Path, environment: dict[str, str]) -> None:
    nixbridge("realize", "stages.py")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [NIXBRIDGE, "show", "stages.py"],
            cwd=project,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "error: the output can not be written: No space left on device\n"


def test_work_goes_on_when_nobody_reads_the_progress(project: Path, environment: dict[str, str]) -> None:
    command = f"{NIXBRIDGE} realize stages.py 2> >(true)"
    done = subprocess.run(["bash", "-c", command], cwd=project, env=environment, capture_output=True, check=False)
    assert done.returncode == 0
    assert done.stdout


def test_output_that_threads_and_exit_handlers_write_belongs_to_the_stage(nixbridge: Command, project: Path) -> None:
    (project / "late.py").write_text(
        "import atexit, threading, time\nfrom bridge import out, stage\n\n"
        "@stage\ndef late(run, a=out('a'), b=out('b')):\n"
        "    threading.Thread(target=lambda: (time.sleep(0.3), a.write_text('thread'))).start()\n"
        "    atexit.register(lambda: b.write_text('exit'))\n"
    )
    result = Path(nixbridge("realize", "late.py").stdout.strip())
    assert (result / "a").read_text() == "thread"
    assert (result / "b").read_text() == "exit"


def _start(project: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A realize that is in the middle of training."""
    (project / "stages.py").write_text(
        "import time\nfrom pathlib import Path\nfrom bridge import out, stage\n\n"
        f"@stage(realizations=2)\ndef slow(run, marks={str(project)!r}, model=out('m')):\n"
        "    (Path(marks) / f'running{run.index}').touch()\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [NIXBRIDGE, "realize", "stages.py:slow", "-j2"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 20
    while len(list(project.glob("running*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def _workers() -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"realize/worker.py" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _is_gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_signals_end_the_workers_and_leave_the_store_clean(
    nixbridge: Command, project: Path, environment: dict[str, str]
) -> None:
    for sent, status, said in (
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGKILL, -9, ""),
    ):
        for mark in project.glob("running*"):
            mark.unlink()
        before = _workers()
        process = _start(project, environment)
        mine = [pid for pid in _workers() if pid not in before]
        process.send_signal(sent)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == status
        assert said in errors.decode()
        assert b"Traceback" not in errors
        assert _is_gone(mine)
        report = json.loads(nixbridge("verify", "--json").stdout)
        assert report["findings"] == []
