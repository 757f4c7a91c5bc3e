"""Reading archives: what is in them, and what is refused."""

from __future__ import annotations

import contextlib
import io
import os
import random
import stat
import struct
import tempfile
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.errors import NarError
from bridge.formats.nar import (
    Directory,
    DirectoryEntry,
    EndDirectory,
    Node,
    Regular,
    RegularEntry,
    Symlink,
    SymlinkEntry,
    dump,
    read,
    unpack,
)
from bridge.formats.nar import wire as nar_wire
from bridge.formats.nar.writer import CHUNK

from ..strategies import trees  # noqa: TID252

DATA = Path(__file__).parents[1] / "data"

GOOD = sorted((DATA / "nar/good").glob("*.nar"))
BAD = sorted((DATA / "nar/bad").glob("*.nar"))
# The fault and what the message must say about it.
MESSAGES = {
    "name-": "is no file name|a file name has 256 bytes, more than 255",
    "order-": "twice|out of order",
    "padding-": "the padding is not zero",
    "length-": "more than|ends too early",
    "truncated-": "ends too early",
    "trailing-": "there is something behind the archive",
    "nothing": "ends too early",
    "magic-": "this is no Nix archive: it begins with b'nix-archive-2'",
    "type-": "unknown type|expected",
    "executable-with-value": "expected ''",
    "contents-": "expected",
    "target-": "has the target|expected 'target'",
    "entry-": "expected",
    "folder-": "expected an entry",
}


def dumped(node: Node) -> bytes:
    out = io.BytesIO()
    dump(node, out.write)
    return out.getvalue()


def tree_of(data: bytes) -> Node:
    """The tree in memory that an archive holds."""
    open_: list[dict[str, Node]] = [{}]
    for entry in read(io.BytesIO(data)):
        node: Node
        match entry:
            case RegularEntry():
                node = Regular(b"".join(entry.chunks), entry.executable)
            case SymlinkEntry():
                node = Symlink(entry.target)
            case DirectoryEntry():
                open_.append({})
                continue
            case EndDirectory():
                node = Directory(open_.pop())
        open_[-1][entry.path[-1] if entry.path else ""] = node
    return open_[0][""]


def consume(data: bytes) -> None:
    for entry in read(io.BytesIO(data)):
        if isinstance(entry, RegularEntry):
            for _ in entry.chunks:
                pass


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_what_nix_dumped_reads_and_dumps_the_same(file: Path) -> None:
    data = file.read_bytes()
    assert dumped(tree_of(data)) == data


def test_the_entries_of_a_tree_come_in_its_order() -> None:
    tree = Directory({"b": Symlink("a"), "a": Directory({"x": Regular(b"123", executable=True)}), "c": Directory()})
    shown = [
        (
            type(entry).__name__,
            "/".join(entry.path),
            b"".join(entry.chunks) if isinstance(entry, RegularEntry) else None,
        )
        for entry in read(io.BytesIO(dumped(tree)))
    ]
    assert shown == [
        ("DirectoryEntry", "", None),
        ("DirectoryEntry", "a", None),
        ("RegularEntry", "a/x", b"123"),
        ("EndDirectory", "a", None),
        ("SymlinkEntry", "b", None),
        ("DirectoryEntry", "c", None),
        ("EndDirectory", "c", None),
        ("EndDirectory", "", None),
    ]


@given(trees)
def test_reading_gives_back_what_was_dumped(tree: Node) -> None:
    assert tree_of(dumped(tree)) == tree


@given(trees)
def test_the_offset_is_where_the_contents_are(tree: Node) -> None:
    archive = dumped(tree)
    for entry in read(io.BytesIO(archive)):
        if isinstance(entry, RegularEntry):
            assert b"".join(entry.chunks) == archive[entry.offset : entry.offset + entry.size]


def test_contents_that_nobody_reads_are_skipped() -> None:
    archive = dumped(Directory({"a": Regular(bytes(3 * CHUNK + 1)), "b": Regular(b"x")}))
    assert [entry.path for entry in read(io.BytesIO(archive)) if isinstance(entry, RegularEntry)] == [("a",), ("b",)]


def test_contents_that_are_read_half_are_skipped_to_the_end() -> None:
    archive = dumped(Directory({"a": Regular(bytes(3 * CHUNK + 1)), "b": Regular(b"x")}))
    sizes = [len(next(entry.chunks)) for entry in read(io.BytesIO(archive)) if isinstance(entry, RegularEntry)]
    assert sizes == [CHUNK, 1]


def test_a_stream_that_gives_a_byte_at_a_time_is_read_the_same() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(1, 1 if size is None else size))

    data = (DATA / "nar/good/tree.nar").read_bytes()
    assert [entry.path for entry in read(Slow(data))] == [entry.path for entry in read(io.BytesIO(data))]


def test_where_the_stream_may_go_on_it_is_left_behind_the_archive() -> None:
    stream = io.BytesIO(dumped(Regular(b"one")) + dumped(Symlink("two")) + b"rest")
    assert [type(entry) for entry in read(stream, trailing=True)] == [RegularEntry]
    assert [type(entry) for entry in read(stream, trailing=True)] == [SymlinkEntry]
    assert stream.read() == b"rest"


def test_a_file_without_contents_is_refused() -> None:
    """As by Nix 2.26 and 2.34: it would be a second archive of the same tree."""
    archive = dumped(Regular(b"")).replace(struct.pack("<Q", 8) + b"contents" + bytes(8), b"")
    with pytest.raises(NarError, match=r"expected 'contents', found b'\)'"):
        tree_of(archive)


def test_trees_may_be_deeper_than_python_recurses() -> None:
    node: Node = Regular(b"deep")
    for _ in range(5000):
        node = Directory({"d": node})
    deepest = 0
    for entry in read(io.BytesIO(dumped(node))):
        deepest = max(deepest, len(entry.path))
    assert deepest == 5000


# ------------------------------------------------------------------------------- damage and malice


def test_every_bad_archive_has_its_message() -> None:
    assert BAD
    for file in BAD:
        assert any(file.stem.startswith(fault) for fault in MESSAGES), file


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_bad_archive_is_refused_and_leaves_nothing_outside_of_the_target(file: Path, tmp_path: Path) -> None:
    message = next(words for fault, words in MESSAGES.items() if file.stem.startswith(fault))
    (tmp_path / "outer").mkdir()
    target = tmp_path / "outer/target"
    with pytest.raises(NarError, match=message):
        unpack(io.BytesIO(file.read_bytes()), target)
    found = {path for path in tmp_path.rglob("*") if target not in path.parents}
    assert found <= {tmp_path / "outer", target}
    assert not list(tmp_path.rglob("escaped"))
    assert not Path("/etc/escaped").exists()
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_reading_refuses_what_unpacking_refuses(file: Path) -> None:
    with pytest.raises(NarError):
        consume(file.read_bytes())


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_an_archive_cut_anywhere_is_refused(file: Path) -> None:
    data = file.read_bytes()
    for end in range(len(data)):
        with pytest.raises(NarError, match="ends too early") as caught:
            consume(data[:end])
        assert caught.value.position is not None
        assert caught.value.position <= end


# Archives with one fault, as their strings, each in a folder: what stands behind its name and "node".
TEXT = nar_wire.string
FILE = ["(", "type", "regular", "contents", "x", ")"]
FAULTS: dict[str, list[str | bytes]] = {
    "a type that there is not": ["(", "type", "device", ")"],
    "an empty type": ["(", "type", "", ")"],
    "a node without its type": ["(", ")"],
    "a type behind the contents": ["(", "contents", "x", "type", "regular", ")"],
    "no opening parenthesis": FILE[1:],
    "no closing parenthesis": FILE[:-1],
    "two types": ["(", "type", "regular", "type", "regular", ")"],
    "an executable folder": ["(", "type", "directory", "executable", "", ")"],
    "an executable link": ["(", "type", "symlink", "executable", "", "target", "x", ")"],
    "executable behind the contents": ["(", "type", "regular", "contents", "x", "executable", "", ")"],
    "executable twice": ["(", "type", "regular", "executable", "", "executable", "", "contents", "x", ")"],
    "executable without its empty string": ["(", "type", "regular", "executable", "contents", "x", ")"],
    "a file with a target": ["(", "type", "regular", "target", "x", ")"],
    "a file with an entry": ["(", "type", "regular", "entry", "(", "name", "a", "node", *FILE, ")", ")"],
    "a link with contents": ["(", "type", "symlink", "contents", "x", ")"],
    "a link with two targets": ["(", "type", "symlink", "target", "x", "target", "x", ")"],
    "a link with an endless target": ["(", "type", "symlink", "target", "x" * 4096, ")"],
    "a folder with a target": ["(", "type", "directory", "target", "x", ")"],
    "an entry without parenthesis": ["(", "type", "directory", "entry", "name", "a", "node", *FILE, ")"],
    "an entry with its node first": ["(", "type", "directory", "entry", "(", "node", *FILE, "name", "a", ")", ")"],
    "an entry with two nodes": ["(", "type", "directory", "entry", "(", "name", "a", "node", *FILE, *FILE, ")", ")"],
    "an entry with two names": ["(", "type", "directory", "entry", "(", "name", "a", "name", "b", "node", *FILE, ")"],
    "a keyword in capitals": ["(", "type", "Regular", "contents", "x", ")"],
    "a keyword cut short": ["(", "type", "regula", "contents", "x", ")"],
    "a keyword that goes on": ["(", "type", "regular\0", "contents", "x", ")"],
}


def strings(*words: str | bytes) -> bytes:
    return b"".join(TEXT(word if isinstance(word, bytes) else word.encode()) for word in words)


def in_folder(*entries: tuple[str | bytes, bytes]) -> bytes:
    inside = b"".join(strings("entry", "(", "name", name, "node") + node + strings(")") for name, node in entries)
    return strings("nix-archive-1", "(", "type", "directory") + inside + strings(")")


def unpack_beside(outside: Path, archive: bytes, target: Path) -> None:
    """Unpack, and see that `outside` and what stands beside the target stay as they are."""

    def seen() -> set[Path]:
        return {path for path in outside.rglob("*") if path != target and target not in path.parents}

    before = seen()
    try:
        unpack(io.BytesIO(archive), target)
    finally:
        assert seen() == before


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_node_is_refused(fault: str, tmp_path: Path) -> None:
    archive = in_folder(("a", strings(*FILE)), ("b", strings(*FAULTS[fault])), ("c", strings(*FILE)))
    with pytest.raises(NarError) as caught:
        unpack_beside(tmp_path, archive, tmp_path / "target")
    assert caught.value.position is not None
    assert 24 < caught.value.position <= len(archive)
    with pytest.raises(NarError):
        consume(strings("nix-archive-1", *FAULTS[fault]))


HOSTILE = [
    "",
    ".",
    "..",
    "/",
    "a/b",
    "../outside",
    "/etc",
    "a/../../outside",
    "./a",
    "a/",
    "a\0",
    "\0",
    "..\0",
    "a" * 256,
]


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_has_it(name: str, kind: str, tmp_path: Path) -> None:
    node = {
        "file": strings(*FILE),
        "link": strings("(", "type", "symlink", "target", "/etc", ")"),
        "folder": in_folder(("inner", strings(*FILE)))[24:],
    }[kind]
    with pytest.raises(NarError, match=r"is no file name|more than 255"):
        unpack_beside(tmp_path, in_folder((name, node)), tmp_path / "target")
    assert os.listdir(tmp_path / "target") == []


@pytest.mark.parametrize("target", ["..", "../outside", "/", ".", "a", "b"])
@pytest.mark.parametrize("second", ["a", "a/x", "a/../x"])
def test_nothing_is_written_through_a_link_of_the_archive(target: str, second: str, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    link = strings("(", "type", "symlink", "target", target, ")")
    for node in (strings(*FILE), in_folder(("x", strings(*FILE)))[24:], link):
        archive = in_folder(("a", link), (second, node))
        where = tmp_path / f"target-{len(list(tmp_path.iterdir()))}"
        with pytest.raises(NarError, match=r"twice|is no file name"):
            unpack_beside(tmp_path, archive, where)
        assert os.listdir(where) == ["a"]
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_may_point_anywhere_and_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    links = {"a": Symlink("../outside"), "b": Symlink(".."), "c": Symlink("c"), "d": Symlink(str(tmp_path / "outside"))}
    unpack(io.BytesIO(dumped(Directory({**links, "e": Regular(b"x")}))), tmp_path / "target")
    assert sorted(os.listdir(tmp_path)) == ["outside", "target"]
    assert os.listdir(tmp_path / "outside") == []
    assert os.readlink(tmp_path / "target/c") == "c"


def test_an_archive_cut_anywhere_is_refused_while_it_is_unpacked(tmp_path: Path) -> None:
    archive = in_folder(("a", strings(*FILE)), ("b", in_folder(("c", strings(*FILE)))[24:]))
    (tmp_path / "targets").mkdir()
    for end in range(len(archive)):
        with pytest.raises(NarError, match="ends too early"):
            unpack(io.BytesIO(archive[:end]), tmp_path / "targets" / str(end))
    assert os.listdir(tmp_path) == ["targets"]


def test_each_byte_of_padding_must_be_zero() -> None:
    archive = in_folder(("name", strings("(", "type", "regular", "executable", "", "contents", "hello", ")")))
    paddings = 0
    place = 0
    while place < len(archive):
        size = struct.unpack_from("<Q", archive, place)[0]
        place += 8 + size
        for _ in range(-size % 8):
            paddings += 1
            with pytest.raises(NarError, match="the padding is not zero"):
                consume(archive[:place] + b"\x01" + archive[place + 1 :])
            place += 1
    assert paddings > 40


@pytest.mark.parametrize("more", [b"\0", b"x", bytes(8), strings(")"), strings("nix-archive-1")])
def test_nothing_may_stand_behind_an_archive(more: bytes) -> None:
    for file in GOOD:
        with pytest.raises(NarError, match="something behind the archive"):
            consume(file.read_bytes() + more)


def test_folders_nested_without_end_are_refused_in_good_time(tmp_path: Path) -> None:
    deep = strings("(", "type", "directory", "entry", "(", "name", "d", "node") * 100_000
    begun = time.process_time()
    with pytest.raises(NarError, match="nested more than 10000 deep"):
        consume(strings("nix-archive-1") + deep)
    assert time.process_time() - begun < 5


def test_a_path_too_long_for_the_system_is_its_error_and_nothing_is_outside(tmp_path: Path) -> None:
    node: Node = Regular(b"deep")
    for _ in range(40):
        node = Directory({"d" * 255: node})
    with pytest.raises(OSError, match="too long"):
        unpack_beside(tmp_path, dumped(node), tmp_path / "target")


keywords = ["(", ")", "type", "regular", "symlink", "directory", "executable", "contents", "target", "entry", "name"]
pieces = st.one_of(
    st.sampled_from([*keywords, "node", ""]).map(strings),
    st.sampled_from([*HOSTILE, "a", "b", "\xff"]).map(strings),
    st.sampled_from([FILE, ["(", "type", "symlink", "target", "/tmp", ")"]]).map(lambda words: strings(*words)),
    st.sampled_from(["a", "b", "..", "c"]).map(lambda name: strings("entry", "(", "name", name, "node")),
    st.just(strings("(", "type", "directory")),
    st.integers(0, 1 << 64).map(lambda size: struct.pack("<Q", size % (1 << 64))),
)


@given(st.lists(pieces, max_size=12))
def test_any_sequence_of_an_archive_s_strings_stays_within_the_target(parts: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/a")
        with contextlib.suppress(NarError):
            unpack(io.BytesIO(strings("nix-archive-1") + b"".join(parts)), f"{folder}/a/target")
        assert os.listdir(folder) == ["a"]
        assert set(os.listdir(f"{folder}/a")) <= {"target"}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_an_archive_or_refused(data: bytes) -> None:
    magic = struct.pack("<Q", 13) + b"nix-archive-1" + bytes(3)
    for candidate in (data, magic + data):
        try:
            consume(candidate)
        except NarError:
            continue


@given(st.sampled_from(GOOD), st.integers(0, 1 << 20), st.integers(1, 255))
def test_an_archive_with_one_byte_changed_is_another_archive_or_refused(file: Path, place: int, change: int) -> None:
    data = bytearray(file.read_bytes())
    data[place % len(data)] ^= change
    try:
        tree = tree_of(bytes(data))
    except NarError:
        return
    # What is read is canonical: no two spellings of one tree.
    assert dumped(tree) == bytes(data)


def test_no_mutation_of_an_archive_writes_outside_of_the_target(tmp_path: Path) -> None:
    chance = random.Random(0)
    data = (DATA / "nar/good/tree.nar").read_bytes()
    inner = tmp_path / "a/b/c"
    inner.mkdir(parents=True)
    for number in range(300):
        changed = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(24, len(data))
            changed[place] = chance.choice(b"./\0az\xff")
        target = inner / str(number)
        try:
            unpack(io.BytesIO(changed), target)
        except NarError:
            continue
        assert target.exists()
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["b"]
    assert os.listdir(tmp_path / "a/b") == ["c"]
    assert all(name.isdigit() for name in os.listdir(inner))


@pytest.mark.parametrize("size", [1 << 32, 1 << 62, (1 << 64) - 1])
@pytest.mark.parametrize("field", ["magic", "keyword", "name", "target", "contents"])
def test_a_length_that_lies_takes_no_memory(field: str, size: int) -> None:
    tree = (
        dumped(Directory({"name": Regular(b"contents!")}))
        if field in ("name", "contents")
        else dumped(Symlink("target!"))
    )
    at = {
        "magic": 0,
        "keyword": 24,
        "name": tree.find(b"name\0\0\0\0" + struct.pack("<Q", 4)) + 8,
        "target": tree.find(b"target!") - 8,
        "contents": tree.find(b"contents!") - 8,
    }[field]
    hostile = tree[:at] + struct.pack("<Q", size) + tree[at + 8 :]
    tracemalloc.start()
    try:
        with pytest.raises(NarError):
            consume(hostile)
        assert tracemalloc.get_traced_memory()[1] < 4 * CHUNK
    finally:
        tracemalloc.stop()


def test_a_large_file_is_read_in_constant_memory() -> None:
    class Endless:
        """An archive of one file of 64 MiB, made as it is read."""

        def __init__(self) -> None:
            archive = dumped(Regular(b""))
            size = 64 * CHUNK
            self.head = io.BytesIO(archive[:-24] + struct.pack("<Q", size))
            self.left = size
            self.tail = io.BytesIO(archive[-16:])

        def read(self, size: int, /) -> bytes:
            data = self.head.read(size)
            if data:
                return data
            data = bytes(min(size, self.left))
            self.left -= len(data)
            return data or self.tail.read(size)

    tracemalloc.start()
    try:
        total = 0
        for entry in read(Endless()):
            assert isinstance(entry, RegularEntry)
            total += sum(map(len, entry.chunks))
        assert total == 64 * CHUNK
        assert tracemalloc.get_traced_memory()[1] < 4 * CHUNK
    finally:
        tracemalloc.stop()


# --------------------------------------------------------------------------------------- unpacking


def test_unpacking_lays_down_the_tree(data: Path, tmp_path: Path) -> None:
    with open(data / "nar/good/tree.nar", "rb") as stream:
        unpack(stream, tmp_path / "x")
    x = tmp_path / "x"
    assert (x / "hello").read_bytes() == b"hello\n"
    assert (x / "a/run").stat().st_mode & stat.S_IXUSR
    assert not (x / "hello").stat().st_mode & stat.S_IXUSR
    assert os.readlink(x / "dir/link") == "../hello"
    assert os.readlink(x / "dangling") == "/nowhere"
    assert list((x / "dir/empty").iterdir()) == []
    assert b"caf\xe9" in os.listdir(os.fsencode(x / "dir"))


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_what_is_there_already_is_not_overwritten(file: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(FileExistsError):
        unpack(io.BytesIO(file.read_bytes()), tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_a_link_at_the_target_is_not_followed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        unpack(io.BytesIO(file.read_bytes()), tmp_path / "x")
    assert not (tmp_path / "elsewhere").exists()


def test_many_entries_are_read_in_linear_time() -> None:
    """No assertion on a figure: ten times the entries take less than forty times the time."""

    def seconds(count: int) -> float:
        archive = dumped(Directory({f"{number:06}": Regular(b"") for number in range(count)}))
        start = time.process_time()
        consume(archive)
        return time.process_time() - start

    seconds(100)
    assert seconds(10_000) < 40 * max(seconds(1_000), 0.005)
