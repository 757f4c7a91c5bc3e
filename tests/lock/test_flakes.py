"""Locked URLs: of what the project's flake.lock has, of what bridge.lock has, and of what is in the Nix store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.formats.hashes import Hash
from bridge.formats.store_path import source_path
from bridge.lock.errors import LockFileError
from bridge.lock.file import LOCK_NAME, read_lock
from bridge.lock.flakes import Flakes, at_hand, update_flakes, with_query
from bridge.lock.folders import Folder, folder_named
from bridge.nix.errors import NixEvaluationError
from bridge.nix.installation import Installation

HASH = Hash.of(b"contents").sri
QUOTED = HASH.replace("+", "%2B").replace("=", "%3D")


def refuse(line: str) -> None:
    raise AssertionError(line)


@pytest.fixture
def no_nix(tmp_path: Path) -> Installation:
    """A Nix that can not be run: what is locked is not asked for again."""
    return Installation(tmp_path / "bin", {"NIX_REMOTE": f"local?root={tmp_path}"})


def followed(folder: Path, nix: Installation, locked: dict[str, Any]) -> str:
    nodes = {"root": {"inputs": {"dep": "dep_2"}}, "dep_2": {"locked": {**locked, "narHash": HASH, "lastModified": 7}}}
    (folder / "flake.lock").write_text(json.dumps({"nodes": nodes, "root": "root", "version": 7}))
    return Flakes(nix, folder / LOCK_NAME, refuse).url("dep")


@pytest.mark.parametrize(
    ("locked", "url"),
    [
        ({"type": "github", "owner": "o", "repo": "r", "rev": "abc"}, "github:o/r/abc?"),
        ({"type": "github", "owner": "o", "repo": "r", "rev": "abc", "dir": "a/b"}, "github:o/r/abc?dir=a/b&"),
        (
            {"type": "gitlab", "owner": "o", "repo": "r", "rev": "abc", "host": "gl.example"},
            "gitlab:o/r/abc?host=gl.example&",
        ),
        (
            {"type": "git", "url": "https://git.example/r", "rev": "abc", "ref": "refs/heads/main"},
            "git+https://git.example/r?rev=abc&ref=refs/heads/main&",
        ),
        (
            {"type": "git", "url": "https://git.example/r", "rev": "abc", "submodules": True, "shallow": False},
            "git+https://git.example/r?rev=abc&submodules=1&shallow=0&",
        ),
        ({"type": "tarball", "url": "https://x.example/a.tar.gz", "dir": "sub"}, "https://x.example/a.tar.gz?dir=sub&"),
        ({"type": "tarball", "url": "https://x.example/a.tar.gz"}, "https://x.example/a.tar.gz?"),
        ({"type": "tarball", "url": "https://x.example/latest"}, "tarball+https://x.example/latest?"),
        ({"type": "path", "path": "/there/it/is"}, "path:/there/it/is?"),
    ],
)
def test_an_input_of_the_projects_own_flake_lock_is_followed(
    tmp_path: Path, no_nix: Installation, locked: dict[str, Any], url: str
) -> None:
    assert followed(tmp_path, no_nix, locked) == f"{url}narHash={QUOTED}&lastModified=7"
    assert not (tmp_path / LOCK_NAME).exists()


def test_an_input_that_follows_another_one_is_followed_to_it(tmp_path: Path, no_nix: Installation) -> None:
    locked = {"type": "github", "owner": "o", "repo": "r", "rev": "abc", "narHash": HASH}
    nodes = {
        "root": {"inputs": {"nixpkgs": ["base", "nixpkgs"], "base": "base_2", "other": "packages"}},
        "base_2": {"inputs": {"nixpkgs": ["other"]}},
        "packages": {"locked": locked},
    }
    file = tmp_path / "flake.lock"
    file.write_text(json.dumps({"nodes": nodes, "root": "root", "version": 7}))
    assert Flakes(no_nix, tmp_path / LOCK_NAME, refuse).url("nixpkgs") == f"github:o/r/abc?narHash={QUOTED}"
    # One that leads to itself says nothing.
    nodes["base_2"] = {"inputs": {"nixpkgs": ["nixpkgs"]}}
    file.write_text(json.dumps({"nodes": nodes, "root": "root", "version": 7}))
    (tmp_path / LOCK_NAME).write_text(
        json.dumps({"version": 1, "flakes": {"nixpkgs": {"url": "x", "locked": {"rev": "a"}}}})
    )
    assert Flakes(no_nix, tmp_path / LOCK_NAME, refuse).url("nixpkgs") == "x"


def test_a_relative_path_of_a_flake_lock_is_relative_to_it(tmp_path: Path, no_nix: Installation) -> None:
    assert followed(tmp_path, no_nix, {"type": "path", "path": "./sub"}).startswith(f"path:{tmp_path}/sub?")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nodes": {}}', '{"nodes": 1, "root": []}'])
def test_a_flake_lock_that_says_nothing_is_passed_over(tmp_path: Path, no_nix: Installation, text: str) -> None:
    (tmp_path / "flake.lock").write_text(text)
    entry = {"url": "github:o/r/abc", "locked": {"rev": "abc"}}
    (tmp_path / LOCK_NAME).write_text(json.dumps({"version": 1, "flakes": {"dep": entry}}))
    assert Flakes(no_nix, tmp_path / LOCK_NAME, refuse).url("dep") == "github:o/r/abc"


def test_an_input_that_the_flake_lock_has_is_updated_by_nix(tmp_path: Path, no_nix: Installation) -> None:
    followed(tmp_path, no_nix, {"type": "path", "path": "/x"})
    with pytest.raises(LockFileError, match=r"is an input of the project's own flake\.lock") as caught:
        update_flakes(no_nix, tmp_path / LOCK_NAME, ["dep"])
    assert "nix flake update dep" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("reference", "hint"), [("nixpkg", "did you mean nixpkgs?"), ("x", "there are nixpkgs, tools")]
)
def test_only_what_is_locked_is_updated(tmp_path: Path, no_nix: Installation, reference: str, hint: str) -> None:
    file = tmp_path / LOCK_NAME
    entry = {"url": "github:o/r/abc", "locked": {"rev": "abc"}}
    file.write_text(json.dumps({"version": 1, "flakes": {"nixpkgs": entry, "tools": entry}}))
    before = file.read_bytes()
    with pytest.raises(LockFileError, match=f"the flake {reference} is not locked here") as caught:
        update_flakes(no_nix, file, [reference])
    assert caught.value.hint == hint
    assert file.read_bytes() == before


def test_nothing_is_locked_before_a_flake_is_used(tmp_path: Path, no_nix: Installation) -> None:
    with pytest.raises(LockFileError) as caught:
        update_flakes(no_nix, tmp_path / LOCK_NAME, ["nixpkgs"])
    assert caught.value.hint == "realize locks a flake at its first use"
    assert not (tmp_path / LOCK_NAME).exists()


@pytest.mark.parametrize(
    "entry",
    [{}, {"url": 1, "locked": {"rev": "a"}}, {"url": "github:o/r", "locked": []}, {"url": "github:o/r", "locked": {}}],
)
def test_a_damaged_entry_is_refused(tmp_path: Path, no_nix: Installation, entry: dict[str, Any]) -> None:
    file = tmp_path / LOCK_NAME
    file.write_text(json.dumps({"version": 1, "flakes": {"dep": entry}}, indent=1))
    with pytest.raises(LockFileError, match="dep is damaged") as caught:
        Flakes(no_nix, file, refuse).url("dep")
    assert caught.value.line == 4
    assert caught.value.hint == "nixbridge lock --update-input dep"
    assert read_lock(file).flakes == {"dep": entry}


def test_a_locked_folder_is_taken_from_the_nix_store_where_that_has_it(tmp_path: Path, no_nix: Installation) -> None:
    url = with_query("path:/gone", {"narHash": HASH, "dir": "sub"})
    assert at_hand(no_nix, url) == url
    stored = source_path("source", Hash.of(b"contents").hex)
    no_nix.real_path(stored).mkdir(parents=True)
    assert at_hand(no_nix, url) == f"path:{stored}?narHash={QUOTED}&dir=sub"
    other = with_query("github:o/r/abc", {"narHash": HASH})
    assert at_hand(no_nix, other) == other


def test_a_parameter_that_is_there_is_not_given_twice() -> None:
    assert with_query("path:/x?narHash=a", {"narHash": "b", "dir": "c d"}) == "path:/x?narHash=a&dir=c%20d"


@pytest.mark.parametrize(
    ("reference", "folder"),
    [
        ("", Folder(Path("/beside"))),
        ("/x", Folder(Path("/x"))),
        ("../x", Folder(Path("/x"))),
        ("/x?dir=y/z", Folder(Path("/x"), "y/z")),
        ("path:/x", Folder(Path("/x"), as_it_is=True)),
        ("path:./x", Folder(Path("/beside/x"), as_it_is=True)),
        ("path:a%20b?dir=y", Folder(Path("/beside/a b"), "y", as_it_is=True)),
        ("path:/x?narHash=sha256-z", None),
        ("nixpkgs", None),
        ("github:o/r", None),
        ("git+file:///x", None),
    ],
)
def test_a_folder_is_told_from_what_is_locked(reference: str, folder: Folder | None) -> None:
    assert folder_named(reference, Path("/beside")) == folder


def test_a_folder_has_no_revision() -> None:
    with pytest.raises(NixEvaluationError, match="a folder has no parameter ref"):
        folder_named("/x?ref=main", Path("/"))
