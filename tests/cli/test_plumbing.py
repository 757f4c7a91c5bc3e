"""`nar`, `hash`, `store-path` and `key`, held against real Nix."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from bridge.formats.nar import Directory, Symlink, dump
from bridge.formats.nar import wire as nar_wire
from bridge.nix.installation import Installation

from .conftest import NIXBRIDGE, Command


@pytest.fixture
def tree(project: Path) -> Path:
    folder = project / "tree"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    (folder / "sub" / "file").write_bytes(b"\0\xff" * 1000)
    (folder / "link").symlink_to("sub/file")
    return folder


@pytest.fixture
def archive(tree: Path, environment: dict[str, str]) -> Path:
    file = tree.parent / "tree.nar"
    with file.open("wb") as opened:
        subprocess.run([NIXBRIDGE, "nar", "pack", tree], stdout=opened, env=environment, check=True)
    return file


@pytest.mark.nix
def test_an_archive_is_nixs_to_the_byte(archive: Path, tree: Path, nix: Installation) -> None:
    theirs = subprocess.run(
        [nix.program("nix-store"), "--dump", tree], env=dict(nix.environ), capture_output=True, check=True
    ).stdout
    assert archive.read_bytes() == theirs


@pytest.mark.nix
def test_a_listing_is_that_of_a_binary_cache(
    nixbridge: Command, archive: Path, tree: Path, nix: Installation, scratch: Path
) -> None:
    path = nix.run([nix.program("nix-store"), "--add", str(tree)]).stdout.strip()
    cache = f"file://{scratch}/cache?write-nar-listing=true&compression=none"
    assert nix.run([nix.program("nix"), "copy", "--to", cache, path]).returncode == 0
    [theirs] = (scratch / "cache").glob("*.ls")
    assert json.loads(nixbridge("nar", "ls", "--json", str(archive)).stdout) == json.loads(theirs.read_text())


def test_an_archive_unpacks_to_what_was_packed(nixbridge: Command, archive: Path, tree: Path) -> None:
    nixbridge("nar", "unpack", str(archive), "copy")
    assert nixbridge("hash", "path", "copy").stdout == nixbridge("hash", "path", "tree").stdout
    assert "exists already" in nixbridge("nar", "unpack", str(archive), "copy", status=1).stderr
    assert nixbridge("nar", "unpack", "-", "again", stdin=archive.read_bytes()).stdout == ""


def test_ls_and_cat_look_into_an_archive(nixbridge: Command, archive: Path) -> None:
    lines = nixbridge("nar", "ls", str(archive)).stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["./", "sub/file", "run", "sub/", "sub/empty/", "sub/file"]
    assert nixbridge("nar", "cat", str(archive), "run").stdout == "#!/bin/sh\n"
    for path in "./run", "/sub/../run", "run/":
        assert nixbridge("nar", "cat", str(archive), path).stdout == "#!/bin/sh\n"
    assert "is no file" in nixbridge("nar", "cat", str(archive), "sub", status=1).stderr
    assert "there is no nope" in nixbridge("nar", "cat", str(archive), "nope", status=1).stderr


def test_a_damaged_archive_leaves_nothing(nixbridge: Command, archive: Path, project: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "ends too early at byte" in nixbridge("nar", "unpack", str(archive), "copy", status=1).stderr
    assert not (project / "copy").exists()
    assert "can not be read: No such file" in nixbridge("nar", "ls", "nope", status=1).stderr


@pytest.mark.parametrize("base", ["sri", "nix32", "base16", "base64"])
def test_hashes_convert_between_all_bases(nixbridge: Command, base: str) -> None:
    empty = "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
    converted = nixbridge("hash", "convert", "--to", base, empty).stdout.strip()
    back = nixbridge("hash", "convert", "--to", "nix32", "--algo", "sha256", converted).stdout.strip()
    assert f"sha256:{back}" == empty
    assert "does not say its algorithm" in nixbridge("hash", "convert", "0" * 64, status=1).stderr


@pytest.mark.parametrize(
    ("algorithm", "digest", "path"),
    [
        ("sha1", "ce013625030ba8dba906f756967f9e9ca394464a", "3dpnpfs10bllr1x35b5iga2d4qfcic7h-f.txt"),
        (
            "sha256",
            "2cf8d83d9ee29543b34a87727421fdecb7e3f3a183d337639025de576db9ebb4",
            "16bvg3y929zirr0cx2z1bman5sfbx37j-f.txt",
        ),
    ],
)
def test_git_hashes_and_their_paths_are_those_of_nix(
    nixbridge: Command, project: Path, algorithm: str, digest: str, path: str
) -> None:
    (project / "f.txt").write_text("hello\n")
    command = ("hash", "path", "--type", "git", "--algo", algorithm)
    assert nixbridge(*command, "--base", "base16", "f.txt").stdout.strip() == digest
    content = nixbridge(*command, "f.txt").stdout.strip()
    # As Nix 2.34.8 names them: nix store add --mode git.
    assert nixbridge("store-path", "f.txt", content, "--method", "git").stdout.strip() == f"/nix/store/{path}"


def test_git_hashes_of_folders_and_what_they_refuse(nixbridge: Command, tree: Path) -> None:
    whole = nixbridge("hash", "path", "--type", "git", "--algo", "sha1", "--base", "base16", "tree").stdout.strip()
    (tree / "sub" / "empty").rmdir()
    without = nixbridge("hash", "path", "--type", "git", "--algo", "sha1", "--base", "base16", "tree").stdout.strip()
    assert len(whole) == len(without) == 40
    assert whole != without
    refused = nixbridge("hash", "path", "--type", "git", "--algo", "md5", "tree", status=1).stderr
    assert "the method git goes with sha1 or sha256 only, not md5" in refused
    content = nixbridge("hash", "file", "--algo", "sha512", "tree/run").stdout.strip()
    assert "not sha512" in nixbridge("store-path", "run", content, "--method", "git", status=1).stderr
    assert "nope can not be read: No such file" in nixbridge("hash", "path", "--type", "git", "nope", status=1).stderr
    os.mkfifo(tree / "pipe")
    assert "is neither file, folder nor link" in nixbridge("hash", "path", "--type", "git", "tree", status=1).stderr


def test_hashes_and_paths_as_json(nixbridge: Command, tree: Path) -> None:
    bases = ("base16", "nix32", "base64", "sri")

    def texts(*command: str, option: str) -> dict[str, str]:
        return {base: nixbridge(*command, option, base).stdout.strip() for base in bases}

    for command in ("hash", "path", "tree"), ("hash", "file", "tree/run"):
        shown = json.loads(nixbridge(*command, "--json", "--algo", "sha1").stdout)
        assert shown == {"algorithm": "sha1", **texts(*command, "--algo", "sha1", option="--base")}
    content = nixbridge("hash", "path", "tree").stdout.strip()
    [first, second] = json.loads(nixbridge("hash", "convert", "--json", content, content).stdout)
    assert first == second == {"algorithm": "sha256", **texts("hash", "convert", content, option="--to")}
    path = nixbridge("store-path", "tree", content).stdout.strip()
    assert json.loads(nixbridge("store-path", "tree", content, "--json").stdout) == {"path": path}


@pytest.mark.nix
def test_store_paths_are_those_of_nix(nixbridge: Command, tree: Path, nix: Installation) -> None:
    content = nixbridge("hash", "path", "tree").stdout.strip()
    theirs = nix.run([nix.program("nix-store"), "--add", str(tree)]).stdout.strip()
    assert nixbridge("store-path", "tree", content).stdout.strip() == theirs
    flat = nixbridge("hash", "file", "tree/run").stdout.strip()
    theirs = nix.run([nix.program("nix-store"), "--add-fixed", "sha256", str(tree / "run")]).stdout.strip()
    assert nixbridge("store-path", "run", flat, "--method", "flat").stdout.strip() == theirs
    assert (
        "can not have references"
        in nixbridge("store-path", "run", flat, "--method", "flat", "--reference", theirs, status=1).stderr
    )


@pytest.mark.nix
def test_keys_are_nixs(nixbridge: Command, nix: Installation, project: Path) -> None:
    public = nixbridge("key", "generate", "test-1", "secret").stdout
    secret = project / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    done = subprocess.run(
        [nix.program("nix"), "key", "convert-secret-to-public"],
        env=dict(nix.environ),
        input=secret.read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == public.strip()
    assert nixbridge("key", "public", "secret").stdout == public
    assert "can not be written" in nixbridge("key", "generate", "test-1", "secret", status=1).stderr
    assert "error: " in nixbridge("key", "public", "-", stdin=b"nope", status=1).stderr


def test_what_can_not_be_written_is_not_said_to_be_unreadable(
    nixbridge: Command, archive: Path, project: Path, environment: dict[str, str]
) -> None:
    said = nixbridge("nar", "unpack", str(archive), "no/such", status=1).stderr
    assert said == "error: no/such can not be written: No such file or directory\n"
    for command in ("nar", "cat", str(archive), "sub/file"), ("nar", "pack", "tree"):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [NIXBRIDGE, *command], cwd=project, env=environment, stdout=full, stderr=subprocess.PIPE, check=False
            )
        assert done.stderr == b"error: the output can not be written: No space left on device\n"


def test_nobody_reading_on_is_no_error(archive: Path, project: Path, environment: dict[str, str]) -> None:
    (project / "large").write_bytes(bytes(10_000_000))
    with (project / "large.nar").open("wb") as opened:
        subprocess.run([NIXBRIDGE, "nar", "pack", "large"], cwd=project, env=environment, stdout=opened, check=True)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [NIXBRIDGE, "nar", "cat", "large.nar", "/"],
        cwd=project,
        env=environment,
        stdout=writer,
        capture_output=False,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert done.stderr == b""


def test_folders_deeper_than_python_recurses_are_told_and_leave_nothing(nixbridge: Command, project: Path) -> None:
    count = 5000
    opened = (nar_wire.DIRECTORY + nar_wire.ENTRY + nar_wire.string(b"d") + nar_wire.NODE) * count
    data = nar_wire.MAGIC + opened + nar_wire.DIRECTORY + nar_wire.CLOSE + 2 * nar_wire.CLOSE * count
    (project / "deep.nar").write_bytes(data)
    assert len(nixbridge("nar", "ls", "deep.nar").stdout.splitlines()) == count + 1
    assert "nests folders too deep for JSON" in nixbridge("nar", "ls", "--json", "deep.nar", status=1).stderr
    assert "File name too long" in nixbridge("nar", "unpack", "deep.nar", "deep", status=1).stderr
    assert not (project / "deep").exists()


def test_names_that_are_no_text_are_not_printed_as_json(nixbridge: Command, project: Path) -> None:
    """Nix 2.34 refuses them too: what it would print is no JSON."""
    archive = bytearray()
    dump(Directory({"caf\udce9": Symlink("x")}), archive.extend)
    (project / "latin1.nar").write_bytes(archive)
    said = nixbridge("nar", "ls", "--json", "latin1.nar", status=1).stderr
    assert "latin1.nar holds a name that is not UTF-8, which JSON can not hold" in said


def test_paths_that_are_none_of_a_store_are_refused(nixbridge: Command, tree: Path) -> None:
    # Once this searched an empty text, again and again.
    assert "'tree' is no store path" in nixbridge("hash", "path", "--modulo", "tree", "tree", status=1).stderr
    assert "--nix goes with --modulo only" in nixbridge("hash", "path", "--nix", "2.34", "tree", status=1).stderr
    content = nixbridge("hash", "path", "tree").stdout.strip()
    refused = nixbridge("store-path", "tree", content, "--reference", "tree", status=1).stderr
    assert "'tree' is no store path" in refused


def test_a_key_that_is_no_text_is_refused(nixbridge: Command, project: Path) -> None:
    (project / "key").write_bytes(b"name\xff:AAAA")
    assert "a secret key is a name" in nixbridge("key", "public", "key", status=1).stderr
    assert "a secret key is a name" in nixbridge("key", "public", "-", stdin=b"name\xff:AAAA", status=1).stderr
    for name in "a b", "a\udcff":
        assert "can not name a key" in nixbridge("key", "generate", name, "new", status=1).stderr
    assert not (project / "new").exists()
