"""What comes from a store is data and never run; a running stage gets what its resolved derivation names."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

import bridge
from bridge.formats.errors import BridgeError
from bridge.store.layout import Store
from bridge.store.trace import realizations, record, resolved_derivations
from bridge.store.verify import verify
from tests.realize.running import assert_clean, load, run

LOADERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "dbm"}


def imported(file: Path) -> set[str]:
    """The first words of all modules that a file imports, wherever in it, also by name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def test_nothing_of_nixbridge_can_unpickle() -> None:
    files = sorted(Path(bridge.__file__).parent.rglob("*.py"))
    assert len(files) > 50
    assert [(str(file), name) for file in files for name in imported(file) & LOADERS] == []


class Bomb:
    """What makes a file when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.mark,)


PLAN = """
@stage(realizations=2, match=every())
def train(run, x=out("model.pkl")):
    x.write_bytes(b"x")
    run.log(n=run.index)

used = shell('cat $models > $out/all', models=train.x)
"""


def test_pickles_planted_all_over_a_store_are_never_loaded(store: Store, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    bombs = [pickle.dumps(Bomb(str(mark)), protocol) for protocol in (0, 2, pickle.HIGHEST_PROTOCOL)]
    module = load(tmp_path, PLAN)
    [*_, one] = run(store, module.used).choice("train").chosen
    for number in range(70):
        # So many that they get an index.
        record(store, replace(one.realization, index=2 + number))
    run(store, module.used)
    places = [path for path in store.root.rglob("*") if path.is_file()]
    rooms = {path.relative_to(store.root).parts[0] for path in places}
    assert rooms == {"store", "info", "trace", "logs", "locks", "cache"}
    for room in sorted(rooms):
        planted = {path: path.read_bytes() for path in places if path.relative_to(store.root).parts[0] == room}
        for number, path in enumerate(planted):
            path.chmod(0o644)
            path.write_bytes(bombs[number % len(bombs)])
        assert bool(verify(store).findings) == (room in ("store", "info", "trace"))
        with contextlib.suppress(BridgeError):
            run(store, module.used)
        for path, data in planted.items():
            path.unlink(missing_ok=True)
            path.write_bytes(data)
    assert not mark.exists()
    # They do go off where somebody loads them.
    pickle.loads(bombs[0])
    assert mark.is_dir()


SEEN = """
import json, os, sys
seen = shell('export -p > $out/env; ls -l /proc/self/fd/ > $out/fds; pwd > $out/cwd; umask > $out/umask', data={data!r})
"""


def test_a_shell_stage_sees_nothing_of_the_users_environment(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    path = run(store, load(tmp_path, SEEN.format(data="mine")).seen).path("seen")
    text = (path / "env").read_text()
    names = {line.split()[1].partition("=")[0] for line in text.splitlines() if line.startswith(("export", "declare"))}
    nix = {"HOME", "NIX_BUILD_CORES", "NIX_BUILD_TOP", "NIX_STORE", "PATH", "PWD", "TERM"}
    nix |= {"TMPDIR", "TEMPDIR", "TMP", "TEMP"}
    assert names <= nix | {"builder", "data", "name", "out", "outputs", "system", "OLDPWD", "SHLVL", "_", "script"}
    assert "hunter2" not in text
    assert str(store.tmp) in (path / "cwd").read_text()


HELD = """
import json, os
@stage
def seen(x=out("seen")):
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    places = {number: f"/proc/self/fd/{number}" for number in numbers}
    held = {number: os.readlink(place) for number, place in places.items() if os.path.lexists(place)}
    x.write_text(json.dumps({"held": held, "cwd": os.getcwd(), "tmp": os.environ["TMPDIR"], "home": os.listdir()}))
"""


def test_a_python_stage_holds_nothing_of_the_user_open_and_works_in_an_empty_folder(
    store: Store, tmp_path: Path
) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        path = run(store, load(tmp_path, HELD).seen).path("seen")
    seen = json.loads((path / "seen").read_text())
    assert seen["held"].pop("0") == os.devnull
    # Pipes and the like are of the worker server itself.
    assert [
        place
        for place in seen["held"].values()
        if not place.startswith(("pipe:", "anon_inode:", os.devnull, str(store.logs)))
    ] == []
    assert seen["cwd"] == seen["tmp"]
    assert seen["cwd"].startswith(str(store.tmp))
    assert seen["home"] == []


def test_what_a_stage_is_not_given_is_not_a_reference(store: Store, tmp_path: Path) -> None:
    """Its output may hold the text of any store path; it refers to its inputs only."""
    text = """
other = shell('echo other > $out/x')
@stage
def s(path="", x=out("x")):
    x.write_text(path)
"""
    module = load(tmp_path, text)
    other = run(store, module.other).choice("other").chosen[0].realization.outputs["out"]
    run(store, module.s(path=other))
    (made,) = [one for drv in resolved_derivations(store) for one in realizations(store, drv) if one.stage == "s"]
    info = json.loads(store.info_file(made.outputs["out"]).read_bytes())
    assert info["references"] == []
    assert_clean(store)
