"""The section `stages` of `bridge.lock`: which realizations are chosen.

    LABEL   { caches [ URL ], derivation, file, many, matcher, output, stage, tool, realizations [ R ],
              evaluatedLate: true                      only of a stage that is written in Nix and has inputs }
    R       { id, outputs { NAME: O }, record }      the record as in the trace, whose hash the id is
    O       { contentAddress { method, hash } | null, narHash, narSize, path, references, urls [ URL ] }

`nix/lib.nix` reads the same. Source of the fields of O: Nix manual, "Store object info" (JSON).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from bridge.formats.errors import FormatError
from bridge.formats.hashes import Hash
from bridge.formats.store_path import Method, content_path, name_part, parse
from bridge.store.errors import RecordError
from bridge.store.info import ObjectInfo
from bridge.store.trace import Realization, identity_of, read_realization

from .file import LockFile

__all__ = ["Pin", "PinnedOutput", "PinnedRealization", "pins_in"]

_METHODS: dict[str, Method] = {"fixed:r": "nar", "fixed": "flat", "text": "text"}


@dataclass(frozen=True, slots=True)
class PinnedOutput:
    """A pinned object: what is known of it, and where its archive can be fetched."""

    info: ObjectInfo
    urls: tuple[str, ...] = ()

    @property
    def method(self) -> Method | None:
        """How the path follows from the contents; None for an input-addressed object."""
        return None if self.info.content_address is None else _split(self.info.content_address)[0]

    def to_json(self) -> dict[str, Any]:
        info = self.info
        address = None
        if info.content_address is not None:
            method, content = _split(info.content_address)
            address = {"hash": content.sri, "method": method}
        return {
            "contentAddress": address,
            "narHash": info.nar_hash.sri,
            "narSize": info.nar_size,
            "path": info.path,
            "references": list(info.references),
            "urls": list(self.urls),
        }


@dataclass(frozen=True, slots=True)
class PinnedRealization:
    """A pinned realization, with its outputs by name."""

    realization: Realization
    outputs: Mapping[str, PinnedOutput]

    def to_json(self) -> dict[str, Any]:
        outputs = {name: one.to_json() for name, one in self.outputs.items()}
        return {"id": self.realization.id, "outputs": outputs, "record": self.realization.to_json()}


@dataclass(frozen=True, slots=True)
class Pin:
    """What is pinned of a stage.

    Parameters
    ----------
    label
        Its key in the lock file.
    derivation
        Before resolution; the resolved one is each realization's.
    file
        Where the stage is written, relative to the lock file.
    many
        Whether it goes on as a list.
    output
        The output that the stage itself means.
    caches
        URLs of binary caches that have the outputs.
    tool
        What wrote this.
    evaluated_late
        Whether it is written in Nix and evaluated when its inputs are chosen: its `.drv` is none of Nix's.
    """

    label: str
    stage: str
    derivation: str
    file: str
    matcher: str
    many: bool
    output: str
    realizations: tuple[PinnedRealization, ...]
    caches: tuple[str, ...] = field(default=())
    tool: str = ""
    evaluated_late: bool = False

    @property
    def is_for_nix(self) -> bool:
        """Whether Nix can have it: not what the local builder made, which Nix does not take for its own."""
        return all(
            one.info.content_address is not None or made.realization.runner != "local"
            for made in self.realizations
            for one in made.outputs.values()
        )

    def to_json(self) -> dict[str, Any]:
        more = {"evaluatedLate": True} if self.evaluated_late else {}
        return more | {
            "caches": list(self.caches),
            "derivation": self.derivation,
            "file": self.file,
            "many": self.many,
            "matcher": self.matcher,
            "output": self.output,
            "realizations": [one.to_json() for one in self.realizations],
            "stage": self.stage,
            "tool": self.tool,
        }


def pins_in(lock: LockFile) -> dict[str, Pin]:
    """What a lock file pins, by label.

    Raises
    ------
    LockFileError
        With the line of an entry that is not as nixbridge wrote it.
    """
    return {label: _pin(lock, label, entry) for label, entry in lock.stages.items()}


def _pin(lock: LockFile, label: str, entry: Mapping[str, Any]) -> Pin:
    try:
        parse(entry["derivation"])
        return Pin(
            label=label,
            stage=_of(entry["stage"], str),
            derivation=entry["derivation"],
            file=_of(entry["file"], str),
            matcher=_of(entry["matcher"], str),
            many=_of(entry["many"], bool),
            output=_of(entry["output"], str),
            realizations=tuple(_realization(one) for one in _of(entry["realizations"], list)),
            caches=tuple(_of(one, str) for one in _of(entry["caches"], list)),
            tool=_of(entry["tool"], str),
            evaluated_late=_of(entry.get("evaluatedLate", False), bool),
        )
    except (KeyError, TypeError, ValueError, AttributeError, FormatError, RecordError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise lock.error(
            f"the entry of {label} is not as nixbridge wrote it: {reason}",
            "stages",
            label,
            hint="it was edited, or a merge went wrong: nixbridge lock writes it anew",
        ) from error


def _realization(value: Mapping[str, Any]) -> PinnedRealization:
    realization = read_realization(json.dumps(value["record"]).encode(), _of(value["id"], str), f"of {value['id']}")
    if identity_of(realization) != realization.id:
        raise ValueError(f"the record of {realization.id} was edited")
    outputs = {name: _output(one) for name, one in value["outputs"].items()}
    if {name: one.info.path for name, one in outputs.items()} != dict(realization.outputs):
        raise ValueError(f"the outputs of {realization.id} are not those of its record")
    return PinnedRealization(realization, outputs)


def _output(value: Mapping[str, Any]) -> PinnedOutput:
    path, references = value["path"], tuple(_of(value["references"], list))
    for one in (path, *references):
        parse(one)
    address = None
    if value["contentAddress"] is not None:
        method, content = value["contentAddress"]["method"], Hash.parse(value["contentAddress"]["hash"])
        if method not in get_args(Method):
            raise ValueError(f"there is no method {method!r}")
        others = [one for one in references if one != path]
        made = content_path(name_part(path), method, content, others, self_reference=path in references)
        if made != path:
            raise ValueError(f"the content of {path} has another hash than its path says")
        prefix = next(prefix for prefix, named in _METHODS.items() if named == method)
        address = f"{prefix}:{content.algorithm}:{content.nix32}"
        if method == "nar" and content.algorithm == "sha256" and path not in references:
            _same(content, Hash.parse(value["narHash"]), path)
    info = ObjectInfo(path, Hash.parse(value["narHash"]), _of(value["narSize"], int), references, address)
    return PinnedOutput(info, tuple(_of(one, str) for one in value["urls"]))


def _same(content: Hash, archive: Hash, path: str) -> None:
    if content != archive:
        raise ValueError(f"narHash of {path} is not the hash of its content")


def _split(content_address: str) -> tuple[Method, Hash]:
    prefix, algorithm, digest = content_address.rsplit(":", 2)
    return _METHODS[prefix], Hash.parse(digest, algorithm)


def _of(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
