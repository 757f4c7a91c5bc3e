"""Mending what `verify` finds.

    modes, times           set as they should be
    an object              taken from another store that has it with the same NAR hash; else dropped, with its records
    a record               taken from another store; else dropped
    a record in the folder of another derivation     put where it belongs
    a record without its output                      the output taken from another store; else dropped
    an index                                         dropped: it is made again

What was dropped is run again by the next realize. A record of a newer release is no damage, and stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge.formats import nar
from bridge.formats.errors import BridgeError
from bridge.formats.store_path import STORE_DIR, base_name

from .canonical import make_canonical
from .durable import disk_errors, sync_folder, write_file
from .errors import StoreError
from .holds import collecting
from .info import ObjectInfo, find_info
from .layout import Store
from .objects import Chunks, add_archive
from .sweep import Sweep, remove, set_aside, take_out
from .trace import is_genuine, read_realization
from .verify import Finding, Report, check_objects, check_records, wrong_address

__all__ = ["Repaired", "repair"]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was wrong, and what was done about it; nothing where nothing could be."""

    finding: Finding
    done: str | None


def repair(
    store: Store,
    *,
    source: Store | None = None,
    elsewhere: Callable[[str], bool] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Repaired]:
    """Mend a store; who is killed meanwhile leaves one that can be mended again.

    Parameters
    ----------
    source
        Another store, from which good objects and records are taken.
    elsewhere
        Whether another store (Nix's) has an object that a record names.

    Raises
    ------
    DiskError
        If the disk refuses.
    """
    objects = Report()
    check_objects(store, objects, on_progress)
    done = [_mended(store, one, source) for one in objects.findings]
    # What was dropped leaves records without outputs.
    records = Report()
    check_records(store, records, elsewhere)
    return done + [_mended(store, one, source) for one in records.findings]


def _mended(store: Store, finding: Finding, source: Store | None) -> Repaired:
    mend = _MEND.get(finding.kind)
    if mend is None:
        return Repaired(finding, None)
    with disk_errors(f"{finding.path} can not be repaired"):
        return Repaired(finding, mend(store, finding, source))


def _status(store: Store, finding: Finding, source: Store | None) -> str:
    make_canonical(store.objects / finding.name)
    return "modes and times set"


def _object(store: Store, finding: Finding, source: Store | None) -> str:
    path = f"{STORE_DIR}/{finding.name}"
    if source is not None and _taken(store, path, source, _info(store, path)):
        return f"taken from {source.root}"
    with collecting(store):
        trees = take_out(store, Sweep(objects=[finding.name]))
    remove(trees)
    return "dropped"


def _info(store: Store, path: str) -> ObjectInfo | None:
    """What is known of an object, if that can be believed."""
    try:
        found = find_info(store.own, path)
    except (StoreError, OSError):
        return None
    return found if found is not None and found.path == path else None


def _taken(store: Store, path: str, source: Store, known: ObjectInfo | None) -> bool:
    """Whether another store gave the object: the very one, by its NAR hash or by its content address."""
    theirs = _info(source, path)
    if theirs is None or not os.path.lexists(source.real_path(path)):
        return False
    if theirs.content_address is None and (known is None or known.nar_hash != theirs.nar_hash):
        return False
    with collecting(store):
        if known != theirs:
            # Damaged, or said wrongly: it is registered anew.
            store.info_file(path).unlink(missing_ok=True)
        aside = set_aside(store, store.real_path(path))
    try:
        add_archive(store, theirs, Chunks(nar.pack_chunks(source.real_path(path))), wrong_address)
    except (BridgeError, OSError):
        # Theirs is damaged as well, or there is no room.
        return False
    finally:
        if aside is not None:
            remove([aside])
    return True


def _record(store: Store, finding: Finding, source: Store | None) -> str:
    file = Path(finding.path)
    theirs = None if source is None else source.trace / file.parent.name / file.name
    if theirs is not None and source is not None and theirs.is_file():
        data = theirs.read_bytes()
        if is_genuine(data, file.stem) and _goes_here(data, file):
            write_file(store, file, data)
            return f"taken from {source.root}"
    _drop(store, file)
    return "dropped"


def _goes_here(data: bytes, file: Path) -> bool:
    try:
        return base_name(read_realization(data, file.stem, str(file)).drv) == file.parent.name
    except BridgeError:
        return False


def _drop(store: Store, file: Path) -> None:
    if file.is_dir():
        raise StoreError(f"{file} is a folder", hint="remove it yourself")
    with collecting(store):
        remove(take_out(store, Sweep(records=[str(file)])))


def _misplaced(store: Store, finding: Finding, source: Store | None) -> str:
    file = Path(finding.path)
    drv = read_realization(file.read_bytes(), file.stem, str(file)).drv
    folder = store.trace / base_name(drv)
    folder.mkdir(exist_ok=True)
    os.replace(file, folder / file.name)
    sync_folder(folder)
    sync_folder(file.parent)
    return f"put among those of {drv}"


def _lost(store: Store, finding: Finding, source: Store | None) -> str | None:
    file, path = Path(finding.path), f"{STORE_DIR}/{finding.name}"
    if not file.exists():
        # With another output of the same realization.
        return "dropped"
    if store.is_valid(path):
        return "its output is there again"
    if source is not None and _taken(store, path, source, None):
        return f"its output taken from {source.root}"
    _drop(store, file)
    return "dropped: the next realize runs it again"


def _index(store: Store, finding: Finding, source: Store | None) -> str:
    Path(finding.path).unlink(missing_ok=True)
    return "dropped: it is made again"


_MEND: dict[str, Callable[[Store, Finding, Store | None], str | None]] = {
    "index": _index,
    "lost": _lost,
    "misplaced": _misplaced,
    "object": _object,
    "record": _record,
    "status": _status,
}
"""By the kind of a finding; of others nobody knows what to do."""
