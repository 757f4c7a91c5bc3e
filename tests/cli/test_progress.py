"""What realize shows while it works: a live tree on a terminal, plain lines elsewhere; with real builds by Nix."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bridge.nix.installation import Installation

from .conftest import NIXBRIDGE
from .terminal import Session, in_terminal

pytestmark = pytest.mark.nix

STAGES = r"""
import time
from bridge import best, host, nix, out, shell, stage

busybox = host("busybox")
tool = nix(expr='''
let
  slow = name: phase: uses: derivation {
    inherit name uses;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [
      "-c"
      (
        "echo '@nix { \\"action\\": \\"setPhase\\", \\"phase\\": \\"${phase}\\" }' >&2; echo ${name} says so >&2; "
        + "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; echo hi > $out"
      )
    ];
  };
in slow "tool-1" "installPhase" (slow "inner-1" "unpackPhase" "")
''')
clean = shell(
    "echo cleaning; cat $tool > $out/words; sleep 0.6", tool=tool, tools=[busybox], shell=busybox, builder="nix"
)

@stage(realizations=2, match=best("score"))
def train(run, data=clean / "words", model=out("model")):
    time.sleep(0.6)
    model.write_text(str(run.index))
    run.log(score=run.index + 0.5)

@stage(deterministic=True)
def table(models=train, rows=out("rows")):
    rows.write_text("rows")

@stage(deterministic=True)
def report(rows=table, page=out("page")):
    page.write_text("page")
"""


@pytest.fixture
def project(scratch: Path) -> Path:
    folder = scratch / "project"
    folder.mkdir()
    (folder / "stages.py").write_text(STAGES)
    return folder


@pytest.fixture
def environ(nix: Installation, scratch: Path) -> dict[str, str]:
    left_out = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    kept = {name: value for name, value in nix.environ.items() if name not in left_out}
    return {**kept, "NIXBRIDGE_STORE": str(scratch / "store"), "LC_ALL": "C.UTF-8"}


def realize(project: Path, environ: dict[str, str], **more: object) -> Session:
    command = [str(NIXBRIDGE), "realize", "stages.py:report"]
    return in_terminal(command, cwd=project, env=environ, **more)  # type: ignore[arg-type]


def test_a_terminal_shows_one_live_tree_of_stages_and_of_what_nix_does_for_them(
    project: Path, environ: dict[str, str]
) -> None:
    shown = realize(project, environ)
    assert shown.status == 0, shown.text
    frame = shown.frame_with("inner-1", "unpackPhase")
    assert re.search(r"Nix\n  └─ ⏵ inner-1 unpackPhase \d\.\d s │ inner-1 says so\n  0/6 stages", frame), frame
    frame = shown.frame_with("tool nix: installPhase")
    assert re.search(r"  report › … › clean\n  └─ ⏵ tool nix: installPhase \d\.\d s │ tool-1 says so\n", frame), frame
    frame = shown.frame_with("clean nix", "cleaning")
    assert "⏵ tool" not in frame
    frame = shown.frame_with("train[0] python", "train[1] python")
    assert re.search(r"  report › table\n  ├─ ⏵ train\[\d\] python \S+ s\n  └─ ⏵ train\[\d\] python", frame), frame


def test_at_the_end_the_tree_is_gone_and_what_was_made_stays(project: Path, environ: dict[str, str]) -> None:
    shown = realize(project, environ)
    assert not shown.screen.cursor.hidden
    lines = shown.text.splitlines()
    made = {line.split()[1] for line in lines if line.startswith("✔")}
    assert made == {"tool", "clean", "train[0]", "train[1]", "table", "report"}
    assert lines[-1].endswith("-report")
    assert not [line for line in lines if "⏵" in line or "stages," in line]


def test_ctrl_c_leaves_a_terminal_that_can_be_used(project: Path, environ: dict[str, str]) -> None:
    shown = realize(project, environ, type_when=[("inner-1", b"\x03")])
    assert shown.status == 130
    assert b"\x1b[?25l" in shown.raw
    assert not shown.screen.cursor.hidden
    assert shown.text.splitlines()[-1] == "nixbridge: interrupted; the same command goes on from here"
    assert "⏵" not in shown.text


def test_a_narrow_terminal_cuts_lines_and_leaves_nothing_behind(project: Path, environ: dict[str, str]) -> None:
    shown = realize(project, environ, columns=28, rows=8)
    assert shown.status == 0
    assert "…" in shown.frame_with("unpackPhase")
    # A line that had wrapped would have left its second half when the next frame was drawn.
    assert all(frame.count("0/6 stages") <= 1 for frame in shown.frames)
    assert "⏵" not in shown.text


def test_no_color_is_respected(project: Path, environ: dict[str, str]) -> None:
    shown = realize(project, {**environ, "NO_COLOR": "1"})
    assert shown.frame_with("unpackPhase")
    assert re.findall(rb"\x1b\[[0-9;]*m", shown.raw) == []


def test_a_dumb_terminal_gets_lines(project: Path, environ: dict[str, str]) -> None:
    shown = realize(project, {**environ, "TERM": "dumb"})
    assert b"\x1b" not in shown.raw
    assert "inner-1 running (nix)" in shown.text


def test_off_a_terminal_there_are_plain_lines(project: Path, environ: dict[str, str]) -> None:
    command = [NIXBRIDGE, "realize", "stages.py:report", "--print-build-logs"]
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines[:3] == ["inner-1 running (nix)", "inner-1 │ inner-1 says so", "tool running (nix)"]
    assert "clean │ cleaning" in lines
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("live", [True, False])
def test_downloads_are_told_with_their_sizes(
    nix: Installation, project: Path, environ: dict[str, str], scratch: Path, live: bool
) -> None:
    (project / "big.nix").write_text(
        'derivation { name = "big"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" '
        '"i=0; while [ $i -lt 3000 ]; do echo $i-0123456789-0123456789-0123456789-0123456789; i=$((i+1)); done > $out" '
        "]; }"
    )
    (project / "stages.py").write_text(
        'from bridge import host, nix, shell\nbusybox = host("busybox")\nbig = nix("./big.nix")\n'
        'report = shell("sleep 0.5; wc -c < $big > $out/size", big=big, tools=[busybox], shell=busybox, '
        'builder="nix")\n'
    )
    cache = scratch / "binaries"
    found = nix.run([nix.program("nix-build"), "--no-out-link", str(project / "big.nix")])
    path = found.stdout.strip()
    nix.run([nix.program("nix"), "copy", "--to", cache.as_uri(), path]).check_returncode()
    with (scratch / "conf" / "nix.conf").open("a") as conf:
        conf.write(f"substituters = {cache.as_uri()}\nrequire-sigs = false\n")
    fresh = {**environ, "NIX_REMOTE": f"local?root={scratch}/fresh"}
    nix_store = [nix.program("nix-store"), "--init"]
    subprocess.run(nix_store, env=fresh, check=True, capture_output=True)
    if live:
        shown = realize(project, fresh)
        assert shown.status == 0, shown.text
        assert shown.frame_with("report nix", "1 download (142.6 KiB), "), shown.frames
        return
    command = [NIXBRIDGE, "realize", "stages.py:report"]
    done = subprocess.run(command, cwd=project, env=fresh, capture_output=True, text=True, check=True)
    assert re.search(r"^↓ big 142\.6 KiB from \S+binaries \d\.\d s$", done.stderr, re.MULTILINE), done.stderr
