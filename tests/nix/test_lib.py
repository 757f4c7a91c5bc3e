"""nix/lib.nix: pinned results as derivations of the very paths that the Python store has; with real Nix."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.nix.installation import Installation

LIB = Path(__file__).parents[2] / "nix" / "lib.nix"
NIXBRIDGE = Path(sys.executable).with_name("nixbridge")

STAGES = """
from bridge import best, every, host, out, shell, source, stage

busybox = host("busybox")
words = source("words.txt")
clean = shell("sort -u $words > $out/sorted.txt", words=words, tools=[busybox], shell=busybox)

@stage(realizations=2, match=best("score"))
def train(run, data=clean / "sorted.txt", model=out("model.txt")):
    run.log(score=run.index + 0.5)
    model.write_text(f"model {run.index}")

@stage
def refers(data=clean / "sorted.txt", page=out("page.txt")):
    page.write_text(str(data))

report = shell("cat $model > $out/page.txt", model=train.model, tools=[busybox], shell=busybox)
"""

pytestmark = pytest.mark.nix
Command = Callable[..., str]


@pytest.fixture
def project(nix: Installation, scratch: Path) -> Path:
    folder = scratch / "project"
    folder.mkdir()
    (folder / "words.txt").write_text("two\none\n")
    (folder / "stages.py").write_text(STAGES)
    (folder / "lib.nix").write_text(LIB.read_text())
    (folder / "shell.nix").write_text("{ }: { }")
    (folder / "flake.nix").write_text(
        "{ outputs = { self }: { packages.x86_64-linux = (import ./lib.nix).fromLock ./bridge.lock; }; }"
    )
    return folder


@pytest.fixture
def nixbridge(nix: Installation, project: Path, scratch: Path) -> Command:
    def run(*arguments: str, ok: bool = True) -> str:
        environ = {**nix.environ, "NIXBRIDGE_STORE": str(scratch / "pystore")}
        done = subprocess.run(
            [NIXBRIDGE, *arguments], cwd=project, env=environ, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) is ok, done.stderr
        return done.stdout if ok else done.stderr

    return run


@pytest.fixture
def fresh(nix: Installation, scratch: Path) -> Installation:
    """The same Nix on another, empty store."""
    environ = {**nix.environ, "NIX_REMOTE": f"local?root={scratch}/fresh"}
    found = Installation(nix.bin, environ)
    found.run([found.program("nix-store"), "--init"]).check_returncode()
    return found


@pytest.fixture
def served(scratch: Path) -> Iterator[tuple[Path, str]]:
    """A binary cache's folder, and its URL."""
    folder = scratch / "bcache"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def build(nix: Installation, project: Path, name: str, *options: str, ok: bool = True) -> str:
    """The output paths of what a flake has under a name, or what Nix says where it does not build."""
    done = nix.run([nix.program("nix"), "build", "--no-link", "--json", *options, f"path:{project}#{name}"])
    assert (done.returncode == 0) is ok, done.stderr
    return str(json.loads(done.stdout)[0]["outputs"]["out"]) if ok else done.stderr


def test_a_pinned_result_is_a_package_of_the_same_path_without_any_download(
    nix: Installation, project: Path, nixbridge: Command
) -> None:
    paths = nixbridge("realize", "stages.py").split()
    nixbridge("push-nix", "stages.py:train")
    nixbridge("lock", "stages.py")
    train = json.loads((project / "bridge.lock").read_text())["stages"]["train"]["realizations"][0]
    assert build(nix, project, "train") == train["outputs"]["out"]["path"]
    # Built by Nix, input-addressed: the very derivation that the engine resolved.
    report = build(nix, project, "report")
    assert any(path.endswith(report) for path in paths)
    shown = nix.run([nix.program("nix"), "eval", "--json", f"path:{project}#train.metrics"])
    assert json.loads(shown.stdout) == {"score": 1.5}


def test_an_empty_store_fetches_it_over_http(
    fresh: Installation, project: Path, nixbridge: Command, served: tuple[Path, str]
) -> None:
    folder, url = served
    nixbridge("realize", "stages.py:train")
    nixbridge("push-cache", str(folder), "stages.py:train", "stages.py:clean")
    nixbridge("lock", "stages.py:train", "--cache", url)
    path = build(fresh, project, "train")
    assert (fresh.real_path(path) / "model.txt").read_text() == "model 1"
    # What is there needs no cache.
    for file in (folder / "nar").iterdir():
        file.unlink()
    assert build(fresh, project, "train") == path


def test_a_folder_is_a_cache_as_a_substituter_and_needs_no_key(
    fresh: Installation, project: Path, nixbridge: Command, scratch: Path
) -> None:
    nixbridge("realize", "stages.py:train")
    cache = scratch / "cache-folder"
    nixbridge("push-cache", str(cache), "stages.py:train")
    nixbridge("lock", "stages.py:train")
    path = build(fresh, project, "train", "--option", "substituters", cache.as_uri())
    assert (fresh.real_path(path) / "model.txt").read_text() == "model 1"


def test_without_any_cache_nix_says_what_to_do(fresh: Installation, project: Path, nixbridge: Command) -> None:
    nixbridge("realize", "stages.py:train")
    nixbridge("lock", "stages.py:train")
    assert "nixbridge push-nix, or nixbridge lock --cache URL" in build(fresh, project, "train", ok=False)


def test_a_cache_with_another_content_is_refused_by_nix(
    fresh: Installation, project: Path, nixbridge: Command, served: tuple[Path, str]
) -> None:
    folder, url = served
    nixbridge("realize", "stages.py:train")
    nixbridge("push-cache", str(folder), "stages.py:train", "stages.py:clean", "--compress", "none")
    nixbridge("lock", "stages.py:train", "--cache", url)
    for file in (folder / "nar").iterdir():
        file.write_bytes(file.read_bytes().replace(b"model 1", b"model 9"))
    assert "hash mismatch" in build(fresh, project, "train", ok=False)


def test_a_hash_that_was_edited_is_refused(nix: Installation, project: Path, nixbridge: Command) -> None:
    nixbridge("realize", "stages.py:train")
    nixbridge("lock", "stages.py:train")
    file = project / "bridge.lock"
    value = json.loads(file.read_text())
    other = "sha256-" + 43 * "A" + "="
    value["stages"]["train"]["realizations"][0]["outputs"]["out"]["contentAddress"]["hash"] = other
    file.write_text(json.dumps(value))
    assert "bridge.lock was edited" in build(nix, project, "train", ok=False)


def test_a_newer_lock_is_refused(nix: Installation, project: Path) -> None:
    (project / "bridge.lock").write_text('{"version": 2}')
    assert "update the flake input" in build(nix, project, "train", ok=False)


def test_several_chosen_are_a_list(nix: Installation, project: Path, nixbridge: Command) -> None:
    file = project / "stages.py"
    file.write_text(file.read_text().replace('best("score")', "every()"))
    nixbridge("realize", "stages.py:train")
    nixbridge("lock", "stages.py:train")
    ask = "x: map (one: one.metrics.score) x"
    done = nix.run([nix.program("nix"), "eval", "--json", f"path:{project}#train", "--apply", ask])
    # In the order in which they ended.
    assert sorted(json.loads(done.stdout)) == [0.5, 1.5], done.stderr


def test_a_result_with_references_is_an_input_and_brings_them(
    nix: Installation, project: Path, nixbridge: Command
) -> None:
    nixbridge("realize", "stages.py:refers")
    nixbridge("push-nix", "stages.py:refers")
    nixbridge("lock", "stages.py:refers")
    done = nix.run([nix.program("nix"), "eval", "--raw", f"path:{project}#refers.outPath"])
    pinned = json.loads((project / "bridge.lock").read_text())["stages"]["refers"]["realizations"][0]["outputs"]["out"]
    assert pinned["references"]
    assert done.stdout == pinned["path"], done.stderr
    assert "has references" in build(nix, project, "refers", ok=False)


def test_what_the_local_builder_made_is_an_input_where_its_path_follows_from_its_contents(
    nix: Installation, project: Path, nixbridge: Command
) -> None:
    file = project / "stages.py"
    more = "deterministic=False, words=words, tools=[busybox], shell=busybox"
    file.write_text(f"{file.read_text()}\nnoisy = shell('echo $words > $out/x', {more})\n")
    nixbridge("realize", "stages.py:noisy")
    nixbridge("lock", "stages.py:noisy")
    nixbridge("push-nix", "stages.py:noisy")
    pinned = json.loads((project / "bridge.lock").read_text())["stages"]["noisy"]["realizations"][0]
    assert pinned["record"]["runner"] == "local"
    done = nix.run([nix.program("nix"), "eval", "--raw", f"path:{project}#noisy.outPath"])
    assert done.stdout == pinned["outputs"]["out"]["path"], done.stderr


def test_stages_that_are_deterministic_are_packages_of_the_same_derivations(
    nix: Installation, project: Path, nixbridge: Command
) -> None:
    nixbridge("instantiate", "stages.py:clean", "--add")
    (project / "stages.json").write_text(nixbridge("derivation", "show", "-r", "--json-format", "4", "stages.py:clean"))
    (project / "flake.nix").write_text(
        "{ outputs = { self }: { packages.x86_64-linux = (import ./lib.nix).mkStages { manifest = ./stages.json; "
        'sources."words.txt" = ./words.txt; }; }; }'
    )
    done = nix.run([nix.program("nix"), "eval", "--raw", f"path:{project}#clean.drvPath"])
    assert done.stdout == nixbridge("instantiate", "stages.py:clean").strip(), done.stderr
    path = build(nix, project, "clean")
    assert (nix.real_path(path) / "sorted.txt").read_text() == "one\ntwo\n"
    (project / "words.txt").write_text("three\n")
    assert "is not the source" in build(nix, project, "clean", ok=False)


def test_nix_reads_and_trusts_a_cache_that_was_pushed_to(
    nix: Installation, fresh: Installation, project: Path, nixbridge: Command, scratch: Path
) -> None:
    nixbridge("realize", "stages.py")
    public = nixbridge("key", "generate", "test-1", "key.sec").strip()
    cache = scratch / "signed"
    nixbridge("push-cache", str(cache), "stages.py:report", "stages.py:refers", "--secret-key-file", "key.sec")
    nixbridge("lock", "stages.py:report")
    pins = json.loads((project / "bridge.lock").read_text())["stages"]
    path = pins["report"]["realizations"][0]["outputs"]["out"]["path"]
    shown = fresh.run([fresh.program("nix"), "path-info", "--store", cache.as_uri(), path])
    assert shown.stdout.strip() == path, shown.stderr
    command = [fresh.program("nix"), "copy", "--from", cache.as_uri(), path]
    assert "lacks a" in fresh.run(command).stderr
    fresh.run([*command, "--option", "trusted-public-keys", public]).check_returncode()
    assert (fresh.real_path(path) / "page.txt").read_text() == "model 1"


def test_the_collector_keeps_what_kept_realizations_need_and_a_forced_removal_heals(
    nix: Installation, nixbridge: Command
) -> None:
    first = nixbridge("realize", "stages.py")
    nixbridge("push-nix", "stages.py:train")
    nix.run([nix.program("nix-store"), "--gc"]).check_returncode()
    assert all(os.path.exists(path) for path in first.split())
    assert nixbridge("realize", "stages.py") == first
    report = next(path for path in first.split() if path.endswith("-report"))
    store_path = "/nix/store/" + Path(report).name
    nix.run([nix.program("nix-store"), "--delete", "--ignore-liveness", store_path])
    assert not os.path.exists(report)
    assert nixbridge("realize", "stages.py") == first
    assert os.path.exists(report)
