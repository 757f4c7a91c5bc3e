"""Check that the store holds what it says: every object's bytes, every record.

What `gc` takes meanwhile is no fault: its record, or its info, goes first.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pynixutil import drvparse

from bridge.formats import nar
from bridge.formats.derivation import DRV_SUFFIX, parse_aterm
from bridge.formats.errors import BridgeError
from bridge.formats.hashes import ALGORITHMS, Hash
from bridge.formats.self_reference import hash_modulo
from bridge.formats.store_path import STORE_DIR, content_path, hash_part, name_part, source_path

from .canonical import wrong_status
from .dangling import broken_references, lost_by
from .durable import dead_temporaries
from .errors import StoreError
from .info import ObjectInfo, parse_info
from .layout import Store
from .optimise import finish_optimising, is_optimised_now
from .records import wrong_index
from .references import Scanner
from .roots import root_file
from .trace import is_genuine, read_realization, record_names

__all__ = [
    "Finding",
    "Kind",
    "Report",
    "check_objects",
    "check_records",
    "check_references",
    "check_roots",
    "verify",
    "wrong_address",
]

Kind = Literal["object", "status", "reference", "record", "misplaced", "newer", "lost", "root", "index", "stray"]
"""What is wrong: an object or its info; modes or times only; an object that refers to one which is nowhere; a record
that was changed, lies in another's folder, or is of a newer version; a record without its output; a tag or a plan that
names no record; an index of records; what is no folder of the trace, or a plan that can not be read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: where, and what.

    Parameters
    ----------
    name
        The base name of the object that it is about.
    """

    path: str
    message: str
    kind: Kind
    name: str = ""


@dataclass(slots=True)
class Report:
    """What `verify` saw.

    Parameters
    ----------
    findings
        What is wrong; empty for a clean store.
    rubbish
        Bytes without a record and left temporaries: no fault, `gc` takes them.
    below
        Of the objects that are needed, the store paths of those that only a lower store has.
    """

    objects: int = 0
    size: int = 0
    records: int = 0
    findings: list[Finding] = field(default_factory=list)
    rubbish: list[str] = field(default_factory=list)
    below: set[str] = field(default_factory=set)


def verify(
    store: Store,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    elsewhere: Callable[[str], bool] | None = None,
) -> Report:
    """Check every object and every record of a store.

    Parameters
    ----------
    on_progress
        Called with the number of objects checked and the number of all.
    elsewhere
        Whether another store (Nix's) has an object that a record names.
    """
    report = Report()
    check_objects(store, report, on_progress)
    check_references(store, report, elsewhere)
    check_records(store, report, elsewhere)
    check_roots(store, report)
    return report


def check_objects(store: Store, report: Report, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Check every object, and tell what is none."""
    finish_optimising(store)
    names = sorted(os.listdir(store.info))
    for number, name in enumerate(names):
        _object(store, name, report)
        if on_progress is not None:
            on_progress(number + 1, len(names))
    registered = {name.removesuffix(".json") for name in names}
    report.rubbish += [str(store.objects / name) for name in sorted(set(os.listdir(store.objects)) - registered)]
    report.rubbish += map(str, dead_temporaries(store))


def check_references(store: Store, report: Report, elsewhere: Callable[[str], bool] | None = None) -> None:
    """Check that what objects refer to is there."""
    for name, path in broken_references(store, elsewhere):
        place = str(store.objects / name)
        report.findings.append(Finding(place, f"it refers to {path}, which is not in the store", "reference", name))


def check_roots(store: Store, report: Report) -> None:
    """Check that what tags and kept plans name is there."""
    try:
        for root, gone in lost_by(store):
            place = str(root_file(store, root))
            more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
            report.findings.append(
                Finding(place, f"the {root} names {gone[0]}{more}, which is gone", "root", root.name)
            )
    except StoreError as error:
        report.findings.append(Finding(str(store.roots), f"{error}: {error.hint}", "stray"))


def check_records(store: Store, report: Report, elsewhere: Callable[[str], bool] | None = None) -> None:
    """Check every record, and that its outputs are there."""
    for folder in sorted(os.listdir(store.trace)):
        place = f"{store.trace}/{folder}"
        if not os.path.isdir(place) and os.path.lexists(place):
            report.findings.append(Finding(place, "it is no folder of records", "stray"))
            continue
        for name in sorted(record_names(place)):
            _record(store, folder, name, report, elsewhere)
    for file in sorted((store.root / "cache").glob("*.records")):
        wrong = wrong_index(store, file)
        if wrong is not None:
            report.findings.append(Finding(str(file), wrong, "index"))


def _object(store: Store, name: str, report: Report) -> None:
    file = store.info / name
    base = name.removesuffix(".json")

    def found_wrong(path: object, message: str, kind: Kind = "object") -> None:
        if os.path.lexists(file):
            report.findings.append(Finding(str(path), message, kind, base))

    try:
        info = parse_info(file.read_bytes(), str(file))
    except (OSError, BridgeError) as error:
        found_wrong(file, str(error))
        return
    real = store.real_path(info.path)
    if f"{os.path.basename(real)}.json" != name:
        found_wrong(file, f"it is the info of {info.path}")
        return
    report.objects += 1
    report.size += info.nar_size
    report.below.update(path for path in info.references if _is_below(store, path))
    digest = hashlib.sha256()
    # What an input-addressed object refers to, nothing but its bytes can tell.
    scanner = Scanner(map(hash_part, info.references) if info.content_address is None else ())
    size = 0
    odd: list[tuple[str, str]] = []

    def write(chunk: bytes | memoryview) -> None:
        nonlocal size
        size += len(chunk)
        digest.update(chunk)
        scanner.feed(chunk)

    def visit(path: str, status: os.stat_result, handle: str | int) -> None:
        message = wrong_status(status)
        # Of an object that is optimised now, folders look otherwise for a moment.
        if message is not None and not is_optimised_now(store, base) and wrong_status(os.lstat(path)) is not None:
            odd.append((path, message))

    try:
        nar.pack(real, write, visit=visit)
    except FileNotFoundError:
        found_wrong(real, "the object is gone")
        return
    except (OSError, BridgeError) as error:
        found_wrong(real, f"the object can not be read: {error}")
        return
    found = Hash("sha256", digest.digest())
    absent = [path for path in info.references if info.content_address is None and hash_part(path) not in scanner.found]
    if found != info.nar_hash:
        found_wrong(real, f"its contents were changed: {found.sri}, not {info.nar_hash.sri}")
    elif odd:
        found_wrong(*odd[0], kind="status")
    elif size != info.nar_size:
        found_wrong(file, f"it says {info.nar_size} bytes, and the archive has {size}")
    elif absent:
        found_wrong(file, f"it names the reference {absent[0]}, which the object has not")
    else:
        try:
            wrong = wrong_address(info, real) or _wrong_derivation(info, real)
        except (OSError, BridgeError) as error:
            wrong = f"its content address {info.content_address} is none: {error}"
        if wrong is not None:
            found_wrong(real, wrong)


def _is_below(store: Store, path: str) -> bool:
    return bool(store.lower) and not store.has(path) and store.is_valid(path)


def wrong_address(info: ObjectInfo, real: Path) -> str | None:
    """Whether an object has another path, or says another content address, than its contents give."""
    address = info.content_address
    found = list(_addresses(info, real, None if address is None else address.rpartition(":")[0]))
    if address is None:
        path = {path: given for given, path in found}.get(info.path)
        return None if path is None else f"its info lacks its content address {path}"
    if (address, info.path) in found:
        return None
    shown = " or ".join(f"{path} with {given}" for given, path in found)
    return f"its contents give {shown or 'no such path'}, not {info.path} with {address}"


def _addresses(info: ObjectInfo, real: Path, kind: str | None) -> Iterator[tuple[str, str]]:
    """The content addresses that the object's contents give, and the path with each; of one kind, or of all."""
    name = name_part(info.path)
    if kind in (None, "fixed:r:sha256") and info.path in info.references:
        archive = b"".join(nar.pack_chunks(real))
        others = [path for path in info.references if path != info.path]
        # By either rule: stores are shared, also with machines of another Nix.
        for positions in (True, False):
            content = hash_modulo(archive, hash_part(info.path), positions=positions)
            yield (
                f"fixed:r:sha256:{content.nix32}",
                source_path(name, content.hex, others, self_reference=True),
            )
        return
    if kind in (None, "fixed:r:sha256"):
        yield f"fixed:r:sha256:{info.nar_hash.nix32}", content_path(name, "nar", info.nar_hash, info.references)
    is_file = real.is_file() and not real.is_symlink()
    for algorithm in ALGORITHMS:
        if kind == f"fixed:r:{algorithm}" and algorithm != "sha256":
            content = Hash.of(b"".join(nar.pack_chunks(real)), algorithm)
            yield f"{kind}:{content.nix32}", content_path(name, "nar", content, info.references)
        flat = f"fixed:{algorithm}"
        if is_file and (kind in (None, flat) or (kind == "text:sha256" and algorithm == "sha256")):
            with real.open("rb") as file:
                content = Hash(algorithm, hashlib.file_digest(file, algorithm).digest())
            if kind == flat or (kind is None and not info.references):
                yield f"{flat}:{content.nix32}", content_path(name, "flat", content, info.references)
            if kind in (None, "text:sha256") and algorithm == "sha256":
                yield f"text:sha256:{content.nix32}", content_path(name, "text", content, info.references)


def _wrong_derivation(info: ObjectInfo, real: Path) -> str | None:
    """Whether a `.drv` is read differently by pynixutil: a second reader that shares no code with ours.

    Its speed (less than half of ours) is enough here, where every byte is hashed anyway. It reads UTF-8 only.
    """
    if not info.path.endswith(DRV_SUFFIX) or not real.is_file():
        return None
    data = real.read_bytes()
    try:
        ours = parse_aterm(data, name_part(info.path).removesuffix(DRV_SUFFIX))
        theirs = drvparse(data.decode())
    except BridgeError as error:
        return error.message
    except UnicodeDecodeError:
        return None
    same = (
        dict(ours.env) == theirs.env
        and list(ours.args) == theirs.args
        and sorted(ours.input_srcs) == sorted(theirs.input_srcs)
        and {path: list(used.outputs) for path, used in ours.input_drvs.items()} == theirs.input_drvs
        and (ours.system, ours.builder, set(ours.outputs)) == (theirs.system, theirs.builder, set(theirs.outputs))
    )
    return None if same else "pynixutil reads this derivation differently"


def _record(store: Store, folder: str, name: str, report: Report, elsewhere: Callable[[str], bool] | None) -> None:
    file = store.trace / folder / name
    identity = name.removesuffix(".json")
    report.records += 1

    def found_wrong(message: str, kind: Kind, path: str = "") -> None:
        if os.path.lexists(file):
            report.findings.append(Finding(str(file), message, kind, os.path.basename(path)))

    data = b""
    try:
        data = file.read_bytes()
        realization = read_realization(data, identity, str(file))
    except (OSError, BridgeError) as error:
        # What is as it was written is no damage: this release can not read it.
        found_wrong(str(error), "newer" if is_genuine(data, identity) else "record")
        return
    if not is_genuine(data, identity):
        found_wrong("the record was changed after it was written", "record")
    elif realization.drv != f"{STORE_DIR}/{folder}":
        found_wrong(f"it is a record of {realization.drv}", "misplaced")
    else:
        for path in realization.outputs.values():
            if _is_below(store, path):
                report.below.add(path)
            elif realization.runner != "nix" and not store.is_valid(path) and not (elsewhere and elsewhere(path)):
                found_wrong(f"its output {path} is not in the store", "lost", path)
