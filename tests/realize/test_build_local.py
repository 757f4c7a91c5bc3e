from __future__ import annotations

import errno
import json
import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.realize.errors import BuildError, PromiseError
from bridge.realize.events import Finished, Line, Note, Retrying
from bridge.realize.limits import limited
from bridge.stages.policy import Policy
from bridge.store.info import read_info
from bridge.store.layout import Store
from bridge.store.objects import remove_tree
from bridge.store.trace import realizations, resolved_derivations

from .running import Run, alive, assert_clean, load, run, wait_until

_rename = os.rename


def rename_of_an_ordinary_user(old: Path, new: Path) -> None:
    """To rename a folder into another one changes its `..`, for which root alone needs no permission."""
    if os.path.isdir(old) and not os.stat(old).st_mode & stat.S_IWUSR and Path(old).parent != Path(new).parent:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(old))
    _rename(old, new)


def script(store: Store, folder: Path, text: str, arguments: str = "") -> Run:
    module = load(folder, f"s = shell({text!r}{arguments and ', ' + arguments})")
    return run(store, module.s)


def failure(store: Store, folder: Path, text: str, arguments: str = "") -> BuildError:
    error = script(store, folder, text, arguments).failure
    assert isinstance(error, BuildError)
    assert error.stage == "s"
    assert error.line == 2
    assert resolved_derivations(store) == []
    assert not any(path.name.endswith("-s") for path in store.objects.iterdir())
    assert_clean(store)
    return error


def test_a_script_builds_at_its_final_place(store: Store, tmp_path: Path) -> None:
    done = script(store, tmp_path, 'echo "$out $x" > $out/f; echo one; echo two >&2', "x=[1, 'a b', True]")
    path = done.path("s")
    assert (path / "f").read_text() == f"{path} 1 a b 1\n"
    assert path.parent == store.objects
    assert [event.text for event in done.of(Line)] == ["one", "two"]
    (one,) = done.choice("s").chosen
    assert one.realization.runner == "local"
    assert (store.logs / (one.realization.log or "")).read_text() == "one\ntwo\n"
    assert read_info(store, one.realization.outputs["out"]).content_address is None
    assert_clean(store)


def test_the_environment_is_clean(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "1")
    done = script(store, tmp_path, "env > $out/env; ls -A > $out/ls; cat > $out/in")
    env = dict(line.split("=", 1) for line in (done.path("s") / "env").read_text().splitlines())
    assert "SECRET_OF_MINE" not in env
    assert env["HOME"] == "/homeless-shelter"
    assert env["NIX_STORE"] == str(store.objects)
    assert env["TMPDIR"] == env["NIX_BUILD_TOP"] == env["PWD"]
    assert not Path(env["TMPDIR"]).exists()
    assert (done.path("s") / "ls").read_text() == (done.path("s") / "in").read_text() == ""


def test_inputs_tools_and_several_outputs_work_together(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        r"""
        tool = shell('mkdir $out/bin; echo "echo tool says \\$1" > $out/bin/say; chmod +x $out/bin/say')
        two = shell('say one > $out/x; say two > $dev/x; echo $out > $dev/ref', tools=[tool], outputs=["out", "dev"])
        s = shell('cat $a $b/x > $out/all', a=two / "x", b=two.dev)
        """,
    )
    done = run(store, module.s)
    assert (done.path("s") / "all").read_text() == "tool says one\ntool says two\n"
    outputs = done.choice("two").chosen[0].realization.outputs
    # What is written is where the file lies, which holds the same digest as the store path.
    assert read_info(store, outputs["dev"]).references == (outputs["out"],)
    assert_clean(store)


def test_a_script_with_many_results_may_name_itself(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        s = shell('echo "$out" > $out/self; ln -s $out/self $out/link; od -An -N4 -tx4 /dev/urandom > $out/r',
                  deterministic=False, realizations=3, match=every())
        """,
    )
    done = run(store, module.s)
    found = done.choice("s").chosen
    assert len({one.path for one in found}) == 3
    for one in found:
        # Both texts were rewritten to where the object lies now.
        assert (one.path / "self").read_text() == f"{one.path}\n"
        assert (one.path / "link").resolve() == one.path / "self"
        path = one.realization.outputs["out"]
        assert read_info(store, path).references == (path,)
    assert_clean(store)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 3", "the builder of the stage s ended with status 3"),
        ("false; true", "the builder of the stage s ended with status 1"),
        ("echo $unset", "the builder of the stage s ended with status 2"),
        ("kill -9 $$", "the builder of the stage s was killed by SIGKILL"),
        ("rm -r $out", "the stage s did not write its output out"),
    ],
)
def test_a_builder_that_fails_is_told_how(store: Store, tmp_path: Path, text: str, said: str) -> None:
    assert failure(store, tmp_path, f"echo half > $out/half; echo before; {text}").message == said


def test_the_log_s_end_comes_with_the_failure(store: Store, tmp_path: Path) -> None:
    error = failure(store, tmp_path, "i=0; while [ $i -lt 99 ]; do i=$((i+1)); echo line $i; done; exit 1")
    assert error.log_tail == tuple(f"line {number}" for number in range(80, 100))
    log = Path((error.hint or "").removeprefix("the whole log: "))
    assert len(log.read_text().splitlines()) == 99


def test_a_promise_that_is_not_kept_fails(store: Store, tmp_path: Path) -> None:
    error = failure(store, tmp_path, "true", 'x=out("sub/x")')
    assert isinstance(error, PromiseError)
    assert error.message == "the stage s did not write its promised output x (sub/x)"


def test_a_builder_that_is_not_there_fails(store: Store, tmp_path: Path) -> None:
    assert "the builder /no/sh of the stage s can not be run" in failure(store, tmp_path, "", 'shell="/no/sh"').message


@pytest.mark.parametrize("streams", ["", " > /dev/null 2>&1"])
def test_what_a_builder_leaves_running_is_ended_with_it(store: Store, tmp_path: Path, streams: str) -> None:
    started = time.monotonic()
    done = script(store, tmp_path, f"sleep 60{streams} & echo $! > $out/pid")
    assert time.monotonic() - started < 5
    wait_until(lambda: alive([int((done.path("s") / "pid").read_text())]) == [], 2)
    assert_clean(store)


def test_a_builder_that_closes_its_output_is_waited_for(store: Store, tmp_path: Path) -> None:
    done = script(store, tmp_path, "exec >&- 2>&-; sleep 0.3; : > $out/done")
    assert (done.path("s") / "done").exists()


def test_what_a_dead_build_left_at_the_final_place_is_not_taken(store: Store, tmp_path: Path) -> None:
    first = script(store, tmp_path, "echo 1 > $out/good")
    module = load(tmp_path, "s = shell('echo 1 > $out/good')")
    (one,) = first.choice("s").chosen
    path = one.realization.outputs["out"]
    real = store.real_path(path)
    # Killed while it built: no record, no info, half a tree.
    remove_tree(store.trace)
    store.trace.mkdir()
    store.info_file(path).unlink()
    remove_tree(real)
    real.mkdir()
    (real / "half").write_text("")
    done = run(store, module.s)
    assert done.started == [("s", "local")]
    assert [file.name for file in real.iterdir()] == ["good"]
    assert_clean(store)


def test_what_a_dead_build_registered_and_did_not_record_is_recorded(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, "s = shell('echo x >> $log; : > $out/x', log=" + repr(str(tmp_path / "runs")) + ")")
    first = run(store, module.s)
    remove_tree(store.trace)
    store.trace.mkdir()
    again = run(store, module.s)
    assert again.path("s") == first.path("s")
    assert (tmp_path / "runs").read_text() == "x\n"
    assert_clean(store)


def test_no_descriptor_stays_open(store: Store, tmp_path: Path) -> None:
    # What a process holds of a store stays open until it ends.
    script(store, tmp_path, ": first")
    before = len(os.listdir("/proc/self/fd"))
    script(store, tmp_path, "true")
    failure_of = script(store, tmp_path, "exit 1").failure
    assert isinstance(failure_of, BuildError)
    assert len(os.listdir("/proc/self/fd")) == before


# ------------------------------------------------------------------------------------------- policy

LIMITED = [
    ("timeout=0.5", "sleep 60 & sleep 60", "was ended after its timeout of 0.5 s", "timeout"),
    ("timeout=0.5", "exec >&- 2>&-; sleep 60", "was ended after its timeout of 0.5 s", "timeout"),
    ("cpu_time=1", "while :; do :; done", "used more than its cpu_time of 1 s", "cpu_time"),
    ("cpu_time=1", "sh -c 'while :; do :; done'", "used more than its cpu_time of 1 s", "cpu_time"),
    ("memory='100M'", f"{sys.executable} -c 'bytearray(1 << 30)'", "ran out of its memory of 100M", "memory"),
    ("timeout=60, memory='1G', cpu_time=9", "exit 3", "ended with status 3", "failed"),
]


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize(("limit", "text", "said", "reason"), LIMITED)
def test_each_limit_is_an_outcome_of_its_own(
    store: Store, tmp_path: Path, limit: str, text: str, said: str, reason: str, deterministic: bool
) -> None:
    if deterministic and reason != "timeout":
        pytest.skip("as without")
    module = load(tmp_path, f"s = shell({text!r}, name='s', deterministic={deterministic}).options({limit})")
    error = run(store, module.s).failure
    assert isinstance(error, BuildError)
    assert error.message == f"the builder of the stage s {said}"
    assert error.reason == reason
    assert resolved_derivations(store) == []
    assert_clean(store)


@pytest.mark.parametrize("given", ["", "LC_CTYPE='C', "])
def test_limits_change_nothing_else_for_a_builder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    text = (
        "env | sort > $out/env; sh -c 'kill -PIPE $$' || echo $? > $out/pipe; echo $0 $x > $out/x; ulimit -t > $out/t"
    )
    line = f"shell({text!r}, name='s', {given}x='ü', deterministic=False)"
    monkeypatch.delenv("LC_ALL", raising=False)
    module = load(tmp_path, f"s = {line}\nlimited = {line}.options(memory='8G', cpu_time=99.5)")
    plain, limited = (
        run(Store(store.root), stage, rebuild=frozenset({"s"})).path("s") for stage in (module.s, module.limited)
    )

    def said(place: Path, name: str) -> list[str]:
        lines = (place / name).read_text().splitlines()
        return [line for line in lines if not line.startswith(("out=", "NIX_BUILD_TOP=", "PWD=", "TMP", "TEMP"))]

    for name in ("env", "pipe", "x"):
        assert said(plain, name) == said(limited, name)
    assert said(plain, "pipe") == ["141"]
    assert (said(plain, "t"), said(limited, "t")) == (["unlimited"], ["100"])


def test_a_limit_that_is_lower_already_stays_for_a_builder() -> None:
    policy = Policy(cpu_time=5000, memory="8T")
    program, command = limited("/bin/sh", ["sh", "-c", "ulimit -t; ulimit -d"], {}, policy)
    lower = f"ulimit -t 1000; ulimit -d 4000000; exec {shlex.join([program, *command[1:]])}"
    done = subprocess.run(["/bin/sh", "-c", lower], capture_output=True, text=True, check=True)
    assert done.stdout == "1000\n4000000\n"


def test_a_builder_that_fails_is_tried_again(store: Store, tmp_path: Path) -> None:
    text = f"echo x >> {tmp_path}/count; [ $(wc -l < {tmp_path}/count) = 3 ]; touch $out/x"
    done = run(store, load(tmp_path, f"s = shell({text!r}, name='s').options(retries=2, backoff=0.01)").s)
    [one] = done.choice("s").chosen
    assert one.realization.attempts == 3
    assert [event.seconds for event in done.of(Retrying)] == [0.01, 0.02]
    assert_clean(store)


def test_a_failure_that_is_kept_has_the_log_and_what_was_written(store: Store, tmp_path: Path) -> None:
    text = f"echo said; echo half > $out/x; [ -e {tmp_path}/go ]"
    module = load(
        tmp_path,
        f"s = shell({text!r}, name='s', deterministic=False).options(on_error='keep')\n"
        "fallen = s.options(match=latest() | where(result='failed') >> latest())\n"
        "use = shell('cat $s/failure.json $s/out/x > $out/z', s=fallen)",
    )
    assert "(kept as " in str(run(store, module.s).failure)
    [drv] = resolved_derivations(store)
    [failed] = realizations(store, drv)
    assert (failed.result, failed.runner, failed.index) == ("failed", "local", 0)
    place = store.real_path(failed.outputs["out"])
    assert sorted(path.name for path in place.iterdir()) == ["failure.json", "log", "out"]
    assert (place / "log").read_text() == "said\n"
    assert json.loads((place / "failure.json").read_text())["reason"] == "failed"
    assert_clean(store)
    assert (run(store, module.use).path("use") / "z").read_text().endswith("half\n")
    (tmp_path / "go").touch()
    again = run(store, module.s)
    assert [event.realization.index for event in again.of(Finished)] == [1]
    assert (again.path("s") / "x").read_text() == "half\n"
    assert_clean(store)


@pytest.mark.parametrize(
    "text",
    [
        "s = shell('echo half > $out/x; chmod -w $out; false', name='s', deterministic=False).options(on_error='keep')",
        "@stage(on_error='keep')\ndef s(x=out('x')):\n    x.touch()\n    x.parent.chmod(0o555)\n    1 / 0",
    ],
)
def test_a_failure_is_kept_also_where_it_left_its_output_read_only(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(os, "rename", rename_of_an_ordinary_user)
    assert "(kept as " in str(run(store, load(tmp_path, text).s).failure)
    assert_clean(store)


def test_a_build_that_left_its_output_read_only_can_be_entered(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "rename", rename_of_an_ordinary_user)
    module = load(tmp_path, "s = shell('echo half > $out/x; chmod -w . $out; false', name='s')")
    error = run(store, module.s, keep_failed=True).failure
    assert "nixbridge debug --failed" in (error.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "s = shell('mkfifo $out/p; echo a > $out/x; false', name='s', deterministic=False).options(on_error='keep')",
        "import os\n@stage(on_error='keep')\ndef s(x=out('x')):\n    x.touch(); os.mkfifo(x.parent / 'p'); 1 / 0",
    ],
)
def test_a_failure_is_kept_without_its_pipes(store: Store, tmp_path: Path, text: str) -> None:
    assert "(kept as " in str(run(store, load(tmp_path, text).s).failure)
    [drv] = resolved_derivations(store)
    [failed] = realizations(store, drv)
    assert os.listdir(store.real_path(failed.outputs["out"]) / "out") == ["x"]
    assert_clean(store)


@pytest.mark.parametrize(("text", "reason"), [("kill -9 $$", "killed"), ("true", "promise"), ("exit 3", "failed")])
def test_a_failure_has_its_reason(store: Store, tmp_path: Path, text: str, reason: str) -> None:
    assert failure(store, tmp_path, text, "x=out('x')").reason == reason


def test_a_stage_whose_result_has_its_path_before_it_runs_says_that_it_keeps_no_failure(
    store: Store, tmp_path: Path
) -> None:
    done = run(store, load(tmp_path, "s = shell('false', name='s').options(on_error='keep')").s)
    assert [event.text for event in done.of(Note)] == [
        "s has one path for its result, whatever it is: its failures are not kept (deterministic=False)"
    ]
    assert isinstance(done.failure, BuildError)
    assert resolved_derivations(store) == []
    assert_clean(store)


def test_what_is_granted_reaches_the_builder(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    text = "echo $HF_TOKEN $CUDA_VISIBLE_DEVICES > $out/x"
    policy = "environ=['HF_TOKEN', 'NOT_SET'], resources={'gpu': 1}"
    done = run(store, load(tmp_path, f"s = shell({text!r}, name='s', deterministic=False).options({policy})").s)
    assert (done.path("s") / "x").read_text() == "secret 4\n"
