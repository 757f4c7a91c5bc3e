"""Listings of archives, as binary caches keep them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from bridge.formats.errors import NarError
from bridge.formats.nar import Directory, Node, Regular, Symlink, dump
from bridge.formats.nar.listing import listing
from bridge.nix.installation import Installation

from ..strategies import trees  # noqa: TID252

DATA = Path(__file__).parents[1] / "data/nar"


def dumped(node: Node) -> bytes:
    out = io.BytesIO()
    dump(node, out.write)
    return out.getvalue()


def test_each_kind_of_object_is_listed() -> None:
    tree = Directory({"a": Regular(b"12345"), "b": Regular(b"", executable=True), "c": Symlink("a"), "d": Directory()})
    assert listing(io.BytesIO(dumped(tree))) == {
        "root": {
            "type": "directory",
            "entries": {
                "a": {"type": "regular", "size": 5, "narOffset": 232},
                "b": {"type": "regular", "size": 0, "executable": True, "narOffset": 456},
                "c": {"type": "symlink", "target": "a"},
                "d": {"type": "directory", "entries": {}},
            },
        },
        "version": 1,
    }


@given(trees)
def test_a_listing_says_where_each_file_is(tree: Node) -> None:
    archive = dumped(tree)

    def check(node: Node, listed: dict[str, Any]) -> None:
        match node:
            case Regular(contents, executable):
                start = listed["narOffset"]
                assert archive[start : start + listed["size"]] == contents
                assert listed.get("executable", False) == executable
            case Symlink(target):
                assert listed == {"type": "symlink", "target": target}
            case Directory(entries):
                assert set(listed["entries"]) == set(entries)
                for name, child in entries.items():
                    check(child, listed["entries"][name])

    check(tree, listing(io.BytesIO(archive))["root"])


@pytest.mark.parametrize("file", sorted((DATA / "bad").glob("*.nar")), ids=lambda file: file.stem)
def test_a_bad_archive_has_no_listing(file: Path) -> None:
    with pytest.raises(NarError):
        listing(io.BytesIO(file.read_bytes()))


@pytest.mark.nix
@pytest.mark.parametrize("file", ["file", "executable", "empty-file", "link", "empty-folder", "tree"])
def test_nix_lists_the_same(nix: Installation, scratch: Path, file: str) -> None:
    archive = (DATA / f"good/{file}.nar").read_bytes().replace(b"caf\xe9\0\0\0\0", b"cafe\0\0\0\0")
    (scratch / "x.nar").write_bytes(archive)
    done = nix.run([nix.program("nix"), "nar", "ls", "--json", "--recursive", str(scratch / "x.nar"), "/"])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == listing(io.BytesIO(archive))["root"]
