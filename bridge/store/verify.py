"""Check that the store holds what it says: every object's bytes, every record."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pynixutil import drvparse

from bridge.formats import nar
from bridge.formats.derivation import DRV_SUFFIX, parse_aterm
from bridge.formats.errors import BridgeError
from bridge.formats.hashes import Hash
from bridge.formats.self_reference import hash_modulo
from bridge.formats.store_path import STORE_DIR, content_path, hash_part, name_part, source_path

from .durable import dead_temporaries
from .info import ObjectInfo, parse_info
from .layout import Store
from .trace import is_genuine, read_realization

__all__ = ["Finding", "Report", "verify"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong: where, and what."""

    path: str
    message: str


@dataclass(slots=True)
class Report:
    """What `verify` saw.

    Parameters
    ----------
    findings
        What is wrong; empty for a clean store.
    rubbish
        Bytes without a record and left temporaries: no fault, `gc` takes them.
    """

    objects: int = 0
    size: int = 0
    records: int = 0
    findings: list[Finding] = field(default_factory=list)
    rubbish: list[str] = field(default_factory=list)


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
    names = sorted(os.listdir(store.info))
    for number, name in enumerate(names):
        _object(store, name, report)
        if on_progress is not None:
            on_progress(number + 1, len(names))
    registered = {name.removesuffix(".json") for name in names}
    report.rubbish += [str(store.objects / name) for name in sorted(set(os.listdir(store.objects)) - registered)]
    report.rubbish += map(str, dead_temporaries(store))
    for folder in sorted(os.listdir(store.trace)):
        if not (store.trace / folder).is_dir():
            report.findings.append(Finding(str(store.trace / folder), "it is no folder of records"))
            continue
        for name in sorted(os.listdir(store.trace / folder)):
            _record(store, folder, name, report, elsewhere)
    return report


def _object(store: Store, name: str, report: Report) -> None:
    file = store.info / name
    try:
        info = parse_info(file.read_bytes(), str(file))
    except (OSError, BridgeError) as error:
        report.findings.append(Finding(str(file), str(error)))
        return
    real = store.real_path(info.path)
    if f"{os.path.basename(real)}.json" != name:
        report.findings.append(Finding(str(file), f"it is the info of {info.path}"))
        return
    report.objects += 1
    report.size += info.nar_size
    digest = hashlib.sha256()
    loose: list[str] = []

    def visit(path: str, status: os.stat_result, handle: str | int) -> None:
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o222:
            loose.append(path)

    try:
        nar.pack(real, digest.update, visit=visit)
    except FileNotFoundError:
        report.findings.append(Finding(str(real), "the object is gone"))
        return
    except (OSError, BridgeError) as error:
        report.findings.append(Finding(str(real), f"the object can not be read: {error}"))
        return
    found = Hash("sha256", digest.digest())
    if found != info.nar_hash:
        report.findings.append(Finding(str(real), f"its contents were changed: {found.sri}, not {info.nar_hash.sri}"))
    elif loose:
        report.findings.append(Finding(loose[0], "it can be written, which no store object can"))
    else:
        try:
            wrong = _wrong_address(info, real) or _wrong_derivation(info, real)
        except (OSError, BridgeError) as error:
            wrong = f"its content address {info.content_address} is none: {error}"
        if wrong is not None:
            report.findings.append(Finding(str(real), wrong))


def _wrong_address(info: ObjectInfo, real: Path) -> str | None:
    """Whether a content-addressed object has another path than its contents give."""
    if info.content_address is None:
        return None
    kind, _, digest = info.content_address.rpartition(":")
    name = name_part(info.path)
    if info.path in info.references:
        archive = b"".join(nar.pack_chunks(real))
        others = [path for path in info.references if path != info.path]
        # By either rule: stores are shared, also with machines of another Nix.
        found = [hash_modulo(archive, hash_part(info.path), positions=positions) for positions in (True, False)]
        paths = [source_path(name, content.hex, others, self_reference=True) for content in found]
        return None if info.path in paths else f"its contents give the path {paths[0]}, or {paths[1]}"
    if kind == "fixed:r:sha256":
        path = content_path(name, "nar", info.nar_hash, info.references)
    elif kind == "text:sha256":
        path = content_path(name, "text", Hash.of(real.read_bytes()), info.references)
    else:
        algorithm = kind.rpartition(":")[2]
        path = content_path(name, "flat", Hash.parse(digest, algorithm))
    return None if path == info.path else f"its contents give the path {path}"


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
    try:
        data = file.read_bytes()
        realization = read_realization(data, identity, str(file))
    except (OSError, BridgeError) as error:
        report.findings.append(Finding(str(file), str(error)))
        return
    if not is_genuine(data, identity):
        report.findings.append(Finding(str(file), "the record was changed after it was written"))
    elif realization.drv != f"{STORE_DIR}/{folder}":
        report.findings.append(Finding(str(file), f"it is a record of {realization.drv}"))
    else:
        for path in realization.outputs.values():
            if realization.runner != "nix" and not store.is_valid(path) and not (elsewhere and elsewhere(path)):
                report.findings.append(Finding(str(file), f"its output {path} is not in the store"))
