"""Nix as the evaluator of a plan."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.nix.evaluate import flake_drv, instantiate
from bridge.nix.installation import Installation
from bridge.stages.errors import StageError
from bridge.stages.plan import Evaluated
from bridge.stages.values import NixRecipe

__all__ = ["NixEvaluator"]


@dataclass(frozen=True, slots=True)
class NixEvaluator:
    """Evaluates `nix` and `flake` stages with an installed Nix."""

    nix: Installation

    def evaluate(self, recipe: NixRecipe) -> Evaluated:
        if recipe.drv is not None:
            return Evaluated(recipe.drv, "out")
        if recipe.installable is not None:
            drv, outputs = flake_drv(self.nix, recipe.installable)
            return Evaluated(drv, outputs[0] if outputs else "out")
        found = instantiate(self.nix, expr=recipe.expr, file=recipe.file, attr=recipe.attr, args=recipe.args)
        if len(found) != 1:
            raise StageError(
                f"Nix evaluated to {len(found)} derivations where a stage is one", hint="name one with attr="
            )
        return Evaluated(found[0], "out")

    def read_derivation(self, drv_path: str) -> bytes:
        try:
            return self.nix.real_path(drv_path).read_bytes()
        except OSError as error:
            raise StageError(f"{drv_path} can not be read from the Nix store: {error.strerror}") from error
