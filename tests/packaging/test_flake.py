"""flake.nix and default.nix evaluate with something that is shaped like nixpkgs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bridge import __version__
from bridge.nix.installation import Installation

pytestmark = pytest.mark.nix

ROOT = Path(__file__).parents[2]
NIXPKGS = Path(__file__).with_name("nixpkgs")


@pytest.fixture
def flake(tmp_path: Path) -> Path:
    """The files of the flake alone, in a folder that is no git checkout."""
    folder = tmp_path / "flake"
    for name in ("flake.nix", "default.nix", "pyproject.toml", "README.md", "LICENSE", "nix", "bridge"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("packages.x86_64-linux.default.name", f"nixbridge-{__version__}"),
        ("packages.aarch64-linux.nixbridge.name", f"nixbridge-{__version__}"),
        ("devShells.x86_64-linux.default.name", "shell"),
        ("apps.x86_64-linux.default.type", "app"),
    ],
)
def test_the_flake_evaluates(nix: Installation, flake: Path, attribute: str, expected: str) -> None:
    command = [nix.program("nix"), "eval", "--offline", "--raw", "--no-write-lock-file"]
    command += ["--override-input", "nixpkgs", f"path:{NIXPKGS}", f"path:{flake}#{attribute}"]
    done = nix.run(command)
    assert done.stdout == expected, done.stderr


def test_default_nix_instantiates(nix: Installation, flake: Path) -> None:
    expression = f"import {NIXPKGS} {{ }}"
    done = nix.run([nix.program("nix-instantiate"), str(flake / "default.nix"), "--arg", "pkgs", expression])
    assert done.stdout.strip().endswith(f"-nixbridge-{__version__}.drv"), done.stderr


def test_the_version_is_written_down_once() -> None:
    shown = subprocess.run(
        ["grep", "-rn", "0\\.1\\.0", ROOT / "nix", ROOT / "flake.nix"], capture_output=True, text=True, check=False
    ).stdout
    assert not shown, "the version stands in bridge/__init__.py only"
