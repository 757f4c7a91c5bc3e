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
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from bridge.formats import nar
from bridge.nix.installation import Installation

__all__ = ["COMPILER", "PYTHON", "add_packages", "stand_in"]

_HERE = Path(__file__).parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nixbridge" / "debs"
SEED = ("bash-static", "busybox-static")
COMPILER = ("tcc", "libc6", "libc6-dev", "linux-libc-dev")
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
    for name in names:
        # Where Nix is in a folder of its own, it sees the flake's folder but not our cache.
        copy = flake.parent / f"{name.replace('+', '-')}.deb"
        shutil.copy(_deb(name), copy)
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
    for name in SEED:
        subprocess.run(["dpkg-deb", "-x", _deb(name), unpacked], check=True)
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


@cache
def _deb(name: str) -> Path:
    """The package's file, downloaded once."""
    found = _CACHE / f"{name}.deb"
    if found.exists():
        return found
    apt = shutil.which("apt-get")
    if apt is None:
        pytest.skip("the stand-in for nixpkgs is made of Debian's packages, and there is no apt-get")
    _CACHE.mkdir(parents=True, exist_ok=True)
    place = _CACHE / f".{name}-{os.getpid()}"
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        [apt, "-q", "-o", "APT::Sandbox::User=root", "download", name],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    files = list(place.glob("*.deb"))
    if not files:
        pytest.skip(f"apt-get can not download {name} (apt-get update?): {done.stderr.strip()[-200:]}")
    os.replace(files[0], found)
    shutil.rmtree(place)
    return found
