"""Stages of stock, realized: from real servers, real repositories, and with a real Nix."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bridge.formats import nar
from bridge.formats.hashes import Hash
from bridge.nix.installation import Installation
from bridge.realize.errors import BuildError, FetchError
from bridge.realize.events import Phase
from bridge.stages.stock import fetchgit
from bridge.store.info import read_info
from bridge.store.layout import Store
from bridge.store.trace import realizations

from .running import Run, assert_clean, drive, load, run, wait_until, write_stages

DATA = b"".join(b"line %d\n" % number for number in range(30_000))
HASH = Hash.of(DATA).sri


def hash_of(folder: Path) -> str:
    return Hash("sha256", hashlib.sha256(b"".join(nar.pack_chunks(folder))).digest()).sri


# -------------------------------------------------------------------------------- broken downloads


class Handler(BaseHTTPRequestHandler):
    """Serves DATA; what is before the file's name says how badly."""

    asked: list[tuple[str, str | None]]
    hang: threading.Event

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append((self.path, wanted))
        data = DATA if "other" not in self.path else DATA[::-1]
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if wanted is None or "ignores" in self.path:
            start = 0
            self.send_response(200)
            if "ignores" not in self.path:
                self.send_header("Accept-Ranges", "bytes")
        elif start >= len(data):
            self.send_error(416)
            return
        else:
            self.send_response(206)
            said = start + 7 if "lies" in self.path else start
            self.send_header("Content-Range", f"bytes {said}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        rest = data[start:]
        if "stuck" in self.path:
            rest = rest[:1000] if not start else b""
        elif "breaks" in self.path:
            rest = rest[:100_000]
        elif "hangs" in self.path and not self.hang.is_set():
            self.wfile.write(rest[:100_000])
            self.wfile.flush()
            self.hang.wait(30)
            return
        self.wfile.write(rest)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("OwnHandler", (Handler,), {"asked": [], "hang": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}", handler
        handler.hang.set()
        found.shutdown()
        thread.join()


def fetch(store: Store, folder: Path, urls: list[str], hash: str = HASH, more: str = "") -> Run:
    module = load(folder, f"f = fetchurl({urls!r}, hash={hash!r}, name='file'{more})")
    return run(store, module.f)


def test_a_broken_download_goes_on_where_it_broke(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]]
) -> None:
    url, handler = server
    done = fetch(store, tmp_path, [f"{url}/breaks"])
    assert done.path("file").read_bytes() == DATA
    asked = [wanted for _, wanted in handler.asked]
    assert asked == [None, *(f"bytes={start}-" for start in range(100_000, len(DATA), 100_000))]
    assert any("going on" in event.name for event in done.of(Phase))
    assert list(store.checkpoints.iterdir()) == []
    assert_clean(store)


def test_a_server_that_brings_no_more_is_given_up(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]]
) -> None:
    url, handler = server
    error = fetch(store, tmp_path, [f"{url}/stuck"]).failure
    assert isinstance(error, FetchError)
    assert f"the connection ended after 1000 of {len(DATA)} bytes" in error.message
    assert [wanted for _, wanted in handler.asked] == [None, "bytes=1000-"]
    assert_clean(store)


def test_the_next_mirror_goes_on_where_the_first_one_broke(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]]
) -> None:
    url, handler = server
    done = fetch(store, tmp_path, [f"{url}/stuck", f"{url}/good"])
    assert done.path("file").read_bytes() == DATA
    assert handler.asked[-1] == ("/good", "bytes=1000-")
    assert_clean(store)


@pytest.mark.parametrize("page", ["ignores", "lies"])
def test_a_server_that_does_not_send_the_rest_sends_the_whole(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]], page: str
) -> None:
    url, _ = server
    done = fetch(store, tmp_path, [f"{url}/stuck", f"{url}/{page}"])
    assert done.path("file").read_bytes() == DATA
    assert_clean(store)


def test_a_beginning_of_another_file_does_not_spoil_a_good_mirror(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]]
) -> None:
    url, handler = server
    done = fetch(store, tmp_path, [f"{url}/other-stuck", f"{url}/good"])
    assert done.path("file").read_bytes() == DATA
    assert [wanted for page, wanted in handler.asked if page == "/good"] == ["bytes=1000-", None]
    assert_clean(store)


def test_a_wrong_file_says_its_hash_and_leaves_nothing(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]]
) -> None:
    url, _ = server
    error = fetch(store, tmp_path, [f"{url}/other"]).failure
    assert f"it has the hash {Hash.of(DATA[::-1]).sri}, not {HASH}" in error.message
    assert list(store.checkpoints.iterdir()) == list(store.objects.iterdir()) == []


@pytest.mark.parametrize("kill", [False, True])
def test_what_an_ended_process_has_downloaded_is_not_downloaded_again(
    store: Store, tmp_path: Path, server: tuple[str, type[Handler]], kill: bool
) -> None:
    url, handler = server
    file = write_stages(tmp_path, f"f = fetchurl('{url}/hangs', hash={HASH!r}, name='file')")
    with drive(store, file) as child:
        wait_until(lambda: any(one.stat().st_size == 100_000 for one in store.checkpoints.glob("*/file")))
        child.kill() if kill else child.terminate()
        child.wait(5)
    handler.hang.set()
    done = fetch(store, tmp_path, [f"{url}/hangs"])
    assert done.path("file").read_bytes() == DATA
    assert handler.asked[-1] == ("/hangs", "bytes=100000-")
    assert list(store.checkpoints.iterdir()) == []
    assert_clean(store)


def test_what_is_whole_already_is_only_checked(store: Store, tmp_path: Path, server: tuple[str, type[Handler]]) -> None:
    url, handler = server
    fetch(store, tmp_path, [f"{url}/stuck"])
    (file,) = store.checkpoints.glob("*/file")
    file.write_bytes(DATA)
    assert fetch(store, tmp_path, [f"{url}/stuck"]).path("file").read_bytes() == DATA
    assert handler.asked[-1] == ("/stuck", f"bytes={len(DATA)}-")
    assert_clean(store)


def test_a_full_disk_is_not_left_full(small_store: Store, tmp_path: Path, server: tuple[str, type[Handler]]) -> None:
    url, _ = server
    (small_store.tmp / "filler").write_bytes(b"x" * 300_000)
    error = fetch(small_store, tmp_path, [f"{url}/good"]).failure
    assert "No space left" in str(error)
    assert list(small_store.checkpoints.iterdir()) == []


# ---------------------------------------------------------------------------------------- archives


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """`tool.tar.gz` with `tool/bin/run`, `tool/data` and a link; the folder beside it."""
    tool = tmp_path / "tool"
    (tool / "bin").mkdir(parents=True)
    (tool / "bin" / "run").write_text("#!/bin/sh\n")
    (tool / "bin" / "run").chmod(0o755)
    (tool / "data").write_text("data\n")
    (tool / "link").symlink_to("bin/run")
    with tarfile.open(tmp_path / "tool.tar.gz", "w:gz") as found:
        found.add(tool, "tool")
    return tmp_path / "tool.tar.gz"


def test_an_archive_is_fetched_as_what_is_in_it(store: Store, archive: Path, tmp_path: Path) -> None:
    expected = hash_of(tmp_path / "tool")
    done = fetch(store, tmp_path, [f"file://{archive}"], expected, ", unpack=True")
    found = done.path("file")
    assert (found / "link").read_text() == "#!/bin/sh\n"
    assert hash_of(found) == expected
    assert os.access(found / "bin" / "run", os.X_OK)
    assert_clean(store)


@pytest.mark.parametrize("broken", ["hash", "cut", "no archive", "hostile"])
def test_an_archive_that_is_not_what_the_hash_says_is_refused(
    store: Store, archive: Path, tmp_path: Path, broken: str
) -> None:
    expected = hash_of(tmp_path / "tool") if broken != "hash" else HASH
    match broken:
        case "cut":
            archive.write_bytes(archive.read_bytes()[:-20])
        case "no archive":
            archive.write_bytes(DATA)
        case "hostile":
            with tarfile.open(archive, "w:gz") as found:
                found.addfile(tarfile.TarInfo("../x"), io.BytesIO())
    error = fetch(store, tmp_path, [f"file://{archive}"], expected, ", unpack=True").failure
    assert isinstance(error, FetchError)
    words = {"hash": "it has the hash", "cut": "damaged", "no archive": "no archive", "hostile": "leads out"}
    assert words[broken] in error.message
    assert list(store.objects.iterdir()) == list(store.checkpoints.iterdir()) == []
    assert_clean(store)


@pytest.mark.nix
def test_a_fetched_archive_has_the_path_of_nix_s_fetch_tarball(
    store: Store, nix: Installation, archive: Path, tmp_path: Path
) -> None:
    expected = hash_of(tmp_path / "tool")
    module = load(tmp_path, f"f = fetchurl('file://{archive}', hash={expected!r}, name='source', unpack=True)")
    done = run(store, module.f, nix=nix)
    expression = f'builtins.fetchTarball {{ url = "file://{archive}"; sha256 = "{expected}"; }}'
    asked = nix.run([nix.program("nix-instantiate"), "--eval", "-E", expression])
    assert asked.stdout.strip() == f'"{done.choice("source").paths("out")}"', asked.stderr


def test_a_stage_unpacks_an_archive_once(store: Store, archive: Path, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        f"""
        tool = unpack(source({str(archive)!r}))

        @stage
        def use(tool=tool, seen=out("seen")):
            seen.write_text((tool / "link").read_text())
        """,
    )
    assert run(store, module.use).path("use", "out").joinpath("seen").read_text() == "#!/bin/sh\n"
    found = run(store, module.use)
    assert found.started == []
    assert hash_of(found.path("tool")) == hash_of(tmp_path / "tool")
    assert_clean(store)


def test_unpacking_a_hostile_archive_fails_the_stage(store: Store, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as found:
        member = tarfile.TarInfo("l")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        found.addfile(member)
    module = load(tmp_path, f"tool = unpack(source({str(tmp_path / 'x.tar')!r}))")
    error = run(store, module.tool).failure
    assert isinstance(error, BuildError)
    assert "leads to '/etc/passwd', out of the archive" in error.message
    assert_clean(store)


# ------------------------------------------------------------------------------ texts and collecting


def test_texts_are_files_of_the_store_and_inputs_of_stages(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        note = text("hello")
        params = json_file({"b": [1, 2.5], "a": None})

        @stage
        def use(note=note, params=params, seen=out("seen")):
            seen.write_text(note.read_text() + params.read_text())
        """,
    )
    assert (run(store, module.use).path("use") / "seen").read_text() == 'hello{"a":null,"b":[1,2.5]}'
    assert run(store, module.note).error is None
    note = run(store, module.note).choice("note").node.path
    assert store.real_path(note).read_text() == "hello"
    assert (read_info(store, note).content_address or "").startswith("text:sha256:")
    assert_clean(store)


COLLECTED = """
a = text("the text", name="a")

@stage(realizations=2, match=every())
def many(run, file=out("file")):
    file.write_text(str(run.index))

@stage
def one(file=out("deep/file")):
    file.write_text("one")

both = collect(a=a, file=one.file, several=many.file, whole=one)
"""


def test_a_collection_links_to_its_inputs_wherever_the_store_lies(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, COLLECTED)
    done = run(store, module.both)
    found = done.path("both")
    assert (found / "a").read_text() == "the text"
    assert (found / "file").read_text() == (found / "whole" / "deep" / "file").read_text() == "one"
    assert {one.read_text() for one in (found / "several").iterdir()} == {"0", "1"}
    assert all(os.readlink(link).startswith("../") for link in (found / "a", found / "several" / "0"))
    info = read_info(store, done.choice("both").chosen[0].outputs["out"])
    assert len(info.references) == 4
    assert run(store, module.both).started == []
    assert_clean(store)
    moved = tmp_path / "moved"
    shutil.copytree(store.root, moved, symlinks=True)
    assert (moved / "store" / found.name / "file").read_text() == "one"
    subprocess.run(["chmod", "-R", "u+w", moved], check=True)


@pytest.mark.nix
def test_nix_uses_texts_and_collections_and_collections_what_nix_built(
    store: Store, nix: Installation, tmp_path: Path
) -> None:
    module = load(
        tmp_path,
        COLLECTED
        + """
busybox = host("busybox")
built = shell("cat $file > $out/copy; cat $t >> $out/copy", file=both / "several/1", t=a, tools=[busybox])
plain = shell("echo built > $out/x", tools=[busybox])
more = collect(built=built, plain=plain, inner=both / "file")
again = shell("cat $more/plain/x $more/built/copy $more/inner > $out/all", more=more, tools=[busybox])
""",
    )
    done = run(store, module.again, nix=nix)
    assert dict(done.started)["again"] == dict(done.started)["plain"] == "nix"
    assert (done.path("again") / "all").read_text() == "built\n1the textone"
    assert (done.path("more") / "plain" / "x").read_text() == "built\n"
    assert_clean(store)
    assert run(store, module.again, nix=nix).started == []


# --------------------------------------------------------------------------------------------- git


Git = Callable[..., str]


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, Git]:
    """A repository with two commits and a tag; git in it."""
    folder = tmp_path / "repo"
    folder.mkdir()
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environ = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": "/dev/null"}

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    (folder / "sub").mkdir()
    (folder / "sub" / "run").write_text("#!/bin/sh\n")
    (folder / "sub" / "run").chmod(0o755)
    (folder / "text").write_bytes(b"one\r\ntwo\n")
    (folder / "link").symlink_to("sub/run")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    git("tag", "-a", "v1", "-m", "first")
    (folder / "text").write_text("changed\n")
    git("commit", "--quiet", "-am", "second")
    return folder, git


def files_of(folder: Path, git: Git, rev: str, into: Path) -> Path:
    into.mkdir()
    subprocess.run(f"git -C {folder} archive {git('rev-parse', rev)} | tar x -C {into}", shell=True, check=True)
    return into


@pytest.mark.parametrize("rev", ["v1", "main~1", "hash", "short", "main"])
def test_a_revision_is_checked_out_whatever_names_it(
    store: Store, tmp_path: Path, repository: tuple[Path, Git], rev: str
) -> None:
    folder, git = repository
    commit = git("rev-parse", "main" if rev == "main" else "v1^{commit}")
    named = {"hash": commit, "short": commit[:10], "main~1": commit}.get(rev, rev)
    expected = hash_of(files_of(folder, git, commit, tmp_path / "expected"))
    done = run(store, fetchgit(f"file://{folder}", rev=named, hash=expected))
    assert hash_of(done.path("repo")) == expected
    (one,) = done.choice("repo").chosen
    assert one.realization.host == {"url": f"file://{folder}"}
    assert_clean(store)


@pytest.mark.nix
def test_a_commit_has_the_path_of_nix_s_fetch_git(
    store: Store, nix: Installation, repository: tuple[Path, Git]
) -> None:
    folder, git = repository
    commit = git("rev-parse", "main")
    expression = f'builtins.fetchGit {{ url = "file://{folder}"; rev = "{commit}"; ref = "main"; }}'
    asked = nix.run(
        [
            nix.program("nix-instantiate"),
            "--eval",
            "--strict",
            "--json",
            "-E",
            f"let s = {expression}; in [ s.narHash s.outPath ]",
        ]
    )
    digest, path = json.loads(asked.stdout)
    done = run(store, fetchgit(f"file://{folder}", rev=commit, hash=digest, name="source"), nix=nix)
    assert done.choice("source").paths("out") == path


@pytest.mark.parametrize(
    ("url", "rev", "message"),
    [
        ("file:///nowhere/repo", "main", "nowhere/repo"),
        ("{}", "nothing", "nothing"),
        ("{}", "0" * 40, "0000"),
        ("{}", "main", "it has the hash sha256-"),
        ("http://127.0.0.1:1/repo", "main", "127.0.0.1"),
    ],
)
def test_what_git_does_not_give_is_said_in_its_words(
    store: Store, repository: tuple[Path, Git], url: str, rev: str, message: str
) -> None:
    folder, _ = repository
    stage = fetchgit(url.format(f"file://{folder}"), rev=rev, hash=HASH, name="repo")
    error = run(store, stage).failure
    assert isinstance(error, FetchError)
    assert message in error.message
    assert list(store.objects.iterdir()) == []
    assert_clean(store)


def test_the_users_settings_change_nothing(
    store: Store, tmp_path: Path, repository: tuple[Path, Git], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, git = repository
    expected = hash_of(files_of(folder, git, "v1", tmp_path / "expected"))
    (tmp_path / "config").write_text("[core]\n\tautocrlf = true\n\tsymlinks = false\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert run(store, fetchgit(f"file://{folder}", rev="v1", hash=expected)).error is None


def test_without_git_the_error_says_so(
    store: Store, repository: tuple[Path, Git], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    error = run(store, fetchgit(f"file://{repository[0]}", rev="v1", hash=HASH)).failure
    assert "there is no git on PATH" in error.message


# ---------------------------------------------------------------------------------------- realized


TRAINED = """
@stage
def data(file=out("file")):
    file.write_text("data")

@stage(realizations=3, match=best("score"))
def train(run, data=data.file, model=out("model")):
    model.write_text(str(run.index))
    run.log(score=run.index)

@stage
def use(model=realized(train.model), seen=out("seen")):
    seen.write_text(model.read_text())
"""


def test_a_stage_that_must_exist_is_never_run(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, TRAINED)
    done = run(store, module.use)
    assert done.started == []
    assert "the stage data is not realized, and realized(…) never runs it" in str(done.failure)
    assert done.failure.file == module.__file__


def test_one_that_is_there_is_used_with_the_same_hash(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, TRAINED)
    run(store, module.train)
    done = run(store, module.use)
    assert done.started == [("use", "python")]
    assert (done.path("use") / "seen").read_text() == "2"


def test_of_fewer_realizations_than_asked_for_the_matcher_takes_what_it_can(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, TRAINED)
    run(store, module.train.options(realizations=1))
    done = run(store, module.use)
    assert (done.path("use") / "seen").read_text() == "0"
    drv = done.choice("train").resolved[0].path
    assert len(realizations(store, drv)) == 1


def test_one_whose_bytes_are_gone_is_an_error_that_names_it(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, TRAINED)
    gone = run(store, module.train).path("train")
    subprocess.run(["chmod", "-R", "u+w", gone], check=True)
    shutil.rmtree(gone)
    for one in store.objects.glob("*-train"):
        subprocess.run(["chmod", "-R", "u+w", one], check=True)
        shutil.rmtree(one)
    assert "the stage train is not realized" in str(run(store, module.use).failure)


def test_a_dry_run_says_it_as_well(store: Store, tmp_path: Path) -> None:
    module = load(tmp_path, TRAINED)
    assert "realized(…) never runs it" in str(run(store, module.use, dry_run=True).failure)
