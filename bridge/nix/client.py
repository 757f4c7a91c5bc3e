"""The operations of Nix's daemon that nixbridge uses; see `conversation` for the protocol around them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from bridge.formats import nar, store_path
from bridge.formats.errors import HashError
from bridge.formats.hashes import ALGORITHMS, Hash

from . import wire
from .activity import INFO
from .conversation import CHUNK, TIMEOUT, Conversation
from .errors import NixConnectionError, NixError, NixMissingPathError
from .installation import Installation
from .transport import open_transport

__all__ = ["Connection", "PathInfo", "connect"]

T = TypeVar("T")

_METHOD = re.compile(rf"text:sha256|fixed:(?:r:|git:)?(?:{'|'.join(ALGORITHMS)})")


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
    ADD_TO_STORE_NAR = 39
    QUERY_DERIVATION_OUTPUT_MAP = 41


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
    installation: Installation, *, timeout: float = TIMEOUT, on_line: Callable[[str], None] | None = None
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
    return Connection(*open_transport(installation), timeout=timeout, on_line=on_line)


class Connection(Conversation):
    """A connection to Nix; use it in a `with`. Threads may share it, they wait for each other."""

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
        deriver = read.string() or None
        try:
            nar_hash = Hash.parse(read.string(), "sha256")
        except HashError as error:
            raise NixConnectionError(f"Nix sent no hash for {path}: {error.message}") from error
        return PathInfo(
            path=path,
            deriver=deriver,
            nar_hash=nar_hash,
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

    def add_nar_to_store(self, info: PathInfo, chunks: Iterable[bytes]) -> None:
        """Add an object whose path is known: one that refers to itself can come in no other way.

        Nix checks that the archive has the hash of `info`, and a content-addressed one the path.

        Parameters
        ----------
        info
            Time, signatures and deriver too are Nix's to keep.
        chunks
            The archive; sent as it comes, in constant memory.
        """
        op = f"add {store_path.name_part(_checked(info.path))}"
        refers = sorted({_checked(path) for path in info.references})
        with self._operation(op):
            self._link.sendall(
                wire.integer(Op.ADD_TO_STORE_NAR)
                + wire.string(info.path)
                + wire.string(info.deriver or "")
                + wire.string(info.nar_hash.hex)
                + wire.strings(refers)
                + wire.integer(info.registration_time)
                + wire.integer(info.nar_size)
                + wire.boolean(info.ultimate)
                + wire.strings(list(info.signatures))
                + wire.string(info.ca or "")
                + wire.boolean(False)
                + wire.boolean(True)
            )
            self._upload(op, wire.frames(chunks))
            self._until_last(op)

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
                while stream.read(CHUNK):
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
