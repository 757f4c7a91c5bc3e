"""Who makes a stage: Nix what is deterministic and no Python, where there is a Nix that can be used; else ourselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.nix.errors import NixError
from bridge.nix.installation import Installation
from bridge.stages.plan import Node, Plan
from bridge.stages.policy import Builder
from bridge.stages.values import FetchRecipe, GitRecipe, PythonRecipe

from .errors import RealizeError
from .events import Note
from .task import Context

if TYPE_CHECKING:
    from .build_nix import NixBuilder

__all__ = ["Builders"]


class Builders:
    """What there is to build with.

    Parameters
    ----------
    installation
        The Nix that there is, if any.
    builder
        What the user wants for stages that say nothing themselves.
    """

    def __init__(self, context: Context, plan: Plan, installation: Installation | None, builder: Builder) -> None:
        self._context = context
        self._plan = plan
        self._installation = installation
        self._builder = builder
        self._nix: NixBuilder | None = None

    def check(self) -> None:
        """Refuse a Nix whose store is elsewhere, if the plan needs it.

        Raises
        ------
        NixError, RealizeError
        """
        if self._installation is not None and any(
            node.source is None and self.is_delegated(node) for node in self._plan.nodes
        ):
            self._installation.check_store_dir()

    @property
    def nix(self) -> NixBuilder | None:
        """The Nix that there is, for those who make something."""
        if self._nix is None and self._installation is not None:
            # Imported late, like all that only a build needs.
            from .build_nix import NixBuilder
            from .nix_store import NixStore

            there = NixStore(self._context.store, self._installation)
            self._nix = NixBuilder(self._context, there, self._plan.evaluator)
        return self._nix

    def is_delegated(self, node: Node) -> bool:
        """Whether Nix is to build a node.

        Raises
        ------
        RealizeError
            If it must, and there is none.
        """
        stage = node.stage
        if isinstance(stage.recipe, PythonRecipe | FetchRecipe | GitRecipe) or not stage.policy.deterministic:
            return False
        builder = self._wanted(node)
        if builder == "local" and not node.needs_nix:
            return False
        if self._installation is None and (builder == "nix" or node.needs_nix):
            raise RealizeError(
                f"the stage {node.name} needs Nix, and there is none", hint="install Nix, or use --builder local"
            )
        return self._installation is not None

    def _wanted(self, node: Node) -> Builder:
        policy = node.stage.policy
        return self._builder if policy.builder == "auto" else policy.builder

    def nix_for(self, node: Node) -> NixBuilder | None:
        """The Nix that builds this node now; None if the local builder is to, also where Nix can not be connected to.

        Raises
        ------
        NixError, RealizeError
            If there is none, or none that can be connected to, and it must build the node.
        """
        nix = self.nix if self.is_delegated(node) else None
        if nix is None:
            return None
        try:
            with nix.nix_store.connection():
                return nix
        except NixError as error:
            if self._wanted(node) == "nix" or node.needs_nix:
                raise
            self._context.report(Note(f"Nix is there but can not be used, so the local builder builds: {error}"))
            self._installation = None
            return None

    def close(self) -> None:
        if self._nix is not None:
            self._nix.nix_store.close()
