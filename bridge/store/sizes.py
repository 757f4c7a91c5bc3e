"""How large the outputs of realizations are: of few looked up one by one, of many in the inventories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.formats.store_path import base_name

from .errors import RecordError
from .info import find_info
from .inventory import take_inventory
from .layout import Store

__all__ = ["sizes_of"]

_FEW = 200


def sizes_of(store: Store, outputs: Sequence[Mapping[str, str]]) -> list[int | None]:
    """Bytes of the archives of each of these together; None where one of them is gone, or its info is damaged.

    Parameters
    ----------
    outputs
        Of each realization output name to store path.
    """
    if len(outputs) <= _FEW:
        return [_together([_looked_up(store, path) for path in one.values()]) for one in outputs]
    known: dict[str, int] = {}
    try:
        for layer in reversed(store.layers):
            known.update(take_inventory(store, layer=layer).by_name())
    except RecordError:
        return [_together([_looked_up(store, path) for path in one.values()]) for one in outputs]
    return [_together([known.get(base_name(path)) for path in one.values()]) for one in outputs]


def _together(sizes: Sequence[int | None]) -> int | None:
    found = [size for size in sizes if size is not None]
    return sum(found) if len(found) == len(sizes) else None


def _looked_up(store: Store, path: str) -> int | None:
    try:
        info = find_info(store, path)
    except RecordError:
        return None
    return None if info is None else info.nar_size
