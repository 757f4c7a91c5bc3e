"""What Nix answered, kept in the Python store.

    cache/evaluations/KEY.json      KEY is the hash of all that the answer depends on

An answer holds as long as the Nix store has its `.drv`. What is kept is enough to hash stages above it without reading
the closure of the derivation.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.formats.derivation import Instantiated
from bridge.formats.errors import FormatError
from bridge.formats.store_path import STORE_PATH
from bridge.nix.evaluate import Derived
from bridge.stages.errors import StageError
from bridge.stages.plan import Evaluated
from bridge.stages.recipes import Stdenv
from bridge.store.durable import write_file
from bridge.store.errors import StoreError
from bridge.store.layout import Store

from .derivations import Derivations

__all__ = ["Answers"]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers by what they depend on, which is any JSON."""

    store: Store
    derivations: Derivations

    def find(self, depends: Sequence[Any]) -> Evaluated | None:
        """What was answered before, if it still holds."""
        try:
            entry = json.loads(self._path(depends).read_bytes())
            paths = [entry["drv"], *entry["inputs"], *([] if entry["probe"] is None else [entry["probe"]])]
            real_path = self.derivations.nix.real_path
            if not all(STORE_PATH.fullmatch(path) and os.path.lexists(real_path(path)) for path in paths):
                return None
            return self._evaluated(entry)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, FormatError):
            return None

    def keep(self, depends: Sequence[Any], derived: Derived, default: str) -> Evaluated:
        """Write an answer of Nix's down.

        Parameters
        ----------
        default
            The output that is meant where none is named.

        Raises
        ------
        StageError
            For a stdenv of content-addressed packages.
        """
        entry = {
            "default": default,
            "drv": derived.drv,
            "modulo": self.derivations.modulo(derived.drv),
            "probe": derived.probe,
            "inputs": {} if derived.probe is None else self._inputs(derived.probe),
        }
        path = self._path(depends)
        with contextlib.suppress(StoreError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self.store, path, json.dumps(entry, sort_keys=True).encode())
        return self._evaluated(entry)

    def _evaluated(self, entry: Mapping[str, Any]) -> Evaluated:
        stdenv = None
        if entry["probe"] is not None:
            inputs = {path: (found["modulo"], found["outputs"]) for path, found in entry["inputs"].items()}
            stdenv = Stdenv(self.derivations.read(entry["probe"])[0], inputs)
        drv, aterm = self.derivations.read(entry["drv"])
        return Evaluated(Instantiated(drv, entry["drv"], aterm, entry["modulo"]), entry["default"], stdenv)

    def _inputs(self, probe: str) -> dict[str, Any]:
        """Of each derivation that a probe uses, the modulo and the outputs' paths."""
        found: dict[str, Any] = {}
        for path in self.derivations.read(probe)[0].input_drvs:
            used, _ = self.derivations.read(path)
            outputs = {name: used.output_path(name) for name in used.outputs}
            if None in outputs.values():
                raise StageError(f"{path} is content-addressed, and a stdenv of such packages is not supported")
            found[path] = {"modulo": self.derivations.modulo(path), "outputs": outputs}
        return found

    def _path(self, depends: Sequence[Any]) -> Path:
        digest = hashlib.sha256(json.dumps(depends).encode()).hexdigest()
        return self.store.root / "cache" / "evaluations" / f"{digest[:40]}.json"
