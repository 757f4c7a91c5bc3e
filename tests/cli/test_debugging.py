"""`debug`, `realize --pdb` and `--keep-failed`, on terminals of their own."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import NIXBRIDGE, Command
from .terminal import in_terminal

FAILING = """
from bridge import out, shell, stage

@stage
def bad(run, rate=0.5, page=out("page")):
    secret = 40 + 2
    page.write_text("half")
    raise ValueError("no such luck")

broken = shell("touch here; echo $n > $out/some; exit 9", n=3, builder="local")
"""


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, project: Path, environment: dict[str, str], *arguments: str) -> None:
        self.read_end, end = pty.openpty()
        self.process = subprocess.Popen(
            [NIXBRIDGE, *arguments],
            cwd=project,
            env={**environment, "TERM": "dumb", "NO_COLOR": "1"},
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        self.seen = ""

    def expect(self, text: str, seconds: float = 60.0) -> str:
        """Wait until something is shown; gives what was shown before."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.seen!r}"
            if select.select([self.read_end], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.read_end, 65536).decode(errors="replace")
                except OSError:
                    self.process.kill()
                    self.process.wait()
                    assert text in self.seen, self.seen
        before, _, self.seen = self.seen.partition(text)
        return before

    def say(self, line: str) -> None:
        os.write(self.read_end, line.encode() + b"\n")

    def end(self) -> int:
        while True:
            try:
                if not os.read(self.read_end, 65536):
                    break
            except OSError:
                break
        os.close(self.read_end)
        return self.process.wait(20)


@pytest.fixture
def failing(project: Path) -> Path:
    (project / "failing.py").write_text(FAILING)
    return project


# ------------------------------------------------------------------------------------------- debug


def test_python_code_steps_in_and_accepts(nixbridge: Command) -> None:
    code = "assert inputs['data'] == data and config == {'scale': 2.0}; call(); accept()"
    done = nixbridge("debug", "stages.py:train", "-c", code)
    assert "accepted train as" in done.stderr
    (path,) = done.stdout.split()
    assert (Path(path) / "model.txt").is_file()
    assert nixbridge("ls").stdout.count("train") == 1


def test_without_accept_nothing_is_recorded(nixbridge: Command) -> None:
    done = nixbridge("debug", "stages.py:train", stdin=b"call()\nprint(run.metrics)\n")
    assert "score" in done.stdout
    assert "cancelled train: nothing is recorded" in done.stderr
    assert "train" not in nixbridge("ls").stdout
    assert nixbridge("verify").returncode == 0


def test_code_that_raises_says_where(nixbridge: Command) -> None:
    done = nixbridge("debug", "stages.py:train", "-c", "call()\n1 / 0", status=1)
    assert "<command> raised ZeroDivisionError" in done.stderr


def test_a_shell_stage_runs_and_is_accepted(nixbridge: Command) -> None:
    done = nixbridge("debug", "stages.py:clean", "-c", "run_stage && cat $out/sorted.txt && accept")
    assert done.stdout.startswith("one\ntwo\n")
    assert "clean" in nixbridge("ls").stdout


def test_a_shell_that_ends_badly_is_cancelled(nixbridge: Command) -> None:
    done = nixbridge("debug", "stages.py:clean", stdin=b"exit 5\n", status=5)
    assert "cancelled clean" in done.stderr


def test_python_code_that_exits_ends_with_its_status(nixbridge: Command) -> None:
    told = nixbridge("debug", "stages.py:train", "-c", "raise SystemExit(4)", status=4).stderr
    assert "cancelled train" in told
    assert "why\n" in nixbridge("debug", "stages.py:train", "-c", "raise SystemExit('why')", status=1).stderr
    assert "accepted" in nixbridge("debug", "stages.py:train", "-c", "call(); accept(); raise SystemExit(3)").stderr


def test_an_index_may_be_named(nixbridge: Command) -> None:
    assert nixbridge("debug", "stages.py:train", "--index", "7", "-c", "print(run.index)").stdout == "7\n"


def test_debug_needs_one_thing_to_enter(nixbridge: Command) -> None:
    assert "one of the two" in nixbridge("debug", status=1).stderr
    assert "one of the two" in nixbridge("debug", "stages.py:train", "--failed", "x", status=1).stderr
    assert "realize --keep-failed keeps" in nixbridge("debug", "--failed", "x", status=1).stderr


def test_a_python_prompt_on_a_terminal(
    project: Path, environment: dict[str, str], nixbridge: Command, tmp_path: Path
) -> None:
    hidden = tmp_path / "without-ipython"
    hidden.mkdir()
    (hidden / "IPython.py").write_text("raise ImportError\n")
    environment = {**environment, "PYTHONPATH": str(hidden)}
    terminal = Terminal(project, environment, "debug", "stages.py:train")
    terminal.expect("scale = 2.0")
    terminal.expect(">>> ")
    terminal.say("call()")
    terminal.expect(">>> ")
    terminal.say("sorted(run.metrics)")
    terminal.expect("['score']")
    terminal.say("step()")
    terminal.expect("stages.py(")
    terminal.expect("(Pdb) ")
    terminal.say("p scale * 21")
    terminal.expect("42.0")
    terminal.say("c")
    terminal.expect(">>> ")
    terminal.say("exit()")
    terminal.expect("accept the result")
    terminal.say("y")
    terminal.expect("accepted train as")
    assert terminal.end() == 0
    assert "train" in nixbridge("ls").stdout


def test_an_ipython_prompt_completes_what_is_walked_over(
    project: Path, environment: dict[str, str], nixbridge: Command
) -> None:
    nixbridge("realize", "stages.py")
    shown = in_terminal(
        [str(NIXBRIDGE), "debug", "stages.py:train"],
        cwd=project,
        env=environment,
        rows=50,
        type_when=[
            ("In [1]:", b"call()\r"),
            ("In [2]:", b"from bridge import walk; r = walk('report')[0]\r"),
            # One name begins so, and is completed; of the next all are shown.
            ("In [3]:", b"r.inp\t"),
            ("In [3]: r.inputs", b".mo\t"),
            ("In [3]: r.inputs.model", b".config.\t"),
            (".setdefault", b"scale * 21\r"),
            ("Out[3]: 42.0", b"sorted(run.metrics)\r"),
            ("['score']", b"accept()\r"),
            ("In [6]:", b"exit\r"),
        ],
    )
    assert shown.status == 0, shown.text
    assert "accepted train as" in shown.text
    assert ".scale" in shown.frame_with("In [3]: r.inputs.model.config.", ".setdefault")
    assert nixbridge("ls", "train").stdout.count(" train ") == 4


def test_leaving_ipython_asks_and_control_d_is_a_no(
    project: Path, environment: dict[str, str], nixbridge: Command
) -> None:
    shown = in_terminal(
        [str(NIXBRIDGE), "debug", "stages.py:train"],
        cwd=project,
        env=environment,
        rows=50,
        type_when=[("In [1]:", b"call()\r"), ("In [2]:", b"\x04"), ("accept the result", b"\x04")],
    )
    assert shown.status == 0, shown.text
    assert "cancelled train: nothing is recorded" in shown.text
    assert "train" not in nixbridge("ls").stdout


def test_a_shell_on_a_terminal(project: Path, environment: dict[str, str], nixbridge: Command) -> None:
    terminal = Terminal(project, environment, "debug", "stages.py:clean")
    terminal.expect("[clean]")
    terminal.say("run_stage; cat $out/sorted.txt")
    terminal.expect("one\r\ntwo")
    terminal.say("exit")
    terminal.expect("accept the result")
    terminal.say("n")
    terminal.expect("cancelled clean")
    assert terminal.end() == 0
    assert nixbridge("ls").stdout == ""


# --------------------------------------------------------------------------------------------- pdb


def test_pdb_looks_at_the_very_process_that_failed(
    failing: Path, environment: dict[str, str], nixbridge: Command
) -> None:
    terminal = Terminal(failing, environment, "realize", "failing.py:bad", "--pdb")
    assert "failing.py" in terminal.expect("ValueError: no such luck")
    terminal.expect("(Pdb) ")
    terminal.say("p secret, rate")
    terminal.expect("(42, 0.5)")
    # Ctrl-C at the prompt ends nothing.
    os.write(terminal.read_end, b"\x03")
    terminal.say("")
    terminal.say("p run.index + 7000")
    terminal.expect("7000")
    terminal.say("q")
    terminal.expect("error: 1 stage failed")
    assert terminal.end() == 1
    assert nixbridge("verify").returncode == 0


def test_pdb_needs_a_terminal(nixbridge: Command, failing: Path) -> None:
    assert "--pdb needs a terminal" in nixbridge("realize", "failing.py:bad", "--pdb", status=1).stderr


# ------------------------------------------------------------------------------------- keep-failed


def test_what_failed_is_kept_and_entered_again(nixbridge: Command, failing: Path) -> None:
    said = nixbridge("realize", "failing.py:bad", "--keep-failed", status=1).stderr
    place = said.partition("nixbridge debug --failed ")[2].split()[0]
    assert (Path(place) / "out" / "page").read_text() == "half"
    for name in ("bad", place):
        done = nixbridge("debug", "--failed", name, "-c", "print(page.read_text(), rate)")
        assert done.stdout == "half 0.5\n"
    done = nixbridge("debug", "--failed", "bad", "-c", "call()", status=1)
    assert "ValueError: no such luck" in done.stderr
    assert "failing.py" in done.stderr


def test_a_failed_script_is_entered_with_its_environment(nixbridge: Command, failing: Path) -> None:
    nixbridge("realize", "failing.py:broken", "-K", status=1)
    done = nixbridge("debug", "--failed", "broken", "-c", "ls; cat $out/some; echo $n; run_stage", status=9)
    assert done.stdout == "here\n3\n3\n"


def test_nothing_is_kept_unless_asked_for(nixbridge: Command, failing: Path) -> None:
    assert "--failed" not in nixbridge("realize", "failing.py:broken", status=1).stderr


# --------------------------------------------------------------------------------- options for Nix


def test_settings_of_nix_are_checked_first(nixbridge: Command) -> None:
    assert "NAME=VALUE" in nixbridge("realize", "stages.py", "--option", "cores", status=1).stderr
    assert "a number or auto" in nixbridge("realize", "stages.py", "--max-jobs", "many", status=1).stderr
