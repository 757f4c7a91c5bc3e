"""Unpacking: what each kind of archive gives, and that no archive writes anywhere else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.stages.stock_code import ArchiveError, extract


def tar(file: Path, *members: tuple[str, object], mode: str = "w") -> Path:
    """A tar of (name, what): bytes, "dir", ("link", target), ("hard", target), ("exe", bytes) or ("type", letter)."""
    with tarfile.open(file, mode) as found:
        for name, what in members:
            member = tarfile.TarInfo(name)
            data = b""
            match what:
                case bytes():
                    data = what
                case ("exe", bytes(contents)):
                    data, member.mode = contents, 0o755
                case "dir":
                    member.type = tarfile.DIRTYPE
                case ("link", str(target)):
                    member.type, member.linkname = tarfile.SYMTYPE, target
                case ("hard", str(target)):
                    member.type, member.linkname = tarfile.LNKTYPE, target
                case ("type", bytes(kind)):
                    member.type = kind
            member.size = len(data)
            found.addfile(member, io.BytesIO(data))
    return file


def listing(folder: Path) -> dict[str, object]:
    """Everything below a folder: text of files, targets of links, None for folders."""
    found: dict[str, object] = {}
    for place in sorted(folder.rglob("*")):
        name = str(place.relative_to(folder))
        if place.is_symlink():
            found[name] = ("link", os.readlink(place))
        else:
            found[name] = None if place.is_dir() else place.read_bytes()
    return found


def unpacked(archive: Path) -> dict[str, object]:
    target = archive.with_name("out")
    extract(archive, target)
    assert sorted(os.listdir(archive.parent)) == sorted([archive.name, "out"])
    return listing(target)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_of_any_compression_is_unpacked(tmp_path: Path, mode: str) -> None:
    members = [("a/b.txt", b"text"), ("empty", "dir"), ("run", ("exe", b"#!")), ("l", ("link", "a/b.txt"))]
    found = unpacked(tar(tmp_path / "x", *members, mode=mode))
    assert found == {"a": None, "a/b.txt": b"text", "empty": None, "run": b"#!", "l": ("link", "a/b.txt")}
    assert stat.S_IMODE((tmp_path / "out" / "run").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out" / "a" / "b.txt").stat().st_mode) == 0o644


def test_a_zip_is_unpacked_with_its_programs_and_links(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w") as found:
        found.writestr("a/b.txt", "text")
        for name, mode, text in [("run", 0o100755, "#!"), ("l", 0o120777, "a/b.txt"), ("d/", 0o040755, "")]:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            found.writestr(member, text)
    assert unpacked(tmp_path / "x") == {
        "a": None,
        "a/b.txt": b"text",
        "d": None,
        "run": b"#!",
        "l": ("link", "a/b.txt"),
    }
    assert (tmp_path / "out" / "run").stat().st_mode & 0o100


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_of_a_compressed_file_that_is_no_archive_the_result_is_the_file(tmp_path: Path, compress) -> None:
    (tmp_path / "x").write_bytes(compress(b"a,b\n1,2\n"))
    extract(tmp_path / "x", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"a,b\n1,2\n"


def test_an_empty_folder_at_the_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert unpacked(tar(tmp_path / "x", ("a", b"1"))) == {"a": b"1"}


def test_of_one_folder_at_the_top_the_contents_are_the_result(tmp_path: Path) -> None:
    found = unpacked(tar(tmp_path / "x", ("./top", "dir"), ("./top/a", b"1"), ("./top/l", ("link", "a"))))
    assert found == {"a": b"1", "l": ("link", "a")}


def test_one_file_at_the_top_is_no_folder(tmp_path: Path) -> None:
    assert unpacked(tar(tmp_path / "x", ("a", b"1"))) == {"a": b"1"}


def test_hard_links_become_the_same_contents_once_more(tmp_path: Path) -> None:
    found = unpacked(tar(tmp_path / "x", ("a", ("exe", b"1")), ("b/c", ("hard", "a"))))
    assert found == {"a": b"1", "b": None, "b/c": b"1"}
    assert (tmp_path / "out" / "b" / "c").stat().st_mode & 0o100
    assert (tmp_path / "out" / "a").stat().st_nlink == 1


def test_the_last_member_of_a_name_counts(tmp_path: Path) -> None:
    assert unpacked(tar(tmp_path / "x", ("a", b"old"), ("a", b"new"), ("l", ("link", "a")), ("l", b"file"))) == {
        "a": b"new",
        "l": b"file",
    }


@pytest.mark.parametrize(
    "members",
    [
        [("../x", b"1")],
        [("a/../../x", b"1")],
        [("/tmp/x", b"1")],
        [("a", "dir"), ("..", "dir")],
        [("l", ("link", "/etc")), ("b", b"")],
        [("l", ("link", "..")), ("b", b"")],
        [("a/l", ("link", "../../x")), ("b", b"")],
        [("top/l", ("link", "../x"))],
        [("d/e", "dir"), ("m", ("link", "d/e/../../../x"))],
        [("s", ("link", ".")), ("l", ("link", "s/s/../.."))],
        [("l", ("link", "a")), ("l/x", b"1")],
        [("l", ("link", "")), ("b", b"")],
        [("a", b"1"), ("a/b", b"2")],
        [("a/b", b"1"), ("a", b"2")],
        [("a", ("hard", "../secret"))],
        [("a", ("hard", "/etc/hostname"))],
        [("a", ("hard", "nothing"))],
        [("l", ("link", "../secret")), ("a", ("hard", "l"))],
        [("a", ("type", tarfile.FIFOTYPE))],
        [("a", ("type", tarfile.CHRTYPE))],
        [("a", ("type", tarfile.BLKTYPE))],
        [(".", b"1")],
    ],
    ids=str,
)
def test_a_hostile_tar_is_refused_and_nothing_is_written_outside(tmp_path: Path, members) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (tmp_path / "secret").write_text("secret")
    archive = tar(room / "x", *members)
    with pytest.raises(ArchiveError):
        extract(archive, room / "out")
    assert sorted(os.listdir(tmp_path)) == ["room", "secret"]
    assert not (room / "out").exists()


def test_what_is_unpacked_through_a_link_stays_inside(tmp_path: Path) -> None:
    """A link is made last, so that a member below its name can not go through it."""
    archive = tar(tmp_path / "x", ("d", "dir"), ("l", ("link", "d")), ("l/file", b"1"))
    with pytest.raises(ArchiveError, match="does not fit"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize(("name", "mode"), [("../x", 0), ("/x", 0), ("l", 0o120777), ("p", 0o010644)])
def test_a_hostile_zip_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w") as found:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        found.writestr(member, "/etc/passwd")
    with pytest.raises(ArchiveError):
        extract(tmp_path / "x", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_an_archive_that_was_cut_short_is_refused(tmp_path: Path, mode: str, kept: float) -> None:
    archive = tar(tmp_path / "x", ("a", os.urandom(5000)), ("b", os.urandom(5000)), mode=mode)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ArchiveError):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello " * 100)
    with pytest.raises(ArchiveError, match="no archive"):
        extract(tmp_path / "x", tmp_path / "out")


@example([("a", ("link", "a")), ("a/a", ("hard", "a"))])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["a", "b", "..", ".", ""]), min_size=1, max_size=4).map("/".join),
            st.one_of(
                st.just(b"1"),
                st.just("dir"),
                st.tuples(
                    st.sampled_from(["link", "hard"]),
                    st.lists(st.sampled_from(["a", "b", "..", "."]), min_size=1, max_size=5).map("/".join),
                ),
            ),
        ),
        max_size=6,
    )
)
def test_no_archive_writes_outside_and_no_link_leads_out(tmp_path_factory, members) -> None:
    room = tmp_path_factory.mktemp("room")
    archive = tar(room / "x", *members)
    try:
        extract(archive, room / "out")
    except ArchiveError:
        assert not (room / "out").exists()
        return
    for place in (room / "out").rglob("*"):
        try:
            inside = place.resolve()
        except (OSError, RuntimeError):
            continue
        assert inside.is_relative_to((room / "out").resolve()), (place, os.readlink(place))
