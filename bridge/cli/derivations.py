"""What a target of the derivation commands names: stages, a `.drv` file, a store path."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.formats.derivation import (
    DRV_SUFFIX,
    Closure,
    Derivation,
    derivation_path,
    parse_aterm,
    read_closure,
)
from bridge.formats.errors import FormatError
from bridge.formats.store_path import DIGEST_LENGTH, STORE_DIR, base_name, check_name, name_part, output_path_name
from bridge.stages.errors import TargetError
from bridge.store.errors import StoreError

from .setting import find_nix, open_located, plan_of

__all__ = ["Found", "find", "find_derivations", "find_one", "in_file", "is_in_store", "reader"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a target names: derivations by path, more of them that are at hand, and the file it was read from."""

    roots: Mapping[str, Derivation]
    known: Mapping[str, Derivation] = field(default_factory=dict)
    file: Path | None = None

    def closure(self) -> Closure:
        return read_closure(self.roots, reader(self.file), {**self.known, **self.roots})


def find_derivations(target: str, recursive: bool) -> Mapping[str, Derivation]:
    """The derivations of stages or of a `.drv`, with all that they use if asked.

    Raises
    ------
    TargetError
        If there are none.
    ClosureError
        For an input derivation that is in no store.
    """
    found = find(target)
    return found.closure() if recursive else found.roots


def in_file(file: str, data: bytes) -> Derivation:
    """The derivation that a `.drv` file holds, whose name is that of the file.

    Raises
    ------
    FormatError
        If it is none, saying in which file.
    TargetError
        If it has another name than the file.
    """
    base = Path(file).name
    if len(base) > DIGEST_LENGTH and base[DIGEST_LENGTH] == "-":
        base = base[DIGEST_LENGTH + 1 :]
    name = base.removesuffix(DRV_SUFFIX)
    hint = f"a .drv does not tell its name: it is taken to be {name!r}, after the file"
    try:
        drv = parse_aterm(data, check_name(name))
    except FormatError as error:
        error.file = file
        error.hint = error.hint or (hint if base == Path(file).name else None)
        raise
    for output in drv.outputs:
        path = drv.output_path(output)
        if path is not None and name_part(path) != output_path_name(name, output):
            raise TargetError(f"{file}: its output {output} is {path}, which is none of {name!r}", hint=hint)
    return drv


def find(target: str) -> Found:
    """What a target names.

    Raises
    ------
    TargetError
        If that is no derivation, or can not be read.
    """
    if not target.endswith(DRV_SUFFIX):
        if _is_object(target):
            raise TargetError(
                f"{target} is no derivation: its path does not end in {DRV_SUFFIX}",
                hint="of an output, nix-store --query --deriver tells it; outputs behind it (^out) are not taken",
            )
        plan = plan_of(target)
        known = {node.path: node.derivation for node in plan.nodes if node.instantiated is not None}
        roots = {node.path: known[node.path] for node in plan.targets if node.path in known}
        if not roots:
            raise TargetError(f"{target} is a source: it has no derivation")
        return Found(roots, known)
    file = Path(target)
    try:
        data = reader(None)(target) if is_in_store(target) and not file.exists() else file.read_bytes()
    except OSError as error:
        raise TargetError(f"{target} can not be read: {error.strerror}") from error
    drv = in_file(target, data)
    return Found({derivation_path(drv): drv}, file=file)


def find_one(target: str) -> tuple[str, Found]:
    """The path of the one derivation that a target names, and what there is beside it."""
    found = find(target)
    if len(found.roots) > 1:
        names = ", ".join(drv.name for drv in found.roots.values())
        raise TargetError(
            f"{target} names {len(found.roots)} derivations: {names}", hint="name one of them, as in FILE.py:STAGE"
        )
    return next(iter(found.roots)), found


def _is_object(target: str) -> bool:
    """Whether this means a store object, or an output of a `.drv`, and no file of stages."""
    if f"{DRV_SUFFIX}^" in target or f"{DRV_SUFFIX}!" in target:
        return True
    return is_in_store(target) and Path(target.partition(":")[0]).suffix != ".py"


def is_in_store(path: str) -> bool:
    """Whether this is a path below the store folder, wherever that lies."""
    return path.startswith(f"{STORE_DIR}/")


def reader(beside: Path | None) -> Callable[[str], bytes]:
    """Reads a `.drv` of the Nix store, of the Python store, or that lies beside another file.

    It raises OSError for one that is nowhere.
    """
    nix = find_nix()
    folders = [] if nix is None else [str(nix.real_path(STORE_DIR))]
    if beside is not None:
        folders.append(str(beside.parent))
    # Where there is no store yet, there is nothing in it.
    with contextlib.suppress(StoreError):
        folders += [str(one.objects) for one in open_located(None, create=False).layers]

    def read(path: str) -> bytes:
        base = base_name(path)
        for folder in folders[:-1]:
            try:
                return _contents(f"{folder}/{base}")
            except FileNotFoundError:
                continue
        return _contents(f"{folders[-1] if folders else STORE_DIR}/{base}")

    return read


def _contents(file: str) -> bytes:
    """The bytes of a file; without Python's file objects, which cost more than the reading."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = 1 << 16
        data = os.read(descriptor, size)
        if len(data) < size:
            return data
        parts = [data]
        while data := os.read(descriptor, 1 << 20):
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(descriptor)
