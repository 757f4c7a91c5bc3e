from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.formats import nar
from bridge.formats.errors import NarError
from bridge.formats.hashes import Hash
from bridge.formats.store_path import content_path, hash_part, source_path, text_path
from bridge.nix.client import connect
from bridge.nix.installation import Installation
from bridge.store.durable import temporary
from bridge.store.errors import DiskError, OutputError
from bridge.store.info import read_info
from bridge.store.layout import Store, open_store
from bridge.store.objects import add_fixed_file, add_nar, add_output, add_texts, register_built, remove_tree

from .filling import add, add_file, assert_clean, assert_empty

SCRATCH = "/nix/store/" + "s" * 32 + "-self"
NOBODY = 65534


def motley(tree: Path) -> None:
    """A bit of everything that a store object can hold."""
    (tree / "bin").mkdir(parents=True)
    (tree / "empty").mkdir(mode=0o700)
    (tree / "bin" / "run").write_text("#!/bin/sh\n")
    (tree / "bin" / "run").chmod(0o4711)
    (tree / "data").write_bytes(bytes(range(256)) * 9000)
    (tree / "data").chmod(0o666)
    (tree / "nothing").write_text("")
    (tree / "link").symlink_to("../outside")
    (tree / "ünï – code").write_text("x")
    (tree / os.fsdecode(b"not-\xff-utf8")).write_text("y")
    os.utime(tree / "data", (5, 5))


def modes(root: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(root))] = (status.st_mode & 0o7777, status.st_mtime_ns)
    return found


# ----------------------------------------------------------------------------------------- canonical


def test_an_object_is_read_only_and_of_second_one(store: Store) -> None:
    real = store.real_path(add(store, "motley", motley).path)
    found = modes(real)
    folders = {".", "bin", "empty"}
    assert {name for name, (mode, _) in found.items() if mode == 0o555} == {*folders, "bin/run"}
    assert found["data"][0] == found["nothing"][0] == 0o444
    assert {time for _, time in found.values()} == {10**9}
    assert_clean(store)


@pytest.mark.parametrize("name", ["short", "n" * 255])
def test_hard_links_are_broken_and_the_other_name_stays_as_it_is(store: Store, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")

    def build(tree: Path) -> None:
        tree.mkdir()
        os.link(outside, tree / name)
        os.link(outside, tree / "second")

    real = store.real_path(add(store, "linked", build).path)
    assert {path.name for path in real.iterdir()} == {name, "second"}
    assert {path.stat().st_nlink for path in real.iterdir()} == {1}
    assert outside.stat().st_mode & 0o200
    outside.write_text("changed")
    assert (real / name).read_text() == "mine"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o020666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")


@pytest.mark.parametrize(("make", "kind"), [(fifo, "pipe"), (unix_socket, "socket"), (device, "character device")])
def test_what_is_no_file_folder_or_link_is_refused(store: Store, make: Callable[[Path], None], kind: str) -> None:
    tree = temporary(store)
    tree.mkdir()
    (tree / "a").write_text("fine")
    make(tree / "x")
    with pytest.raises(OutputError, match=f"x is a {kind}"):
        add_output(store, "odd", tree, ())
    remove_tree(tree)
    assert_empty(store)


def test_an_output_may_be_a_file_or_a_link_itself(store: Store) -> None:
    file = add_file(store, "file", b"1")
    link = add(store, "link", lambda tree: tree.symlink_to("nowhere"))
    assert store.real_path(file.path).read_bytes() == b"1"
    assert os.readlink(store.real_path(link.path)) == "nowhere"
    assert_clean(store)


@pytest.fixture
def nobody(scratch: Path) -> Iterator[Store]:
    """A store of a user that is not root and can not read everything."""
    if os.geteuid() != 0:
        yield open_store(scratch / "store")
        return
    os.chown(scratch, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield open_store(scratch / "store")
    finally:
        os.seteuid(0)


def closed(tree: Path) -> None:
    (tree / "closed").mkdir(parents=True)
    (tree / "closed" / "file").write_text("x")
    for path in (tree / "closed" / "file", tree / "closed", tree):
        path.chmod(0)


def test_what_a_build_left_unreadable_is_opened(nobody: Store) -> None:
    info = add(nobody, "folder", closed)
    assert (nobody.real_path(info.path) / "closed" / "file").read_text() == "x"
    assert add(nobody, "file", lambda tree: os.close(os.open(tree, os.O_CREAT, 0))).nar_size == 112
    assert_clean(nobody)


def test_what_can_not_be_read_is_removed_all_the_same(nobody: Store) -> None:
    closed(nobody.tmp / "left")
    remove_tree(nobody.tmp / "left")
    assert_empty(nobody)


def test_a_tree_that_is_not_there_is_a_disk_error(store: Store) -> None:
    with pytest.raises(DiskError, match="output gone can not be added"):
        add_output(store, "gone", store.tmp / "gone", ())
    assert_empty(store)


# --------------------------------------------------------------------------------------------- paths


@pytest.mark.nix
def test_the_path_is_the_one_that_nix_store_add_gives(nix: Installation, store: Store, tmp_path: Path) -> None:
    motley(tmp_path / "motley")
    added = nix.run([nix.program("nix-store"), "--add", str(tmp_path / "motley")])
    info = add(store, "motley", motley)
    assert info.path == added.stdout.strip()
    asked = nix.run([nix.program("nix-store"), "-q", "--hash", info.path])
    assert asked.stdout.strip() == f"sha256:{info.nar_hash.nix32}"


@pytest.mark.nix
def test_a_path_with_references_is_the_one_that_nix_gives(nix: Installation, store: Store) -> None:
    first, second = add_file(store, "first"), add_file(store, "second", b"2")
    text = f"{first.path} and {second.path}/bin".encode()
    info = add_file(store, "user", text, (first.path, second.path))
    assert info.references == tuple(sorted((first.path, second.path)))
    with connect(nix) as connection:
        for one in (first, second, info):
            given = connection.add_to_store(
                one.path.partition("-")[2], "fixed:r:sha256", one.references, nar.pack_chunks(store.real_path(one.path))
            )
            assert given.path == one.path


def test_references_are_those_inputs_that_occur(store: Store) -> None:
    inputs = [add_file(store, f"i{n}", b"%d" % n).path for n in range(6)]

    def build(tree: Path) -> None:
        tree.mkdir()
        (tree / "text").write_bytes(b"\0" * (1 << 20) + hash_part(inputs[1]).encode())
        (tree / "link").symlink_to(f"{inputs[3]}/x")
        (tree / hash_part(inputs[5])).write_text("")

    info = add(store, "user", build, tuple(inputs))
    assert info.references == tuple(sorted((inputs[1], inputs[3], inputs[5])))
    assert info.path == source_path("user", info.nar_hash.hex, info.references)
    assert_clean(store)


def test_an_output_that_names_itself_gets_its_final_path_written_in(store: Store) -> None:
    used = add_file(store, "used")

    def build(tree: Path) -> None:
        tree.mkdir()
        (tree / "script").write_text(f"exec {SCRATCH}/bin/x {used.path}; {SCRATCH}")
        (tree / "link").symlink_to(f"{SCRATCH}/script")

    found = []
    for _ in range(2):
        tree = temporary(store)
        build(tree)
        found.append(add_output(store, "self", tree, (used.path,), SCRATCH))
        assert not tree.exists()
    info = found[0]
    assert found[0] == found[1]
    assert info.references == tuple(sorted((used.path, info.path)))
    assert os.readlink(store.real_path(info.path) / "link") == f"{info.path}/script"
    assert SCRATCH[11:43] not in (store.real_path(info.path) / "script").read_text()
    assert_clean(store)


def test_another_scratch_path_gives_the_same_self_reference(store: Store) -> None:
    paths = set()
    for digit in "sz":
        scratch = f"/nix/store/{digit * 32}-self"
        tree = temporary(store)
        tree.write_text(f"I am at {scratch}")
        paths.add(add_output(store, "self", tree, (), scratch).path)
    assert len(paths) == 1


# ------------------------------------------------------------------------------------------ entering


def test_equal_results_are_one_object(store: Store) -> None:
    one, two = add(store, "same", motley), add(store, "same", motley)
    assert one == two
    assert len(list(store.objects.iterdir())) == 1
    assert add(store, "other", motley).path != one.path


def test_rubbish_at_the_final_path_is_replaced(store: Store) -> None:
    info = add(store, "motley", motley)
    real = store.real_path(info.path)
    store.info_file(info.path).unlink()
    remove_tree(real)
    real.mkdir()
    (real / "half").write_text("written")
    real.chmod(0o555)
    assert add(store, "motley", motley) == info
    assert not (real / "half").exists()
    assert_clean(store)


def test_a_lost_object_comes_back_when_it_is_added_again(store: Store) -> None:
    info = add_file(store, "x")
    store.real_path(info.path).unlink()
    assert add_file(store, "x") == info
    assert_clean(store)


def test_a_build_at_its_final_place_replaces_what_was_known_of_it(store: Store) -> None:
    path = "/nix/store/" + "9" * 32 + "-built"
    for text in ("one", "two"):
        real = store.real_path(path)
        remove_tree(real)
        real.mkdir()
        (real / "self").write_text(f"{path} {text}")
        info = register_built(store, path, ())
    assert (real / "self").read_text().endswith("two")
    assert info.references == (path,)
    assert info.content_address is None
    assert read_info(store, path) == info
    assert_clean(store)


def archive(node: nar.Node) -> list[bytes]:
    chunks: list[bytes] = []
    nar.dump(node, chunks.append)
    return chunks


def test_a_source_is_added_once_and_not_read_again(store: Store) -> None:
    chunks = archive(nar.Directory({"x": nar.Regular(b"1", executable=True)}))
    path = source_path("x", Hash.of(b"".join(chunks)).hex)
    reads = []

    def give() -> list[bytes]:
        reads.append(1)
        return chunks

    assert add_nar(store, path, give) == add_nar(store, path, give)
    assert len(reads) == 1
    assert_clean(store)


def test_a_source_that_changed_meanwhile_is_refused(store: Store) -> None:
    path = source_path("x", Hash.of(b"something else").hex)
    with pytest.raises(OutputError, match="changed while it was added"):
        add_nar(store, path, lambda: archive(nar.Regular(b"new")))
    assert_empty(store)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_source_that_breaks_off_leaves_nothing(store: Store, cut: int) -> None:
    data = b"".join(archive(nar.Directory({"x": nar.Regular(b"1")})))
    with pytest.raises(NarError):
        add_nar(store, source_path("x", Hash.of(data).hex), lambda: [data[:-cut]])
    assert_empty(store)


def test_texts_and_fixed_files_have_nix_s_paths(store: Store, tmp_path: Path) -> None:
    used = add_file(store, "used")
    path = text_path("note.txt", Hash.of(b"hi").hex, (used.path,))
    add_texts(store, [(path, b"hi", (used.path,))])
    assert read_info(store, path).references == (used.path,)
    for algorithm in ("sha256", "sha512", "sha1"):
        file = temporary(store)
        file.write_bytes(b"hi")
        content = Hash.of(b"hi", algorithm)
        info = add_fixed_file(store, "hi", file, content)
        assert info.path == content_path("hi", "flat", content)
        assert info.content_address == f"fixed:{algorithm}:{content.nix32}"
    assert_clean(store)


def test_processes_that_add_the_same_at_once_make_one_object(store: Store) -> None:
    go = store.root / "go"
    children = [
        subprocess.Popen([sys.executable, "-c", RACE, store.root, go], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    go.touch()
    answers = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(set(answers)) == 1
    assert len(list(store.objects.iterdir())) == 20
    assert_clean(store)


RACE = """
import sys, os, time
from bridge.store import open_store
from bridge.store.durable import temporary
from bridge.store.objects import add_output
store = open_store(sys.argv[1])
while not os.path.exists(sys.argv[2]):
    time.sleep(0.001)
for number in range(20):
    tree = temporary(store)
    tree.mkdir()
    for name in "abc":
        (tree / name).write_text(f"{number} {name}")
    print(add_output(store, "same", tree, ()).path)
"""


# ------------------------------------------------------------------------------------------ removing


def test_a_read_only_tree_is_removed_and_what_its_links_point_to_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.chmod(0o500)
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / "inner" / "link").symlink_to(outside)
    (tmp_path / "tree" / "inner").chmod(0o500)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert outside.stat().st_mode & 0o777 == 0o500
    (tmp_path / "link").symlink_to(outside)
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir() if path.name != "store"] == ["outside"]


def test_a_tree_is_removed_however_deep_it_is(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    at = os.open(tree, os.O_RDONLY)
    for number in range(3000):
        os.close(os.open(f"file{number}", os.O_CREAT, dir_fd=at))
        os.mkdir("down", 0o500 if number % 2 else 0o700, dir_fd=at)
        above, at = at, os.open("down", os.O_RDONLY, dir_fd=at)
        os.chmod(at, 0o700)
        os.close(above)
    os.close(at)
    remove_tree(tree)
    assert not tree.exists()
