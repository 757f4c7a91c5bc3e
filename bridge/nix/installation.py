"""Where Nix is on this machine, and where its store's files are.

    NIX_REMOTE                       files of /nix/store/X
    (empty), auto, local, daemon     /nix/store/X
    local?root=R, unix://S?root=R    R/nix/store/X
    /R                               R/nix/store/X

Source: Nix manual, "Local Store", "Local Daemon Store" (`store/types`); `Store::openStore` for `auto`.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from bridge.formats.store_path import STORE_DIR

from .errors import NixError, NixNotFoundError, hint_for, plain

__all__ = ["DEFAULT_SOCKET", "Installation", "find", "require"]

DEFAULT_SOCKET = "/nix/var/nix/daemon-socket/socket"
_STATE_DIR = "/nix/var/nix"
_ASK_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Installation:
    """A Nix that is there: its programs, and the environment they are called with."""

    bin: Path
    """The folder of nix-build and the others."""
    environ: Mapping[str, str] = field(repr=False, hash=False)
    """The whole environment of child processes."""

    @property
    def remote(self) -> str:
        """NIX_REMOTE: which store Nix works on; empty for its own choice."""
        return self.environ.get("NIX_REMOTE", "")

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the store's URL, decoded."""
        _, _, query = self.remote.partition("?")
        # parse_qsl would also turn `+` into a blank, which Nix does not.
        pairs = (pair.partition("=") for pair in query.split("&") if pair)
        return {unquote(key): unquote(value) for key, _, value in pairs}

    @property
    def socket_path(self) -> str:
        """Where the daemon's socket is, whether or not a daemon listens there."""
        scheme, found, rest = self.remote.partition("://")
        path = unquote(rest.partition("?")[0])
        if found and scheme == "unix" and path:
            return path
        if named := self.environ.get("NIX_DAEMON_SOCKET_PATH"):
            return named
        state = self.environ.get("NIX_STATE_DIR")
        return f"{state}/daemon-socket/socket" if state else DEFAULT_SOCKET

    @property
    def root(self) -> Path:
        """What stands before /nix/store on the disk."""
        if root := self.parameters.get("root"):
            return Path(root)
        if self.remote.startswith("/"):
            return Path(self.remote.partition("?")[0])
        if self._is_private():
            data = self.environ.get("XDG_DATA_HOME") or f"{self.environ.get('HOME', '')}/.local/share"
            return Path(data, "nix", "root")
        return Path("/")

    def _is_private(self) -> bool:
        """Whether Nix (2.10 and later) makes a store below the user's home since there is no other."""
        return (
            self.remote in ("", "auto")
            and os.geteuid() != 0
            and not self.environ.get("NIX_STORE_DIR")
            and not self.environ.get("NIX_STATE_DIR")
            and not os.path.exists(_STATE_DIR)
            and not os.path.exists(self.socket_path)
        )

    def real_path(self, store_path: str) -> Path:
        """Where the files of `store_path`, or of something inside of it, are on the disk."""
        root = self.root
        return Path(store_path) if root == Path("/") else root / store_path.lstrip("/")

    def check_store_dir(self) -> None:
        """Refuse a Nix whose store paths do not begin with /nix/store.

        Raises
        ------
        NixError
            The store folder is part of what each path's digest is made of, so that no path would agree.
        """
        named = self.environ.get("NIX_STORE_DIR") or self.environ.get("NIX_STORE") or self.parameters.get("store")
        if named and named.rstrip("/") != STORE_DIR:
            raise NixError(
                f"this Nix has its store at {named}, and nixbridge computes paths of /nix/store only",
                hint="unset NIX_STORE_DIR; for a store in a folder of your own set NIX_REMOTE=local?root=FOLDER",
            )

    def program(self, name: str) -> str:
        """The path of one of Nix's programs.

        Raises
        ------
        NixNotFoundError
            If it is not beside nix-build.
        """
        path = self.bin / name
        if not path.exists():
            raise NixNotFoundError(f"{name} is missing beside {self.bin / 'nix-build'}")
        return str(path)

    def version(self) -> tuple[int, int, int]:
        """The version of Nix, such as (2, 8, 0); asked once."""
        text = _version(self.program("nix-build"))
        found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
        if found is None:
            raise NixError(f"nix-build --version says {text!r}, which holds no version")
        major, minor, patch = found.groups(default="0")
        return int(major), int(minor), int(patch)

    def version_text(self) -> str:
        """The version as Nix writes it, such as `2.8.0` or `2.35.0pre20260101_abcdef`."""
        return _version(self.program("nix-build")).rpartition(" ")[2]

    def config(self) -> dict[str, str]:
        """Nix's settings as they are in force here, by name, as nix.conf spells them."""
        show = ["config", "show"] if self.version() >= (2, 20, 0) else ["show-config"]
        # Not --json: Nix 2.8 prints the experimental features as bare numbers there.
        command = [self.program("nix"), *show, "--extra-experimental-features", "nix-command"]
        done = self.run(command)
        if done.returncode:
            message = plain(done.stderr).strip()
            raise NixError(f"Nix does not show its settings: {message}", hint=hint_for(message))
        pairs = (line.partition("=") for line in done.stdout.splitlines())
        return {name.strip(): value.strip() for name, found, value in pairs if found}

    def run(
        self, command: list[str], *, timeout: float | None = _ASK_TIMEOUT, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a short command of Nix to its end, with `stdin` to read if it is given one.

        Raises
        ------
        NixError
            If it can not be started or takes more than `timeout` seconds.
        """
        try:
            return subprocess.run(
                command,
                env=dict(self.environ),
                input=stdin or "",
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise NixError(f"{' '.join(command[:2])} did not end within {timeout:g} seconds") from error
        except OSError as error:
            raise NixNotFoundError(f"{command[0]} can not be run: {error.strerror or error}") from error


@functools.cache
def _version(program: str) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=_ASK_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NixNotFoundError(f"{program} can not be run: {error}") from error
    return done.stdout.strip()


def find(environ: Mapping[str, str] = os.environ) -> Installation | None:
    """The Nix in PATH, or None; starts no process.

    Parameters
    ----------
    environ
        Where PATH is looked up and what Nix will be called with; copied.
    """
    program = shutil.which("nix-build", path=environ.get("PATH", os.defpath))
    return None if program is None else Installation(Path(program).parent.absolute(), dict(environ))


def require(environ: Mapping[str, str] = os.environ) -> Installation:
    """The Nix in PATH.

    Raises
    ------
    NixNotFoundError
        If there is none.
    """
    found = find(environ)
    if found is None:
        raise NixNotFoundError
    return found
