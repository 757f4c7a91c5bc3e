"""Walking over results by attribute: from what was realized, or from a reference, up and down.

    r = realize(plan)            Results: stages by name
    r.train                      Realizations: those that were chosen; one of them speaks for itself
    r.train[2]                   Realized: one of them
    r.train.model                Artifact: a promised output, by the name of its parameter; a pathlib.Path
    r.train.report.json().f1     what is in it
    r.train.config.lr            Fields: a dict whose items are attributes
    r.train.inputs.data          Realizations again: what made it, and so on
    r.train.users.report         what used it
    walk("014ycz")               Realizations of a reference, by the store alone

An attribute is ours first, then the user's (a stage, an argument, a promised output); an item is the user's only:
`r.train["metrics"]` is the output that a stage calls metrics.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bridge.formats.errors import BridgeError
from bridge.nix.installation import Installation, find
from bridge.store.errors import StoreError
from bridge.store.layout import Store, locate, locate_lower, open_located

from .ground import Ground
from .realized import Realized, Source, of_entries
from .results import Results
from .several import Realizations

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from bridge.realize.engine import Options
    from bridge.realize.events import Reporter
    from bridge.stages.plan import Plan

__all__ = ["realize", "walk"]


def walk(
    reference: str | os.PathLike[str],
    store: Store | str | os.PathLike[str] | None = None,
    *,
    nix: Installation | Literal["found"] | None = "found",
) -> Realizations:
    """The realizations that a reference names, by the store alone.

    Parameters
    ----------
    reference
        An id or how one begins, a tag, a stage's name (all its realizations), a store path or one below it, a
        `.drv`, or a link to one of these.
    store
        Else the one that NIXBRIDGE_STORE, the project or the user's home has.

    Raises
    ------
    TargetError
        If it names nothing, saying what is near.
    StoreError
        If there is no store.
    """
    from .references import named

    _complete()
    try:
        ground = Ground(_to_ask(store), find() if nix == "found" else nix)
        found = named(ground, reference)
    except BridgeError as error:
        if error.hint is not None:
            error.add_note(f"hint: {error.hint}")
        raise
    title = os.fspath(reference)
    if found.object is None:
        return of_entries(ground, title, found.entries)
    if not found.entries:
        return Realizations(title, [Source(ground, found.object, found.path)])
    return Realizations(title, [Realized(ground, one, found.object, found.path) for one in found.entries])


def realize(
    plan: Plan,
    store: Store | str | os.PathLike[str] | None = None,
    *,
    nix: Installation | Literal["found"] | None = "found",
    options: Options | None = None,
    report: Reporter = lambda event: None,
    executor: Executor | None = None,
) -> Results:
    """Realize a plan and give its results to walk over.

    Parameters
    ----------
    store
        Else the one that NIXBRIDGE_STORE, the project or the user's home has.
    nix
        The Nix to build with; the one on PATH if there is one, and none for None.
    executor
        What runs Python stages; forks without it. It stays open.

    Raises
    ------
    RealizeError
        With the failures of the stages.
    """
    from bridge.realize.engine import realize as run

    _complete()
    opened = _opened(store)
    installation = find() if nix == "found" else nix
    outcome = run(plan, opened, nix=installation, options=options, report=report, executor=executor)
    return Results(plan, outcome, opened, installation)


def _complete() -> None:
    if "IPython" in sys.modules:
        from .completing import complete_in_ipython

        complete_in_ipython()


def _opened(store: Store | str | os.PathLike[str] | None) -> Store:
    if isinstance(store, Store):
        return store
    return open_located(None if store is None else os.fspath(store), os.environ, Path.cwd())


def _to_ask(store: Store | str | os.PathLike[str] | None) -> Store:
    """The store that is asked; a misspelt one is not made."""
    if isinstance(store, Store):
        return store
    project = Path.cwd()
    root = locate(None if store is None else os.fspath(store), os.environ, project)
    if not locate_lower(os.environ, project) and not (root / "info").is_dir():
        raise StoreError(f"there is no store at {root}", hint="realize(plan) makes one; NIXBRIDGE_STORE names another")
    return _opened(store)
