from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bridge.realize.errors import BuildError, PromiseError
from bridge.realize.events import Finished
from bridge.store.errors import OutputError
from bridge.store.layout import Store, open_store
from bridge.store.trace import realizations, resolved_derivations

from .running import Run, alive, assert_clean, load, run, wait_until

HEAD = """
import os, sys, time, signal, subprocess
@stage
def s(run, a=out("a")):
"""


def body(store: Store, folder: Path, text: str) -> Run:
    """Realize a stage that promises `a`, with this body."""
    module = load(folder, HEAD + "".join(f"    {line}\n" for line in text.strip().splitlines()))
    return run(store, module.s)


def failure(store: Store, folder: Path, text: str) -> BuildError:
    error = body(store, folder, text).failure
    assert isinstance(error, BuildError)
    assert error.stage == "s"
    assert error.file is not None
    assert resolved_derivations(store) == []
    assert not any(path.name.endswith("-s") for path in store.objects.iterdir())
    assert_clean(store)
    return error


# ------------------------------------------------------------------------------------------- results


def test_a_stage_gets_its_arguments_as_values_and_paths(store: Store, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("data")
    module = load(
        tmp_path,
        """
        import json, os, sys
        from pathlib import Path
        data = source("data.txt")

        @stage
        def first(two=out("deep/er/two.txt"), folder=out("folder")):
            two.write_text("2")
            folder.mkdir()

        @stage
        def second(run, number=1.5, text="ü", nested={"a": [None, True]}, data=data, two=first.two,
                   several=[first / "deep", data], result=out("r.json")):
            assert all(isinstance(one, Path) for one in (data, two, result, *several))
            assert two.read_text() == "2" and data.read_text() == "data"
            assert several[0] == two.parent.parent and several[1] == data
            assert run.out == result.parent
            result.write_text(json.dumps([number, text, nested, os.listdir("."), sys.argv[1:2]]))
        """,
    )
    done = run(store, module.second)
    assert json.loads((done.path("second") / "r.json").read_text())[:4] == [1.5, "ü", {"a": [None, True]}, []]
    assert_clean(store)


def test_index_and_seed_are_stable_and_metrics_and_host_are_recorded(store: Store, tmp_path: Path) -> None:
    text = """
        import random
        @stage(realizations=3, match=every())
        def s(run, a=out("a")):
            a.write_text(f"{run.index} {run.seed}")
            run.log(index=run.index, random=random.Random(run.seed).random(), list=[1, {"x": None}])
            print("to the log")
        """
    module = load(tmp_path, text)
    first = run(store, module.s)
    seen = []
    for done in (first, run(open_store(tmp_path / "again"), module.s)):
        found = sorted((one.realization for one in done.choice("s").chosen), key=lambda one: one.index)
        assert [one.metrics["index"] for one in found] == [one.index for one in found] == [0, 1, 2]
        assert len({one.seed for one in found}) == 3
        assert all(0 <= one.seed < 1 << 63 and one.metrics["list"] == [1, {"x": None}] for one in found)
        assert all(one.host["python"] and one.started <= one.stopped for one in found)
        seen.append([(one.seed, one.metrics["random"], one.outputs["out"]) for one in found])
    assert seen[0] == seen[1]
    log = first.choice("s").chosen[0].realization.log
    assert log is not None
    assert (store.logs / log).read_text() == "to the log\n"


def test_big_output_goes_to_the_log_whole(store: Store, tmp_path: Path) -> None:
    done = body(
        store,
        tmp_path,
        """
for _ in range(200):
    sys.stdout.write("x" * 99_999 + "\\n")
os.write(2, b"\\xff not utf-8\\n")
a.touch()
""",
    )
    (one,) = done.of(Finished)
    assert one.realization.log is not None
    assert (store.logs / one.realization.log).stat().st_size == 200 * 100_000 + 12


def test_what_a_stage_leaves_running_is_ended_before_its_output_is_taken(store: Store, tmp_path: Path) -> None:
    done = body(
        store,
        tmp_path,
        """
a.mkdir()
late = subprocess.Popen(["sh", "-c", f"sleep 1; echo late > {a}/late"])
(a / "pid").write_text(str(late.pid))
""",
    )
    pid = int((done.path("s") / "a" / "pid").read_text())
    wait_until(lambda: alive([pid]) == [], 1)
    assert_clean(store)


# ------------------------------------------------------------------------------------------ failures


def test_an_error_points_at_the_line_of_the_user_and_shows_the_log(store: Store, tmp_path: Path) -> None:
    error = failure(store, tmp_path, '# a comment\nprint("before")\n\nraise ValueError("wrong data")')
    assert error.message == "the stage s raised ValueError: wrong data"
    assert error.line == 9
    assert Path(error.file or "").parent == tmp_path
    assert error.log_tail[0] == "before"
    assert error.log_tail[-1] == "ValueError: wrong data"
    assert error.hint is not None
    assert Path(error.hint.removeprefix("the whole log: ")).is_file()


def test_an_error_deep_in_a_library_points_at_the_user(store: Store, tmp_path: Path) -> None:
    error = failure(store, tmp_path, 'import json\njson.loads("{")')
    assert error.line == 7
    assert Path(error.file or "").parent == tmp_path


def test_an_error_in_a_helper_module_points_there(store: Store, tmp_path: Path) -> None:
    (tmp_path / "helper_of_run_python.py").write_text("# one\n\n\ndef help():\n    # two\n    return 1 / 0\n")
    error = failure(store, tmp_path, "from helper_of_run_python import help\nhelp()")
    assert (error.file, error.line) == (str(tmp_path / "helper_of_run_python.py"), 6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sys.exit(3)", "the stage s raised SystemExit: 3"),
        ("raise KeyboardInterrupt", "the stage s raised KeyboardInterrupt"),
        ("os._exit(0)", "the worker of the stage s ended with status 0"),
        ("os._exit(3)", "the worker of the stage s ended with status 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "the worker of the stage s was killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the worker of the stage s was killed by SIGSEGV"),
        ("os.kill(os.getpid(), 40)", "the worker of the stage s was killed by signal 40"),
        ("a.touch()\nrun.log(x=object())", "the stage s raised TypeError: run.log(x=…) got a object"),
        ("def f(): f()\nf()", "the stage s raised RecursionError"),
        ("raise SystemExit", "the stage s raised SystemExit"),
        ("os.kill(0, signal.SIGKILL)", "the worker of the stage s was killed by SIGKILL"),
    ],
)
def test_a_stage_that_dies_is_told_how(store: Store, tmp_path: Path, text: str, said: str) -> None:
    assert failure(store, tmp_path, text).message.startswith(said)


@pytest.mark.parametrize(
    "text", ["pass", "(run.out / 'b').touch()", "a.touch()\na.unlink()", "import shutil\nshutil.rmtree(run.out)"]
)
def test_a_promised_output_that_is_missing_fails(store: Store, tmp_path: Path, text: str) -> None:
    error = failure(store, tmp_path, text)
    assert isinstance(error, PromiseError)
    assert error.message == "the stage s did not write its promised output a (a)"
    assert error.line is not None


def test_a_promise_may_be_a_beginning_or_a_glob(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        @stage
        def train(model=out("sub/model.ckpt", prefix=True), shards=out("deep/shards/*.npz"), top=out("*.txt")):
            for end in (".index", ".data-00000-of-00001"):
                model.with_name(model.name + end).write_text(end)
            for number in range(3):
                (shards / f"{number}.npz").write_text(str(number))
            (top / "a.txt").touch()

        @stage
        def use(model=train.model, shards=train.shards, x=out("x")):
            x.write_text(" ".join(sorted(path.name for path in [*model.parent.iterdir(), *shards.iterdir()])))

        @stage
        def lacks(shards=out("shards/*.npz")):
            (shards / "1.npy").touch()
        """,
    )
    done = run(store, module.use)
    assert (done.path("use") / "x").read_text() == "0.npz 1.npz 2.npz model.ckpt.data-00000-of-00001 model.ckpt.index"
    assert "its promised output shards (shards/*.npz)" in str(run(store, module.lacks).failure)
    assert_clean(store)


def test_a_promised_link_that_leads_nowhere_is_there(store: Store, tmp_path: Path) -> None:
    done = body(store, tmp_path, "a.symlink_to('nowhere')")
    assert os.readlink(done.path("s") / "a") == "nowhere"


def test_what_no_store_object_can_hold_fails_the_stage(store: Store, tmp_path: Path) -> None:
    error = body(store, tmp_path, "os.mkfifo(a)").failure
    assert isinstance(error, OutputError)
    assert "is a pipe" in error.message
    assert_clean(store)


def test_a_stage_that_breaks_its_streams_only_breaks_its_log(store: Store, tmp_path: Path) -> None:
    done = body(store, tmp_path, "sys.stdout.close()\nos.close(1)\nos.chdir('/')\na.touch()")
    # Whatever the log lost: a result or a told failure, and a clean store.
    assert done.outcome is not None or isinstance(done.failure, BuildError)
    assert_clean(store)


def test_one_failure_of_several_runs_fails_the_stage_and_keeps_the_others(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        @stage(realizations=4, match=every())
        def s(run, fail=True, a=out("a")):
            a.write_text(str(run.index))
            if run.index == 2:
                raise ValueError("unlucky")
        """,
    )
    done = run(store, module.s, keep_going=True)
    assert "unlucky" in done.failure.message
    (drv,) = resolved_derivations(store)
    assert sorted(one.index for one in realizations(store, drv)) == [0, 1, 3]
    assert_clean(store)
