"""Packs: what goes in comes out, on a store of another; what is hostile or damaged never becomes valid."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.formats import nar
from bridge.formats.errors import BridgeError
from bridge.formats.hashes import Hash
from bridge.formats.store_path import base_name, hash_part, source_path
from bridge.nix.installation import Installation
from bridge.store.errors import DiskError, InvalidObjectError, RecordError
from bridge.store.info import find_info
from bridge.store.layout import Store, open_store
from bridge.store.notes import note_of, write_note
from bridge.store.objects import add_texts, register_built, remove_tree
from bridge.store.packs import Contents, gather, look_into, unpack, write_pack
from bridge.store.packs.errors import PackError
from bridge.store.packs.tar import header, padding
from bridge.store.trace import Realization, realizations, record
from tests.store.filling import add, add_file, assert_clean, assert_empty

DRV = f"/nix/store/{'1' * 32}-train.drv"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "other")
    yield found
    remove_tree(found.root)


def realized(store: Store, *paths: str, log: bytes | None = None, drv: str = DRV) -> Realization:
    name = None
    if log is not None:
        name = f"{base_name(drv)}-abc.log"
        (store.logs / name).write_bytes(log)
    outputs = dict(zip(("out", "doc"), paths, strict=False))
    return record(store, Realization(drv, outputs, "train", drv, "python", 1.0, 2.0, log=name))


def fill(store: Store) -> Realization:
    """A realization whose output refers to another object, with a log."""
    data = add_file(store, "data", b"some data\n")
    made = add(store, "model", lambda tree: make_tree(tree, data.path), (data.path,))
    return realized(store, made.path, log=b"a line\n")


def make_tree(tree: Path, used: str) -> None:
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "run").write_text(used)
    (tree / "bin" / "run").chmod(0o755)
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "naïve").write_bytes(b"")


def packed(store: Store, contents: Contents, compression: str = "none") -> bytes:
    chunks: list[bytes] = []
    write_pack(store, contents, chunks.append, compression=compression)
    return b"".join(chunks)


def take(store: Store, data: bytes) -> None:
    unpack(store, io.BytesIO(data))


def files_of(store: Store) -> dict[str, bytes]:
    """Everything that the store holds for good."""
    return {
        str(path.relative_to(store.root)): path.read_bytes()
        for folder in (store.objects, store.info, store.trace, store.logs)
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


# --------------------------------------------------------------------------------------- and back


@pytest.mark.parametrize("compression", ["none", "xz", "zstd"])
def test_what_is_packed_comes_out_the_same_in_another_store(store: Store, other: Store, compression: str) -> None:
    contents = gather(store, [fill(store)])
    assert [one.info.path[44:] for one in contents.objects] == ["data", "model"]
    found = unpack(other, io.BytesIO(packed(store, contents, compression)))
    assert len(found.new_objects) == 2
    assert len(found.new_records) == 1
    assert files_of(other) == files_of(store)
    assert_clean(other)


@pytest.mark.parametrize("program", ["xz", "zstd"])
def test_a_compressed_pack_is_what_any_program_reads_and_writes(store: Store, other: Store, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    contents = gather(store, [fill(store)])
    plain = packed(store, contents)
    read = subprocess.run([program, "-dc"], input=packed(store, contents, program), capture_output=True, check=True)
    assert read.stdout == plain
    written = subprocess.run([program, "-c"], input=plain, capture_output=True, check=True).stdout
    assert written[:4] != plain[:4]
    take(other, written)
    assert files_of(other) == files_of(store)


def test_without_zstd_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, store: Store, other: Store) -> None:
    data = packed(store, gather(store, [fill(store)]), "zstd")
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    for wanting in (lambda: take(other, data), lambda: packed(store, gather(store, []), "zstd")):
        with pytest.raises(PackError, match="no zstd") as raised:
            wanting()
        assert "nixbridge[zstd]" in (raised.value.hint or "")
    assert_empty(other)


def test_the_same_content_gives_the_same_bytes(store: Store, other: Store) -> None:
    one = fill(store)
    data = packed(store, gather(store, [one]))
    take(other, data)
    assert packed(other, gather(other, realizations(other, DRV))) == data


def test_a_pack_is_a_tar_whose_sums_any_machine_checks(store: Store, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(packed(store, gather(store, [fill(store)])))
    (tmp_path / "x").mkdir()
    subprocess.run(["tar", "xf", tmp_path / "x.tar", "-C", tmp_path / "x"], check=True)
    subprocess.run(["sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path / "x", check=True)


@pytest.mark.nix
def test_an_unpacked_pack_is_a_binary_cache_that_nix_copies_from(
    store: Store, nix: Installation, tmp_path: Path
) -> None:
    one = fill(store)
    (tmp_path / "cache").mkdir()
    subprocess.run(["tar", "x", "-C", tmp_path / "cache"], input=packed(store, gather(store, [one])), check=True)
    command = [nix.program("nix"), "copy", "--from", f"file://{tmp_path}/cache", one.outputs["out"]]
    nix.run(command).check_returncode()
    theirs = nix.real_path(one.outputs["out"])
    assert (theirs / "bin" / "run").read_bytes() == (store.real_path(one.outputs["out"]) / "bin/run").read_bytes()


def test_notes_go_along_and_another_note_stays(store: Store, other: Store) -> None:
    one = fill(store)
    write_note(store, one.id, "the good one")
    data = packed(store, gather(store, [one]))
    take(other, data)
    assert note_of(other, one.id) == "the good one"
    write_note(other, one.id, "no, the other")
    assert unpack(other, io.BytesIO(data)).differing == [f"the note on {one.id}"]
    assert note_of(other, one.id) == "no, the other"


def test_what_is_there_is_passed_over(store: Store, other: Store) -> None:
    data = packed(store, gather(store, [fill(store)]))
    take(other, data)
    found = unpack(other, io.BytesIO(data))
    assert (found.new_objects, found.new_records, found.differing) == ([], [], [])
    assert len(found.objects) == 2


def test_looking_changes_nothing(store: Store, other: Store) -> None:
    data = packed(store, gather(store, [fill(store)]))
    listed = look_into(io.BytesIO(data))
    dry = unpack(other, io.BytesIO(data), dry_run=True)
    assert [one.path for one in listed.objects] == dry.new_objects
    assert [one.id for one in listed.records] == dry.new_records
    assert_empty(other)


def test_records_of_what_something_was_made_from_go_along(store: Store, other: Store) -> None:
    data = add_file(store, "data")
    maker = realized(store, data.path, drv=f"/nix/store/{'2' * 32}-clean.drv")
    drv = f"/nix/store/{'3' * 32}-train.drv"
    gone = f"/nix/store/{'4' * 32}-dropped"
    add_texts(store, [(drv, b"", (data.path, gone))])
    top = realized(store, add_file(store, "model", b"x").path, drv=drv)
    contents = gather(store, [top])
    assert {one.id for one in contents.records} == {maker.id, top.id}
    assert contents.missing == (gone,)


def test_an_object_that_is_gone_is_said(store: Store) -> None:
    one = fill(store)
    remove_tree(store.real_path(one.outputs["out"]))
    with pytest.raises(InvalidObjectError, match=f"{one.id} of train has it"):
        gather(store, [one])


def test_what_was_changed_in_the_store_is_not_packed(store: Store) -> None:
    one = fill(store)
    contents = gather(store, [one])
    file = store.trace / base_name(DRV) / f"{one.id}.json"
    whole = file.read_bytes()
    os.chmod(file, 0o644)
    file.write_bytes(whole.replace(b"train", b"brain"))
    with pytest.raises(RecordError, match="was changed"):
        packed(store, contents)
    file.write_bytes(whole)
    changed = store.real_path(one.outputs["out"]) / "bin" / "run"
    os.chmod(changed, 0o755)
    changed.write_bytes(changed.read_bytes()[::-1])
    with pytest.raises(PackError, match="was changed"):
        packed(store, contents)


def test_memory_does_not_grow_with_the_objects(store: Store, other: Store, tmp_path: Path) -> None:
    size = 96 << 20
    made = add(store, "large", lambda tree: tree.write_bytes(os.urandom(1 << 20) * (size >> 20)))
    contents = gather(store, paths=[made.path])
    tracemalloc.start()
    with (tmp_path / "x.pack").open("wb") as file:
        write_pack(store, contents, file.write)
    with (tmp_path / "x.pack").open("rb") as file:
        unpack(other, file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 3
    assert_clean(other)


# ---------------------------------------------------------------------------------------- resuming


def test_an_unpack_that_was_killed_goes_on_where_it_was(store: Store, other: Store, tmp_path: Path) -> None:
    paths = [add_file(store, f"o{number}", os.urandom(100)).path for number in range(40)]
    data = packed(store, gather(store, [realized(store, path) for path in paths]))
    program = (
        "import sys, os; from bridge.store.layout import open_store; from bridge.store.packs import unpack\n"
        "class Dies:\n"
        "    def __init__(self): self.left = int(sys.argv[2])\n"
        "    def read(self, size):\n"
        "        self.left -= size\n"
        "        if self.left < 0: os.kill(os.getpid(), 9)\n"
        "        return sys.stdin.buffer.read(size)\n"
        "unpack(open_store(sys.argv[1]), Dies())"
    )
    for at in (10_000, 40_000, 60_000, 80_000):
        died = subprocess.run([sys.executable, "-c", program, str(other.root), str(at)], input=data, check=False)
        assert died.returncode == -9
        before = len(list(other.info.iterdir()))
        remove_tree(other.tmp)
        other.tmp.mkdir()
        assert_clean(other)
    assert 0 < before < 40
    found = unpack(other, io.BytesIO(data))
    assert len(found.new_objects) == 40 - before
    assert files_of(other) == files_of(store)


def test_every_place_to_cut_a_pack_is_seen_and_the_rest_is_taken_later(store: Store, other: Store) -> None:
    data = packed(store, gather(store, [fill(store)]))
    for size in range(0, len(data), 256):
        with pytest.raises(PackError, match="cut short"):
            take(other, data[:size])
        assert list(other.tmp.iterdir()) == []
    take(other, data)
    assert files_of(other) == files_of(store)


def test_a_full_disk_leaves_nothing_half_written(store: Store, small_disk: Path) -> None:
    small_store = open_store(small_disk)
    made = add(store, "large", lambda tree: tree.write_bytes(os.urandom(1 << 20)))
    with pytest.raises(DiskError):
        take(small_store, packed(store, gather(store, paths=[made.path])))
    assert_empty(small_store)


# ----------------------------------------------------------------------------------- disagreement


def test_a_store_that_disagrees_keeps_its_own_and_it_is_said(store: Store, other: Store) -> None:
    path = f"/nix/store/{'5' * 32}-built"
    for one, text in ((store, b"one"), (other, b"two")):
        one.real_path(path).write_bytes(text)
        register_built(one, path, ())
    found = unpack(other, io.BytesIO(packed(store, gather(store, [realized(store, path)]))))
    assert found.differing == [path]
    assert len(found.new_records) == 1
    assert other.real_path(path).read_bytes() == b"two"
    assert_clean(other)


# ---------------------------------------------------------------------------------------- hostile

Files = list[tuple[str, bytes]]


def members(data: bytes) -> Files:
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        return [(one.name, found.extractfile(one).read()) for one in found if one.isfile()]  # type: ignore[union-attr]


def tar_of(files: Files, *, sums: bool = True, end: bytes = bytes(1024)) -> bytes:
    if sums:
        text = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files[1:])
        files = [("SHA256SUMS", text.encode()), *files[1:]]
    return b"".join(header(name, len(data)) + data + padding(len(data)) for name, data in files) + end


def replaced(files: Files, beginning: str, change: Callable[[bytes], bytes], suffix: str = "") -> Files:
    assert any(name.startswith(beginning) and name.endswith(suffix) for name, _ in files)
    return [
        (name, change(data) if name.startswith(beginning) and name.endswith(suffix) else data) for name, data in files
    ]


def renamed(files: Files, beginning: str, to: str) -> Files:
    return [(to if name.startswith(beginning) else name, data) for name, data in files]


def object_files(path: str, archive: bytes, **said: str) -> Files:
    """A pack of one object, of which anything may be said."""
    hashed = f"sha256:{Hash.of(archive).nix32}"
    lines = {
        "StorePath": path,
        "URL": f"nar/{hash_part(path)}.nar",
        "Compression": "none",
        "NarHash": hashed,
        "NarSize": str(len(archive)),
        "References": "",
        "CA": f"fixed:r:{hashed}",
    } | said
    text = "".join(f"{key}: {value}\n" for key, value in lines.items() if value != "-")
    name = hash_part(path)
    return [("SHA256SUMS", b""), (f"{name}.narinfo", text.encode()), (f"nar/{name}.nar", archive)]


def archive_of(node: nar.Node) -> bytes:
    chunks: list[bytes] = []
    nar.dump(node, chunks.append)
    return b"".join(chunks)


PLAIN = archive_of(nar.Regular(b"hello"))
GOOD = source_path("x", Hash.of(PLAIN).hex)
ELSEWHERE = f"/nix/store/{'0' * 32}-x"


def test_the_hostile_packs_would_be_good_ones_without_their_fault(other: Store) -> None:
    take(other, tar_of(object_files(GOOD, PLAIN)))
    take(other, tar_of(object_files(ELSEWHERE, PLAIN, CA="-")))
    assert other.real_path(GOOD).read_bytes() == b"hello"
    assert_clean(other)


EVIL_NAR = PLAIN.replace(b"hello", b"hullo")
TRAVERSAL = archive_of(nar.Directory({"aa": nar.Directory({"yy": nar.Regular(b"x")})})).replace(
    b"\2\0\0\0\0\0\0\0aa", b"\2\0\0\0\0\0\0\0.."
)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "an archive that belongs at another path": (tar_of(object_files(ELSEWHERE, PLAIN)), "belong at"),
    "an archive with other contents than are said": (
        tar_of([*object_files(GOOD, PLAIN)[:2], (f"nar/{hash_part(GOOD)}.nar", EVIL_NAR)]),
        "different hashes",
    ),
    "contents other than the list's": (
        tar_of([*members(tar_of(object_files(GOOD, PLAIN)))[:2], (f"nar/{hash_part(GOOD)}.nar", EVIL_NAR)], sums=False),
        "has the hash",
    ),
    "a text at the path of another": (
        tar_of(object_files(ELSEWHERE, PLAIN, CA=f"text:sha256:{Hash.of(b'hello').nix32}")),
        "give",
    ),
    "a content address of no kind": (tar_of(object_files(GOOD, PLAIN, CA="fixed:r:sha256")), "ca is"),
    "a name outside of the store": (tar_of(object_files(GOOD, PLAIN, StorePath="/etc/passwd")), "etc/passwd"),
    "a name with a slash": (tar_of(object_files(GOOD, PLAIN, StorePath=f"{GOOD}/../../x")), "narinfo"),
    "an archive that leaves its folder": (
        tar_of(object_files(source_path("x", Hash.of(TRAVERSAL).hex), TRAVERSAL)),
        r"\.\.",
    ),
    "an archive without an end": (
        tar_of(object_files(source_path("x", Hash.of(PLAIN[:-8]).hex), PLAIN[:-8])),
        "ends too early",
    ),
    "something behind the archive": (
        tar_of(object_files(source_path("x", Hash.of(PLAIN + b"x" * 8).hex), PLAIN + b"x" * 8)),
        "has the hash|behind the archive",
    ),
    "another size than is said": (tar_of(object_files(GOOD, PLAIN, NarSize="7")), "narinfo says 7"),
    "an absurd size": (tar_of(object_files(GOOD, PLAIN, NarSize="9" * 20)), "999"),
    "a reference to nothing": (
        tar_of(object_files(source_path("x", Hash.of(PLAIN).hex, [ELSEWHERE]), PLAIN, References=base_name(ELSEWHERE))),
        "neither in the pack",
    ),
    "a reference that the contents do not have": (
        tar_of(
            [
                *object_files(GOOD, PLAIN)[:2],
                object_files(ELSEWHERE, PLAIN, CA="-", References=base_name(GOOD))[1],
                object_files(GOOD, PLAIN)[2],
                object_files(ELSEWHERE, PLAIN)[2],
            ]
        ),
        "does not refer",
    ),
    "compression that nobody asked for": (tar_of(object_files(GOOD, PLAIN, Compression="xz")), "no compression"),
    "an archive twice": (tar_of([*object_files(GOOD, PLAIN), object_files(GOOD, PLAIN)[2]]), "twice"),
    "an archive without a narinfo": (tar_of([("SHA256SUMS", b""), object_files(GOOD, PLAIN)[2]]), "no narinfo"),
    "a narinfo without an archive": (tar_of(object_files(GOOD, PLAIN)[:2]), "no archive"),
    "a path that leaves the pack": (
        tar_of([("SHA256SUMS", b""), ("../../etc/x", b"")]),
        "not of a file that packs have",
    ),
    "an absolute path": (tar_of([("SHA256SUMS", b""), ("/etc/x", b"")]), "not of a file that packs have"),
    "a file that is not in the list": (
        tar_of([*members(tar_of(object_files(GOOD, PLAIN))), ("nar/x", b"")], sums=False),
        "not in the list",
    ),
    "no list": (tar_of([*object_files(GOOD, PLAIN)[1:], ("x", b"")], sums=False), "SHA256SUMS is expected"),
    "another order than the list's": (
        tar_of([members(tar_of(object_files(GOOD, PLAIN)))[index] for index in (0, 2, 1)], sums=False),
        "is expected in its place",
    ),
    "a record whose id is not its hash": (
        tar_of([("SHA256SUMS", b""), (f"trace/{'1' * 16}.json", b"{}")]),
        "not the hash",
    ),
    "a log of no record": (tar_of([("SHA256SUMS", b""), (f"logs/{'1' * 16}.log", b"{}")]), "not behind a record"),
    "a store at another place": (
        tar_of([("SHA256SUMS", b""), ("nix-cache-info", b"StoreDir: /home/store\n")]),
        "not at /nix/store",
    ),
    "something behind its end": (tar_of(object_files(GOOD, PLAIN)) + b"x", "behind its end"),
    "another archive behind its end": (tar_of(object_files(GOOD, PLAIN)) * 2, "behind its end"),
    "something in the padding": (
        tar_of(object_files(GOOD, PLAIN))[:-1025] + b"x" + bytes(1024),
        "zeros must be",
    ),
    "no tar at all": (b"x" * 4096, "no member of a tar"),
    "nothing": (b"", "cut short"),
    "xz that is none": (b"\xfd7zXZ\0" + b"x" * 100, "compression is damaged"),
    "zstd that is none": (b"\x28\xb5\x2f\xfd" + b"\xff" * 100, "compression is damaged"),
    # Its header asks for a window of 2 GiB.
    "zstd that takes all memory": (b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(100), "compression is damaged"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_pack_is_refused_and_nothing_wrong_becomes_valid(other: Store, fault: str) -> None:
    data, message = HOSTILE[fault]
    with pytest.raises(PackError, match=message):
        take(other, data)
    assert list(other.tmp.iterdir()) == []
    assert not other.is_valid(ELSEWHERE)
    assert_clean(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: setattr(one, "mode", 0o4755), "mode 4755"),
        (lambda one: setattr(one, "mtime", 0), "time 0"),
        (lambda one: setattr(one, "uid", 1000), "owner 1000"),
        (lambda one: setattr(one, "type", tarfile.SYMTYPE), "a symbolic link"),
        (lambda one: setattr(one, "type", tarfile.LNKTYPE), "a hard link"),
        (lambda one: setattr(one, "type", tarfile.CHRTYPE), "a device"),
        (lambda one: setattr(one, "type", tarfile.GNUTYPE_SPARSE), "no plain file"),
        (lambda one: setattr(one, "size", 1 << 60), "more than"),
    ],
)
def test_a_member_that_is_no_plain_file_of_a_pack_is_refused(
    other: Store, change: Callable[[tarfile.TarInfo], None], message: str
) -> None:
    member = tarfile.TarInfo("SHA256SUMS")
    member.mode, member.mtime, member.size = 0o444, 1, 0
    change(member)
    with pytest.raises(PackError, match=message):
        take(other, member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert_empty(other)


@pytest.mark.parametrize("compression", ["xz", "zstd"])
def test_a_compressed_pack_with_something_behind_it_is_refused(store: Store, other: Store, compression: str) -> None:
    data = packed(store, gather(store, [fill(store)]), compression)
    for wrong in (data + b"x", data + data):
        with pytest.raises(PackError, match="behind its end"):
            take(other, wrong)
    with pytest.raises(PackError, match="cut short"):
        take(other, data[:-20])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0), bit=st.integers(0, 7))
def test_no_bit_of_a_pack_can_be_turned_without_being_seen(store: Store, other: Store, at: int, bit: int) -> None:
    data = bytearray(packed(store, gather(store, realizations(store, DRV) or [fill(store)])))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(BridgeError):
        unpack(other, io.BytesIO(bytes(data)))
    assert_clean(other)
    for path in list(other.info.iterdir()):
        info = find_info(other, f"/nix/store/{path.stem}")
        assert info == find_info(store, f"/nix/store/{path.stem}")
    remove_tree(other.root)
    open_store(other.root)
