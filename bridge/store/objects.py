"""Objects entering the store.

    canonical    files 0444 or 0555, folders 0555, mtime 1, no hard links; files, folders, links only
    entering     laid in tmp/ (or built in place), canonicalised and hashed in one walk, synced, renamed,
                 registered; under the path's lock, since two may bring the same object

Source: Nix manual, "File System Object"; NixOS/nix `canonicalisePathMetaData`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bridge.formats import nar
from bridge.formats.errors import NarError
from bridge.formats.hashes import Hash
from bridge.formats.nar.canonical import CANONICAL_TIME, Canonical
from bridge.formats.nar.reader import Readable
from bridge.formats.self_reference import hash_modulo
from bridge.formats.store_path import base_name, content_path, hash_part, name_part, source_path

from .durable import disk_errors, sync_folder, sync_tree, temporary, write_files
from .errors import OutputError
from .holds import hold
from .info import ObjectInfo, find_info, register
from .layout import Store
from .locks import lock
from .references import Scanner
from .sink import Sink

__all__ = [
    "add_archive",
    "add_copy",
    "add_fixed_file",
    "add_fixed_tree",
    "add_nar",
    "add_output",
    "add_texts",
    "register_built",
    "remove_tree",
]

# --------------------------------------------------------------------------- canonicalise and hash


def _readable(root: str) -> None:
    """Let the owner read what a build left unreadable, and list what it left closed."""
    if os.geteuid() == 0 or os.path.islink(root):
        return
    _open_up(root)
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            _open_up(os.path.join(folder, name))


def _open_up(path: str) -> None:
    mode = os.lstat(path).st_mode
    wanted = 0o700 if stat.S_ISDIR(mode) else 0o400
    if not stat.S_ISLNK(mode) and mode & wanted != wanted:
        os.chmod(path, stat.S_IMODE(mode) | wanted)


def _take_in(root: Path, digests: Iterable[str]) -> tuple[Hash, int, set[str]]:
    """Canonicalise, hash, scan and sync the tree at `root`: NAR hash, NAR size, digests found."""
    scanner = Scanner(digests)
    sink = Sink(scanner)
    canonical = Canonical(str(root))
    try:
        _readable(str(root))
        nar.pack(root, sink.write, visit=canonical)
    except NarError as error:
        raise OutputError(error.message, hint=error.hint) from error
    finally:
        digest = sink.finish()
    sync_tree(root.parent, canonical.files, len(canonical.files))
    return digest, sink.size, scanner.found


def _place(store: Store, tree: Path, info: ObjectInfo) -> ObjectInfo:
    """Move a canonical tree to its final place and register it; if it is there already, drop it."""
    target = store.real_path(info.path)
    hold(store, [info.path])
    with lock(store, base_name(info.path)):
        known = find_info(store, info.path)
        if known is not None and tree != target and store.is_valid(info.path):
            remove_tree(tree)
            return known
        if tree != target:
            # Bytes without a record: left by a process that died.
            remove_tree(target)
            os.rename(tree, target)
        try:
            if not target.is_symlink() and target.is_dir():
                os.chmod(target, 0o555)
                os.utime(target, ns=CANONICAL_TIME)
            sync_folder(store.objects)
            register(store, info)
        except BaseException:
            remove_tree(target)
            raise
    return info


def remove_tree(path: Path) -> None:
    """Remove whatever is at `path`, also where it is read-only; nothing if nothing is there."""
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
    with contextlib.suppress(RecursionError):
        for folder, folders, _ in os.walk(path):
            # Before the walk goes on into them: a folder that can not be read would be left out.
            for name in folders:
                with contextlib.suppress(OSError):
                    if not os.path.islink(inner := os.path.join(folder, name)):
                        os.chmod(inner, 0o700)
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        _remove_deep(os.fspath(path))


def _remove_deep(root: str) -> None:
    """Remove a tree that is deeper than paths are long: each folder is moved to the top before it is looked into."""
    pending = [root]
    while pending:
        folder = pending.pop()
        for entry in list(os.scandir(folder)):
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)
                pending.append(f"{root}/{os.urandom(8).hex()}")
                os.rename(entry.path, pending[-1])
            else:
                os.unlink(entry.path)
        if folder != root:
            os.rmdir(folder)
    os.rmdir(root)


@contextlib.contextmanager
def _scratch(store: Store) -> Iterator[Path]:
    path = temporary(store)
    try:
        yield path
    finally:
        remove_tree(path)


# ---------------------------------------------------------------------------------------- entering


def add_nar(
    store: Store, path: str, chunks: Callable[[], Iterable[bytes]], references: tuple[str, ...] = ()
) -> ObjectInfo:
    """Add a source object whose path is known, from its NAR; nothing is read if it is there.

    Raises
    ------
    OutputError
        If what `chunks` gives does not have that path (a file that changed while it was read).
    """
    hold(store, [path])
    known = find_info(store, path)
    if known is not None and store.is_valid(path):
        return known
    with _scratch(store) as tree, disk_errors(f"{path} can not be added to the store"):
        nar.unpack(Chunks(chunks()), tree)
        digest, size, _ = _take_in(tree, ())
        if source_path(name_part(path), digest.hex, references) != path:
            raise OutputError(f"{name_part(path)} changed while it was added to the store", hint="run it again")
        info = ObjectInfo(path, digest, size, references, f"fixed:r:sha256:{digest.nix32}")
        return _place(store, tree, info)


def add_archive(
    store: Store, info: ObjectInfo, stream: Readable, wrong: Callable[[ObjectInfo, Path], str | None]
) -> ObjectInfo:
    """Add an object from elsewhere, of which everything is said, from its NAR.

    Parameters
    ----------
    wrong
        Says what is wrong with the path and the content address of an object whose files are there.

    Raises
    ------
    NarError, OutputError
        If what `stream` gives is not what `info` says; nothing of it stays.
    """
    with _scratch(store) as tree, disk_errors(f"{info.path} can not be added to the store"):
        nar.unpack(stream, tree, trailing=True)
        digests = {hash_part(path): path for path in info.references} if info.content_address is None else {}
        digest, size, found = _take_in(tree, digests)
        if (digest, size) != (info.nar_hash, info.nar_size):
            raise OutputError(f"its archive has the hash {digest.sri}, not {info.nar_hash.sri}")
        if missing := digests.keys() - found:
            raise OutputError(f"it does not refer to {digests[missing.pop()]}, as is said of it")
        message = wrong(info, tree)
        if message is not None:
            raise OutputError(message)
        return _place(store, tree, info)


def add_copy(store: Store, info: ObjectInfo, place: Path) -> ObjectInfo:
    """Add an object that lies in another store.

    Raises
    ------
    OutputError
        If it is not what `info` says.
    """
    # Also where a lower store has it: others are to find it here.
    return add_archive(store.own, info, Chunks(nar.pack_chunks(place)), lambda info, tree: None)


class Chunks:
    """Chunks as a stream."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        part = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return part


def add_texts(store: Store, texts: Iterable[tuple[str, bytes, tuple[str, ...]]]) -> None:
    """Add text objects, such as `.drv` files: path, contents and references of each.

    Raises
    ------
    DiskError
        With none of them half written; on a full disk, with none of them written.
    """
    texts = list(texts)
    hold(store, [path for path, _, _ in texts])
    missing = {path: (text, references) for path, text, references in texts if not store.is_valid(path)}
    if not missing:
        return
    infos = []
    for path, (text, references) in missing.items():
        digest = hashlib.sha256()
        size = 0

        def write(chunk: bytes, digest: hashlib._Hash = digest) -> None:
            nonlocal size
            size += len(chunk)
            digest.update(chunk)

        nar.dump(nar.Regular(text), write)
        content = f"text:sha256:{Hash.of(text).nix32}"
        info = ObjectInfo(path, Hash("sha256", digest.digest()), size, references, content)
        infos.append((store.info_file(path), info.to_bytes()))
    write_files(store, ((store.real_path(path), text) for path, (text, _) in missing.items()), infos)


def add_fixed_file(store: Store, name: str, file: Path, content: Hash) -> ObjectInfo:
    """Move a file whose flat hash was checked into the store as a fixed-output object."""
    path = content_path(name, "flat", content)
    with disk_errors(f"{path} can not be added to the store"):
        os.chmod(file, 0o444)
        digest, size, _ = _take_in(file, ())
        info = ObjectInfo(path, digest, size, (), f"fixed:{content.algorithm}:{content.nix32}")
        return _place(store, file, info)


def add_fixed_tree(store: Store, name: str, tree: Path, content: Hash) -> ObjectInfo:
    """Move a tree into the store as a fixed-output object, by the sha256 of its NAR.

    Raises
    ------
    OutputError
        If it has another hash; nothing of it stays in the store then.
    """
    path = content_path(name, "nar", content)
    with disk_errors(f"{path} can not be added to the store"):
        digest, size, _ = _take_in(tree, ())
        if digest != content:
            raise OutputError(f"it has the hash {digest.sri}, not {content.sri}")
        return _place(store, tree, ObjectInfo(path, digest, size, (), f"fixed:r:sha256:{digest.nix32}"))


def add_output(
    store: Store,
    name: str,
    tree: Path,
    inputs: Iterable[str],
    scratch: str | None = None,
    *,
    positions: bool = True,
) -> ObjectInfo:
    """Move a built tree into the store as a floating content-addressed output (NAR, sha256).

    Parameters
    ----------
    tree
        On the store's file system; gone afterwards.
    inputs
        Store paths that the build could see, which are the ones it can refer to.
    scratch
        The store path that the build took for its own output: where it occurs, the output refers to
        itself, and the final digest takes its place.
    positions
        Whether the places of such references are hashed: as the Nix that is to take the object does it.

    Raises
    ------
    OutputError
        For what can not be a store object, such as a socket.
    DiskError
        With nothing left in the store.
    """
    digests = {hash_part(path): path for path in inputs}
    own = hash_part(scratch) if scratch is not None else None
    with disk_errors(f"the output {name} can not be added to the store"):
        digest, size, found = _take_in(tree, [*digests, *([own] if own else [])])
        references = tuple(sorted(digests[one] for one in found if one != own))
        if own is not None and own in found:
            return _add_self_referring(store, name, tree, references, own, positions)
        info = ObjectInfo(
            source_path(name, digest.hex, references), digest, size, references, f"fixed:r:sha256:{digest.nix32}"
        )
        return _place(store, tree, info)


def _add_self_referring(
    store: Store, name: str, tree: Path, references: tuple[str, ...], own: str, positions: bool
) -> ObjectInfo:
    """Hash the archive with its own digest blanked, then write the final digest in."""
    archive = b"".join(nar.pack_chunks(tree))
    content = hash_modulo(archive, own, positions=positions)
    path = source_path(name, content.hex, references, self_reference=True)
    with _scratch(store) as rewritten:
        final = archive.replace(own.encode(), hash_part(path).encode())
        nar.unpack(Chunks([final]), rewritten)
        remove_tree(tree)
        plain, size, _ = _take_in(rewritten, ())
        info = ObjectInfo(path, plain, size, tuple(sorted((*references, path))), f"fixed:r:sha256:{content.nix32}")
        return _place(store, rewritten, info)


def register_built(store: Store, path: str, inputs: Iterable[str]) -> ObjectInfo:
    """Canonicalise and register an input-addressed output that was built at its final place."""
    digests = {hash_part(one): one for one in (*inputs, path)}
    target = store.real_path(path)
    with disk_errors(f"{path} can not be added to the store"):
        digest, size, found = _take_in(target, digests)
        info = ObjectInfo(path, digest, size, tuple(sorted(digests[one] for one in found)), None)
        return _place(store, target, info)
