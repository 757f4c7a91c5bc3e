"""Projects as users have them: a template's own flake, entered and built by a real Nix at /nix/store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.nix.installation import Installation

pytestmark = pytest.mark.nix

ROOT = Path(__file__).parents[2]
NIXBRIDGE = Path(sys.executable).with_name("nixbridge")
ENTER = 'mount --bind "$0" /nix && exec "$@"'

PACKAGES = """
{
  inputs.base.url = "path:BASE";
  outputs = { self, base }:
    let
      pkgs = base.legacyPackages.x86_64-linux;
      # What nixpkgs has and the stand-in does not, of which a dev shell is made.
      more = {
        mkShell = { packages, shellHook ? "" }: import ./mk-shell { inherit (pkgs) bash; inherit packages shellHook; };
        python3 = pkgs.gnused;
        python3Packages.callPackage = package: arguments: pkgs.gawk;
      };
    in { legacyPackages.x86_64-linux = pkgs // more; };
}
"""
Inside = Callable[..., str]


@pytest.fixture
def packages(nixpkgs: Path, scratch: Path) -> Path:
    folder = scratch / "packages"
    folder.mkdir()
    shutil.copytree(ROOT / "nix" / "mk-shell", folder / "mk-shell")
    (folder / "flake.nix").write_text(PACKAGES.replace("BASE", str(nixpkgs)))
    return folder


@pytest.fixture
def checkout(scratch: Path) -> Path:
    """The files of nixbridge's own flake."""
    folder = scratch / "nixbridge"
    folder.mkdir()
    shutil.copy(ROOT / "flake.nix", folder)
    for name in ("nix", "bridge"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def inside(nix: Installation, scratch: Path) -> Inside:
    """Run a command where the scratch store is at /nix, in a mount namespace of its own."""
    if os.geteuid() != 0 or not Path("/nix").is_dir() or nix.bin.parts[-1].startswith("bin-"):
        pytest.skip("only root can have another /nix, where there is one")
    environ = {
        **nix.environ,
        "NIX_REMOTE": "local",
        "NIXBRIDGE_STORE": str(scratch / "store"),
        "PATH": f"{NIXBRIDGE.parent}:{nix.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }

    def run(*command: str, cwd: Path, ok: bool = True) -> str:
        entering = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, str(scratch / "root" / "nix")]
        done = subprocess.run(
            [*entering, *command],
            cwd=cwd,
            env=environ,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert (done.returncode == 0) is ok, done.stderr
        return done.stdout if ok else done.stderr

    return run


def lock(inside: Inside, project: Path, packages: Path, checkout: Path) -> None:
    """Lock the template's inputs as they are reachable here; flake.nix stays as it is."""
    inputs = ["--override-input", "nixpkgs", f"path:{packages}", "--override-input", "nixbridge", f"path:{checkout}"]
    inside("git", "init", "-q", cwd=project)
    inside("git", "add", ".", cwd=project)
    inside("nix", "flake", "lock", *inputs, cwd=project)
    inside("git", "add", ".", cwd=project)


@pytest.mark.parametrize("template", ["minimal", "ml"])
def test_a_new_project_realizes_enters_and_builds(
    inside: Inside, packages: Path, checkout: Path, scratch: Path, template: str
) -> None:
    project = scratch / "project"
    inside("nixbridge", "init", "--template", template, "--flake", f"path:{checkout}", "project", cwd=scratch)
    lock(inside, project, packages, checkout)
    [report] = inside("nixbridge", "realize", "stages.py:report", cwd=project).splitlines()
    inside("nixbridge", "lock", "stages.py", cwd=project)
    # Nix does not see what Git does not track.
    assert "report" in inside("nix", "build", ".#report", cwd=project, ok=False)
    inside("git", "add", "bridge.lock", cwd=project)
    inside("nix", "build", ".#report", cwd=project)
    assert os.readlink(project / "result") == report
    inside("nixbridge", "push-nix", "stages.py:train", cwd=project)
    pinned = json.loads((project / "bridge.lock").read_text())["stages"]["train"]["realizations"][0]["outputs"]
    built = json.loads(inside("nix", "build", "--no-link", "--json", ".#train", cwd=project))
    assert built[0]["outputs"]["out"] in {one["path"] for one in pinned.values()}
    # The dev shell: by Nix, and by nixbridge.
    for command in (["nix", "develop", "-c"], ["nixbridge", "develop", "-c"]):
        said = inside(*command, "bash", "-c", "command -v awk sed", cwd=project)
        assert [line.startswith("/nix/store/") for line in said.split()] == [True, True]
    assert "gawk" in inside("nix", "print-dev-env", cwd=project)
    assert "variables" in json.loads(inside("nixbridge", "print-dev-env", "--json", cwd=project))


def test_the_dev_shell_without_nixpkgs_is_entered(inside: Inside, nixpkgs: Path, scratch: Path) -> None:
    project = scratch / "shell"
    project.mkdir()
    shutil.copytree(ROOT / "nix" / "mk-shell", project / "mk-shell")
    (project / "shell.nix").write_text(
        f'let pkgs = import {nixpkgs}/packages.nix {{ system = "x86_64-linux"; }}; in import ./mk-shell '
        '{ inherit (pkgs) bash; packages = [ pkgs.coreutils ]; env.DATA = "a \'b\'"; shellHook = "export HOOK=ran"; }'
    )
    (project / "flake.nix").write_text(
        "{ outputs = { self }: { devShells.x86_64-linux.default = import ./shell.nix; }; }"
    )
    show = 'echo "$DATA|$HOOK"; command -v sort'
    for command in (
        ["nix", "develop", "--impure", f"path:{project}", "-c", "bash", "-c", show],
        ["nix-shell", "--run", show],
        ["nix-shell", "--pure", "--run", show],
    ):
        said, sort = inside(*command, cwd=project).splitlines()[-2:]
        assert said == "a 'b'|ran"
        assert sort.startswith("/nix/store/")
        assert "coreutils" in sort


def test_the_overlay_and_the_module_take_pinned_stages(nix: Installation, scratch: Path) -> None:
    """The module is evaluated with what it uses of nixpkgs' lib, written out here; nixpkgs itself is not to be had."""
    (scratch / "bridge.lock").write_text('{"version": 1, "flakes": {}, "stages": {}}')
    expression = f"""
      let
        nixbridge = import {ROOT}/nix/lib.nix;
        lib = builtins // {{
          toList = x: if builtins.isList x then x else [ x ];
          imap0 = f: list: builtins.genList (n: f n (builtins.elemAt list n)) (builtins.length list);
          mkEnableOption = description: {{ inherit description; }};
          mkOption = x: x;
          mkIf = condition: content: if condition then content else {{ }};
          types = {{ attrsOf = x: x; raw = null; port = null; }};
        }};
        module = import {ROOT}/nix/module.nix {{
          inherit lib;
          pkgs = {{ darkhttpd = "/darkhttpd"; linkFarm = name: links: builtins.toJSON links; }};
          config.services.nixbridge-results = {{
            enable = true;
            port = 80;
            stages = {{ one = "/a"; two = [ "/b" "/c" ]; }};
          }};
        }};
      in {{
        overlay = nixbridge.overlay {scratch}/bridge.lock {{ }} {{ }};
        command = module.config.systemd.services.nixbridge-results.serviceConfig.ExecStart;
        options = builtins.attrNames module.options.services.nixbridge-results;
      }}
    """
    command = [nix.program("nix-instantiate"), "--eval", "--strict", "--json", "--expr", expression]
    done = nix.run(command)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["overlay"] == {"stages": {}}
    assert found["options"] == ["enable", "port", "stages"]
    links = json.loads(found["command"].removeprefix("/darkhttpd/bin/darkhttpd ").removesuffix(" --port 80"))
    assert links == [{"name": "one", "path": "/a"}, {"name": "two", "path": "/b"}, {"name": "two-1", "path": "/c"}]
