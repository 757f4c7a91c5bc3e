"""Derivations as the Nix store has them, and their modulos, for which whole closures are read."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.formats.derivation import DRV_SUFFIX, Derivation, modulo, parse_aterm
from bridge.formats.store_path import name_part
from bridge.nix.installation import Installation
from bridge.stages.errors import StageError

__all__ = ["Derivations"]


@dataclass(frozen=True, slots=True)
class Derivations:
    """The `.drv` files of a Nix store; each modulo is computed once."""

    nix: Installation
    _modulos: dict[str, str | None] = field(default_factory=dict)

    def read(self, path: str) -> tuple[Derivation, bytes]:
        """A derivation, and its ATerm.

        Raises
        ------
        StageError
            If the Nix store does not have it.
        """
        try:
            aterm = self.nix.real_path(path).read_bytes()
        except OSError as error:
            raise StageError(f"{path} can not be read from the Nix store: {error.strerror}") from error
        return parse_aterm(aterm, name_part(path).removesuffix(DRV_SUFFIX)), aterm

    def modulo(self, path: str) -> str | None:
        """The modulo of a derivation; None where its outputs are not known before they are built."""
        waiting: dict[str, Derivation] = {}
        pending = [path]
        while pending:
            top = pending[-1]
            if top in self._modulos:
                pending.pop()
                continue
            drv = waiting.pop(top, None)
            if drv is None:
                drv = self.read(top)[0]
                # A fixed output's modulo needs nothing of its inputs.
                missing = [] if drv.is_fixed else [used for used in drv.input_drvs if used not in self._modulos]
                if missing:
                    waiting[top] = drv
                    pending.extend(missing)
                    continue
            pending.pop()
            self._modulos[top] = modulo(drv, self._modulos.__getitem__)
        return self._modulos[path]
