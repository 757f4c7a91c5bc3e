"""`instantiate` and `derivation show|add`, with real Nix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.formats.derivation import FORMATS, derivation_path, parse_aterm, unparse
from bridge.nix.client import connect
from bridge.nix.errors import NixError
from bridge.nix.installation import Installation

from .conftest import Command


def test_instantiate_writes_the_derivations_into_the_store(nixbridge: Command, tmp_path: Path) -> None:
    [path] = nixbridge("instantiate", "stages.py").stdout.splitlines()
    file = tmp_path / "store" / "store" / path.removeprefix("/nix/store/")
    assert file.read_bytes().startswith(b"Derive(")
    assert nixbridge("derivation", "show", "stages.py:report", "--aterm").stdout == file.read_text()
    # With what they use: a valid object's closure is valid.
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


HAND = {
    "args": ["-c", "echo hi > $out"],
    "builder": "/bin/sh",
    "env": {},
    "inputs": {"drvs": {}, "srcs": []},
    "name": "hand",
    "outputs": {"out": {}},
    "system": "x86_64-linux",
    "version": 4,
}


def test_a_derivation_needs_neither_nix_nor_its_language_to_have_a_path(nixbridge: Command, project: Path) -> None:
    (project / "hand.json").write_text(json.dumps(HAND))
    [made] = json.loads(nixbridge("derivation", "add", "hand.json", "--dry-run", "--json").stdout)
    assert made == {
        "given": "/nix/store/mpnq1k3ix3j2fl99fb50gjs7g7x79wwx-hand.drv",
        "name": "hand",
        "path": "/nix/store/asr4xdni54ccnyvxp98rzv437hr5yynz-hand.drv",
    }


@pytest.mark.nix
def test_a_derivation_written_by_hand_is_built_by_nix(nixbridge: Command, nix: Installation, project: Path) -> None:
    (project / "hand.json").write_text(json.dumps(HAND))
    [drv] = nixbridge("derivation", "add", "hand.json", **nix.environ).stdout.splitlines()
    done = nix.run([nix.program("nix-build"), "--no-out-link", drv])
    assert done.returncode == 0, done.stderr
    assert nix.real_path(done.stdout.strip()).read_text() == "hi\n"


@pytest.mark.nix
def test_a_changed_derivation_is_refused_as_nix_refuses_it(
    nixbridge: Command, nix: Installation, project: Path
) -> None:
    (project / "hand.json").write_text(json.dumps(HAND))
    env = dict(nix.environ)
    [drv] = nixbridge("derivation", "add", "hand.json", **env).stdout.splitlines()
    changed = nix.real_path(drv).read_bytes().replace(b"echo hi", b"echo ho")
    (project / "hand.drv").write_bytes(changed)
    said = nixbridge("derivation", "add", "hand.drv", status=1, **env).stderr
    assert "but the derivation gives /nix/store/" in said
    with connect(nix) as client, pytest.raises(NixError, match="output"):
        client.add_derivation("hand.drv", changed, ())


@pytest.mark.nix
def test_what_is_not_in_the_store_is_named(nixbridge: Command, nix: Installation, project: Path) -> None:
    source = f"/nix/store/{'0' * 32}-source"
    (project / "hand.json").write_text(json.dumps({**HAND, "inputs": {"drvs": {}, "srcs": [source[11:]]}}))
    assert (
        f"{source} is not in Nix's store" in nixbridge("derivation", "add", "hand.json", status=1, **nix.environ).stderr
    )


@pytest.mark.nix
def test_bytes_that_are_no_text_reach_nix_as_they_are(nixbridge: Command, nix: Installation, project: Path) -> None:
    drv = parse_aterm(b'Derive([("out","","r:sha256","")],[],[],"s","/bin/sh",["caf\xe9"],[("out","\x80")])', "latin1")
    (project / "latin1.drv").write_bytes(unparse(drv))
    [path] = nixbridge("derivation", "add", "latin1.drv", **nix.environ).stdout.splitlines()
    assert path == derivation_path(drv)
    assert nix.real_path(path).read_bytes() == unparse(drv)


def test_the_log_of_a_realization_is_printed_as_json_too(nixbridge: Command) -> None:
    nixbridge("realize", "stages.py:train", "--builder", "local")
    found = json.loads(nixbridge("log", "stages.py:train", "--json").stdout)
    assert [one["stage"] for one in found] == ["train"]
    assert found[0]["log"] == nixbridge("log", found[0]["id"]).stdout


def test_json_that_nests_too_deep_is_refused(nixbridge: Command) -> None:
    said = nixbridge("derivation", "add", "--dry-run", "-", stdin=b"[" * 200_000, status=1).stderr
    assert "neither JSON nor a .drv: maximum recursion depth" in said


def test_a_file_that_is_wrong_is_named(nixbridge: Command, project: Path) -> None:
    (project / "hand.json").write_text('{"a": 1}')
    assert "hand.json: a: must be an object" in nixbridge("derivation", "add", "hand.json", status=1).stderr
    assert "standard input: a: must be" in nixbridge("derivation", "add", "-", stdin=b'{"a": 1}', status=1).stderr
    (project / "one.drv").write_bytes(b"Derive(")
    for command in ("diff", "stages.py:clean", "one.drv"), ("show", "one.drv"), ("add", "one.drv"):
        said = nixbridge("derivation", *command, status=1).stderr
        assert "one.drv: expected '[', found the end at byte 7 of the derivation" in said


def test_a_file_that_has_not_the_name_of_its_derivation_is_refused(nixbridge: Command, project: Path) -> None:
    """It would be another derivation, with another path."""
    clean = nixbridge("derivation", "show", "--aterm", "stages.py:clean").stdout
    (project / "clean.drv").write_text(clean)
    assert nixbridge("derivation", "show", "--aterm", "clean.drv").stdout == clean
    (project / "other.drv").write_text(clean)
    for command in ("show", "other.drv"), ("add", "--dry-run", "other.drv"):
        said = nixbridge("derivation", *command, status=1).stderr
        assert "it is taken to be 'other', after the file" in said


def test_what_is_no_derivation_in_a_store_is_told(nixbridge: Command) -> None:
    path = f"/nix/store/{'0' * 32}-hand"
    for target in path, f"{path}.drv^out", f"{path}.drv!out", "hand.drv^*":
        said = nixbridge("derivation", "show", target, status=1).stderr
        assert f"error: {target} is no derivation: its path does not end in .drv\n" in said
    # Stages may lie there.
    assert "is no derivation" not in nixbridge("derivation", "show", f"{path}/stages.py:a", status=1).stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("option", ["--aterm", "--recursive", "--json-format=4"])
def test_what_is_shown_is_utf_8_whatever_the_terminal_is(
    nixbridge: Command, project: Path, encoding: str, option: str
) -> None:
    aterm = 'Derive([("out","","r:sha256","")],[],[],"s","/bin/sh",["café"],[("out","")])'
    (project / "hand.drv").write_text(aterm)
    assert "café" in nixbridge("derivation", "show", option, "hand.drv", PYTHONIOENCODING=encoding).stdout
