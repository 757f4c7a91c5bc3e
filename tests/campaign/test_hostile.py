"""Stages that write what no store should hold, stores of others, clocks that go back."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.formats.errors import BridgeError
from bridge.formats.nar import writer
from bridge.realize.events import Finished
from bridge.stages.load import load_module
from bridge.store.durable import temporary
from bridge.store.errors import OutputError
from bridge.store.layout import Store, open_store
from bridge.store.objects import add_output, remove_tree
from bridge.store.trace import realizations, resolved_derivations
from bridge.store.verify import verify
from tests.realize.running import assert_clean, load, run, write_stages

NOBODY = 65534


def nothing_entered(store: Store) -> None:
    """Clean, and no output of the stage `s` nor a record of it."""
    assert_clean(store)
    assert resolved_derivations(store) == []
    assert [path.name for path in store.objects.iterdir() if path.name.endswith("-s")] == []


# ------------------------------------------------------------------------------- what is no store object

SPECIAL = {
    "pipe": "os.mkfifo(x / 'odd')",
    "socket": "__import__('socket').socket(1).bind('odd')",
    "character device": "os.mknod(x / 'odd', 0o020666, os.makedev(1, 3))",
    "block device": "os.mknod(x / 'odd', 0o060666, os.makedev(7, 0))",
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("head", ["@stage", "@stage(deterministic=True)", "@stage(on_error='keep')"])
def test_a_stage_that_writes_a_special_file_fails_in_one_sentence(
    store: Store, tmp_path: Path, kind: str, head: str
) -> None:
    if "device" in kind and os.geteuid() != 0:
        pytest.skip("only root can make devices")
    text = f"""
import os
{head}
def s(x=out("x")):
    x.mkdir()
    (x / "fine").write_text("1")
    os.chdir(x)
    {SPECIAL[kind]}
"""
    done = run(store, load(tmp_path, text).s)
    assert f"odd is a {kind}" in str(done.failure)
    assert "\n" not in str(done.failure)
    nothing_entered(store)


def test_a_shell_stage_that_writes_a_pipe_fails_in_one_sentence(store: Store, tmp_path: Path) -> None:
    for deterministic in (True, False):
        done = run(store, load(tmp_path, f"s = shell('mkfifo $out/odd', deterministic={deterministic})").s)
        assert "odd is a pipe" in str(done.failure)
        nothing_entered(store)


# ------------------------------------------------------------------------------------------ odd names

NAMES = """
import os
@stage
def s(x=out("a\\nb\\x1b]0;")):
    here = os.fsencode(x.parent)
    x.write_text("promised")
    for name in (b"line\\nbreak", b"\\x1b]0;title\\x07", b"\\xff\\xfe", b"-rf", b" ", b"*", b"\\r", "\\u202e".encode()):
        with open(os.path.join(here, name), "wb") as file:
            file.write(name)
    os.symlink(b"line\\nbreak", os.path.join(here, b"to\\nit"))

@stage(deterministic=True)
def names(s=s, x=out("names")):
    x.write_text(repr(sorted(os.listdir(os.fsencode(s)))))

copied = shell('cp -a "$s/." $out', s=s)
"""


def test_names_of_any_bytes_enter_and_are_read_by_the_next_stage(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, NAMES)
    done = run(store, module.names, module.copied)
    names = sorted(os.listdir(os.fsencode(done.path("s"))))
    assert len(names) == 10
    assert (done.path("names") / "names").read_text() == repr(names)
    assert sorted(os.listdir(os.fsencode(done.path("copied")))) == names
    assert_clean(store)


def test_a_promise_with_an_odd_name_that_is_broken_is_one_line(store: Store, tmp_path: Path) -> None:
    done = run(store, load(tmp_path, "@stage\ndef s(x=out('a\\nb')): pass").s)
    assert "did not write its promised output x" in str(done.failure)
    nothing_entered(store)


LOOPS = """
import os
@stage
def s(x=out("x"), many=out("many/*/file")):
    x.mkdir()
    for name, target in {"self": "self", "a": "b", "b": "a", "up": "..", "root": "/", "deep": "deep/deep/deep"}.items():
        os.symlink(target, x / name)
    os.symlink("..", many / "back")
    (many / "one").mkdir()
    (many / "one" / "file").touch()

@stage(deterministic=True)
def names(s=s / "x", x=out("names")):
    x.write_text(repr(sorted(os.readlink(s / name) for name in os.listdir(s))))
copied = shell('cp -a $s/. $out', s=s)
"""


def test_loops_of_links_are_kept_and_not_followed(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, LOOPS)
    done = run(store, module.names, module.copied)
    links = "['..', '/', 'a', 'b', 'deep/deep/deep', 'self']"
    assert (done.path("names") / "names").read_text() == links
    assert os.readlink(done.path("copied") / "x" / "self") == "self"
    assert_clean(store)
    remove_tree(done.path("s"))
    assert os.path.isdir("/etc")


def test_a_promise_that_is_a_loop_of_links_is_kept_as_it_is(store: Store, tmp_path: Path) -> None:
    text = (
        "import os\n@stage\ndef s(x=out('x'), n=0): os.symlink('x', x)\ncopied = shell('readlink $x > $out/t', x=s.x)"
    )
    module = load(tmp_path, text)
    assert (run(store, module.copied).path("copied") / "t").read_text() == "x\n"
    assert_clean(store)


# ------------------------------------------------------------------------- what changes while it is read


def grow(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"more")


def shrink(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def rewrite(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"other")


@pytest.mark.parametrize("size", [1000, 3 << 20])
@pytest.mark.parametrize("change", [grow, shrink, rewrite])
def test_an_output_that_changes_while_it_is_read_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], size: int
) -> None:
    tree = temporary(store)
    tree.mkdir()
    file = tree / "file"
    file.write_bytes(bytes(size))
    # The clock of a file system is coarse.
    os.utime(file, (0, 0))
    real, left = os.read, [change]

    def read(descriptor: int, count: int) -> bytes:
        if left:
            left.pop()(file)
        return real(descriptor, count)

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        # Nothing gets between the calls of the extension.
        patch.setattr(writer, "_native", None)
        with pytest.raises(OutputError, match=r"file changed while it was read"):
            add_output(store, "x", tree, ())
    remove_tree(tree)
    nothing_entered(store)


# ------------------------------------------------------------------------------------ a store of another


AS_NOBODY = """
import json, os, sys
from bridge.formats.errors import BridgeError
from bridge.realize.engine import realize
from bridge.stages.load import load_targets
from bridge.stages.plan import instantiate
from bridge.store import open_store
from bridge.store.verify import verify

warm, store, *files = sys.argv[1:]
plans = [instantiate(load_targets(file)) for file in files]
# All is imported before: nobody may not be able to read this Python.
for plan in plans:
    realize(plan, open_store(warm))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for plan in plans:
    try:
        found = realize(plan, open_store(store)).choices.items()
        print(sorted(one.id for node, choice in found for one in choice.chosen))
    except BridgeError as error:
        print("refused", *(one.message for one in error.failures))
print(verify(open_store(store)).findings)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("writable", [(), ("locks",), ("locks", "tmp"), ("locks", "tmp", "store"), ("locks", "info")])
def test_a_store_of_another_user_is_read_and_what_must_be_written_is_one_error(
    scratch: Path, writable: tuple[str, ...]
) -> None:
    scratch.chmod(0o755)
    old = write_stages(scratch, "s = shell('echo 1 > $out/x')\n@stage\ndef t(s=s, x=out('x')): x.touch()")
    new = write_stages(scratch, "u = shell('echo 2 > $out/x')")
    store = open_store(scratch / "store")
    ours = run(store, load_module(str(old)).t)
    for name in writable:
        os.chown(store.root / name, NOBODY, NOBODY)
    command = [sys.executable, "-c", AS_NOBODY, scratch / "warm", store.root, old, new]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    found, refused, findings = said.stdout.splitlines()
    # What is there already is found without writing anything.
    assert found == str(sorted(ours.choice(name).chosen[0].id for name in "st"))
    assert refused.startswith("refused ")
    assert "Permission denied" in refused
    assert findings == "[]"
    assert_clean(store)
    # Small texts whose info was refused are no fault, and are there when the next needs them.
    assert all(path.endswith(".drv") for path in verify(store).rubbish)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_file_of_another_user_that_can_not_be_read_is_one_error(scratch: Path) -> None:
    scratch.chmod(0o777)
    os.seteuid(NOBODY)
    try:
        store = open_store(scratch / "store")
        tree = temporary(store)
        tree.mkdir()
        (tree / "fine").write_text("1")
        os.seteuid(0)
        (tree / "secret").write_text("root's")
        (tree / "secret").chmod(0)
        os.seteuid(NOBODY)
        with pytest.raises(BridgeError, match="the output x can not be added to the store"):
            add_output(store, "x", tree, ())
        remove_tree(tree)
        assert_clean(store)
    finally:
        os.seteuid(0)


# ---------------------------------------------------------------------------------------------- clocks


def backwards() -> Callable[[], float]:
    """A clock that goes back by an hour each time that it is looked at."""
    now = [time.time()]

    def look() -> float:
        now[0] -= 3600
        return now[0]

    return look


def test_a_clock_that_goes_back_harms_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
@stage(realizations=3, match=every())
def train(run, x=out("x")):
    x.write_text(str(run.index))
    run.log(n=run.index)
page = shell('cat $models > $out/page', models=train.x)
"""
    module = load(tmp_path, text)
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", backwards())
        first = run(store, module.page, jobs=1)
        again = run(store, module.page, jobs=1, rebuild=frozenset({"train"}))
    assert len(first.of(Finished)) == 4
    assert [event.node.name for event in again.of(Finished)] == ["train"] * 3 + ["page"]
    found = [one for drv in resolved_derivations(store) for one in realizations(store, drv)]
    assert all(one.stopped < one.started < real() for one in found)
    assert sorted(one.index for one in found if one.stage == "train") == [0, 1, 2, 3, 4, 5]
    assert_clean(store)
    last = run(store, module.page)
    assert last.started == []
    assert sorted(one.realization.index for one in last.choice("train").chosen) == [0, 1, 2, 3, 4, 5]


def test_modes_that_a_stage_sets_do_not_reach_the_store(store: Store, tmp_path: Path) -> None:
    text = """
import os
@stage
def s(x=out("x")):
    x.write_text("1")
    os.chmod(x, 0o6777)
    os.mkdir(x.parent / "closed", 0o000)
    os.chmod(x.parent, 0o1777)
"""
    path = run(store, load(tmp_path, text).s).path("s")
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (path, *path.iterdir())}
    assert modes == {path.name: 0o555, "x": 0o555, "closed": 0o555}
    assert verify(store).findings == []
