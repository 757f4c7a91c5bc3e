"""Archives of trees, on disk and in memory."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings

from bridge.formats.errors import NarError
from bridge.formats.nar import Directory, Node, Regular, Symlink, dump, pack, pack_chunks, read, unpack, writer
from bridge.formats.nar.canonical import Canonical
from bridge.formats.nar.writer import CHUNK

from ..strategies import trees  # noqa: TID252


@pytest.fixture(autouse=True, scope="module", params=["native", "python"])
def twin(request: pytest.FixtureRequest) -> Iterator[str]:
    """What archives small files: the extension, and what takes its place without a compiler."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.setattr(writer, "_native", None)
        elif writer._native is None:
            pytest.skip("there was no compiler when nixbridge was installed")
        yield request.param


def dumped(node: Node) -> bytes:
    out = io.BytesIO()
    dump(node, out.write)
    return out.getvalue()


def packed(path: Path) -> bytes:
    return b"".join(pack_chunks(path))


def nest(depth: int, name: str = "d") -> Node:
    """A file below `depth` folders."""
    node: Node = Regular(b"deep")
    for _ in range(depth):
        node = Directory({name: node})
    return node


@pytest.mark.parametrize(
    ("file", "node"),
    [
        ("file", Regular(b"hello\n")),
        ("executable", Regular(b"#!/bin/sh\n", executable=True)),
        ("empty-file", Regular(b"")),
        ("eight-bytes", Regular(b"12345678")),
        ("link", Symlink("../hello")),
        ("empty-folder", Directory()),
    ],
)
def test_each_kind_of_object_is_archived_as_nix_does(data: Path, file: str, node: Node, tmp_path: Path) -> None:
    expected = (data / f"nar/good/{file}.nar").read_bytes()
    assert dumped(node) == expected
    unpack(io.BytesIO(expected), tmp_path / "x")
    assert packed(tmp_path / "x") == expected


@pytest.mark.parametrize("file", ["tree", "names"])
def test_a_tree_is_archived_as_nix_does(data: Path, file: str, tmp_path: Path) -> None:
    expected = (data / f"nar/good/{file}.nar").read_bytes()
    unpack(io.BytesIO(expected), tmp_path / "x")
    assert packed(tmp_path / "x") == expected


def test_entries_are_sorted_by_their_bytes() -> None:
    names = ["ü", "a b", "A", "a.b", "-", "a", "\udcff", "\U0001d11e", "\uffff", "B"]
    found = [
        entry.path[0] for entry in read(io.BytesIO(dumped(Directory(dict.fromkeys(names, Regular(b"")))))) if entry.path
    ]
    assert found == ["-", "A", "B", "a", "a b", "a.b", "ü", "\uffff", "\U0001d11e", "\udcff"]


@given(trees)
@settings(max_examples=60)
def test_packing_what_was_unpacked_gives_the_same_archive(tree: Node) -> None:
    archive = dumped(tree)
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "x")
        unpack(io.BytesIO(archive), target)
        written = io.BytesIO()
        pack(target, written.write)
    assert written.getvalue() == archive


def test_only_the_owners_permission_makes_an_executable(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"")
    for mode, executable in (
        (0o600, False),
        (0o611, False),
        (0o700, True),
        (0o4755, True),
        (0o444, False),
        (0o100, True),
    ):
        file.chmod(mode)
        assert packed(file) == dumped(Regular(b"", executable=executable))


def test_times_and_owners_leave_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"x")
    before = packed(tmp_path)
    os.utime(file, (1, 1))
    assert packed(tmp_path) == before


def test_a_link_is_archived_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    assert packed(tmp_path / "link") == dumped(Symlink(f"{tmp_path}/secret"))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_large_files_are_whole(tmp_path: Path, size: int) -> None:
    contents = os.urandom(size)
    (tmp_path / "x").write_bytes(contents)
    assert packed(tmp_path) == dumped(Directory({"x": Regular(contents)}))


def test_chunks_stay_small_whatever_the_tree_holds(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(5 * CHUNK))
    for number in range(30):
        (tmp_path / f"half-{number}").write_bytes(bytes(CHUNK // 2))
    assert max(map(len, pack_chunks(tmp_path))) <= 3 * CHUNK


def test_chunks_stay_small_where_there_are_no_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.formats.nar.writer.CHUNK", 4096)
    for number in range(300):
        (tmp_path / f"a-link-{number}").symlink_to("x" * 100)
        (tmp_path / f"b-folder-{number}").mkdir()
    chunks = list(pack_chunks(tmp_path))
    assert max(map(len, chunks)) <= 2 * 4096
    assert b"".join(chunks).count(b"symlink") == 300
    assert b"".join(chunks).count(b"directory") == 301


def test_each_object_is_visited_behind_its_contents(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x").touch()
    (tmp_path / "a").symlink_to("b")
    seen: list[tuple[str, bool]] = []

    def visit(path: str, status: os.stat_result, place: str | int) -> None:
        found = os.stat(place, follow_symlinks=isinstance(place, int))
        assert (found.st_ino, found.st_mode, found.st_mtime_ns) == (status.st_ino, status.st_mode, status.st_mtime_ns)
        seen.append((path, stat.S_ISDIR(status.st_mode)))

    pack(tmp_path, lambda data: None, visit=visit)
    assert seen == [
        (f"{tmp_path}/a", False),
        (f"{tmp_path}/b/x", False),
        (f"{tmp_path}/b", True),
        (f"{tmp_path}", True),
    ]


def test_what_the_filter_refuses_is_not_archived_and_not_looked_into(tmp_path: Path) -> None:
    for name in ("keep/a", "drop/b"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    asked: list[str] = []

    def keep(path: str, status: os.stat_result) -> bool:
        asked.append(os.path.relpath(path, tmp_path))
        return "drop" not in path

    written = io.BytesIO()
    pack(tmp_path, written.write, keep=keep)
    assert written.getvalue() == dumped(Directory({"keep": Directory({"a": Regular(b"")})}))
    assert "drop/b" not in asked


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "special")
    return tmp_path


@pytest.fixture
def unix_socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/special")
        yield Path(folder)


def test_a_pipe_is_refused_by_name_and_not_opened(pipe: Path) -> None:
    with pytest.raises(NarError, match=r"special is a pipe; an archive holds files, folders and links only"):
        packed(pipe)


def test_a_socket_is_refused_by_name(unix_socket: Path) -> None:
    with pytest.raises(NarError, match="special is a socket"):
        packed(unix_socket)


def test_a_device_is_refused_by_name() -> None:
    with pytest.raises(NarError, match="/dev/null is a character device"):
        packed(Path("/dev/null"))


def test_what_is_missing_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        packed(tmp_path / "missing")


@pytest.mark.parametrize("change", [-5, 5])
def test_a_large_file_that_changes_its_size_is_refused(tmp_path: Path, change: int) -> None:
    file = tmp_path / "x"
    file.write_bytes(bytes(3 * CHUNK))
    chunks = pack_chunks(tmp_path)
    next(chunks)
    os.truncate(file, 3 * CHUNK + change)
    with pytest.raises(NarError, match="x changed while it was read"):
        list(chunks)


@pytest.mark.parametrize("change", [-5, 5])
def test_a_small_file_that_changes_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: int, twin: str
) -> None:
    if twin == "native":
        pytest.skip("nothing gets between its system calls; the next test has a file that does")
    file = tmp_path / "x"
    file.write_bytes(bytes(10))
    fstat = os.fstat

    def change_behind(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        os.truncate(file, 10 + change)
        return status

    monkeypatch.setattr(os, "fstat", change_behind)
    with pytest.raises(NarError, match="x changed while it was read"):
        packed(tmp_path)


def test_a_file_that_holds_more_than_its_status_says_is_refused() -> None:
    with pytest.raises(NarError, match="changed while it was read"):
        packed(Path("/proc/sys/kernel/random"))


def test_canonical_is_the_same_archive_and_a_canonical_tree(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}").write_bytes(bytes(number))
    (tmp_path / "0").chmod(0o600)
    (tmp_path / "1").chmod(0o755)
    (tmp_path / "2").chmod(0o4644)
    (tmp_path / "600").hardlink_to(tmp_path / "599")
    (tmp_path / "601").symlink_to("0")
    (tmp_path / "602").write_bytes(bytes(CHUNK + 1))
    (tmp_path / "603").mkdir()
    before = packed(tmp_path)
    canonical = Canonical(str(tmp_path))
    assert b"".join(pack_chunks(tmp_path, visit=canonical)) == before == packed(tmp_path)
    files = [os.fsencode(file) for file in tmp_path.iterdir() if file.is_file() and not file.is_symlink()]
    assert sorted(canonical.files) == sorted(files)
    for file in tmp_path.iterdir():
        status = file.lstat()
        assert status.st_mtime_ns == 10**9
        assert status.st_nlink == 1 or file.is_dir()
        if not file.is_symlink():
            assert stat.S_IMODE(status.st_mode) == (0o555 if file.name in ("1", "603") else 0o444)


def many(folder: Path, count: int = 500) -> None:
    """More files than one call takes, and more than one thread does."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:04}").write_bytes(b"%d" % number * (number % 50))


@pytest.mark.parametrize("place", [0, 7, 19, 20, 255, 256, 450, 499])
def test_among_many_files_each_kind_is_archived_in_its_place(tmp_path: Path, place: int) -> None:
    many(tmp_path / "x")
    (tmp_path / f"x/{place:04}").write_bytes(os.urandom(CHUNK + 5))
    for other in range(place // 2, place // 2 + 3):
        (tmp_path / f"x/{other:04}a").hardlink_to(tmp_path / f"x/{other:04}")
    for file in list((tmp_path / "x").iterdir())[::3]:
        file.chmod(0o755)
    before = dumped(
        Directory(
            {
                file.name: Regular(file.read_bytes(), executable=bool(file.stat().st_mode & stat.S_IXUSR))
                for file in (tmp_path / "x").iterdir()
            }
        )
    )
    assert packed(tmp_path / "x") == before
    written = io.BytesIO()
    canonical = Canonical(str(tmp_path / "x"))
    pack(tmp_path / "x", written.write, visit=canonical)
    assert written.getvalue() == before == packed(tmp_path / "x")
    assert sorted(canonical.files) == sorted(os.fsencode(file) for file in (tmp_path / "x").iterdir())
    for file in (tmp_path / "x").iterdir():
        status = file.stat()
        assert (status.st_nlink, status.st_mtime_ns) == (1, 10**9)
        assert stat.S_IMODE(status.st_mode) in (0o444, 0o555)


def test_many_files_that_fill_all_memory_that_there_is_for_them(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for number in range(70):
        (tmp_path / f"x/{number}").write_bytes(os.urandom(CHUNK // 8 * (number % 8)))
    contents = {file.name: Regular(file.read_bytes()) for file in (tmp_path / "x").iterdir()}
    assert packed(tmp_path / "x") == dumped(Directory(contents))
    assert max(map(len, pack_chunks(tmp_path / "x"))) <= 3 * CHUNK


@pytest.mark.parametrize("place", [0, 250, 255, 499])
def test_a_fault_among_many_files_is_named_and_ends_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    many(tmp_path / "x")
    threads, opened = threading.active_count(), len(os.listdir("/proc/self/fd"))
    scandir = os.scandir

    @contextlib.contextmanager
    def gone_behind(folder: bytes) -> Iterator[list[os.DirEntry[bytes]]]:
        with scandir(folder) as found:
            entries = list(found)
        (tmp_path / f"x/{place:04}").unlink()
        yield entries

    monkeypatch.setattr(os, "scandir", gone_behind)
    with pytest.raises(FileNotFoundError) as caught:
        packed(tmp_path / "x")
    assert os.fsdecode(caught.value.filename) in (f"{tmp_path}/x/{place:04}", f"{place:04}")
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, opened)


def test_an_archive_of_many_files_that_nobody_reads_to_its_end_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for number in range(300):
        (tmp_path / f"x/{number}").write_bytes(bytes(CHUNK // 64))
    threads, opened = threading.active_count(), len(os.listdir("/proc/self/fd"))
    chunks = pack_chunks(tmp_path / "x")
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, opened)


def test_what_pack_gives_away_is_whole_while_it_is_written(tmp_path: Path) -> None:
    many(tmp_path / "x")
    copies: list[bytes] = []
    pack(tmp_path / "x", lambda chunk: copies.append(bytes(chunk)))
    assert b"".join(copies) == packed(tmp_path / "x")


def test_a_file_that_can_not_be_opened_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root opens every file")
    (tmp_path / "secret").write_bytes(b"")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(PermissionError, match="secret"):
        packed(tmp_path)


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 * CHUNK))
    (tmp_path / "small").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    packed(tmp_path)
    chunks = pack_chunks(tmp_path)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NarError):
        packed(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"1234")
    (tmp_path / "tree").mkdir()
    file = tmp_path / "tree/x"
    file.write_bytes(b"1234")

    def keep(path: str, status: os.stat_result) -> bool:
        file.unlink()
        file.symlink_to(tmp_path / "secret")
        return True

    with pytest.raises(OSError, match="symbolic links"):
        pack(tmp_path / "tree", lambda data: None, keep=keep)


# ---------------------------------------------------------------------------------- trees in memory


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0"])
def test_a_tree_in_memory_with_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(NarError, match="is no file name"):
        dumped(Directory({"a": Directory({name: Regular(b"")})}))


@pytest.mark.parametrize("target", ["", "a\0b"])
def test_a_link_in_memory_to_what_is_no_path_is_refused(target: str) -> None:
    with pytest.raises(NarError, match="is no target of a link"):
        dumped(Symlink(target))


def test_trees_in_memory_may_be_deeper_than_python_recurses() -> None:
    archive = dumped(nest(5000))
    assert archive.count(b"directory") == 5000
    assert archive.startswith(dumped(nest(0))[:24])


def test_trees_on_disk_may_be_deeper_than_python_recurses(tmp_path: Path) -> None:
    depth = 1900  # a path has 4,095 bytes at most
    archive = dumped(nest(depth))
    target = Path("/tmp") / f"nar-{os.getpid()}"
    unpack(io.BytesIO(archive), target)
    try:
        assert packed(target) == archive
    finally:
        # shutil.rmtree recurses: it can not delete this.
        path = str(target) + "/d" * depth
        os.unlink(path)
        while len(path) > len(str(target)):
            path = path[:-2]
            os.rmdir(path)
