"""The dev shell without nixpkgs, entered by a real Nix."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.nix.installation import Installation

pytestmark = pytest.mark.nix

FLAKE = """
{
  inputs.nixpkgs.url = "path:NIXPKGS";
  outputs = { self, nixpkgs }:
    let pkgs = nixpkgs.legacyPackages.x86_64-linux; in {
      devShells.x86_64-linux.default = import ./mk-shell {
        bash = pkgs.bash;
        packages = [ pkgs.coreutils ];
        env = { DATA = "a 'b'"; COUNT = 3; };
        shellHook = "export HOOK=ran";
      };
    };
}
"""
SHOW = 'echo "$DATA|$COUNT|$HOOK"; echo "$PATH"'


@pytest.fixture
def project(nix: Installation, nixpkgs: Path, scratch: Path) -> Path:
    folder = scratch / "project"
    folder.mkdir()
    shutil.copytree(Path(__file__).parents[2] / "nix" / "mk-shell", folder / "mk-shell")
    (folder / "flake.nix").write_text(FLAKE.replace("NIXPKGS", str(nixpkgs)))
    return folder


def enter(nix: Installation, project: Path, *arguments: str) -> str:
    command = [nix.program("nix"), "--extra-experimental-features", "nix-command flakes", "--offline", *arguments]
    done = subprocess.run(
        command,
        cwd=project,
        env=dict(nix.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nix_prints_its_environment(nix: Installation, project: Path) -> None:
    found = json.loads(enter(nix, project, "print-dev-env", "--json", f"path:{project}"))
    variables = found["variables"]
    assert variables["DATA"] == {"type": "exported", "value": "a 'b'"}
    assert variables["COUNT"]["value"] == "3"
    assert "coreutils" in variables["PATH"]["value"].partition(":")[0]
    assert "runHook" in found["bashFunctions"]


def test_the_environment_works_in_a_bash(nix: Installation, project: Path) -> None:
    text = enter(nix, project, "print-dev-env", f"path:{project}")
    done = subprocess.run(["bash", "-c", f"{text}\n{SHOW}"], capture_output=True, text=True, check=True, cwd=project)
    said, path = done.stdout.split("\n")[-3:-1]
    assert said == "a 'b'|3|ran"
    assert "coreutils" in path.partition(":")[0]  # the scratch store is not at /nix/store
