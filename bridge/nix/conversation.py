"""The worker protocol: how a client talks to Nix's daemon.

    connection   handshake { operation }
    handshake    0x6e697863 version →  ← 0x6478696f version  [features → ← features]
                 0 0 →  ← nix version [trust] stderr
    operation    int number, arguments →  ← stderr, result
    stderr       { NEXT str | START … | STOP id | RESULT … | READ int | WRITE str } ( LAST | ERROR … )
    version      0x100 | minor: 34 is Nix 2.8, 35 is 2.15, 37 is 2.20, 38 is 2.24 and later

The same over the daemon's socket and over the standard streams of `nix-daemon --stdio`. We announce no
features, which keeps the format of 2.34 with every later Nix.

Source: NixOS/nix `src/libstore/{daemon,remote-store,worker-protocol}.cc`; the manual has no chapter on it.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Self

from . import wire
from .activity import INFO
from .errors import NixConnectionError, NixDaemonError, hint_for, plain
from .transport import HANDSHAKE_TIMEOUT, Child, Incoming, silence

__all__ = ["CHUNK", "TIMEOUT", "Conversation"]

_CLIENT_MAGIC, _SERVER_MAGIC = 0x6E697863, 0x6478696F
_MAJOR = 0x100
_MINOR = 38
_OLDEST = 32
"""Nix 2.4: framed uploads, structured errors, derivation outputs."""

_LOG_LINES = (101, 107)

TIMEOUT = 600.0
"""Seconds that Nix may be silent within an operation."""

_AGAIN = "connect again; the log of the Nix daemon may say more (journalctl -u nix-daemon)"
_GRACE = 2.0
"""Seconds that the child may take to end by itself."""

CHUNK = 1 << 20
"""Bytes that are sent at once."""


class _Say:
    """What Nix may send before an answer."""

    NEXT = 0x6F6C6D67
    READ = 0x64617461
    WRITE = 0x64617416
    LAST = 0x616C7473
    ERROR = 0x63787470
    START = 0x53545254
    STOP = 0x53544F50
    RESULT = 0x52534C54


class Conversation:
    """A connection to Nix; use it in a `with`. Threads may share it, they wait for each other.

    Attributes
    ----------
    version
        The minor version of the protocol that both sides speak.
    nix_version
        The daemon's Nix, such as `2.8.0`.
    trusted
        Whether the daemon trusts us; None if it does not say (before Nix 2.15).
    """

    def __init__(
        self,
        link: socket.socket,
        child: Child | None = None,
        *,
        timeout: float = TIMEOUT,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self._link = link
        self._child = child
        self._on_line = on_line
        self._timeout = min(timeout, HANDSHAKE_TIMEOUT)
        self._stream = io.BufferedReader(Incoming(link), 1 << 16)
        self._in = wire.Reader(self._stream)
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._closed = False
        self._lost: str | None = None
        self._refused: NixDaemonError | None = None
        self.version = 0
        self.nix_version = ""
        self.trusted: bool | None = None
        try:
            with self._operation("connect"):
                self._handshake()
            self._timeout = timeout
            link.settimeout(timeout)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"lost: {self._lost}" if self._lost else f"Nix {self.nix_version}, protocol 1.{self.version}"
        return f"<Connection to {'a child' if self._child else 'the daemon'}, {state}>"

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The child that serves us, if it is not the machine's daemon."""
        return None if self._child is None else self._child.process

    def close(self) -> None:
        """End the connection, and the child if there is one; its temporary roots end with it."""
        self._closed = True
        self._give_up("it was closed")
        if self._child is not None:
            self._child.end(_GRACE)
            self._child.stderr.close()

    # The connection's life

    @contextlib.contextmanager
    def _operation(self, op: str) -> Iterator[None]:
        """Everything that `op` sends and receives; what leaves the stream in an unknown state ends the connection."""
        me = threading.get_ident()
        if self._owner == me:
            raise NixConnectionError(
                f"can not {op} while another operation of this connection is under way",
                hint="open a second connection, or collect the data first",
            )
        with self._lock:
            if self._lost is not None:
                raise NixConnectionError(
                    f"can not {op}: the connection to Nix is gone, {self._lost}", hint="connect again"
                )
            self._owner = me
            try:
                yield
            except NixDaemonError as error:
                self._refused = error
                raise
            except (OSError, NixConnectionError) as error:
                if self._closed:
                    raise NixConnectionError(f"can not {op}: the connection was closed meanwhile") from error
                if self._lost is not None:
                    # Given up already, for a fault that is not the connection's.
                    raise
                raise self._broken(op, error) from error
            except BaseException as error:
                self._give_up(f"{type(error).__name__} interrupted the attempt to {op}")
                raise
            else:
                self._refused = None
            finally:
                self._owner = None

    def _broken(self, op: str, error: OSError | NixConnectionError) -> NixConnectionError:
        """The error for a connection that broke, with what is known about why."""
        if isinstance(error, NixConnectionError):
            reason = error.message
        elif isinstance(error, TimeoutError):
            reason = silence(self._timeout)
        else:
            reason = f"Nix closed the connection ({error.strerror or error})"
        if self._refused is not None:
            reason += f", after it said: {self._refused.message}"
        self._give_up(reason)
        said = ""
        if self._child is not None:
            early = self._child.wait(_GRACE / 4)
            self._child.end(0)
            said = self._child.tail()
            status = self._child.process.returncode
            if status is not None and status < 0 and early:
                reason += f"; nix-daemon was ended by signal {-status}"
            if said:
                reason += f"; nix-daemon said: {said}"
        return NixConnectionError(
            f"the connection to Nix broke (trying to {op}): {reason}",
            hint=hint_for(said, f"{_AGAIN}, and allowed-users in its nix.conf who may" if op == "connect" else _AGAIN),
        )

    def _give_up(self, reason: str) -> None:
        if self._lost is None:
            self._lost = reason
            with contextlib.suppress(OSError):
                self._link.shutdown(socket.SHUT_RDWR)
            self._link.close()

    def _handshake(self) -> None:
        self._link.settimeout(self._timeout)
        self._link.sendall(wire.integer(_CLIENT_MAGIC) + wire.integer(_MAJOR | _MINOR))
        magic = self._in.integer()
        if magic != _SERVER_MAGIC:
            raise NixConnectionError(f"what listens is no Nix daemon: it began with {magic:#x}")
        version = self._in.integer()
        if version & ~0xFF != _MAJOR or version & 0xFF < _OLDEST:
            raise NixConnectionError(
                f"the daemon speaks version {version >> 8}.{version & 0xFF} of the protocol; "
                f"nixbridge speaks 1.{_OLDEST} (Nix 2.4) and later"
            )
        self.version = min(_MINOR, version & 0xFF)
        if self.version >= 38:
            self._link.sendall(wire.strings(()))
            self._in.strings()
        # CPU affinity and reserved space: both obsolete, both still expected.
        self._link.sendall(wire.integer(0) + wire.integer(0))
        if self.version >= 33:
            self.nix_version = self._in.string()
        if self.version >= 35:
            self.trusted = {1: True, 2: False}.get(self._in.integer())
        self._until_last("connect")

    # What Nix says before it answers

    def _until_last(self, op: str) -> None:
        while not self._message(op):
            pass

    def _message(self, op: str) -> bool:
        """Take one message; whether it was the last."""
        read = self._in
        match read.integer():
            case _Say.LAST:
                return True
            case _Say.ERROR:
                raise self._error(op)
            case _Say.NEXT:
                self._say(read.string())
            case _Say.START:
                read.integer()
                level = read.integer()
                read.integer()
                text = read.string()
                self._fields()
                read.integer()
                if level <= INFO:
                    self._say(text)
            case _Say.STOP:
                read.integer()
            case _Say.RESULT:
                read.integer()
                kind = read.integer()
                fields = self._fields()
                if kind in _LOG_LINES and fields:
                    self._say(str(fields[0]))
            case _Say.WRITE:  # data of an old way of export
                read.data()
            case _Say.READ:  # the daemon asks for data of an old way of import
                raise NixConnectionError("Nix asks for data that there is none of")
            case code:
                raise NixConnectionError(f"Nix sent the message {code:#x}, which the worker protocol does not know")
        return False

    def _say(self, text: str) -> None:
        if self._on_line is not None:
            for line in plain(text).splitlines():
                if line.strip():
                    self._on_line(line.rstrip())

    def _fields(self) -> list[int | str]:
        read = self._in
        return [read.string() if read.integer() else read.integer() for _ in range(read.count())]

    def _error(self, op: str) -> NixDaemonError:
        read = self._in
        read.string()  # always "Error"
        level = read.integer()
        read.string()  # the name, always "Error" too
        message = read.string()
        read.integer()  # whether a position follows; Nix never sends one
        traces = []
        for _ in range(read.count()):
            read.integer()
            traces.append(read.string())
        return NixDaemonError(message, op=op, level=level, traces=traces)

    def _request(self, op: str, number: int, *arguments: bytes) -> None:
        """Send a request without a stream and take what Nix says, up to its answer."""
        self._link.sendall(wire.integer(number) + b"".join(arguments))
        self._until_last(op)

    def _upload(self, op: str, frames: Iterable[bytes]) -> None:
        """Send frames and listen meanwhile: Nix may talk, or refuse before it has it all."""
        link = self._link
        source = iter(frames)
        rest = memoryview(b"")
        last = False
        link.setblocking(False)
        poll = select.poll()  # select() fails where a process has many files open
        poll.register(link, select.POLLIN | select.POLLOUT)
        try:
            while not last:
                try:
                    frame = next(source)
                except BaseException as error:
                    # The protocol has no way to take back half an object.
                    self._give_up(f"what was to be sent could not be read ({error})")
                    raise
                last = len(frame) == wire.EMPTY
                rest = memoryview(frame)
                while rest:
                    ready = poll.poll(self._timeout * 1000)
                    if not ready:
                        raise TimeoutError
                    ((_, state),) = ready
                    if state & ~select.POLLOUT:
                        self._listen(op)
                    if state & ~select.POLLIN:
                        rest = rest[self._send(op, rest) :]
        except NixDaemonError:
            # Nix reads on to the end of the upload before it takes another request.
            link.settimeout(self._timeout)
            with contextlib.suppress(OSError):
                link.sendall(bytes(rest) + (b"" if last else wire.integer(0)))
            raise
        finally:
            if self._lost is None:
                link.settimeout(self._timeout)

    def _send(self, op: str, data: memoryview) -> int:
        try:
            return self._link.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            # What Nix said before it hung up tells more than the broken pipe.
            self._listen(op)
            raise

    def _listen(self, op: str) -> None:
        """Take the messages that are there."""
        while self._stream.peek(1):
            self._link.settimeout(self._timeout)
            try:
                if self._message(op):
                    raise NixConnectionError("Nix answered before it had the whole upload")
            finally:
                self._link.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            if not self._link.recv(1, socket.MSG_PEEK):
                # A poll would call this end readable for ever.
                raise NixConnectionError("Nix closed the connection")
