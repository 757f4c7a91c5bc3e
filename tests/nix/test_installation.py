from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.nix.errors import NixNotFoundError, hint_for, plain
from bridge.nix.installation import Installation, find, require


def at(remote: str, **more: str) -> Installation:
    return Installation(Path("/usr/bin"), {"HOME": "/home/u", "NIX_REMOTE": remote, **more})


def test_without_nix_build_in_path_there_is_no_installation(tmp_path: Path) -> None:
    assert find({"PATH": str(tmp_path)}) is None
    with pytest.raises(NixNotFoundError, match="not installed") as caught:
        require({"PATH": str(tmp_path)})
    assert "install" in (caught.value.hint or "")


def test_an_installation_is_the_folder_of_nix_build(tmp_path: Path) -> None:
    program = tmp_path / "nix-build"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    found = find({"PATH": f"/nowhere:{tmp_path}"})
    assert found is not None
    assert found.bin == tmp_path
    with pytest.raises(NixNotFoundError, match="nix-daemon is missing"):
        found.program("nix-daemon")


@pytest.mark.parametrize(
    ("remote", "root"),
    [
        ("local", "/"),
        ("daemon", "/"),
        ("local?root=/a/b", "/a/b"),
        ("local?root=/a%20b%2Bc&state=/x", "/a b+c"),
        ("local?root=/a+b", "/a+b"),
        ("local?state=/x&root=/r", "/r"),
        ("unix:///run/s", "/"),
        ("unix:///run/s?root=/r", "/r"),
        ("unix://?root=/r", "/r"),
        ("/chroot/store", "/chroot/store"),
    ],
)
def test_the_root_of_the_store_follows_from_nix_remote(remote: str, root: str) -> None:
    installation = at(remote)
    assert installation.root == Path(root)
    expected = Path("/nix/store/x/bin") if root == "/" else Path(root, "nix/store/x/bin")
    assert installation.real_path("/nix/store/x/bin") == expected


def test_the_socket_is_the_remotes_then_the_environments_then_the_default() -> None:
    named = {"NIX_DAEMON_SOCKET_PATH": "/env"}
    assert at("unix:///a%20b/s?root=/r", **named).socket_path == "/a b/s"
    assert at("daemon", **named).socket_path == "/env"
    assert at("daemon").socket_path == "/nix/var/nix/daemon-socket/socket"
    assert at("daemon", NIX_STATE_DIR="/st").socket_path == "/st/daemon-socket/socket"


def test_an_installation_keeps_its_own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nix-build").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NIX_REMOTE", "local?root=/one")
    found = find()
    monkeypatch.setenv("NIX_REMOTE", "local?root=/two")
    assert found is not None
    assert found.root == Path("/one")
    assert os.environ["NIX_REMOTE"] == "local?root=/two"


@pytest.mark.nix
def test_nix_tells_its_version_and_its_settings(nix: Installation) -> None:
    assert nix.version() >= (2, 4, 0)
    assert nix.version_text().startswith(".".join(map(str, nix.version()[:2])))
    config = nix.config()
    assert config["sandbox"] == "true"
    assert config["build-users-group"] == ""
    assert "flakes" in config["experimental-features"].split()


def test_messages_lose_every_escape_sequence() -> None:
    assert plain("\x1b[31;1merror:\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x1b\\ \x1b[K.") == "error: link ."


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("the group 'nixbld' specified in 'build-users-group' does not exist", "build-users-group ="),
        ("experimental Nix feature 'ca-derivations' is disabled; use", "experimental-features"),
        ("cannot connect to socket at '/nix/var/nix/daemon-socket/socket': Connection refused", "nix-daemon"),
        ("creating directory '/nix/var': Permission denied", "NIX_REMOTE"),
        ("write failed: No space left on device", "nix-collect-garbage"),
    ],
)
def test_what_people_meet_comes_with_what_to_do(message: str, word: str) -> None:
    assert word in (hint_for(message) or "")
    assert hint_for("something else") is None
