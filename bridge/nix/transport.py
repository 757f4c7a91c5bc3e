"""The way to Nix: the socket of its daemon, or `nix-daemon --stdio` as a child.

A connection is one socket either way. Only `unix://` and `local` stores are talked to.

Source: NixOS/nix `src/libstore/{uds-remote-store,store-api}.cc`; manual, "Store types".
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from .errors import NixConnectionError, plain
from .installation import Installation

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["HANDSHAKE_TIMEOUT", "Child", "Incoming", "open_transport", "silence"]

HANDSHAKE_TIMEOUT = 30.0
"""Seconds that Nix may take to answer at all."""

_GRACE = 2.0
"""Seconds that the child may take to end when it is asked to."""

_TAIL = 4000
"""How many bytes of the child's stderr an error quotes at most."""


@dataclass(slots=True)
class Child:
    """`nix-daemon --stdio` and the file that its stderr goes to."""

    process: subprocess.Popen[bytes]
    stderr: IO[bytes]

    def end(self, grace: float) -> None:
        """Let it end by itself for `grace` seconds, then make it."""
        if not self.wait(grace):
            self.process.terminate()
            if not self.wait(_GRACE):
                self.process.kill()
                self.process.wait()

    def wait(self, seconds: float) -> bool:
        """Whether it ends within `seconds`."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def tail(self) -> str:
        """The end of what it said on stderr."""
        size = self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, size - _TAIL))
        return plain(self.stderr.read().decode("utf-8", "replace")).strip()


def open_transport(installation: Installation) -> tuple[socket.socket, Child | None]:
    remote = installation.remote
    scheme, found, _ = remote.partition("://")
    named = remote == "daemon" or (found and scheme == "unix")
    if found and scheme not in ("unix", "local"):
        raise NixConnectionError(
            f"NIX_REMOTE is {remote}, a store of another kind than nixbridge talks to",
            hint="unset NIX_REMOTE, or set it to daemon, unix://SOCKET or local?root=FOLDER",
        )
    # `local?…` and `/folder` name a store of their own, which a daemon of the machine does not serve.
    if named or remote in ("", "auto"):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(HANDSHAKE_TIMEOUT)
            link.connect(installation.socket_path)
        except (OSError, ValueError) as error:
            link.close()
            if named:
                raise NixConnectionError(
                    f"no Nix daemon listens at {installation.socket_path}: {getattr(error, 'strerror', None) or error}",
                    hint="start it (systemctl start nix-daemon), or unset NIX_REMOTE if you may write to the store",
                ) from error
        else:
            return link, None
    return _spawn(installation)


def _spawn(installation: Installation) -> tuple[socket.socket, Child]:
    environ = dict(installation.environ)
    if installation.remote in ("", "auto"):
        # Left to choose, a daemon may take the socket for its store and so connect to itself, again and again.
        root = str(installation.root)
        environ["NIX_REMOTE"] = "local" if root == "/" else f"local?root={root}"
    # Derivations of Python stages are content-addressed; adding them builds nothing.
    environ["NIX_CONFIG"] = f"{environ.get('NIX_CONFIG', '')}\nextra-experimental-features = ca-derivations\n"
    ours, theirs = socket.socketpair()
    stderr = tempfile.TemporaryFile(prefix="nixbridge-")  # noqa: SIM115 - lives as long as the child
    try:
        process = subprocess.Popen(
            [installation.program("nix-daemon"), "--stdio"],
            env=environ,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=stderr,
            process_group=0,  # a Ctrl-C is ours to handle
        )
    except BaseException as error:
        ours.close()
        stderr.close()
        if isinstance(error, OSError):
            raise NixConnectionError(f"nix-daemon can not be started: {error.strerror or error}") from error
        raise
    finally:
        theirs.close()
    return ours, Child(process, stderr)


class Incoming(io.RawIOBase):
    """The socket as Python's buffered reader wants it."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        try:
            return self._link.recv_into(buffer)
        except BlockingIOError:
            return None
        except TimeoutError:
            raise NixConnectionError(silence(self._link.gettimeout())) from None
        except OSError as error:
            raise NixConnectionError(f"Nix closed the connection ({error.strerror or error})") from error


def silence(seconds: float | None) -> str:
    return f"Nix said nothing for {seconds or 0:g} seconds"
