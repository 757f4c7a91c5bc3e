"""Git object ids, held against git itself and against Nix's method `git`."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings

from bridge.formats.errors import FormatError, HashError
from bridge.formats.git import ALGORITHMS, object_id
from bridge.formats.nar import Directory, Node, Regular, Symlink, dump, unpack
from bridge.formats.store_path import content_path

from .strategies import trees

MATRIX = Path.home() / ".cache/nixbridge/matrix"
TRAPS = Directory(
    {
        # As a folder, "d" comes behind "d-" and "d.c" and before "d0".
        **{name: Regular(os.fsencode(name)) for name in ("d-", "d.c", "d0", "D", "é", "\udcff", "a b", "-", "\n")},
        "d": Directory({"x": Regular(b"x", executable=True), "y": Symlink("../nowhere")}),
        "d!": Directory({"z": Regular(b"")}),
        "large": Regular(random.Random(1).randbytes(5 << 19)),
    }
)
EMPTY = Directory({"a": Directory(), "b": Directory({"c": Directory()}), "c": Regular(b"")})


class Git:
    """The real git, on a repository of its own."""

    def __init__(self, folder: Path, algorithm: str) -> None:
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self.environ |= {"HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
        self.run("init", "--quiet", f"--object-format={algorithm}")

    def run(self, *command: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            ["git", *command], cwd=self.folder, env=self.environ, input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def id(self, node: Node) -> bytes:
        """The id of a tree in memory; it is git that sorts and prints the entries."""
        match node:
            case Regular(contents):
                return self.run("hash-object", "-w", "--no-filters", "--stdin", stdin=contents)
            case Symlink(target):
                return self.run("hash-object", "-w", "--no-filters", "--stdin", stdin=os.fsencode(target))
            case Directory(entries):
                lines = []
                for name, child in entries.items():
                    kind = {
                        Regular: b"100755 blob" if isinstance(child, Regular) and child.executable else b"100644 blob",
                        Symlink: b"120000 blob",
                        Directory: b"040000 tree",
                    }[type(child)]
                    lines.append(b"%b %b\t%b\0" % (kind, self.id(child), os.fsencode(name)))
                return self.run("mktree", "-z", stdin=b"".join(lines))


@pytest.fixture(scope="module", params=ALGORITHMS)
def git(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Git:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    return Git(tmp_path_factory.mktemp("git"), request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def laid(tree: Node, place: Path) -> Path:
    """The tree on the disk."""
    archive = io.BytesIO()
    dump(tree, archive.write)
    archive.seek(0)
    unpack(archive, place)
    return place


def algorithm_of(id: bytes) -> str:
    return "sha1" if len(id) == 40 else "sha256"


@given(tree=trees)
@example(tree=TRAPS)
@example(tree=EMPTY)
@example(tree=Directory())
@example(tree=Directory({".git": Directory({"HEAD": Regular(b"ref: x")}), ".gitignore": Regular(b"*")}))
@settings(max_examples=50, suppress_health_check=list(HealthCheck))
def test_ids_are_those_of_git(git: Git, tree: Node) -> None:
    id = git.id(tree)
    with tempfile.TemporaryDirectory() as folder:
        assert object_id(laid(tree, Path(folder) / "tree"), algorithm_of(id)).hex == id.decode()


def test_a_folder_has_the_id_that_git_gives_what_was_added(git: Git) -> None:
    tree = laid(TRAPS, git.folder / "tree")
    git.run("-c", "core.autocrlf=false", "add", "tree")
    id = git.run("write-tree", "--prefix=tree/")
    assert object_id(tree, algorithm_of(id)).hex == id.decode()
    id = git.run("hash-object", "tree/large")
    assert object_id(tree / "large", algorithm_of(id)).hex == id.decode()


def test_a_file_has_its_id_whether_it_is_executable_or_not(folder: Path) -> None:
    (folder / "file").write_bytes(b"hello\n")
    plain = object_id(folder / "file")
    assert plain.hex == "ce013625030ba8dba906f756967f9e9ca394464a"
    within = object_id(folder)
    (folder / "file").chmod(0o755)
    assert object_id(folder / "file") == plain
    assert object_id(folder) != within
    # As in git and in a NAR, it is the owner's bit that counts.
    (folder / "file").chmod(0o655)
    assert object_id(folder) == within


def test_a_link_is_not_followed(folder: Path) -> None:
    (folder / "link").symlink_to("/etc")
    assert object_id(folder / "link").digest == hashlib.sha1(b"blob 4\0/etc").digest()


def test_a_tree_may_be_deeper_than_recursion_allows(folder: Path) -> None:
    place, digest = folder, hashlib.sha1(b"tree 0\0").digest()
    for _ in range(1800):
        place /= "d"
        place.mkdir()
        digest = hashlib.sha1(b"tree 28\x0040000 d\0" + digest).digest()
    assert object_id(folder).digest == digest
    subprocess.run(["rm", "-r", folder / "d"], check=True)


@pytest.mark.parametrize("algorithm", ["md5", "sha512", "nope"])
def test_git_has_two_algorithms(folder: Path, algorithm: str) -> None:
    with pytest.raises(HashError, match=f"git goes with sha1 or sha256 only, not {algorithm}"):
        object_id(folder, algorithm)


def test_what_git_can_not_hold_is_refused(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
        with pytest.raises(FormatError, match="socket is neither file, folder nor link"):
            object_id(folder)
    (folder / "socket").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(FormatError, match="pipe is neither"):
        object_id(folder / "pipe")


def test_what_can_not_be_read_is_an_error(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        object_id(folder / "nope")
    (folder / "file").touch(mode=0)
    if os.access(folder / "file", os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(PermissionError):
        object_id(folder)


def test_a_file_that_says_another_size_is_an_error() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("there is no /proc")
    with pytest.raises(FormatError, match="changed its size"):
        object_id("/proc/self/status")  # says that it has no bytes


@pytest.mark.nix
@pytest.mark.parametrize("suite", ["trixie", "sid"])
def test_nix_hashes_and_names_as_we_do(folder: Path, suite: str) -> None:
    program = MATRIX / f"bin-{suite}" / "nix"
    if not program.exists():
        pytest.skip("make test-matrix makes the folders with newer releases of Nix")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NIX_")}
    environ |= {"HOME": str(folder), "NIX_REMOTE": f"local?root={folder}/root"}
    environ["NIX_CONFIG"] = "experimental-features = nix-command git-hashing\nbuild-users-group =\n"

    def nix(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *command], env=environ, capture_output=True, text=True, check=False)

    laid(TRAPS, folder / "traps")
    laid(EMPTY, folder / "empty")
    for path in folder / "traps", folder / "empty", folder / "empty/a", folder / "traps/d0", folder / "traps/d/x":
        for algorithm in ALGORITHMS:
            ours = object_id(path, algorithm)
            theirs = nix("hash", "path", "--mode", "git", "--algo", algorithm, path)
            assert theirs.stdout.strip() == ours.sri, theirs.stderr
            added = nix("store", "add", "--mode", "git", "--hash-algo", algorithm, path)
            if suite == "trixie" and algorithm == "sha256":
                assert "must use SHA-1" in added.stderr
            else:
                assert added.stdout.strip() == content_path(path.name, "git", ours), added.stderr
    for place, _, _ in os.walk(folder / "root"):
        os.chmod(place, 0o700)  # objects in a store are read-only
