"""Sessions: a stage is stopped before it runs, and the user takes over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from bridge.realize.debug import debug
from bridge.realize.errors import BuildError, PromiseError, RealizeError
from bridge.realize.failed import failed_builds, find_failed
from bridge.realize.here import Here
from bridge.realize.session import PythonSession, Session, ShellSession
from bridge.stages.errors import TargetError
from bridge.stages.plan import instantiate
from bridge.store.gc import collect
from bridge.store.layout import Store
from bridge.store.trace import realizations

from .running import assert_clean, load, run

STAGES = """
import os

words = source("words.txt")
clean = shell("sort -u $words > $out/sorted.txt", words=words, builder="local")
mixed = shell("echo some > $file; pwd > $out/where", file=out("file"), deterministic=False, builder="local")

@stage(realizations=2, match=best("score"))
def train(run, data=clean / "sorted.txt", scale=2.0, model=out("deep/model.txt")):
    model.write_text(helper(data))
    run.log(score=scale + run.index)
    with open("left-behind", "w") as file:
        file.write(os.environ["HOME"])
    return run.seed

def helper(data):
    return data.read_text().upper()

report = shell("cat $models > $page", models=train.model, page=out("page.txt"), builder="local")
"""


@pytest.fixture
def stages(tmp_path: Path) -> ModuleType:
    (tmp_path / "words.txt").write_text("two\none\n")
    return load(tmp_path, STAGES)


def entered(store: Store, stages: ModuleType, name: str) -> PythonSession | ShellSession:
    return debug(instantiate([stages.report, stages.mixed]), name, store=store, nix=None)


def python(store: Store, stages: ModuleType) -> PythonSession:
    session = entered(store, stages, "train")
    assert isinstance(session, PythonSession)
    return session


def shell(store: Store, stages: ModuleType, name: str = "clean") -> ShellSession:
    session = entered(store, stages, name)
    assert isinstance(session, ShellSession)
    return session


def test_what_a_stage_needs_is_realized_and_handed_over(store: Store, stages: ModuleType) -> None:
    with python(store, stages) as session:
        data = session.inputs["data"]
        assert isinstance(data, Path)
        assert data.read_text() == "one\ntwo\n"
        assert session.config == {"scale": 2.0}
        assert session.promises == {"model": session.out / "deep" / "model.txt"}
        assert session.promises["model"].parent.is_dir()
        assert (session.run.index, session.run.previous) == (0, None)
        assert list(session.folder.iterdir()) == []


def test_an_accepted_call_is_what_the_engine_would_have_made(store: Store, stages: ModuleType, tmp_path: Path) -> None:
    from bridge.store.layout import open_store

    with python(store, stages) as session:
        session.call()
        made = session.accept()
    other = open_store(tmp_path / "other")
    outcome = run(other, stages.train)
    theirs = next(one.realization for one in outcome.choice("train").candidates if one.index == 0)
    same = ("drv", "outputs", "stage", "stage_drv", "runner", "metrics", "index", "seed", "result", "attempts")
    assert {name: getattr(made, name) for name in same} == {name: getattr(theirs, name) for name in same}
    assert made.host["python"] == theirs.host["python"]
    assert made.host["session"] == "debug"
    assert realizations(store, made.drv) == [made]
    assert_clean(store)
    # It counts: only the second one is missing.
    assert run(store, stages.train).started == [("train", "python")]


def test_a_call_runs_in_this_process_in_the_runs_own_folder_and_environment(store: Store, stages: ModuleType) -> None:
    before = (Path.cwd(), dict(os.environ), list(sys.path), stages.helper)
    with python(store, stages) as session:
        assert session.call() == session.run.seed
        assert (session.folder / "left-behind").read_text() == str(session.folder)
        seen = []
        session.call(lambda function, **arguments: seen.append((function.__code__.co_filename, sorted(arguments))))
        assert seen == [(stages.__file__, ["data", "model", "run", "scale"])]
    assert (Path.cwd(), dict(os.environ), list(sys.path), sys.modules[stages.__name__].helper) == before


def test_a_call_that_raises_has_frames_in_the_users_file_and_leaves_the_session_open(
    store: Store, tmp_path: Path
) -> None:
    found = load(tmp_path, "@stage\ndef bad(page=out('page')):\n    page.write_text('x')\n    raise KeyError('no')\n")
    with debug(found.bad, store=store, nix=None) as session:
        with pytest.raises(KeyError) as caught:
            session.call()
        last = caught.traceback[-1]
        assert (str(last.path), last.lineno + 1) == (found.__file__, 5)
        # What it should have done is done by hand.
        session.accept()
    assert session.state == "accepted"


def test_what_is_not_accepted_leaves_nothing(store: Store, stages: ModuleType) -> None:
    python(store, stages).cancel()
    with python(store, stages) as session:
        session.call()
    assert session.state == "cancelled"
    with pytest.raises(RuntimeError), python(store, stages) as session:
        raise RuntimeError
    with shell(store, stages) as other:
        other.call()
    assert realizations(store, session.derivation) == []
    assert not other.out.exists() or store.is_valid(f"/nix/store/{other.out.name}")
    assert_clean(store)


def test_a_closed_session_does_nothing_more(store: Store, stages: ModuleType) -> None:
    session = python(store, stages)
    session.cancel()
    session.cancel()
    for action in (session.call, session.accept):
        with pytest.raises(RealizeError, match="closed: it was cancelled"):
            action()


def test_a_missing_promise_is_refused_and_can_be_made_good(store: Store, stages: ModuleType) -> None:
    for session in (python(store, stages), shell(store, stages, "mixed")):
        with session:
            session.out.mkdir(exist_ok=True)
            with pytest.raises(PromiseError):
                session.accept()
            assert session.state == "open"
            next(iter(session.promises.values())).write_text("by hand")
            session.accept()
    assert_clean(store)


def test_sessions_of_one_stage_have_indices_of_their_own(store: Store, stages: ModuleType) -> None:
    with python(store, stages) as one, python(store, stages) as two, python(store, stages) as three:
        assert [session.run.index for session in (one, two, three)] == [0, 1, 2]
        assert len({session.run.seed for session in (one, two, three)}) == 3
        three.call()
        one.call()
        assert one.run.metrics == {"score": 2.0}
        assert {three.accept().index, one.accept().index} == {0, 2}
    assert_clean(store)


def test_a_shell_stage_is_built_in_its_place(store: Store, stages: ModuleType) -> None:
    with shell(store, stages, "mixed") as session:
        assert session.environ["file"] == str(session.out / "file")
        session.call()
        made = session.accept()
    assert made.runner == "local"
    assert (store.real_path(made.outputs["out"]) / "where").read_text() == f"{session.folder}\n"
    assert_clean(store)
    outcome = run(store, stages.mixed)
    assert outcome.started == []


def test_gc_leaves_what_a_session_builds(store: Store, stages: ModuleType) -> None:
    with shell(store, stages, "mixed") as session:
        session.call()
        collect(store)
        session.accept()
    assert_clean(store)


def test_a_shell_stage_is_entered_once_at_a_time(store: Store, stages: ModuleType) -> None:
    with shell(store, stages, "mixed"), pytest.raises(RealizeError, match="entered already, by process"):
        shell(store, stages, "mixed")
    shell(store, stages, "mixed").cancel()


def test_a_deterministic_stage_that_is_built_can_be_run_beside_its_result(store: Store, stages: ModuleType) -> None:
    built = run(store, stages.clean).path("clean")
    with shell(store, stages) as session:
        session.call()
        assert session.out != built
        assert (session.out / "sorted.txt").read_text() == "one\ntwo\n"
        with pytest.raises(RealizeError, match="nothing to accept"):
            session.accept()
    assert (built / "sorted.txt").exists()
    assert_clean(store)


def test_a_script_that_fails_leaves_its_session_open(store: Store, tmp_path: Path) -> None:
    found = load(tmp_path, 'bad = shell("touch $out/some; exit 7", builder="local")')
    with debug(found.bad, store=store, nix=None) as session:
        with pytest.raises(BuildError, match="ended with status 7"):
            session.call()
        assert (session.out / "some").exists()
    assert_clean(store)


def test_what_can_not_be_entered_is_refused(store: Store, stages: ModuleType) -> None:
    with pytest.raises(RealizeError, match="is a source"):
        entered(store, stages, "words.txt")
    with pytest.raises(TargetError, match="no stage of this plan"):
        entered(store, stages, "tarin")
    with pytest.raises(RealizeError, match="one stage is entered at a time"):
        debug(instantiate([stages.report, stages.mixed]), store=store, nix=None)


def test_an_input_that_fails_is_told_as_always(store: Store, tmp_path: Path) -> None:
    found = load(tmp_path, 'a = shell("exit 1", builder="local")\n@stage\ndef b(a=a, page=out("x")): ...')
    with pytest.raises(RealizeError) as caught:
        debug(found.b, store=store, nix=None)
    assert "the builder of the stage a" in str(caught.value.failures[0])


def test_a_session_shows_itself(store: Store, stages: ModuleType) -> None:
    with python(store, stages) as session:
        assert repr(session).startswith("<session train[0] open>\n  config    scale = 2.0\n  input     data = /")
        page = session._repr_html_()
        assert "<td>scale</td><td>2.0</td>" in page
        session.config["scale"] = "<script>"
        assert "<script>" not in session._repr_html_()


def test_a_killed_process_leaves_nothing_valid(store: Store, stages: ModuleType) -> None:
    code = (
        "import sys, time\nfrom bridge.realize.debug import debug\nfrom bridge.stages.load import load_module\n"
        f"m = load_module({stages.__file__!r})\n"
        f"sessions = [debug(one, store={str(store.root)!r}, nix=None) for one in (m.train, m.mixed)]\n"
        "for one in sessions: one.call()\n"
        "print(flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert list(store.tmp.iterdir())
    outcome = run(store, stages.train, stages.mixed)
    assert sorted(outcome.started) == [("mixed", "local"), ("train", "python"), ("train", "python")]
    assert_clean(store)


# -------------------------------------------------------------------------------------- keep-failed


def test_nothing_of_a_failure_is_kept_unless_asked_for(store: Store, tmp_path: Path) -> None:
    found = load(tmp_path, 'bad = shell("exit 1", builder="local")')
    run(store, found.bad)
    assert not store.failed.exists()
    with pytest.raises(RealizeError, match="no failed build of a stage 'bad' is kept"):
        find_failed(store, "bad")


def test_a_failed_python_run_is_kept_and_can_be_called_again(store: Store, tmp_path: Path) -> None:
    text = """
    @stage
    def bad(run, rate=0.5, page=out("page")):
        page.write_text("half")
        open("scratch", "w").close()
        raise ValueError(rate)
    """
    found = load(tmp_path, text)
    failure = run(store, found.bad, keep_failed=True).failure
    (kept,) = failed_builds(store)
    assert failure.hint is not None
    assert f"nixbridge debug --failed {kept.folder}" in failure.hint
    assert find_failed(store, "bad") == find_failed(store, str(kept.folder)) == kept
    assert (kept.folder / "out" / "page").read_text() == "half"
    assert (kept.folder / "work" / "scratch").exists()
    assert "ValueError: 0.5" in kept.facts["message"]
    here = Here(kept.facts["job"])
    with pytest.raises(ValueError, match=r"0\.5") as caught:
        here.call()
    assert str(caught.traceback[-1].path) == found.__file__
    assert_clean(store)


def test_a_failed_build_is_kept_with_its_environment(store: Store, tmp_path: Path) -> None:
    found = load(tmp_path, 'bad = shell("echo $out > $out/self; touch here; exit 9", n=3, builder="local")')
    run(store, found.bad, keep_failed=True)
    kept = find_failed(store, "bad")
    build = kept.facts["build"]
    assert build["environ"]["n"] == "3"
    assert (kept.folder / "work" / "here").exists()
    assert (Path(build["outputs"]["out"]) / "self").exists()
    done = subprocess.run(
        [build["builder"], *build["args"]], env=build["environ"], cwd=kept.folder / "work", check=False
    )
    assert done.returncode == 9
    # The script sees the folder that was kept, not the place in the store.
    assert (kept.folder / "outputs/out/self").read_text() == f"{kept.folder}/outputs/out\n"
    assert_clean(store)


def test_the_last_failure_of_a_stage_is_the_one_that_its_name_finds(store: Store, tmp_path: Path) -> None:
    found = load(tmp_path, 'bad = shell("exit 1", builder="local")')
    run(store, found.bad, keep_failed=True)
    time.sleep(0.01)
    run(store, found.bad, keep_failed=True)
    first, second = failed_builds(store)
    assert first.when < second.when
    assert find_failed(store, "bad") == second
    with pytest.raises(RealizeError, match="no kept folder"):
        find_failed(store, str(store.tmp))


def test_a_session_is_what_both_kinds_are(store: Store, stages: ModuleType) -> None:
    with python(store, stages) as one, shell(store, stages, "mixed") as two:
        assert isinstance(one, Session)
        assert isinstance(two, Session)
        assert one.derivation.endswith("-train.drv")
