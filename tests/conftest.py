"""A real Nix for the tests that need one: on stores of their own, never on the machine's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nixpkgs import stand_in

from bridge.nix.installation import Installation, find

# Tests rewrite modules within a second, which Python's cached bytecode does not notice.
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
# A shell starts what runs in its background deaf to Ctrl-C, and what the tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

NIX_CONF = """\
experimental-features = nix-command flakes ca-derivations
substituters =
build-users-group =
sandbox = true
sandbox-paths = /bin/sh=/bin/busybox
"""
# Not pytest's tmp_path: a socket's path may have 108 bytes only.
SHORT = "/tmp"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("nix-build") is None:
        skip = pytest.mark.skip(reason="Nix is not installed: apt-get install nix-bin busybox-static")
        for item in items:
            if item.get_closest_marker("nix"):
                item.add_marker(skip)


def remove(folder: Path) -> None:
    """Delete a folder with a store in it, whose folders are read-only."""
    for _ in range(20):
        for place, _, _ in os.walk(folder):
            with contextlib.suppress(FileNotFoundError):
                os.chmod(place, 0o700)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        # A daemon that was told to end may still write and delete.
        time.sleep(0.1)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty folder with a short name."""
    folder = Path(tempfile.mkdtemp(prefix="nb", dir=SHORT))
    yield folder
    remove(folder)


@pytest.fixture
def nix(scratch: Path) -> Installation:
    """The installed Nix on an empty store below `scratch`, with its sandbox on."""
    conf = scratch / "conf"
    conf.mkdir()
    (conf / "nix.conf").write_text(NIX_CONF)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NIX_")}
    environ |= {
        "NIX_CONF_DIR": str(conf),
        "NIX_REMOTE": f"local?root={scratch}/root",
        "HOME": str(scratch / "home"),
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "XDG_DATA_HOME": str(scratch / "data"),
        "XDG_CONFIG_HOME": str(scratch / "config"),
    }
    found = find(environ)
    if found is None:
        pytest.skip("Nix is not installed: apt-get install nix-bin busybox-static")
    # Two programs that make the same new store at the same time get into each other's way.
    found.run([found.program("nix-store"), "--init"]).check_returncode()
    return found


@pytest.fixture
def nixpkgs(nix: Installation, scratch: Path) -> Path:
    """The folder of a flake that stands in for nixpkgs, and that Nix's registry knows as `nixpkgs`."""
    flake = stand_in(nix, scratch)
    registry = scratch / "registry.json"
    known = {"from": {"type": "indirect", "id": "nixpkgs"}, "to": {"type": "path", "path": str(flake)}}
    registry.write_text(json.dumps({"version": 2, "flakes": [known]}))
    with (scratch / "conf" / "nix.conf").open("a") as conf:
        conf.write(f"flake-registry = {registry}\n")
    return flake


@pytest.fixture
def daemon(nix: Installation, scratch: Path) -> Iterator[Installation]:
    """The same store behind a daemon of its own."""
    place = scratch / "socket"
    with subprocess.Popen(
        [nix.program("nix-daemon")],
        env={**nix.environ, "NIX_DAEMON_SOCKET_PATH": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    ) as process:
        try:
            wait_for_socket(place)
            yield replace(nix, environ={**nix.environ, "NIX_REMOTE": f"unix://{place}?root={scratch}/root"})
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for_socket(place: Path, seconds: float = 10.0) -> None:
    """Wait until something listens at `place`."""
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(str(place))
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.01)
