"""A stand-in for nixpkgs, made of Debian's packages by real Nix, for machines that can not reach the real one.

Packages are downloaded once by apt into a cache and put into a test's Nix store; nothing else is fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.formats import nar
from bridge.nix.installation import Installation

__all__ = ["PYTHON", "add_packages", "stand_in"]

_HERE = Path(__file__).parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nixbridge" / "debs"
SEED = ("bash-static", "busybox-static")
PYTHON = (
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libncursesw6",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libstdc++6",
    "libtinfo6",
    "libuuid1",
    "patchelf",
    "python3.11-minimal",
    "zlib1g",
)


def stand_in(nix: Installation, folder: Path) -> Path:
    """The flake below `folder`, with bash and busybox in the Nix store.

    Its `legacyPackages.x86_64-linux` has what those two give; `add_packages` brings what more needs.
    """
    flake = folder / "nixpkgs"
    shutil.copytree(_HERE, flake, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    seed = _seed(folder / "seed")
    digest = hashlib.sha256()
    for chunk in nar.pack_chunks(seed):
        digest.update(chunk)
    _write_hashes(flake, {"seed": _sri(digest)}, ())
    added = nix.run([nix.program("nix-store"), "--add-fixed", "--recursive", "sha256", str(seed)])
    added.check_returncode()
    # Nothing could bring it back.
    root = ["--add-root", str(folder / "seed-root"), "--indirect", "--realise", added.stdout.strip()]
    nix.run([nix.program("nix-store"), *root]).check_returncode()
    # A fixed time, else the flake has another hash each time.
    for place in (flake, *flake.rglob("*")):
        os.utime(place, (1, 1))
    return flake


def add_packages(nix: Installation, flake: Path, names: Sequence[str]) -> None:
    """Put packages of Debian into the Nix store, and their hashes into the flake."""
    hashes = {}
    for file in _debs(names):
        # Where Nix is in a folder of its own, it sees the flake's folder but not our cache.
        copy = flake.parent / file.name.replace("+", "-")
        shutil.copy(file, copy)
        hashes[copy.name] = _sri(hashlib.sha256(copy.read_bytes()))
        nix.run([nix.program("nix-store"), "--add-fixed", "sha256", str(copy)]).check_returncode()
    _write_hashes(flake, hashes, names)


def _write_hashes(flake: Path, more: dict[str, str], names: Sequence[str]) -> None:
    file = flake / "hashes.json"
    known = json.loads(file.read_text()) if file.exists() else {"python": []}
    known |= more
    if set(PYTHON) <= {*names}:
        known["python"] = [name.replace("+", "-") for name in PYTHON if name != "patchelf"]
    file.write_text(json.dumps(known))
    (flake / "hashes.nix").write_text("builtins.fromJSON (builtins.readFile ./hashes.json)\n")


def _sri(digest: hashlib._Hash) -> str:
    return f"sha256-{base64.b64encode(digest.digest()).decode()}"


def _seed(folder: Path) -> Path:
    """A folder with bin/bash, and bin/busybox with links for its applets."""
    unpacked = folder.parent / "unpacked"
    for file in _debs(SEED):
        subprocess.run(["dpkg-deb", "-x", file, unpacked], check=True)
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    for name, found in (("bash", unpacked / "bin/bash-static"), ("busybox", unpacked / "bin/busybox")):
        shutil.copy(found, binaries / name)
        (binaries / name).chmod(0o555)
    listed = subprocess.run([binaries / "busybox", "--list"], check=True, capture_output=True, text=True)
    for applet in listed.stdout.split():
        if applet not in ("busybox", "bash") and not (binaries / applet).exists():
            (binaries / applet).symlink_to("busybox")
    return folder


def _debs(names: Sequence[str]) -> list[Path]:
    """The packages' files, downloaded once."""
    files = [_CACHE / f"{name}.deb" for name in names]
    missing = [file.stem for file in files if not file.exists()]
    if missing:
        _download(missing)
    return files


def _download(names: Sequence[str]) -> None:
    apt = shutil.which("apt-get")
    if apt is None:
        pytest.skip("the stand-in for nixpkgs is made of Debian's packages, and there is no apt-get")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as place:
        command = [apt, "-q", "-o", "APT::Sandbox::User=root", "download", *names]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        # A file's name is the package's, and its version behind an underscore.
        for file in Path(place).glob("*.deb"):
            os.replace(file, _CACHE / f"{file.name.partition('_')[0]}.deb")
    missing = [name for name in names if not (_CACHE / f"{name}.deb").exists()]
    if missing:
        pytest.skip(f"apt-get can not download {missing[0]} (apt-get update?): {done.stderr.strip()[-200:]}")
