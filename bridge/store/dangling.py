"""What refers to something that is not there: objects to objects, tags and kept plans to realizations.

A valid object's closure is valid, as in Nix. References may also lead into the Nix store: where there is none to be
asked, nobody knows of a store to which Nix has given something, nor of a derivation that Nix evaluated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from bridge.formats.derivation import DRV_SUFFIX
from bridge.formats.errors import BridgeError
from bridge.formats.store_path import STORE_DIR, base_name

from .info import parse_info
from .layout import Store
from .roots import Root, roots

__all__ = ["Referrers", "broken_references", "losses", "lost_by", "refer_to", "with_referrers"]

Referrers = dict[str, set[str]]
"""Base name of an object to those that refer to it."""


def refer_to(store: Store) -> Referrers:
    """Who refers to whom among a store's own objects; info files that can not be read refer to nothing."""
    found: Referrers = {}
    for name in os.listdir(store.info):
        try:
            info = parse_info((store.info / name).read_bytes(), name)
        except (OSError, BridgeError):
            continue
        for path in info.references:
            if path != info.path:
                found.setdefault(base_name(path), set()).add(base_name(info.path))
    return found


def with_referrers(referrers: Referrers, names: Iterable[str]) -> list[str]:
    """These objects and all that refer to them, those that refer before those that are referred to."""
    order: list[str] = []
    seen: set[str] = set()
    pending: list[tuple[str, bool]] = [(name, False) for name in names]
    while pending:
        name, left = pending.pop()
        if left:
            order.append(name)
        elif name not in seen:
            seen.add(name)
            pending.append((name, True))
            pending += [(one, False) for one in sorted(referrers.get(name, ()))]
    return order


def broken_references(store: Store, elsewhere: Callable[[str], bool] | None) -> Iterator[tuple[str, str]]:
    """Base names of objects that refer to what is nowhere, each with the store path.

    Parameters
    ----------
    elsewhere
        Whether Nix has an object, where there is a Nix to be asked.
    """
    is_lost = losses(store, elsewhere)
    for name, users in sorted(refer_to(store).items()):
        path = f"{STORE_DIR}/{name}"
        for user in sorted(users) if is_lost(path) else ():
            # Whoever collects takes the user first.
            if os.path.lexists(store.info / f"{user}.json"):
                yield user, path


def losses(store: Store, elsewhere: Callable[[str], bool] | None) -> Callable[[str], bool]:
    """Tells of a store path that is referred to whether it is nowhere; `elsewhere` as of `broken_references`."""
    from_nix = any(True for _ in store.roots.glob("nix-*"))

    def is_lost(path: str) -> bool:
        if store.is_valid(path):
            return False
        return not (elsewhere(path) if elsewhere is not None else from_nix or path.endswith(DRV_SUFFIX))

    return is_lost


def lost_by(store: Store) -> Iterator[tuple[Root, list[str]]]:
    """Tags and kept plans that name realizations which are gone, and the ids of these.

    Raises
    ------
    StoreError
        For a kept plan that can not be read.
    """
    for root in roots(store.own):
        gone = [
            identity
            for drv, identity in root.realizations
            if not any((layer.trace / base_name(drv) / f"{identity}.json").exists() for layer in store.layers)
        ]
        if gone:
            yield root, gone
