from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from instantiating import instantiate

from bridge.nix.activity import BuildFinished, BuildStarted, Event, Line, Phase
from bridge.nix.build import build, read_log
from bridge.nix.errors import NixBuildError, NixCancelledError
from bridge.nix.installation import Installation

pytestmark = pytest.mark.nix

CODE = r"""
{ mark ? "" }:
let
  make = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" script ];
  };
in
rec {
  ok = make "ok" ''echo one; echo two >&2; echo '@nix {"action":"setPhase","phase":"cook"}' >&2; echo hi > $out'';
  long = make "long" "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; done; exit 3";
  bad = make "bad" "echo oops; exit 1";
  silent = make "silent" "exit 1";
  nothing = make "nothing" "echo forgot";
  above = make "above" "cat ${bad} > $out";
  slow = make "slow" "echo started; : ${mark}; while :; do :; done";
  alien = derivation { name = "alien"; system = "vax-vms"; builder = "/bin/sh"; };
}
"""


def drv(nix: Installation, attr: str) -> str:
    return instantiate(nix, expr=CODE, attr=attr, args={"mark": str(nix.root)})[0]


def test_a_build_tells_its_lines_and_phases(nix: Installation) -> None:
    path = drv(nix, "ok")
    events: list[Event] = []
    build(nix, [path], on_event=events.append)
    seen = [event for event in events if isinstance(event, (BuildStarted, BuildFinished, Line, Phase))]
    assert seen == [
        BuildStarted(path),
        Line(path, "one"),
        Line(path, "two"),
        Phase(path, "cook"),
        BuildFinished(path),
    ]


def test_a_build_behind_a_daemon_tells_the_same(daemon: Installation) -> None:
    path = drv(daemon, "ok")
    events: list[Event] = []
    build(daemon, [path], on_event=events.append)
    assert [event for event in events if isinstance(event, Line)] == [Line(path, "one"), Line(path, "two")]
    with pytest.raises(NixBuildError, match="failed") as caught:
        build(daemon, [drv(daemon, "bad")])
    assert caught.value.failed == (drv(daemon, "bad"),)
    assert caught.value.log_tail == ["oops"]


def test_what_is_built_already_is_not_built_again(nix: Installation) -> None:
    path = drv(nix, "ok")
    build(nix, [path])
    events: list[Event] = []
    build(nix, [path], on_event=events.append)
    assert events == []
    assert list(nix.real_path("/nix/store").glob("*-ok"))


def test_nothing_to_build_is_done_at_once(nix: Installation) -> None:
    build(nix, [])


def test_a_failure_carries_the_end_of_its_log(nix: Installation) -> None:
    path = drv(nix, "long")
    with pytest.raises(NixBuildError, match="exit code 3") as caught:
        build(nix, [path])
    error = caught.value
    assert error.failed == (path,)
    assert error.log_tail == [f"line {number}" for number in range(31, 51)]
    assert error.command == f"nix-store --read-log {path}"
    assert error.command in (error.hint or "")
    assert path in error.message
    assert "\x1b" not in error.message


def test_the_whole_log_can_be_read_afterwards(nix: Installation) -> None:
    path = drv(nix, "long")
    assert read_log(nix, path) is None
    with pytest.raises(NixBuildError):
        build(nix, [path])
    assert (read_log(nix, path) or "").splitlines() == [f"line {number}" for number in range(1, 51)]


@pytest.mark.parametrize("name", ["silent", "nothing"])
def test_a_failure_without_words_is_a_failure(nix: Installation, name: str) -> None:
    path = drv(nix, name)
    with pytest.raises(NixBuildError) as caught:
        build(nix, [path])
    assert caught.value.failed == (path,)


def test_the_failed_dependency_is_named_and_not_what_needs_it(nix: Installation) -> None:
    with pytest.raises(NixBuildError) as caught:
        build(nix, [drv(nix, "above")])
    assert caught.value.failed == (drv(nix, "bad"),)
    assert caught.value.log_tail == ["oops"]


def test_keep_going_names_all_that_failed(nix: Installation) -> None:
    names = ["above", "ok", "silent", "nothing"]
    with pytest.raises(NixBuildError, match="2 more failed") as caught:
        build(nix, [drv(nix, name) for name in names], keep_going=True)
    assert set(caught.value.failed) == {drv(nix, name) for name in ("bad", "silent", "nothing")}
    assert list(nix.real_path("/nix/store").glob("*-ok"))


def test_a_derivation_that_is_not_there_is_named(nix: Installation) -> None:
    path = f"/nix/store/{'a' * 32}-none.drv"
    with pytest.raises(NixBuildError, match=r"none\.drv") as caught:
        build(nix, [path])
    assert caught.value.failed == ()


def test_another_system_is_explained(nix: Installation) -> None:
    with pytest.raises(NixBuildError, match="vax-vms") as caught:
        build(nix, [drv(nix, "alien")])
    assert "builder" in (caught.value.hint or "")


def test_a_missing_group_of_build_users_is_explained(nix: Installation, scratch: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root builds as other users")
    conf = Path(nix.environ["NIX_CONF_DIR"], "nix.conf")
    conf.write_text(conf.read_text().replace("build-users-group =", "build-users-group = no-such-group"))
    with pytest.raises(NixBuildError, match=r"the group 'no-such-group' .* does not exist") as caught:
        build(nix, [drv(nix, "ok")])
    assert "build-users-group =" in (caught.value.hint or "")


def test_options_reach_nix(nix: Installation) -> None:
    with pytest.raises(NixBuildError) as caught:
        build(nix, [drv(nix, "slow")], options={"timeout": "1", "max-jobs": "1"})
    assert caught.value.status == 101
    assert "timed out" in caught.value.message


@pytest.mark.parametrize("behind_daemon", [False, True])
def test_a_cancelled_build_ends_with_its_builder(
    nix: Installation, request: pytest.FixtureRequest, behind_daemon: bool
) -> None:
    if behind_daemon:
        nix = request.getfixturevalue("daemon")
    path = drv(nix, "slow")
    cancel, started = threading.Event(), threading.Event()

    def listen(event: Event) -> None:
        if event == Line(path, "started"):
            started.set()

    def stop() -> None:
        started.wait(30)
        cancel.set()

    other = threading.Thread(target=stop)
    other.start()
    begun = time.monotonic()
    with pytest.raises(NixCancelledError):
        build(nix, [path], on_event=listen, cancel=cancel)
    other.join()
    assert started.is_set()
    assert time.monotonic() - begun < 20
    wait_until(lambda: not builders(nix))


def test_a_listener_that_raises_ends_the_build(nix: Installation) -> None:
    def listen(event: Event) -> None:
        if isinstance(event, Line):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(nix, [drv(nix, "slow")], on_event=listen)
    wait_until(lambda: not builders(nix))


def builders(nix: Installation) -> list[str]:
    """The processes that run the script of `slow` from this store."""
    script = f"echo started; : {nix.root}; while :; do :; done".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if script in words:
            found.append(place.parent.name)
    return found


def wait_until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_nix_build_that_is_killed_is_told(nix: Installation, scratch: Path) -> None:
    program = scratch / "nix-build"
    program.write_text("#!/bin/sh\necho words >&2\nkill -9 $$\n")
    program.chmod(0o755)
    broken = replace(nix, bin=scratch)
    with pytest.raises(NixBuildError, match="ended by signal 9"):
        build(broken, [f"/nix/store/{'a' * 32}-x.drv"])
