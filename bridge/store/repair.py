"""Mending what `verify` finds.

    modes, times            set as they should be
    an object               taken from another store that has it with the same NAR hash; else dropped, with its records
                            and with all that refers to it
    an object's reference   what it leads to is taken from another store; else the object is dropped, likewise
    a record                taken from another store; else dropped; in another derivation's folder, put where it belongs
    a record's output       taken from another store; else the record is dropped
    a tag, a kept plan      no longer names realizations that are gone
    an index                dropped: it is made again

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
from .dangling import Referrers, losses, lost_by, refer_to, with_referrers
from .durable import disk_errors, sync_folder, write_file
from .errors import StoreError
from .holds import collecting
from .info import ObjectInfo, find_info
from .layout import Store
from .objects import Chunks, add_archive
from .roots import forget, root_file
from .sweep import Sweep, remove, set_aside, take_out
from .trace import is_genuine, read_realization
from .verify import Finding, Report, check_objects, check_records, check_references, check_roots, wrong_address

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
    repairing = _Repairing(store, source, elsewhere)
    done: list[Repaired] = []
    # What is dropped of one kind is missed by the next.
    checks: list[Callable[[Report], None]] = [
        lambda report: check_objects(store, report, on_progress),
        lambda report: check_references(store, report, elsewhere),
        lambda report: check_records(store, report, elsewhere),
        lambda report: check_roots(store, report),
    ]
    for check in checks:
        report = Report()
        check(report)
        done += map(repairing.mended, report.findings)
    return done


@dataclass(slots=True)
class _Repairing:
    """The store that is mended; `source` and `elsewhere` as of `repair`."""

    store: Store
    source: Store | None
    elsewhere: Callable[[str], bool] | None
    _referrers: Referrers | None = None

    def mended(self, finding: Finding) -> Repaired:
        mend = _MEND.get(finding.kind)
        if mend is None:
            return Repaired(finding, None)
        with disk_errors(f"{finding.path} can not be repaired"):
            return Repaired(finding, mend(self, finding))

    def drop_object(self, name: str) -> str:
        """Drop an object, with what refers to it unless others have the object; gives what was done, in words."""
        path = f"{STORE_DIR}/{name}"
        others = any(layer.has(path) for layer in self.store.lower) or (self.elsewhere or _nowhere)(path)
        if self._referrers is None:
            # What is dropped meanwhile stays in it, which does no harm: it is dropped once.
            self._referrers = refer_to(self.store)
        names = [name] if others else with_referrers(self._referrers, [name])
        there = [one for one in names if (self.store.info / f"{one}.json").exists() or one == name]
        with collecting(self.store):
            trees = take_out(self.store, Sweep(objects=there))
        remove(trees)
        users = [one for one in there if one != name]
        return f"dropped, with {', '.join(users)}, which refer to it" if users else "dropped"


def _nowhere(path: str) -> bool:
    return False


def _status(repairing: _Repairing, finding: Finding) -> str:
    make_canonical(repairing.store.objects / finding.name)
    return "modes and times set"


def _object(repairing: _Repairing, finding: Finding) -> str | None:
    store, source = repairing.store, repairing.source
    path = f"{STORE_DIR}/{finding.name}"
    if not os.path.lexists(store.info / f"{finding.name}.json"):
        # With another one that it refers to.
        return "dropped"
    if source is not None and _taken(store, path, source, _info(store, path)):
        return f"taken from {source.root}"
    return repairing.drop_object(finding.name)


def _reference(repairing: _Repairing, finding: Finding) -> str:
    store, source = repairing.store, repairing.source
    info = _info(store, f"{STORE_DIR}/{finding.name}")
    if info is None:
        return "dropped"
    lost = list(filter(losses(store, repairing.elsewhere), info.references))
    if source is not None and all(_taken_with_closure(repairing, path, source) for path in lost):
        return f"what it refers to taken from {source.root}"
    return repairing.drop_object(finding.name)


def _taken_with_closure(repairing: _Repairing, path: str, source: Store) -> bool:
    """Whether another store gave an object with all that it refers to, what is referred to first.

    What it has not itself may be in Nix.
    """
    store = repairing.store
    is_lost = losses(store, repairing.elsewhere)
    pending = [(path, False)]
    while pending:
        one, ready = pending.pop()
        if store.is_valid(one):
            continue
        theirs = _info(source, one)
        if theirs is None:
            if one == path or is_lost(one):
                return False
        elif ready:
            if not _taken(store, one, source, None):
                return False
        else:
            pending.append((one, True))
            pending += [(used, False) for used in theirs.references if used != one]
    return True


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


def _record(repairing: _Repairing, finding: Finding) -> str:
    store, source = repairing.store, repairing.source
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


def _misplaced(repairing: _Repairing, finding: Finding) -> str:
    file = Path(finding.path)
    drv = read_realization(file.read_bytes(), file.stem, str(file)).drv
    folder = repairing.store.trace / base_name(drv)
    folder.mkdir(exist_ok=True)
    os.replace(file, folder / file.name)
    sync_folder(folder)
    sync_folder(file.parent)
    return f"put among those of {drv}"


def _lost(repairing: _Repairing, finding: Finding) -> str | None:
    store, source = repairing.store, repairing.source
    file, path = Path(finding.path), f"{STORE_DIR}/{finding.name}"
    if not file.exists():
        # With another output of the same realization.
        return "dropped"
    if store.is_valid(path):
        return "its output is there again"
    if source is not None and _taken_with_closure(repairing, path, source):
        return f"its output taken from {source.root}"
    _drop(store, file)
    return "dropped: the next realize runs it again"


def _index(repairing: _Repairing, finding: Finding) -> str:
    Path(finding.path).unlink(missing_ok=True)
    return "dropped: it is made again"


def _root(repairing: _Repairing, finding: Finding) -> str | None:
    for root, gone in lost_by(repairing.store):
        if str(root_file(repairing.store, root)) == finding.path:
            forget(repairing.store, root, gone)
            return "the tag dropped" if root.kind == "tag" else "it keeps the others"
    return None


_MEND: dict[str, Callable[[_Repairing, Finding], str | None]] = {
    "index": _index,
    "lost": _lost,
    "misplaced": _misplaced,
    "object": _object,
    "record": _record,
    "reference": _reference,
    "root": _root,
    "status": _status,
}
"""By the kind of a finding; of others nobody knows what to do."""
