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
import os
import re
import select
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TypeVar

from bridge.formats import nar, store_path
from bridge.formats.hashes import ALGORITHMS, Hash

from . import wire
from .activity import INFO
from .errors import NixConnectionError, NixDaemonError, NixError, NixMissingPathError, hint_for, plain
from .installation import Installation

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Connection", "PathInfo", "connect"]

T = TypeVar("T")

_CLIENT_MAGIC, _SERVER_MAGIC = 0x6E697863, 0x6478696F
_MAJOR = 0x100
_MINOR = 38
_OLDEST = 32
"""Nix 2.4: framed uploads, structured errors, derivation outputs."""

_METHOD = re.compile(rf"text:sha256|fixed:(?:r:|git:)?(?:{'|'.join(ALGORITHMS)})")
_LOG_LINES = (101, 107)

_HANDSHAKE_TIMEOUT = 30.0
_TIMEOUT = 600.0
_GRACE = 2.0
_CHUNK = 1 << 20
_TAIL = 4000
"""How many bytes of the child's stderr an error quotes at most."""


class Op:
    """The numbers of the operations."""

    IS_VALID_PATH = 1
    ADD_TO_STORE = 7
    ENSURE_PATH = 10
    ADD_TEMP_ROOT = 11
    ADD_INDIRECT_ROOT = 12
    SET_OPTIONS = 19
    QUERY_PATH_INFO = 26
    QUERY_VALID_PATHS = 31
    NAR_FROM_PATH = 38
    QUERY_DERIVATION_OUTPUT_MAP = 41


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


@dataclass(frozen=True, slots=True)
class PathInfo:
    """What Nix knows about a store object."""

    path: str
    deriver: str | None
    """The derivation that made it, which may be gone."""
    nar_hash: Hash
    references: tuple[str, ...]
    """Sorted; holds `path` itself if the object refers to itself."""
    registration_time: int
    """Seconds since 1970."""
    nar_size: int
    """Bytes."""
    ultimate: bool
    """Whether it was built here."""
    signatures: tuple[str, ...]
    ca: str | None
    """What its path was computed from, such as `fixed:r:sha256:…`; None for an input-addressed object."""


def connect(
    installation: Installation, *, timeout: float = _TIMEOUT, on_line: Callable[[str], None] | None = None
) -> Connection:
    """Connect to Nix: to its daemon where one listens, else to one of our own.

    Parameters
    ----------
    timeout
        How many seconds Nix may be silent within one operation.
    on_line
        Called with what Nix says meanwhile, a line at a time and without colours.

    Raises
    ------
    NixConnectionError
        If there is nothing to connect to.
    """
    return Connection(*_open(installation), timeout=timeout, on_line=on_line)


@dataclass(slots=True)
class _Child:
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


def _open(installation: Installation) -> tuple[socket.socket, _Child | None]:
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
            link.settimeout(_HANDSHAKE_TIMEOUT)
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


def _spawn(installation: Installation) -> tuple[socket.socket, _Child]:
    environ = dict(installation.environ)
    if installation.remote in ("", "auto"):
        # Left to choose, a daemon may take the socket for its store and so connect to itself, again and again.
        root = str(installation.root)
        environ["NIX_REMOTE"] = "local" if root == "/" else f"local?root={root}"
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
    return ours, _Child(process, stderr)


class _Raw(io.RawIOBase):
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
            raise NixConnectionError(_silence(self._link.gettimeout())) from None
        except OSError as error:
            raise NixConnectionError(f"Nix closed the connection ({error.strerror or error})") from error


def _silence(seconds: float | None) -> str:
    return f"Nix said nothing for {seconds or 0:g} seconds"


class Connection:
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
        child: _Child | None = None,
        *,
        timeout: float = _TIMEOUT,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self._link = link
        self._child = child
        self._on_line = on_line
        self._timeout = min(timeout, _HANDSHAKE_TIMEOUT)
        self._stream = io.BufferedReader(_Raw(link), 1 << 16)
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

    def __enter__(self) -> Connection:
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
            reason = _silence(self._timeout)
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
            hint=hint_for(said, "connect again; the log of the Nix daemon may say more (journalctl -u nix-daemon)"),
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

    # Operations

    def set_options(
        self,
        *,
        keep_failed: bool = False,
        keep_going: bool = False,
        fallback: bool = False,
        verbosity: int = INFO,
        max_jobs: int = 1,
        cores: int = 0,
        max_silent_time: int = 0,
        substitutes: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Set the daemon's options for this connection; without this call its nix.conf holds.

        Parameters
        ----------
        max_silent_time
            Seconds.
        settings
            More settings by name; the daemon ignores, with a warning, those that it does not trust us with.
        """
        pairs = sorted((settings or {}).items())
        # Obsolete ones are 1 (build hooks), 0 0 (log type, trace); the 0 before those shows the logs of builds.
        numbers = [keep_failed, keep_going, fallback, verbosity, max_jobs, max_silent_time, 1, 0, 0, 0]
        numbers += [cores, substitutes, len(pairs)]
        with self._operation("set options"):
            self._request(
                "set options",
                Op.SET_OPTIONS,
                *(wire.integer(int(number)) for number in numbers),
                *(wire.string(text) for pair in pairs for text in pair),
            )

    def is_valid_path(self, path: str) -> bool:
        """Whether Nix has the store object."""
        with self._path_operation(Op.IS_VALID_PATH, "look for", path):
            return self._in.boolean()

    def query_valid_paths(self, paths: Iterable[str], *, substitute: bool = False) -> set[str]:
        """Those of `paths` that Nix has, or can substitute if asked to."""
        wanted = sorted({_checked(path) for path in paths})
        with self._operation("query valid paths"):
            arguments = wire.strings(wanted) + wire.boolean(substitute)
            self._request("query valid paths", Op.QUERY_VALID_PATHS, arguments)
            return set(self._in.strings())

    def query_path_info(self, path: str) -> PathInfo | None:
        """What Nix knows about a store object; None if it does not have it."""
        with self._path_operation(Op.QUERY_PATH_INFO, "query", path):
            return self._path_info(path) if self._in.boolean() else None

    def _path_info(self, path: str) -> PathInfo:
        read = self._in
        return PathInfo(
            path=path,
            deriver=read.string() or None,
            nar_hash=Hash.parse(read.string(), "sha256"),
            references=tuple(sorted(read.strings())),
            registration_time=read.integer(),
            nar_size=read.integer(),
            ultimate=read.boolean(),
            signatures=tuple(read.strings()),
            ca=read.string() or None,
        )

    def closure(self, paths: Iterable[str]) -> dict[str, PathInfo]:
        """Everything that `paths` refer to, directly or not, with themselves.

        Raises
        ------
        NixMissingPathError
            For a path that Nix does not have.
        """
        found: dict[str, PathInfo] = {}
        level = sorted(set(paths))
        while level:
            for path in level:
                info = self.query_path_info(path)
                if info is None:
                    raise NixMissingPathError(path)
                found[path] = info
            level = sorted({to for path in level for to in found[path].references if to not in found})
        return found

    def add_to_store(
        self, name: str, method_algorithm: str, references: Iterable[str], chunks: Iterable[bytes]
    ) -> PathInfo:
        """Add a content-addressed object; Nix computes its path.

        Parameters
        ----------
        method_algorithm
            `fixed:r:sha256` (the chunks are a NAR), `fixed:sha256` (a file's contents) or `text:sha256`.
        references
            Store paths that the object refers to; Nix must have them.
        chunks
            Sent as they come, in constant memory. If they raise, the connection is given up and a NAR
            is not added; the part of a plain file may remain, under the path of that part (Nix 2.8 takes
            a lost connection for the file's end).
        """
        store_path.check_name(name)
        if not _METHOD.fullmatch(method_algorithm):
            # Nix would not read the upload that follows, and both sides would wait.
            raise NixError(
                f"{method_algorithm!r} is no method and algorithm that Nix knows",
                hint="such as fixed:r:sha256 (an archive), fixed:sha256 (a file) or text:sha256",
            )
        refers = sorted({_checked(path) for path in references})
        op = f"add {name}"
        with self._operation(op):
            self._link.sendall(
                wire.integer(Op.ADD_TO_STORE)
                + wire.string(name)
                + wire.string(method_algorithm)
                + wire.strings(refers)
                + wire.boolean(False)
            )
            self._upload(op, wire.frames(chunks))
            self._until_last(op)
            return self._path_info(self._in.string())

    def add_text(self, name: str, text: bytes, references: Iterable[str] = ()) -> PathInfo:
        """Add a text object, as `builtins.toFile` does."""
        return self.add_to_store(name, "text:sha256", references, (text,))

    def add_derivation(self, name: str, aterm: bytes, references: Iterable[str]) -> PathInfo:
        """Add a store derivation.

        Parameters
        ----------
        name
            With `.drv` at its end.
        aterm
            The file's bytes.
        references
            Its input derivations and input sources.
        """
        if not name.endswith(".drv"):
            raise NixError(f"the name of a store derivation must end in .drv, {name!r} does not")
        return self.add_text(name, aterm, references)

    def nar_from_path(self, path: str, write_to: Callable[[wire.Readable], T]) -> T:
        """Hand the archive of a store object to `write_to`, as a stream that ends where the archive ends.

        What `write_to` leaves unread is skipped. If it raises, the connection is given up.
        """
        with self._path_operation(Op.NAR_FROM_PATH, "read", path):
            stream = _NarStream(self._in)
            try:
                result = write_to(stream)
                while stream.read(_CHUNK):
                    pass
            except NixConnectionError:
                raise
            except BaseException as error:
                self._give_up(f"the archive of {path} could not be used ({error})")
                raise
            return result

    def add_temp_root(self, path: str) -> None:
        """Keep a path, present or future, from the garbage collector as long as this connection lasts."""
        with self._path_operation(Op.ADD_TEMP_ROOT, "keep", path):
            self._in.integer()

    def add_indirect_root(self, link: str | os.PathLike[str]) -> None:
        """Make the symbolic link at `link`, an absolute path, a root of the garbage collector.

        Whoever deletes the link deletes the root.
        """
        place = os.fspath(link)
        if not os.path.isabs(place):
            raise NixError(f"a root of the garbage collector must be an absolute path, {place!r} is not")
        op = f"make {place} a root"
        with self._operation(op):
            self._request(op, Op.ADD_INDIRECT_ROOT, wire.string(place))
            self._in.integer()

    def ensure_path(self, path: str) -> None:
        """Have Nix get the object from a substituter if it does not have it."""
        with self._path_operation(Op.ENSURE_PATH, "get", path):
            self._in.integer()

    def query_derivation_output_map(self, drv_path: str) -> dict[str, str | None]:
        """The path of each output of a derivation; None where it is not known before the build."""
        with self._path_operation(Op.QUERY_DERIVATION_OUTPUT_MAP, "query the outputs of", drv_path):
            read = self._in
            return {read.string(): read.string() or None for _ in range(read.count())}

    @contextlib.contextmanager
    def _path_operation(self, number: int, verb: str, path: str) -> Iterator[None]:
        """An operation whose one argument is a store path."""
        # The daemon ends the connection on a path that it can not read, so we look first.
        _checked(path)
        op = f"{verb} {path}"
        with self._operation(op):
            self._request(op, number, wire.string(path))
            yield


def _checked(path: str) -> str:
    store_path.parse(path)
    return path


class _NarStream:
    """An archive out of a stream that goes on behind it: its structure tells where it ends."""

    def __init__(self, source: wire.Reader) -> None:
        self._source = source
        self._buffer = bytearray()
        self._steps = self._parse()

    def _parse(self) -> Iterator[None]:
        tap = _Tap(self._source, self._buffer)
        for entry in nar.read(tap, trailing=True):
            yield
            if isinstance(entry, nar.RegularEntry):
                for _ in entry.chunks:
                    yield

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the end of the archive."""
        buffer = self._buffer
        while (size < 0 or len(buffer) < size) and next(self._steps, self) is None:
            pass
        taken = bytes(buffer) if size < 0 else bytes(buffer[:size])
        del buffer[: len(taken)]
        return taken


class _Tap:
    """Passes reads on and keeps a copy of what came."""

    def __init__(self, source: wire.Reader, copy: bytearray) -> None:
        self._source = source
        self._copy = copy

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._copy += data
        return data
