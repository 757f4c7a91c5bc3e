"""`instantiate` and `derivation show|add`, with real Nix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.formats.derivation import FORMATS
from bridge.nix.installation import Installation

from .conftest import Command


def test_instantiate_writes_the_derivations_into_the_store(nixbridge: Command, tmp_path: Path) -> None:
    [path] = nixbridge("instantiate", "stages.py").stdout.splitlines()
    file = tmp_path / "store" / "store" / path.removeprefix("/nix/store/")
    assert file.read_bytes().startswith(b"Derive(")
    assert nixbridge("derivation", "show", "stages.py:report", "--aterm").stdout == file.read_text()
    assert "4 objects" not in nixbridge("verify").stdout
    assert "clean" in nixbridge("verify").stdout


def test_derivation_show_prints_version_4(nixbridge: Command) -> None:
    shown = json.loads(nixbridge("derivation", "show", "stages.py:report", "--recursive", "--json-format", "4").stdout)
    assert shown["version"] == 4
    assert sorted(drv["name"] for drv in shown["derivations"].values()) == ["clean", "report", "train"]
    [train] = [drv for drv in shown["derivations"].values() if drv["name"] == "train"]
    assert train["structuredAttrs"]["config"] == {"scale": 2.0}
    assert train["outputs"] == {"out": {"hashAlgo": "sha256", "method": "nar"}}


def test_an_unknown_json_format_says_which_there_are(nixbridge: Command) -> None:
    said = nixbridge("derivation", "show", "stages.py:report", "--json-format", "5", status=1).stderr
    assert "2.8, 2.15, 2.18, 2.23, 2.30, 3, 4" in said


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"derivations": 1, "version": 4}', "Derive(["])
def test_what_is_no_derivation_is_refused(nixbridge: Command, project: Path, text: str) -> None:
    (project / "bad").write_text(text)
    assert nixbridge("derivation", "add", "bad", status=1).stderr.startswith("error: ")


@pytest.mark.nix
def test_added_derivations_have_the_paths_that_were_shown(nixbridge: Command, nix: Installation, project: Path) -> None:
    env = dict(nix.environ)
    [path] = nixbridge("instantiate", "stages.py:report", "--add", **env).stdout.splitlines()
    assert nix.real_path(path).read_bytes().startswith(b"Derive(")
    # All of the closure is valid for Nix itself.
    done = nix.run([nix.program("nix-store"), "--query", "--requisites", path])
    assert done.returncode == 0, done.stderr
    assert sum(line.endswith(".drv") for line in done.stdout.splitlines()) == 3


@pytest.mark.nix
@pytest.mark.parametrize("shape", FORMATS)
def test_show_and_add_round_trip_in_every_format(nixbridge: Command, nix: Installation, shape: str) -> None:
    env = dict(nix.environ)
    [top] = nixbridge("instantiate", "stages.py:report", "--add", **env).stdout.splitlines()
    shown = nixbridge("derivation", "show", "stages.py:report", "--recursive", "--json-format", shape, **env).stdout
    added = nixbridge("derivation", "add", "-", stdin=shown.encode(), **env).stdout.splitlines()
    assert top in added
    assert len(added) == 3
    for path in added:
        file = nix.real_path(path)
        assert nixbridge("derivation", "show", str(file), "--aterm", **env).stdout == file.read_text()


@pytest.mark.nix
def test_the_default_format_is_what_the_installed_nix_prints(nixbridge: Command, nix: Installation) -> None:
    env = dict(nix.environ)
    [top] = nixbridge("instantiate", "stages.py:report", "--add", **env).stdout.splitlines()
    theirs = nix.run([nix.program("nix"), "show-derivation", "--recursive", top])
    assert theirs.returncode == 0, theirs.stderr
    ours = nixbridge("derivation", "show", "stages.py:report", "--recursive", **env).stdout
    assert json.loads(ours) == json.loads(theirs.stdout)


@pytest.mark.nix
def test_adding_needs_no_experimental_feature_of_the_user(nixbridge: Command, nix: Installation) -> None:
    env = {name: value for name, value in nix.environ.items() if name != "NIX_CONF_DIR"}
    env["NIX_CONFIG"] = "build-users-group =\nsandbox = true\nsubstituters =\nexperimental-features = nix-command"
    assert nixbridge("instantiate", "stages.py:report", "--add", **env).stdout.endswith("-report.drv\n")
